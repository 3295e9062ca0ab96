use super::*;
use crate::diffusion::schedule::{Cosine, RectifiedFlow, ScaledLinear};
use crate::diffusion::{Objective, Schedule};
use crate::random::Stream;
use burn::tensor::{Device, Tensor, TensorData};

const MEAN: f64 = 0.4;
const STD: f64 = 0.5;

/// One of each class, and of each option that changes the formulas, for images beyond ±1.
fn examples() -> Vec<SchedulerConfig> {
    let scaled = r#""beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear""#;
    let zero = r#""rescale_betas_zero_snr": true, "timestep_spacing": "trailing""#;
    let velocity = r#""prediction_type": "v_prediction""#;
    [
        r#"DDPMScheduler", "clip_sample": false"#.to_owned(),
        format!(r#"DDPMScheduler", "clip_sample": false, {scaled}, {velocity}, {zero}"#),
        r#"DDPMScheduler", "clip_sample": false, "variance_type": "fixed_small_log""#.to_owned(),
        r#"DDIMScheduler", "clip_sample": false"#.to_owned(),
        format!(r#"DDIMScheduler", "clip_sample": false, {scaled}, {velocity}, {zero}"#),
        r#"DDIMScheduler", "clip_sample": false, "beta_schedule": "squaredcos_cap_v2",
           "prediction_type": "sample", "timestep_spacing": "linspace""#
            .to_owned(),
        format!(r#"EulerDiscreteScheduler", {scaled}"#),
        format!(r#"EulerDiscreteScheduler", {scaled}, "use_karras_sigmas": true"#),
        format!(r#"EulerDiscreteScheduler", {scaled}, {velocity}, {zero}"#),
        format!(r#"HeunDiscreteScheduler", {scaled}"#),
        format!(r#"HeunDiscreteScheduler", {scaled}, {velocity}, "use_exponential_sigmas": true"#),
        format!(r#"DPMSolverMultistepScheduler", {scaled}"#),
        format!(r#"DPMSolverMultistepScheduler", {scaled}, "solver_type": "heun", {velocity}"#),
        format!(r#"DPMSolverMultistepScheduler", {scaled}, "solver_order": 3"#),
        format!(r#"DPMSolverMultistepScheduler", {scaled}, "use_lu_lambdas": true"#),
        format!(r#"PNDMScheduler", {scaled}"#),
        format!(r#"PNDMScheduler", {scaled}, "skip_prk_steps": true, {velocity}"#),
        r#"FlowMatchEulerDiscreteScheduler""#.to_owned(),
        r#"FlowMatchEulerDiscreteScheduler", "shift": 3.0"#.to_owned(),
    ]
    .iter()
    .map(|rest| read(&format!(r#"{{"_class_name": "{rest}}}"#)).unwrap())
    .collect()
}

fn read(json: &str) -> Result<SchedulerConfig, SchedulerError> {
    SchedulerConfig::from_diffusers(json)
}

fn message(json: &str) -> String {
    read(json).unwrap_err().to_string()
}

fn normal(shape: [usize; 4], position: u64) -> Tensor<4> {
    let values = Stream::new(5, "scheduler").at(position).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The exact prediction for data whose elements are independent N(MEAN, STD²).
fn predict(config: &SchedulerConfig, sample: Tensor<4>, [alpha, sigma]: [f32; 2]) -> Tensor<4> {
    let (alpha, sigma) = (f64::from(alpha), f64::from(sigma));
    let gain = alpha * STD.powi(2) / ((alpha * STD).powi(2) + sigma.powi(2));
    let clean = sample.clone().mul_scalar(gain).add_scalar(MEAN - gain * alpha * MEAN);
    let noise = (sample - clean.clone().mul_scalar(alpha)).div_scalar(sigma);
    let prediction = match config {
        SchedulerConfig::Ddpm(config) => config.prediction_type,
        SchedulerConfig::Ddim(config) => config.prediction_type,
        SchedulerConfig::Euler(config) => config.prediction_type,
        SchedulerConfig::Heun(config) => config.prediction_type,
        SchedulerConfig::DpmSolver(config) => config.prediction_type,
        SchedulerConfig::Pndm(config) => config.prediction_type,
        SchedulerConfig::FlowMatch(_) => return noise - clean,
    };
    match prediction {
        Prediction::Epsilon => noise,
        Prediction::Velocity => {
            // Of the sample at unit power, as the network sees it.
            let power = (alpha * alpha + sigma * sigma).sqrt();
            noise.mul_scalar(alpha / power) - clean.mul_scalar(sigma / power)
        }
        Prediction::Sample => clean,
    }
}

#[test]
fn gaussian_data_comes_out_with_its_mean_and_variance() {
    let shape = [16, 4, 16, 16];
    for config in examples() {
        let mut scheduler = Scheduler::new(&config, 100).unwrap();
        let mut sample = normal(shape, 0).mul_scalar(scheduler.init_noise_sigma());
        for index in 0..scheduler.timesteps().len() {
            let output = predict(&config, sample.clone(), scheduler.level(index).unwrap());
            let noise = normal(shape, 1 + index as u64);
            sample = scheduler.step(output, sample, Some(noise)).unwrap();
        }
        let values: Vec<f64> = sample.into_data().iter::<f64>().collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Four standard errors of 16,384 values (0.016 of the mean, 0.011 of the deviation), what 100
        // steps leave of the deviation (0.017, with fresh noise 0.034, measured with diffusers), and
        // the signal at the first timestep, which is not in pure noise: at most 0.068 · MEAN.
        let is_random = matches!(config, SchedulerConfig::Ddpm(_));
        let tolerance = if is_random { 0.045 } else { 0.03 };
        assert!((mean - MEAN).abs() < 0.045, "{config:?}: mean {mean}");
        assert!((std - STD).abs() < tolerance, "{config:?}: deviation {std}");
    }
}

#[test]
fn the_number_of_model_outputs_tells_the_number_of_steps() {
    for config in examples() {
        for num_steps in 1..=70 {
            // The grid that rounding makes one entry too long, and Runge-Kutta's least.
            let Ok(scheduler) = Scheduler::new(&config, num_steps) else {
                let is_prk = matches!(&config, SchedulerConfig::Pndm(pndm) if !pndm.skip_prk_steps);
                assert!(num_steps == 61 || (is_prk && num_steps < 4), "{config:?} {num_steps}");
                continue;
            };
            let num_outputs = scheduler.timesteps().len();
            assert_eq!(config.num_inference_steps(num_outputs), Ok(num_steps), "{config:?}");
        }
        assert!(config.num_inference_steps(0).is_err(), "{config:?}");
        assert!(config.num_inference_steps(5000).is_err(), "{config:?}");
    }
    let of = |class: &str, rest: &str, num_outputs| {
        let config = read(&format!(r#"{{"_class_name": "{class}"{rest}}}"#)).unwrap();
        config.num_inference_steps(num_outputs)
    };
    assert_eq!(of("HeunDiscreteScheduler", "", 9), Ok(5));
    assert_eq!(of("PNDMScheduler", r#", "skip_prk_steps": true"#, 51), Ok(50));
    assert_eq!(of("PNDMScheduler", "", 59), Ok(50));
    for (class, rest, num_outputs) in [
        ("HeunDiscreteScheduler", "", 8),
        ("PNDMScheduler", r#", "skip_prk_steps": true"#, 2),
        ("PNDMScheduler", "", 12),
        ("DDIMScheduler", r#", "timestep_spacing": "trailing""#, 61),
    ] {
        let error = of(class, rest, num_outputs).unwrap_err();
        assert!(matches!(error, SchedulerError::Outputs { .. }), "{class}: {error}");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let class =
        |class: &str, rest: &str| message(&format!(r#"{{"_class_name": "{class}"{rest}}}"#));
    assert_eq!(
        class("UniPCMultistepScheduler", ""),
        "the scheduler's _class_name is \"UniPCMultistepScheduler\"; expected one of \
         DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, \
         DPMSolverMultistepScheduler, PNDMScheduler, FlowMatchEulerDiscreteScheduler"
    );
    assert!(message("{}").starts_with("the scheduler's _class_name is missing; expected"));
    assert!(message("[]").starts_with("the config of the scheduler is not a JSON object: "));
    assert_eq!(
        class("DDIMScheduler", r#", "beta_schedule": "exp""#),
        "DDIMScheduler: beta_schedule is \"exp\"; expected linear or scaled_linear or \
         squaredcos_cap_v2"
    );
    for (of, field, value) in [
        ("DDIMScheduler", "thresholding", "true"),
        ("DDIMScheduler", "num_train_timesteps", "0"),
        ("DDIMScheduler", "steps_offset", "-1"),
        ("DDIMScheduler", "beta_start", "null"),
        ("DDIMScheduler", "beta_end", "NaN"),
        ("DDIMScheduler", "clip_sample", "1"),
        ("DDIMScheduler", "trained_betas", "[0.1]"),
        ("DDIMScheduler", "a_new_switch", "true"),
        ("DDIMScheduler", "a_new_switch", "false"),
        ("PNDMScheduler", "a_new_number", "3"),
        ("DDPMScheduler", "variance_type", "\"learned_range\""),
        ("EulerDiscreteScheduler", "use_beta_sigmas", "true"),
        ("EulerDiscreteScheduler", "sigma_min", "0"),
        ("EulerDiscreteScheduler", "interpolation_type", "\"cubic\""),
        ("DPMSolverMultistepScheduler", "algorithm_type", "\"sde-dpmsolver++\""),
        ("DPMSolverMultistepScheduler", "solver_order", "4"),
        ("DPMSolverMultistepScheduler", "use_flow_sigmas", "true"),
        ("DPMSolverMultistepScheduler", "variance_type", "\"learned\""),
        ("PNDMScheduler", "prediction_type", "\"sample\""),
        ("FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting", "true"),
        ("FlowMatchEulerDiscreteScheduler", "stochastic_sampling", "true"),
        ("FlowMatchEulerDiscreteScheduler", "shift", "0"),
    ] {
        let error = class(of, &format!(r#", "{field}": {value}"#));
        assert!(error.starts_with(&format!("{of}: {field} is ")), "{error}");
        assert!(error.contains("; expected "), "{error}");
    }
    let both = r#", "use_karras_sigmas": true, "use_exponential_sigmas": true"#;
    let error = class("EulerDiscreteScheduler", both);
    assert!(error.contains("use_exponential_sigmas is true; expected one curve only"), "{error}");
}

#[test]
fn strangers_that_cannot_matter_are_ignored() {
    let plain = read(r#"{"_class_name": "EulerDiscreteScheduler"}"#).unwrap();
    let odd = r#"{"_class_name": "EulerDiscreteScheduler", "clip_sample": true, "use_lu_lambdas": true,
        "tensor_format": "pt", "new_thing": null, "lambda_min_clipped": -Infinity,
        "use_karras_sigmas": null, "steps_offset": 1, "_use_default_values": ["steps_offset"]}"#;
    assert_eq!(read(odd).unwrap(), plain);
}

#[test]
fn steps_that_diffusers_cannot_make_are_refused() {
    let error = |rest: &str, num_steps| {
        let config = read(&format!(r#"{{"_class_name": "{rest}}}"#)).unwrap();
        Scheduler::new(&config, num_steps).err().map(|error| error.to_string())
    };
    let trailing = r#"DDIMScheduler", "timestep_spacing": "trailing""#;
    assert_eq!(
        error(trailing, 61).unwrap(),
        "DDIMScheduler cannot make 61 inference steps: their spacing reaches timestep -1, and the \
         training has 0 to 999"
    );
    assert_eq!(error(trailing, 62), None);
    assert!(error(r#"DDIMScheduler", "steps_offset": 1"#, 1000).unwrap().contains("timestep 1000"));
    assert!(error(r#"DDIMScheduler""#, 1001).unwrap().contains("it must be 1 to 1000"));
    assert!(error(r#"FlowMatchEulerDiscreteScheduler""#, 0).unwrap().contains("1 to 1000"));
    assert!(error(r#"PNDMScheduler""#, 3).unwrap().contains("skip_prk_steps"));
    let clamped = format!(r#"{trailing}, "rescale_betas_zero_snr": true"#);
    assert_eq!(error(&clamped, 10), None);
    let blind = format!(r#"{clamped}, "clip_sample": false"#);
    assert!(error(&blind, 10).unwrap().contains("epsilon"));
    let no_signal = r#"", "num_train_timesteps": 2, "trained_betas": [0.5, 1.0]"#;
    for class in ["EulerDiscreteScheduler", "PNDMScheduler"] {
        let rest = format!(r#"{class}{no_signal}, "skip_prk_steps": true"#);
        assert!(error(&rest, 2).unwrap().contains("trained_betas"), "{class}");
    }
    let clipped = r#"DPMSolverMultistepScheduler", "lambda_min_clipped": 100"#;
    assert!(error(clipped, 10).unwrap().contains("lambda_min_clipped"));
    assert!(error(r#"DPMSolverMultistepScheduler""#, 1000).unwrap().contains("same noise level"));
}

#[test]
fn a_trajectory_says_what_does_not_fit() {
    let config = read(r#"{"_class_name": "DDPMScheduler"}"#).unwrap();
    let (sample, outputs) =
        (normal([2, 1, 2, 3], 0), normal([8, 1, 2, 3], 1).reshape([4, 2, 1, 2, 3]));
    let run = |outputs, noise| {
        trajectory(&config, sample.clone(), outputs, noise).map(|samples| samples.dims())
    };
    assert_eq!(run(outputs.clone(), Some(outputs.clone())), Ok([4, 2, 1, 2, 3]));
    let error = run(outputs.clone(), None).unwrap_err();
    assert_eq!(error, SchedulerError::NoNoise { class: "DDPMScheduler" });
    let error = run(outputs.clone().swap_dims(3, 4), None).unwrap_err().to_string();
    assert_eq!(error, "the model output has shape [4, 2, 1, 3, 2]; expected [4, 2, 1, 2, 3]");
    assert!(matches!(
        run(outputs.clone(), Some(outputs.clone().narrow(0, 0, 3))),
        Err(SchedulerError::Shape { what: "the noise", .. })
    ));
    let mut scheduler = Scheduler::new(&config, 1).unwrap();
    let once = scheduler.step(sample.clone(), sample.clone(), None).unwrap();
    let again = scheduler.step(sample.clone(), once, None).unwrap_err().to_string();
    assert_eq!(again, "DDPMScheduler has 1 timesteps; there is no timestep 1");
}

#[test]
fn every_training_of_umbra_has_its_scheduler_or_a_reason() {
    for schedule in Schedule::examples() {
        for objective in Objective::ALL {
            let is_flow = matches!(schedule, Schedule::RectifiedFlow(_));
            let is_possible = (objective == Objective::Flow) == is_flow
                && crate::diffusion::check(&schedule, objective).is_none();
            let config = from_umbra(&schedule, &objective);
            assert_eq!(config.is_ok(), is_possible, "{schedule:?} {objective:?}: {config:?}");
            let Ok(config) = config else { continue };
            // What the network is told, and how much noise there is then.
            let scheduler = Scheduler::new(&config, 50).unwrap();
            if is_flow {
                continue;
            }
            for (index, t) in schedule.grid(50).into_iter().take(50).enumerate() {
                assert_eq!(scheduler.timesteps()[index], schedule.timestep(t));
                let (alpha, sigma) = schedule.alpha_sigma(t);
                let [ours, noise] = scheduler.level(index).unwrap().map(f64::from);
                // diffusers' tables are f32 products of up to 1000 factors.
                assert!((ours - alpha).abs() < 1e-5, "{schedule:?} {t}: {ours} is not {alpha}");
                assert!((noise - sigma).abs() < 1e-5, "{schedule:?} {t}: {noise} is not {sigma}");
            }
        }
    }
    let flow = Schedule::RectifiedFlow(RectifiedFlow { shift: 3.0 });
    assert_eq!(
        from_umbra(&flow, &Objective::Velocity).unwrap_err().to_string(),
        "no scheduler of diffusers samples objective Velocity on schedule RectifiedFlow; expected Flow"
    );
    let config = from_umbra(&flow, &Objective::Flow).unwrap();
    assert_eq!(config.to_diffusers()["shift"], 3.0);
    let cosine = Schedule::Cosine(Cosine { offset: 0.02, zero_terminal_snr: false });
    let SchedulerConfig::Ddim(ddim) = from_umbra(&cosine, &Objective::Velocity).unwrap() else {
        panic!("a variance preserving schedule is a DDIMScheduler");
    };
    assert_eq!(ddim.betas.trained_betas.unwrap().len(), 1000);
    let scaled = Schedule::ScaledLinear(ScaledLinear::default());
    assert!(from_umbra(&scaled, &Objective::Flow).unwrap_err().to_string().contains("Clean"));
}
