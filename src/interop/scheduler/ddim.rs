use super::fields::{Fields, Named};
use super::walk::{Plan, Walk, roots};
use super::{Betas, Clip, Method, Prediction, SchedulerError, Spacing, Visits};

use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "DDIMScheduler";

/// Song et al. (2020), "Denoising diffusion implicit models", without fresh noise (eta 0).
///
/// Each step goes down by the training's timesteps divided by the number of steps, rounded down. Where
/// that leaves a remainder, it does not land on the next timestep that is visited.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddim {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// Whether predicted images are clamped.
    pub clip: Clip,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// Whether the last step ends without noise; with that of timestep 0 otherwise.
    pub set_alpha_to_one: bool,
}

impl Default for Ddim {
    fn default() -> Self {
        Self {
            betas: Betas::default(),
            prediction_type: Prediction::Epsilon,
            clip: Clip::new(true),
            visits: Visits::new(Spacing::Leading),
            set_alpha_to_one: true,
        }
    }
}

impl Ddim {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        fields.refuse("thresholding")?;
        Ok(Self {
            betas: default.betas.read_rescaled(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            clip: default.clip.read(fields)?,
            visits: default.visits.read(fields)?,
            set_alpha_to_one: fields.flag("set_alpha_to_one", default.set_alpha_to_one)?,
        })
    }
}

impl Method for Ddim {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write_rescaled();
        fields.extend(self.clip.write());
        fields.extend(self.visits.write());
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("set_alpha_to_one", json!(self.set_alpha_to_one)),
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
        let end = if self.set_alpha_to_one { 1.0 } else { alpha_bars[0] };
        let stride = num_train / num_steps;
        let pair = |timestep: &usize| {
            let before = timestep.checked_sub(stride).map_or(end, |before| alpha_bars[before]);
            [at(timestep), before]
        };
        let walk = DdimWalk {
            prediction_type: self.prediction_type,
            clip: self.clip,
            alpha_bars: timesteps.iter().map(pair).collect(),
        };
        Ok(Plan::preserving(&timesteps, &alpha_bars, Box::new(walk)))
    }
}

struct DdimWalk {
    prediction_type: Prediction,
    clip: Clip,
    /// Signal power before and after each step.
    alpha_bars: Vec<[f32; 2]>,
}

impl Walk for DdimWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        let [from, to] = self.alpha_bars[index].map(roots);
        let clean = self.prediction_type.clean(output.clone(), sample.clone(), from);
        // Not the noise that goes with a clamped image: diffusers' use_clipped_model_output is off.
        let noise = self.prediction_type.noise(output, sample, from);
        let clean = self.clip.apply(clean);
        Ok(clean.mul_scalar(to[0]) + noise.mul_scalar(to[1]))
    }
}
