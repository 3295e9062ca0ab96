use super::*;
use crate::diffusion::Objective;
use crate::diffusion::Weighting;
use crate::diffusion::schedule::{Cosine, Linear, RectifiedFlow, ScaledLinear};
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
        let levels = Levels::at(&diffusion.schedule, times.into_iter());
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
        let loss = weighted(&diffusion, errors, &levels);
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
    // What is left is the images' own: a third here (measured 0.43 of the whole).
    assert!(shared_out < 0.6 * alone, "{shared_out} {alone}");
}

#[test]
fn tmp_timing() {
    use std::time::Instant;
    for (batch, latent, tokens) in [
        (16usize, 4 * 8 * 8usize, 32usize),
        (16, 4 * 16 * 16, 64),
        (256, 4 * 64 * 64, 768),
        (256, 16384 * 4, 768 * 5),
    ] {
        let items: Vec<Item> = (0..batch)
            .map(|i| Item {
                clean: vec![i as f32; latent],
                noise: vec![0.5; latent],
                tokens: vec![1.0; tokens],
                t: (i as f64 + 1.0) / 1000.0 * 3.0,
                keep: true,
            })
            .collect();
        let schedule = Schedule::ScaledLinear(ScaledLinear::default());
        let n = if batch > 16 { 10 } else { 1000 };
        let begin = Instant::now();
        for _ in 0..n {
            let gather = |part: fn(&Item) -> &[f32]| -> Vec<f32> {
                items.iter().flat_map(|item| part(item).iter().copied()).collect()
            };
            std::hint::black_box((
                gather(|i| &i.clean),
                gather(|i| &i.noise),
                gather(|i| &i.tokens),
            ));
        }
        let old = begin.elapsed().as_secs_f64() / f64::from(n);
        let begin = Instant::now();
        for _ in 0..n {
            std::hint::black_box(Levels::at(
                &schedule,
                (0..batch).map(|i| (i * 1000 / batch) as f64 / 1000.0),
            ));
        }
        let levels = begin.elapsed().as_secs_f64() / f64::from(n);
        let begin = Instant::now();
        for _ in 0..n {
            std::hint::black_box(Batch::of(&items, &schedule));
        }
        let new = begin.elapsed().as_secs_f64() / f64::from(n);
        println!(
            "TIMING batch {batch} latent {latent}: flat_map {:.1} us, alpha/sigma {:.1} us, whole new collate (in loader) {:.1} us",
            old * 1e6,
            levels * 1e6,
            new * 1e6
        );
    }
}
