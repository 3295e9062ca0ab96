use super::euler::{float_timesteps, in_f32, init_noise_sigma};
use super::fields::{Fields, Named};
use super::sigmas::SigmaTable;
use super::walk::{Plan, Walk};
use super::{Betas, Clip, Curve, Method, Prediction, SchedulerError, Sigmas, Spacing, Visits};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "HeunDiscreteScheduler";
const CURVES: [Curve; 2] = [Curve::Karras, Curve::Exponential];

/// Heun's method in the ratio of noise to signal: Karras et al. (2022), algorithm 1.
///
/// Every timestep but the first comes twice: for the end of one step and the start of the next. k steps
/// take 2 k − 1 model outputs, the last step being of first order.
#[derive(Debug, Clone, PartialEq)]
pub struct Heun {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// Whether predicted images are clamped.
    pub clip: Clip,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// The curve of the noise levels.
    pub sigmas: Sigmas,
}

impl Default for Heun {
    fn default() -> Self {
        Self {
            betas: Betas { beta_start: 0.00085, beta_end: 0.012, ..Betas::default() },
            prediction_type: Prediction::Epsilon,
            clip: Clip::new(false),
            visits: Visits::new(Spacing::Linspace),
            sigmas: Sigmas::default(),
        }
    }
}

impl Heun {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        Ok(Self {
            betas: default.betas.read(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            clip: default.clip.read(fields)?,
            visits: default.visits.read(fields)?,
            sigmas: Sigmas::read(fields, &CURVES)?,
        })
    }
}

impl Method for Heun {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write();
        fields.extend(self.clip.write());
        fields.extend(self.visits.write());
        fields.extend(self.sigmas.write(&CURVES));
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("use_beta_sigmas", json!(false)),
        ]);
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        let table = SigmaTable::new(CLASS, num_steps, &self.betas.alpha_bars())?;
        let mut timesteps = float_timesteps(CLASS, &self.betas, self.visits, num_steps)?;
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&at| table.sigma(at)).collect();
        if let Some(curve) = self.sigmas.on_curve(sigmas[0], sigmas[num_steps - 1], num_steps) {
            timesteps = curve.iter().map(|&sigma| in_f32(table.timestep(sigma))).collect();
            sigmas = curve;
        }
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        let levels = sigmas.iter().map(|&sigma| [1.0, sigma]).collect();
        sigmas.push(0.0);
        Ok(Plan {
            timesteps: twice_after_the_first(timesteps),
            levels: twice_after_the_first(levels),
            init_noise_sigma: init_noise_sigma(self.visits, &sigmas),
            scales_input: true,
            walk: Box::new(HeunWalk {
                prediction_type: self.prediction_type,
                clip: self.clip,
                sigmas,
                start: None,
            }),
        })
    }

    fn num_steps(&self, num_outputs: usize) -> Option<usize> {
        (num_outputs % 2 == 1).then_some(num_outputs.div_ceil(2))
    }
}

fn twice_after_the_first<T: Copy>(values: Vec<T>) -> Vec<T> {
    values.iter().flat_map(|value| [*value; 2]).skip(1).collect()
}

struct HeunWalk {
    prediction_type: Prediction,
    clip: Clip,
    /// The level of each step, and the last step's end.
    sigmas: Vec<f32>,
    /// Sample and slope where the step began that is half done.
    start: Option<(Tensor<4>, Tensor<4>)>,
}

impl Walk for HeunWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        // Entries 0, 2, 4, … begin a step; 1, 3, 5, … finish the step before.
        let (from, to) = (self.sigmas[index / 2], self.sigmas[index / 2 + 1]);
        let here = if self.start.is_some() { to } else { from };
        let clean = self.prediction_type.clean_of_scaled(output, sample.clone(), here);
        let slope = (sample.clone() - self.clip.apply(clean)).div_scalar(here);
        let (sample, slope) = match self.start.take() {
            Some((start, slope_at_start)) => (start, (slope_at_start + slope).div_scalar(2.0)),
            None => {
                self.start = Some((sample.clone(), slope.clone()));
                (sample, slope)
            }
        };
        Ok(sample + slope.mul_scalar(to - from))
    }
}
