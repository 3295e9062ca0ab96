use super::*;
use crate::diffusion::{
    Objective,
    schedule::{RectifiedFlow, ScaledLinear},
};
use burn::tensor::Tolerance;
use std::convert::Infallible;

const MEAN: f64 = 0.4;
const STD: f64 = 0.5;

impl Sampler {
    /// One of each kind, and of each option that changes the formulas.
    fn examples(steps: usize) -> Vec<Self> {
        vec![
            Self::Ddim(Ddim { steps, eta: 0.0, ..Default::default() }),
            Self::Ddim(Ddim { steps, eta: 1.0, ..Default::default() }),
            Self::Euler(Euler { steps, ..Default::default() }),
            Self::Heun(Heun { steps, ..Default::default() }),
            Self::DpmSolver2M(DpmSolver2M { steps, ..Default::default() }),
            Self::DpmSolver2M(DpmSolver2M { steps, stochastic: true, ..Default::default() }),
            Self::Heun(Heun { steps, spacing: Spacing::Karras { rho: 3.0 } }),
        ]
    }

    fn is_deterministic(&self) -> bool {
        match self {
            Self::Ddim(Ddim { eta, .. }) => *eta == 0.0,
            Self::DpmSolver2M(DpmSolver2M { stochastic, .. }) => !stochastic,
            _ => true,
        }
    }
}

/// The exact denoiser of data whose elements are independent N(MEAN, STD²).
fn denoise(schedule: &Schedule, noisy: Tensor<4>, t: f64) -> Result<Answer, Infallible> {
    let (alpha, sigma) = schedule.alpha_sigma(t);
    let gain = alpha * STD.powi(2) / ((alpha * STD).powi(2) + sigma.powi(2));
    Ok(noisy.mul_scalar(gain).add_scalar(MEAN - gain * alpha * MEAN).into())
}

/// What comes of the noise of `seeds`.
fn images(sampler: &Sampler, schedule: &Schedule, seeds: &[u64]) -> Vec<f64> {
    let (start, device) = (starting_noise(seeds, SHAPE, &Device::flex()), Device::flex());
    let mut fresh = fresh_noise(seeds, SHAPE, &device);
    let mut answer = |noisy, t| denoise(schedule, noisy, t);
    let Ok(images) = sampler.sample(schedule, start, &mut fresh, &mut answer);
    images.into_data().iter::<f64>().collect()
}

const SHAPE: [usize; 3] = [4, 16, 16];

fn noise(num_seeds: u64) -> Tensor<4> {
    let seeds: Vec<u64> = (0..num_seeds).collect();
    starting_noise(&seeds, SHAPE, &Device::flex())
}

/// For samplers that must not ask for it.
fn none(_: usize) -> Tensor<4> {
    panic!("a deterministic sampler asked for noise")
}

/// Where the exact path from `noise` at t = 1 ends.
fn exact(schedule: &Schedule, noise: Tensor<4>) -> Vec<f64> {
    let (alpha, sigma) = schedule.alpha_sigma(1.0);
    let std = ((alpha * STD).powi(2) + sigma.powi(2)).sqrt();
    noise.into_data().iter::<f64>().map(|x| MEAN + STD * (x - alpha * MEAN) / std).collect()
}

fn rms_error(images: &[f64], exact: &[f64]) -> f64 {
    let sum: f64 = images.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
    (sum / exact.len() as f64).sqrt()
}

#[test]
fn gaussian_data_comes_out_with_its_mean_and_variance() {
    for schedule in Schedule::examples() {
        for sampler in Sampler::examples(200) {
            let images = images(&sampler, &schedule, &(0..16).collect::<Vec<_>>());
            let count = images.len() as f64;
            let mean = images.iter().sum::<f64>() / count;
            let std = (images.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            // The signal left at t = 1 is not in pure noise: a bias that more steps do not cure.
            let (alpha, _) = schedule.alpha_sigma(1.0);
            // Four standard errors of 16,384 values (0.016 of the mean, 0.011 of the deviation), and
            // what 200 steps leave: 0.010 without fresh noise, 0.018 with (measured).
            let tolerance = if sampler.is_deterministic() { 0.02 } else { 0.03 };
            assert!(
                (mean - MEAN).abs() < 0.016 + alpha * MEAN,
                "{schedule:?} {sampler:?}: mean {mean}"
            );
            assert!((std - STD).abs() < tolerance, "{schedule:?} {sampler:?}: deviation {std}");
        }
    }
}

#[test]
fn deterministic_samplers_follow_the_exact_path() {
    for schedule in Schedule::examples() {
        for sampler in Sampler::examples(100).into_iter().filter(Sampler::is_deterministic) {
            let (images, exact) = (images(&sampler, &schedule, &[0]), exact(&schedule, noise(1)));
            let error = rms_error(&images, &exact);
            // Measured: up to 0.018 (first order), 0.009 (second, most of it in the last step).
            assert!(error < 0.02, "{schedule:?} {sampler:?}: {error}");
        }
    }
}

/// Between two noisy levels, where the first-order steps at both ends do not hide the order.
#[test]
fn errors_fall_with_the_order_of_the_sampler() {
    for schedule in Schedule::examples() {
        let [first, last] = [0.8, 0.2].map(|t| Level::new(&schedule, t));
        let std = |level: &Level| ((level.alpha * STD).powi(2) + level.sigma.powi(2)).sqrt();
        let end = |x: f64| last.alpha * MEAN + (x - first.alpha * MEAN) * std(&last) / std(&first);
        let exact: Vec<f64> = noise(1).into_data().iter::<f64>().map(end).collect();
        let error = |sampler: &Sampler| {
            let steps = sampler.num_steps();
            let time = |i: usize| 0.8 - 0.6 * i as f64 / steps as f64;
            let levels: Vec<Level> = (0..=steps).map(|i| Level::new(&schedule, time(i))).collect();
            let Ok(images) = sampler
                .walk(&levels, noise(1), &mut none, &mut |noisy, t| denoise(&schedule, noisy, t));
            rms_error(&images.into_data().iter::<f64>().collect::<Vec<_>>(), &exact)
        };
        // Four times the steps: a quarter of the error in first order, a sixteenth in second.
        let falls = |of: fn(usize) -> Sampler| error(&of(10)) / error(&of(40));
        let euler = falls(|steps| Sampler::Euler(Euler { steps, ..Default::default() }));
        let heun = falls(|steps| Sampler::Heun(Heun { steps, ..Default::default() }));
        let dpm = falls(|steps| Sampler::DpmSolver2M(DpmSolver2M { steps, ..Default::default() }));
        assert!((3.3..5.0).contains(&euler), "{schedule:?}: Euler {euler}");
        // At least: on some curves the second-order terms cancel.
        assert!(heun > 11.0, "{schedule:?}: Heun {heun}");
        assert!(dpm > 9.0, "{schedule:?}: DpmSolver2M {dpm}");
    }
}

#[test]
fn every_sampler_works_with_every_schedule_and_objective() {
    for schedule in Schedule::examples() {
        for objective in Objective::ALL {
            if crate::diffusion::check(&schedule, objective).is_some() {
                continue;
            }
            for sampler in Sampler::examples(10) {
                let direct = images(&sampler, &schedule, &[0]);
                let device = Device::flex();
                let mut fresh = fresh_noise(&[0], SHAPE, &device);
                let Ok(through) =
                    sampler.sample(&schedule, noise(1), &mut fresh, &mut |noisy, t| {
                        let (alpha, sigma) = schedule.alpha_sigma(t);
                        let Ok(Answer { clean, .. }) = denoise(&schedule, noisy.clone(), t);
                        let noise = Level { t, alpha, sigma }.noise(noisy.clone(), clean.clone());
                        let prediction = objective.target(clean, noise, &[alpha], &[sigma]);
                        Ok::<_, Infallible>(
                            objective.clean(prediction, noisy, &[alpha], &[sigma]).into(),
                        )
                    });
                let through: Vec<f64> = through.into_data().iter::<f64>().collect();
                // f32 rounding, grown by at most 1 / alpha = 160 (Linear, last timestep).
                let error = rms_error(&through, &direct);
                assert!(error < 1e-4, "{schedule:?} {objective:?} {sampler:?}: {error}");
            }
        }
    }
}

#[test]
fn an_image_depends_on_its_own_seed_only() {
    let schedule = Schedule::default();
    for sampler in Sampler::examples(5) {
        let run = |seeds: &[u64]| images(&sampler, &schedule, seeds);
        let alone = run(&[7]);
        let among = run(&[3, 7, 9]);
        assert_eq!(alone, among[1024..2048], "{sampler:?}");
        assert_ne!(alone, among[..1024], "{sampler:?}");
        assert_eq!(run(&[3, 7, 9]), among, "{sampler:?}");
    }
}

#[test]
fn every_question_is_about_a_time_of_the_grid() {
    for schedule in Schedule::examples() {
        for sampler in Sampler::examples(7) {
            let (grid, mut count) = (sampler.times(&schedule), 0);
            let device = Device::flex();
            let mut fresh = fresh_noise(&[0], SHAPE, &device);
            let answer =
                sampler.sample::<Infallible>(&schedule, noise(1), &mut fresh, &mut |noisy, t| {
                    assert!(grid[..7].contains(&t), "{sampler:?} asked about {t}");
                    count += 1;
                    Ok(noisy.into())
                });
            assert!(answer.is_ok());
            assert_eq!(count, sampler.num_evaluations(), "{sampler:?}");
        }
    }
}

#[test]
fn a_failing_network_ends_the_sampling() {
    for sampler in Sampler::examples(7) {
        let answer =
            sampler.sample(&Schedule::default(), noise(1), &mut none, &mut |_, _| Err("no device"));
        assert_eq!(answer.err(), Some("no device"));
    }
}

#[test]
fn euler_is_ddim_without_fresh_noise() {
    for schedule in Schedule::examples() {
        let euler =
            images(&Sampler::Euler(Euler { steps: 9, ..Default::default() }), &schedule, &[0]);
        let ddim = images(
            &Sampler::Ddim(Ddim { steps: 9, eta: 0.0, ..Default::default() }),
            &schedule,
            &[0],
        );
        assert_eq!(euler, ddim, "{schedule:?}");
    }
}

#[test]
fn bad_numbers_have_their_sentence() {
    assert!(Sampler::examples(25).iter().all(|sampler| sampler.check().is_empty()));
    assert!(Sampler::examples(0).iter().all(|sampler| sampler.check().len() == 1));
    assert_eq!(
        Sampler::Ddim(Ddim { steps: 1001, eta: f64::NAN, ..Default::default() }).check().len(),
        2
    );
}

/// Reference: tests/golden/samplers.py.
#[test]
fn trajectories_match_diffusers() {
    #[derive(Deserialize)]
    struct Case {
        sampler: String,
        objective: Objective,
        steps: usize,
        eta: f64,
        shift: Option<f64>,
        rho: Option<f64>,
        noise: Vec<f32>,
        timesteps: Vec<Option<f64>>,
        predictions: Vec<Vec<f32>>,
        samples: Vec<Vec<f32>>,
        fresh: Vec<Vec<f32>>,
    }
    let golden = include_str!("../../../tests/golden/samplers.json");
    let cases: Vec<Case> = serde_json::from_str(golden).unwrap();
    let tensor = |values: &[f32]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [2, 2, 2, 2]), &Device::flex())
    };
    // f32 on both sides, up to 25 steps, values of order 1; diffusers' signal powers are products of
    // f32 factors.
    let same = |ours: Tensor<4>, theirs: &[f32]| {
        let theirs = TensorData::new(theirs.to_vec(), [2, 2, 2, 2]);
        ours.into_data().assert_approx_eq(&theirs, Tolerance::<f32>::absolute(1e-5));
    };
    for case in cases {
        let steps = case.steps;
        let schedule = match case.shift {
            Some(shift) => Schedule::RectifiedFlow(RectifiedFlow { shift }),
            None => Schedule::ScaledLinear(ScaledLinear::default()),
        };
        let mut question = 0;
        let mut answer = |noisy: Tensor<4>, t: f64| {
            // diffusers holds the timesteps of a flow as f32.
            if let Some(timestep) = case.timesteps[question] {
                assert!((schedule.timestep(t) - timestep).abs() < 1e-4);
            }
            if question > 0 {
                same(noisy.clone(), &case.samples[question - 1]);
            }
            let (alpha, sigma) = schedule.alpha_sigma(t);
            let prediction = tensor(&case.predictions[question]);
            question += 1;
            let clean = case.objective.clean(prediction, noisy, &[alpha; 2], &[sigma; 2]);
            Ok::<_, Infallible>(Answer::from(clean))
        };
        let noise = tensor(&case.noise);
        let spacing = case.rho.map_or(Spacing::Even, |rho| Spacing::Karras { rho });
        let eta = case.eta;
        let sampler = match case.sampler.as_str() {
            "Ddim" => Sampler::Ddim(Ddim { steps, eta, spacing }),
            "Euler" => Sampler::Euler(Euler { steps, spacing }),
            "Heun" => Sampler::Heun(Heun { steps, spacing }),
            _ => Sampler::DpmSolver2M(DpmSolver2M { steps, stochastic: eta > 0.0, spacing }),
        };
        let mut fresh = |step: usize| tensor(&case.fresh[step]);
        let images = sampler.sample(&schedule, noise, &mut fresh, &mut answer);
        let Ok(images) = images;
        assert_eq!(question, case.samples.len(), "{} {steps}", case.sampler);
        same(images, &case.samples[question - 1]);
    }
}
