use super::fields::{Fields, Named};
use super::walk::{Plan, Walk, roots};
use super::{Betas, Clip, Method, Prediction, SchedulerError, Spacing, Visits};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "DDPMScheduler";

/// Ho et al. (2020), "Denoising diffusion probabilistic models", on any subset of the timesteps.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddpm {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// Whether predicted images are clamped.
    pub clip: Clip,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// How much noise a step adds.
    pub variance_type: Variance,
}

/// How much noise a step of [`Ddpm`] adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variance {
    /// The variance of the exact posterior of one known image.
    FixedSmall,
    /// The same, through its logarithm.
    FixedSmallLog,
    /// Beta.
    FixedLarge,
}

impl Named for Variance {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("fixed_small", Self::FixedSmall),
        ("fixed_small_log", Self::FixedSmallLog),
        ("fixed_large", Self::FixedLarge),
    ];
}

impl Default for Ddpm {
    fn default() -> Self {
        Self {
            betas: Betas::default(),
            prediction_type: Prediction::Epsilon,
            clip: Clip::new(true),
            visits: Visits::new(Spacing::Leading),
            variance_type: Variance::FixedSmall,
        }
    }
}

impl Ddpm {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        fields.refuse("thresholding")?;
        Ok(Self {
            betas: default.betas.read_rescaled(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            clip: default.clip.read(fields)?,
            visits: default.visits.read(fields)?,
            variance_type: fields.choice("variance_type", default.variance_type)?,
        })
    }
}

impl Method for Ddpm {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write_rescaled();
        fields.extend(self.clip.write());
        fields.extend(self.visits.write());
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("variance_type", json!(self.variance_type.name())),
            ("thresholding", json!(false)),
        ]);
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        let num_train = self.betas.num_train_timesteps;
        let timesteps = self.visits.whole_timesteps(CLASS, num_train, num_steps)?;
        let alpha_bars = self.betas.alpha_bars();
        let at = |timestep: &usize| alpha_bars[*timestep];
        if !self.clip.clip_sample {
            self.prediction_type.check(CLASS, num_steps, timesteps.iter().map(at))?;
        }
        let after = timesteps.iter().skip(1).map(at).chain([1.0]);
        let walk = DdpmWalk {
            config: self.clone(),
            alpha_bars: timesteps.iter().map(at).zip(after).map(Into::into).collect(),
            // After timestep 0 diffusers adds none.
            is_noisy: timesteps.iter().map(|&timestep| timestep > 0).collect(),
        };
        Ok(Plan::preserving(&timesteps, &alpha_bars, Box::new(walk)))
    }
}

struct DdpmWalk {
    config: Ddpm,
    /// Signal power before and after each step.
    alpha_bars: Vec<[f32; 2]>,
    is_noisy: Vec<bool>,
}

impl Walk for DdpmWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        let [from, to] = self.alpha_bars[index];
        let clean = self.config.prediction_type.clean(output, sample.clone(), roots(from));
        let clean = self.config.clip.apply(clean);
        // Ho et al. (2020), eq. 7, with alpha and beta of the whole step.
        let alpha = from / to;
        let beta = 1.0 - alpha;
        let of_clean = to.sqrt() * beta / (1.0 - from);
        let of_sample = alpha.sqrt() * (1.0 - to) / (1.0 - from);
        let mean = clean.mul_scalar(of_clean) + sample.mul_scalar(of_sample);
        if !self.is_noisy[index] {
            return Ok(mean);
        }
        let noise = noise.ok_or(SchedulerError::NoNoise { class: CLASS })?;
        Ok(mean + noise.mul_scalar(deviation(self.config.variance_type, from, to)))
    }
}

/// Standard deviation of the noise that a step between two signal powers adds.
fn deviation(variance: Variance, from: f32, to: f32) -> f32 {
    let beta = 1.0 - from / to;
    let small = ((1.0 - to) / (1.0 - from) * beta).max(1e-20);
    match variance {
        Variance::FixedSmall => small.sqrt(),
        Variance::FixedSmallLog => (0.5 * small.ln()).exp(),
        Variance::FixedLarge => beta.sqrt(),
    }
}
