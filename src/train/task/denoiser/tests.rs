use super::*;
use crate::diffusion::Objective;
use crate::diffusion::Weighting;
use crate::diffusion::schedule::{Cosine, Linear, RectifiedFlow, ScaledLinear};
use crate::models::{Init, weights};
use burn::module::Module;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    gamma: f64,
    timesteps: Vec<f64>,
    flow_times: Vec<f64>,
    clean: Vec<f32>,
    noise: Vec<f32>,
    prediction: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    schedule: String,
    objective: Objective,
    weighting: String,
    noisy: Vec<f64>,
    weights: Vec<f64>,
    loss: f64,
    unweighted: f64,
    gradient: Vec<f32>,
}

impl Golden {
    fn read() -> Self {
        let text = include_str!("../../../../tests/golden/training.json");
        let mut golden: serde_json::Value = serde_json::from_str(text).unwrap();
        serde_json::from_value(golden["denoiser"].take()).unwrap()
    }

    fn tensor(&self, values: &[f32]) -> Tensor<4> {
        let shape = [self.timesteps.len(), 2, 2, 3];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex().autodiff())
    }
}

impl Case {
    fn schedule(&self) -> Schedule {
        let zero_terminal_snr = true;
        match self.schedule.as_str() {
            "Linear" => Schedule::Linear(Linear::default()),
            "ScaledLinear" => Schedule::ScaledLinear(ScaledLinear::default()),
            "ScaledLinearZero" => {
                Schedule::ScaledLinear(ScaledLinear { zero_terminal_snr, ..Default::default() })
            }
            "Cosine" => Schedule::Cosine(Cosine::default()),
            _ => Schedule::RectifiedFlow(RectifiedFlow { shift: 3.0 }),
        }
    }
}

fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(0.01);
    assert!(error < tolerance, "{what}: {found}, expected {expected}");
}

/// Reference: tests/golden/training.py (versions in its header).
#[test]
fn losses_and_gradients_match_torch() {
    let golden = Golden::read();
    for case in &golden.cases {
        let schedule = case.schedule();
        let weighting = match case.weighting.as_str() {
            "Uniform" => Weighting::Uniform,
            _ => Weighting::MinSnr { gamma: golden.gamma },
        };
        let objective = case.objective;
        let diffusion = Diffusion { schedule, objective, weighting, ..Diffusion::default() };
        assert_eq!(diffusion.check(), Vec::<String>::new());
        let times: Vec<f64> = match diffusion.schedule {
            Schedule::RectifiedFlow(_) => golden.flow_times.clone(),
            _ => golden.timesteps.iter().map(|timestep| (timestep + 1.0) / 1000.0).collect(),
        };
        let levels = Levels::at(&diffusion.schedule, times.iter().copied());
        let (clean, noise) = (golden.tensor(&golden.clean), golden.tensor(&golden.noise));
        let what = format!("{} {:?} {}", case.schedule, case.objective, case.weighting);

        let noisy = add_noise(clean.clone(), noise.clone(), &levels.alpha, &levels.sigma);
        let noisy = noisy.into_data().try_into_vec::<f32>().unwrap();
        for (found, expected) in noisy.iter().zip(&case.noisy) {
            assert_near(f64::from(*found), *expected, 1e-4, &what);
        }
        for ((&alpha, &sigma), &expected) in
            levels.alpha.iter().zip(&levels.sigma).zip(&case.weights)
        {
            // diffusers gives the SNR in f32.
            assert_near(weighting.weight(case.objective, alpha, sigma), expected, 1e-5, &what);
        }
        let prediction = golden.tensor(&golden.prediction).require_grad();
        let target = case.objective.target(clean, noise, &levels.alpha, &levels.sigma);
        let errors = errors(prediction.clone(), target);
        let loss = weighted(&diffusion, errors, &levels, &vec![0.0; times.len()]);
        let [(name, unweighted), (by_time, quarters)] = &loss.parts[..] else {
            panic!("two parts")
        };
        assert_eq!((*name, *by_time), ("train/unweighted_loss", "train/loss_t"));
        // f32 against f64, sums of 60 terms.
        let value = |tensor: &Tensor<1>| f64::from(tensor.clone().into_scalar::<f32>());
        assert_near(value(unweighted), case.unweighted, 1e-5, &what);
        assert_near(value(&loss.total), case.loss, 1e-5, &what);
        // The quarters' means, each as often as its share says, are the mean of all.
        let quarters = values(quarters.clone()).unwrap();
        let quarters: Vec<f64> = quarters.into_iter().map(f64::from).collect();
        let whole = quarters[..4].iter().sum::<f64>();
        assert_near(whole, case.unweighted, 1e-5, &what);
        for (quarter, mean) in group_means(&quarters).enumerate() {
            let is_in = |t: &f64| *t > 0.25 * quarter as f64 && *t <= 0.25 * (quarter + 1) as f64;
            let is_there = levels.times.iter().any(is_in);
            assert_eq!(mean.is_some(), is_there, "{what}: quarter {quarter}");
        }
        assert_near(quarters[4..].iter().sum(), 1.0, 1e-6, &what);
        let gradient = prediction.grad(&loss.total.backward()).unwrap();
        let gradient = gradient.into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(gradient.len(), case.gradient.len());
        for (found, expected) in gradient.iter().zip(&case.gradient) {
            assert_near(f64::from(*found), f64::from(*expected), 1e-4, &what);
        }
    }
}

#[test]
fn a_validation_covers_all_times_in_no_order_of_the_rows() {
    for schedule in Schedule::examples() {
        let count = 500;
        let times = validation_times(&schedule, count, 1);
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let spread: Vec<f64> =
            (0..count).map(|at| schedule.draw((at as f64 + 0.5) / count as f64)).collect();
        assert_eq!(sorted, spread, "{schedule:?}");
        // The correlation of time and row: 0 within four standard errors (1 where times follow rows).
        let deviations = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / count as f64;
            values.iter().map(|value| value - mean).collect::<Vec<_>>()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let rows: Vec<f64> = (0..count).map(|row| row as f64).collect();
        let (rows, ts) = (deviations(&rows), deviations(&times));
        let correlation = dot(&rows, &ts) / (dot(&rows, &rows) * dot(&ts, &ts)).sqrt();
        assert!(correlation.abs() < 4.0 / (count as f64).sqrt(), "{schedule:?}: {correlation}");
        assert_eq!(times, validation_times(&schedule, count, 1));
        assert_ne!(times, validation_times(&schedule, count, 2));
    }
}

/// The loss of a batch of a network that has learned all there is to learn of standard normal numbers, 64 an image: its
/// error at each time is known, and an image's is that times χ² of 64 over 64.
#[test]
fn the_loss_of_a_batch_varies_less_with_stratified_times() {
    let (batch, batches) = (16u64, 2_000u64);
    let schedule = Schedule::RectifiedFlow(RectifiedFlow::default());
    let variance = |strata| {
        let (stream, errors) = (Stream::new(1, "time"), Stream::new(1, "error"));
        let times =
            TimeDraws { schedule: schedule.clone(), times: Default::default(), strata, stream };
        let loss = |number: u64| {
            let item = |position| {
                let (alpha, sigma) = schedule.alpha_sigma(times.at(position));
                // What is left of noise − clean, of variance 2, once alpha · clean + sigma · noise is known.
                let left = 2.0 - (sigma - alpha).powi(2) / (alpha * alpha + sigma * sigma);
                let normals = errors.at(position).normals(64);
                left * normals.iter().map(|n| f64::from(n * n)).sum::<f64>() / 64.0
            };
            (batch * number..batch * (number + 1)).map(item).sum::<f64>() / batch as f64
        };
        let losses: Vec<f64> = (0..batches).map(loss).collect();
        let mean = losses.iter().sum::<f64>() / batches as f64;
        // The mean over all times of 2 − (1 − 2t)² / (1 − 2t + 2t²) is π / 2.
        assert!((mean - std::f64::consts::FRAC_PI_2).abs() < 0.01, "{mean}");
        losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (batches - 1) as f64
    };
    let (alone, shared_out) = (variance(None), variance(Some(batch as usize)));
    // Of an image's variance, (1 + π/2) / 32 is its own and 1 + π/2 − π²/4 its time's: the first alone is left, 44 %.
    // Variances of 2,000 batches have a standard error of 3 %.
    let share = shared_out / alone;
    assert!((share / 0.437 - 1.0).abs() < 0.18, "{shared_out} {alone}");
}

/// A small network that is told how far steps lead, and says something of everything.
fn told_of_steps() -> Denoiser {
    let network: DenoiserConfig = serde_json::from_value(serde_json::json!({
        "unet": {
            "sample_size": 4, "in_channels": 2, "out_channels": 2, "block_out_channels": [8],
            "layers_per_block": 1, "attention": [true], "attention_head_dim": [2], "cross_attention_dim": 4,
            "norm_num_groups": 2, "time_cond_proj_dim": 256,
        },
        "condition": { "num_tokens": 1, "token_width": 6, "width": 4 },
    }))
    .unwrap();
    let init = &mut Init::new(Stream::new(1, "denoiser"), &Device::flex());
    let fresh = network.init(init).no_grad();
    // Zeros say nothing.
    let stream = Stream::new(1, "weights");
    let mut state = weights::state_dict(&fresh);
    for (at, (_, data)) in state.iter_mut().filter(|(name, _)| !name.ends_with("std")).enumerate() {
        let drawn = stream.at(at as u64).normals(data.num_elements());
        let drawn: Vec<f32> = drawn.into_iter().map(|value| 0.3 * value).collect();
        *data = TensorData::new(drawn, data.shape().to_vec());
    }
    weights::load_state_dict(fresh, &state).unwrap()
}

/// Frans et al. (2024), eq. 5, item by item.
#[test]
fn a_long_step_is_what_the_average_says_of_its_halves() {
    let (ema, schedule) = (told_of_steps(), Schedule::RectifiedFlow(RectifiedFlow { shift: 3.0 }));
    let (device, batch) = (Device::flex(), 24);
    let consistency = SelfConsistency { share: 0.5 };
    let draws = Stream::new(3, "steps");
    let steps: Vec<Option<Step>> =
        (0..batch as u64).map(|at| consistency.draw(&mut draws.at(at))).collect();
    assert!(steps.iter().flatten().any(Step::is_finest) && steps.iter().any(Option::is_none));
    let times: Vec<f64> = steps.iter().map(|step| step.map_or(0.4, |it| it.from)).collect();
    let normal = |name: &str, shape: [usize; 4]| {
        let values = Stream::new(1, name).at(0).normals(shape.iter().product());
        Tensor::<4>::from_data(TensorData::new(values, shape), &device)
    };
    let shown = || Shown {
        noisy: normal("noisy", [batch, 2, 4, 4]),
        target: normal("target", [batch, 2, 4, 4]),
        tokens: normal("tokens", [1, batch, 1, 6]).reshape([batch, 1, 6]),
        patches: None,
        timesteps: times.iter().map(|&t| schedule.timestep(t)).collect(),
        lengths: ahead::lengths(&schedule, &steps),
        levels: Levels::at(&schedule, times.iter().copied()),
        keep: (0..batch).map(|row| row % 3 > 0).collect(),
    };
    let looked = |round: usize| {
        let mut shown = shown();
        ahead::look(&schedule, &ema, &steps, &mut shown, round);
        values(shown.target).unwrap()
    };
    let (before, after) = (shown(), looked(batch));
    let flow = values(before.target.clone()).unwrap();
    for (row, step) in steps.iter().enumerate() {
        let found = &after[row * 32..(row + 1) * 32];
        let Some(Step { from, middle, to }) = *step else {
            assert_eq!(found, &flow[row * 32..(row + 1) * 32], "row {row} is about the flow");
            continue;
        };
        let sigma = |t: f64| schedule.alpha_sigma(t).1;
        let ask = |noisy: Tensor<4>, from: f64, to: f64| {
            let length =
                if step.unwrap().is_finest() { 0.0 } else { 1000.0 * (sigma(from) - sigma(to)) };
            let tokens = before.tokens.clone().narrow(0, row, 1);
            let keep = [before.keep[row]];
            ema.forward_step(noisy, &[1000.0 * sigma(from)], &[length], tokens, &keep)
        };
        let noisy = before.noisy.clone().narrow(0, row, 1);
        let first = ask(noisy.clone(), from, middle);
        let half_way = noisy.clone() + first * (sigma(middle) - sigma(from));
        let second = ask(half_way.clone(), middle, to);
        let end = half_way + second * (sigma(to) - sigma(middle));
        // The straight line from where it begins to where it ends.
        let expected = values((end - noisy) / (sigma(to) - sigma(from))).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-3, "row {row}, {step:?}: {found} {expected}");
        }
        assert!(expected.iter().any(|value| value.abs() > 0.05));
    }
    for round in [1, 5] {
        let rounds = looked(round);
        let error = after.iter().zip(&rounds).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-4, "rounds of {round}: {error}");
    }
}
