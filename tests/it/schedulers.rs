//! The schedulers against diffusers.
//!
//! Reference: tests/golden/schedulers.py (versions and seeds in its header): recorded model outputs,
//! and the samples that diffusers makes of them.

use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use umbra::diffusion::schedule::{Cosine, Linear, ScaledLinear};
use umbra::diffusion::{Objective, Schedule};
use umbra::interop::scheduler::{Scheduler, SchedulerConfig, from_umbra, trajectory};
use umbra::models::weights::file::{self, NonFinite};
use umbra::sample::sampler::{Ddim, Euler, Sampler};

/// f32 on both sides, with the same operations in the same order: what is left is the last digit of
/// exponentials and logarithms, over up to 20 steps.
const TOLERANCE: f64 = 1e-5;

struct Golden {
    configs: BTreeMap<String, String>,
    arrays: BTreeMap<String, TensorData>,
}

impl Golden {
    fn read() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schedulers.safetensors");
        let arrays = file::read(&path, NonFinite::Refuse).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let configs = metadata.metadata().clone().unwrap().into_iter().collect();
        Self { configs, arrays }
    }

    fn tensor<const D: usize>(&self, case: &str, array: &str) -> Tensor<D> {
        Tensor::from_data(self.arrays[&format!("{case}/{array}")].clone(), &Device::flex())
    }

    fn numbers(&self, case: &str, array: &str) -> Vec<f64> {
        self.arrays[&format!("{case}/{array}")].iter::<f64>().collect()
    }

    /// One of the model outputs or samples.
    fn entry(&self, case: &str, array: &str, index: usize) -> Tensor<4> {
        let whole: Tensor<5> = self.tensor(case, array);
        whole.narrow(0, index, 1).squeeze_dim(0)
    }
}

#[test]
fn trajectories_match_diffusers() {
    let golden = Golden::read();
    let mut worst = (0.0, "");
    for (case, json) in golden.configs.iter().filter(|(case, _)| !is_left_out(case)) {
        let config = SchedulerConfig::from_diffusers(json).unwrap();
        let error = check_trajectory(&golden, case, &config);
        if error > worst.0 {
            worst = (error, case);
        }
    }
    println!("largest error {:.1e} of the root mean square, in {}", worst.0, worst.1);
}

#[test]
fn grids_match_diffusers() {
    let golden = Golden::read();
    for (case, json) in golden.configs.iter().filter(|(case, _)| !is_left_out(case)) {
        let config = SchedulerConfig::from_diffusers(json).unwrap();
        let timesteps = golden.numbers(case, "timesteps");
        let num_steps = config.num_inference_steps(timesteps.len()).unwrap();
        let scheduler = Scheduler::new(&config, num_steps).unwrap();
        assert_eq!(scheduler.timesteps().len(), timesteps.len(), "{case}");
        for (index, (ours, theirs)) in scheduler.timesteps().iter().zip(&timesteps).enumerate() {
            // Fractions come from f32 logarithms, whose last digit is worth 1e-4 of a timestep.
            assert!((ours - theirs).abs() < 1e-3, "{case}, entry {index}: {ours} is not {theirs}");
        }
        let sigma = golden.numbers(case, "init_noise_sigma")[0];
        assert!((scheduler.init_noise_sigma() / sigma - 1.0).abs() < 1e-6, "{case}");
        for (index, scale) in golden.numbers(case, "scales").into_iter().enumerate() {
            let one = Tensor::ones([1, 1, 1, 1], &Device::flex());
            let scaled: f32 = scheduler.scale_model_input(one, index).unwrap().into_scalar();
            assert!((f64::from(scaled) / scale - 1.0).abs() < 1e-6, "{case}, entry {index}");
        }
        let (clean, noise) = (golden.entry(case, "output", 0), golden.tensor(case, "sample"));
        let noisy = scheduler.add_noise(clean, noise, timesteps.len() / 2).unwrap();
        assert_close(case, noisy, golden.tensor(case, "noisy"));
    }
}

#[test]
fn configs_are_written_as_diffusers_writes_them() {
    let golden = Golden::read();
    for (case, json) in golden.configs.iter().filter(|(case, _)| !is_left_out(case)) {
        let config = SchedulerConfig::from_diffusers(json).unwrap();
        let written = config.to_diffusers();
        let again = SchedulerConfig::from_diffusers(&written.to_string()).unwrap();
        assert_eq!(again, config, "{case}");
        let theirs = json.replace("-Infinity", "null");
        let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
        let ours = written.as_object().unwrap();
        assert!(ours.keys().is_sorted(), "{case}");
        // What is published comes from older versions, without the fields they did not have.
        let is_published = theirs["_diffusers_version"] != ours["_diffusers_version"];
        for (field, value) in ours {
            let is_known = theirs.get(field).is_some() || !is_published;
            if field != "_diffusers_version" && is_known {
                assert_eq!(*value, theirs[field], "{case}: {field}");
            }
        }
    }
}

/// What umbra exports, its own samplers, and diffusers: one trajectory.
#[test]
fn exports_make_the_steps_of_umbras_own_samplers() {
    let golden = Golden::read();
    let scaled = |zero_terminal_snr| {
        Schedule::ScaledLinear(ScaledLinear { zero_terminal_snr, ..ScaledLinear::default() })
    };
    let cosine = |offset, zero_terminal_snr| Schedule::Cosine(Cosine { offset, zero_terminal_snr });
    let cases = [
        ("umbra scaled_linear epsilon", scaled(false), Objective::Epsilon),
        ("umbra scaled_linear zero snr velocity", scaled(true), Objective::Velocity),
        ("umbra linear clean", Schedule::Linear(Linear::default()), Objective::Clean),
        ("umbra cosine velocity", cosine(0.008, false), Objective::Velocity),
        ("umbra cosine zero snr clean", cosine(0.008, true), Objective::Clean),
        ("umbra cosine 0.05 zero snr velocity", cosine(0.05, true), Objective::Velocity),
    ];
    for (case, schedule, objective) in cases {
        let config = from_umbra(&schedule, &objective).unwrap();
        if !is_left_out(case) {
            let theirs = SchedulerConfig::from_diffusers(&golden.configs[case]).unwrap();
            assert_eq!(config, theirs, "{case}");
        }
        check_trajectory(&golden, case, &config);
        let steps = golden.numbers(case, "timesteps").len();
        let ddim = Sampler::Ddim(Ddim { steps, ..Ddim::default() });
        for sampler in [ddim, Sampler::Euler(Euler { steps, ..Euler::default() })] {
            let mut none = |_: usize| unreachable!("neither adds noise");
            let noise = golden.tensor(case, "sample");
            let mut question = 0;
            let Ok(end) = sampler.sample(&schedule, noise, &mut none, &mut |x, t| {
                assert_eq!(schedule.timestep(t), golden.numbers(case, "timesteps")[question]);
                if question > 0 {
                    assert_close(case, x.clone(), golden.entry(case, "samples", question - 1));
                }
                let (alpha, sigma) = schedule.alpha_sigma(t);
                let output = golden.entry(case, "output", question);
                question += 1;
                Ok::<_, Infallible>(objective.clean(output, x, &[alpha; 2], &[sigma; 2]).into())
            });
            assert_close(case, end, golden.entry(case, "samples", steps - 1));
        }
    }
}

/// Its list of betas is too long for the file; the schedule of umbra has them.
fn is_left_out(case: &str) -> bool {
    case == "umbra cosine 0.05 zero snr velocity"
}

/// The largest error of a trajectory, in units of the root mean square.
fn check_trajectory(golden: &Golden, case: &str, config: &SchedulerConfig) -> f64 {
    let is_random = golden.arrays.contains_key(&format!("{case}/noise"));
    let noise = is_random.then(|| golden.tensor(case, "noise"));
    let (sample, output) = (golden.tensor(case, "sample"), golden.tensor::<5>(case, "output"));
    let [n, ..] = output.dims();
    let samples = trajectory(config, sample, output, noise).unwrap();
    let entry = |index: usize| samples.clone().narrow(0, index, 1).squeeze_dim(0);
    (0..n)
        .map(|index| {
            let what = format!("{case}, step {index}");
            assert_close(&what, entry(index), golden.entry(case, "samples", index))
        })
        .fold(0.0, f64::max)
}

/// The largest difference in units of the root mean square of the reference.
fn assert_close(what: &str, ours: Tensor<4>, theirs: Tensor<4>) -> f64 {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (ours.into_data(), theirs.into_data());
    let squares: Vec<f64> = theirs.iter::<f64>().map(|x| x * x).collect();
    let rms = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    let differences = ours.iter::<f64>().zip(theirs.iter::<f64>()).map(|(a, b)| (a - b).abs());
    let error = differences.fold(0.0, f64::max) / rms;
    assert!(error < TOLERANCE, "{what}: error {error:.2e}");
    error
}
