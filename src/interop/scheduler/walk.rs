//! From noise to image, one recorded or fresh model output at a time.

use super::{SchedulerConfig, SchedulerError};
use burn::tensor::Tensor;

/// A scheduler set to a number of steps, and where it is on its way.
///
/// Ask the network about `scale_model_input(sample, i)` at `timesteps()[i]`, hand its output to
/// [`Self::step`], and so on for every i in turn; begin with noise of standard deviation
/// `init_noise_sigma()`. In Heun's and PNDM's grids a timestep comes more than once: every entry is
/// asked.
pub struct Scheduler {
    class: &'static str,
    plan: Plan,
    index: usize,
}

impl Scheduler {
    /// Fails where `config` has no grid of `num_inference_steps`: 0 of them, more than timesteps of
    /// the training, or one of the numbers for which diffusers' grid leaves the training.
    pub fn new(
        config: &SchedulerConfig,
        num_inference_steps: usize,
    ) -> Result<Self, SchedulerError> {
        let plan = config.get().plan(num_inference_steps)?;
        Ok(Self { class: config.class(), plan, index: 0 })
    }

    /// What the network is told at each of its evaluations, from the noisiest down.
    pub fn timesteps(&self) -> &[f64] {
        &self.plan.timesteps
    }

    /// Standard deviation of the noise to begin with.
    pub fn init_noise_sigma(&self) -> f64 {
        self.plan.init_noise_sigma
    }

    /// What the network sees of `sample` at `timesteps()[index]`.
    pub fn scale_model_input(
        &self,
        sample: Tensor<4>,
        index: usize,
    ) -> Result<Tensor<4>, SchedulerError> {
        let [_, sigma] = self.level(index)?;
        let is_scaled = self.plan.scales_input;
        Ok(if is_scaled { sample.div_scalar((sigma * sigma + 1.0).sqrt()) } else { sample })
    }

    /// `clean` with `noise` as strong as at `timesteps()[index]`, as [`Self::step`] expects it.
    pub fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        index: usize,
    ) -> Result<Tensor<4>, SchedulerError> {
        check_shape("the noise", noise.dims(), clean.dims())?;
        let [alpha, sigma] = self.level(index)?;
        Ok(clean.mul_scalar(alpha) + noise.mul_scalar(sigma))
    }

    /// The sample [B, C, H, W] after the next step.
    ///
    /// `noise`, standard normal, is for the random classes and the step it is handed in for; others
    /// leave it. Fails on shapes that differ, a missing noise, and a step after the last.
    pub fn step(
        &mut self,
        model_output: Tensor<4>,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        self.level(self.index)?;
        check_shape("the model output", model_output.dims(), sample.dims())?;
        if let Some(noise) = &noise {
            check_shape("the noise", noise.dims(), sample.dims())?;
        }
        let sample = self.plan.walk.step(self.index, model_output, sample, noise)?;
        self.index += 1;
        Ok(sample)
    }

    /// Shares of image and noise at an entry of the grid.
    pub(super) fn level(&self, index: usize) -> Result<Level, SchedulerError> {
        self.plan.levels.get(index).copied().ok_or(SchedulerError::Finished {
            class: self.class,
            num_timesteps: self.plan.levels.len(),
            index,
        })
    }
}

/// The sample after each of n recorded model outputs [n, B, C, H, W], likewise [n, B, C, H, W].
///
/// Starts from `sample` [B, C, H, W] as it is (already as strong as `init_noise_sigma`). n decides
/// the number of steps: [`SchedulerConfig::num_inference_steps`]. `noise` [n, B, C, H, W] is needed
/// by `DDPMScheduler`, which adds it after every timestep above 0, and ignored by the others.
pub fn trajectory(
    config: &SchedulerConfig,
    sample: Tensor<4>,
    model_output: Tensor<5>,
    noise: Option<Tensor<5>>,
) -> Result<Tensor<5>, SchedulerError> {
    let [n, ..] = model_output.dims();
    let [b, c, h, w] = sample.dims();
    check_shape("the model output", model_output.dims(), [n, b, c, h, w])?;
    if let Some(noise) = &noise {
        check_shape("the noise", noise.dims(), [n, b, c, h, w])?;
    }
    let mut scheduler = Scheduler::new(config, config.num_inference_steps(n)?)?;
    let at =
        |tensor: &Tensor<5>, index: usize| tensor.clone().narrow(0, index, 1).reshape([b, c, h, w]);
    let (mut sample, mut samples) = (sample, Vec::with_capacity(n));
    for index in 0..n {
        let noise = noise.as_ref().map(|noise| at(noise, index));
        sample = scheduler.step(at(&model_output, index), sample, noise)?;
        samples.push(sample.clone());
    }
    Ok(Tensor::stack(samples, 0))
}

/// Shares of image and noise.
pub(super) type Level = [f32; 2];

/// A grid, and the way along it.
pub(super) struct Plan {
    /// What the network is told.
    pub(super) timesteps: Vec<f64>,
    /// Shares of image and noise at each of them.
    pub(super) levels: Vec<Level>,
    pub(super) init_noise_sigma: f64,
    /// Whether the network sees samples scaled to the power of the image.
    pub(super) scales_input: bool,
    pub(super) walk: Box<dyn Walk>,
}

impl Plan {
    /// Of a variance preserving class without scaling, visiting `timesteps`.
    pub(super) fn preserving(timesteps: &[usize], alpha_bars: &[f32], walk: Box<dyn Walk>) -> Self {
        let level = |&timestep: &usize| roots(alpha_bars[timestep]);
        Self {
            timesteps: timesteps.iter().map(|&timestep| timestep as f64).collect(),
            levels: timesteps.iter().map(level).collect(),
            init_noise_sigma: 1.0,
            scales_input: false,
            walk,
        }
    }
}

/// How one class steps.
pub(super) trait Walk {
    /// The sample after entry `index` of the grid.
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError>;
}

/// Shares of image and noise at a share of signal power.
pub(super) fn roots(alpha_bar: f32) -> Level {
    [alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()]
}

fn check_shape<const D: usize>(
    what: &'static str,
    found: [usize; D],
    expected: [usize; D],
) -> Result<(), SchedulerError> {
    match found == expected {
        true => Ok(()),
        false => {
            Err(SchedulerError::Shape { what, found: found.to_vec(), expected: expected.to_vec() })
        }
    }
}
