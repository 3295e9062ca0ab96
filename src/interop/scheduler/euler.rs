use super::fields::{Fields, Named};
use super::grid::linspace_f32;
use super::sigmas::SigmaTable;
use super::walk::{Plan, Walk};
use super::{
    Betas, Curve, FinalSigma, Method, Prediction, SchedulerError, Sigmas, Spacing, Visits,
};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "EulerDiscreteScheduler";
const CURVES: [Curve; 2] = [Curve::Karras, Curve::Exponential];

/// Euler's method in the ratio of noise to signal: Karras et al. (2022), algorithm 2 without churn.
#[derive(Debug, Clone, PartialEq)]
pub struct Euler {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// The curve of the noise levels.
    pub sigmas: Sigmas,
    /// Where the levels of [`Curve::Trained`] come from.
    pub interpolation_type: Interpolation,
    /// Where the last step goes to.
    pub final_sigmas_type: FinalSigma,
    /// What the network is told.
    pub timestep_type: TimestepType,
}

/// Where noise levels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The training's levels at the timesteps.
    Linear,
    /// Evenly in the logarithm from the training's highest to its lowest, which is where they end.
    LogLinear,
}

impl Named for Interpolation {
    const NAMES: &'static [(&'static str, Self)] =
        &[("linear", Self::Linear), ("log_linear", Self::LogLinear)];
}

/// What the network of [`Euler`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestepType {
    /// The timestep.
    Discrete,
    /// A quarter of the logarithm of the noise level, if it predicts velocities.
    Continuous,
}

impl Named for TimestepType {
    const NAMES: &'static [(&'static str, Self)] =
        &[("discrete", Self::Discrete), ("continuous", Self::Continuous)];
}

impl Default for Euler {
    fn default() -> Self {
        Self {
            betas: Betas::default(),
            prediction_type: Prediction::Epsilon,
            visits: Visits::new(Spacing::Linspace),
            sigmas: Sigmas::default(),
            interpolation_type: Interpolation::Linear,
            final_sigmas_type: FinalSigma::Zero,
            timestep_type: TimestepType::Discrete,
        }
    }
}

impl Euler {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        Ok(Self {
            betas: default.betas.read_rescaled(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            visits: default.visits.read(fields)?,
            sigmas: Sigmas::read(fields, &CURVES)?,
            interpolation_type: fields.choice("interpolation_type", default.interpolation_type)?,
            final_sigmas_type: fields.choice("final_sigmas_type", default.final_sigmas_type)?,
            timestep_type: fields.choice("timestep_type", default.timestep_type)?,
        })
    }

    fn is_continuous(&self) -> bool {
        self.timestep_type == TimestepType::Continuous
            && self.prediction_type == Prediction::Velocity
    }

    fn sigmas_of(&self, table: &SigmaTable, timesteps: &[f64]) -> Vec<f64> {
        match self.interpolation_type {
            Interpolation::Linear => timesteps.iter().map(|&at| table.sigma(at)).collect(),
            Interpolation::LogLinear => {
                let (low, high) = (table.logs[0], table.logs[table.logs.len() - 1]);
                let logs = linspace_f32(high, low, timesteps.len() + 1);
                logs.into_iter().map(|log| f64::from(log.exp())).collect()
            }
        }
    }
}

impl Method for Euler {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write_rescaled();
        fields.extend(self.visits.write());
        fields.extend(self.sigmas.write(&CURVES));
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("interpolation_type", json!(self.interpolation_type.name())),
            ("final_sigmas_type", json!(self.final_sigmas_type.name())),
            ("timestep_type", json!(self.timestep_type.name())),
            ("use_beta_sigmas", json!(false)),
        ]);
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        let table = SigmaTable::new(CLASS, num_steps, &self.betas.alpha_bars_above_zero())?;
        let mut timesteps = float_timesteps(CLASS, &self.betas, self.visits, num_steps)?;
        let mut sigmas = self.sigmas_of(&table, &timesteps);
        let (first, last) = (sigmas[0], sigmas[sigmas.len() - 1]);
        if let Some(curve) = self.sigmas.on_curve(first, last, num_steps) {
            timesteps = curve.iter().map(|&sigma| in_f32(table.timestep(sigma))).collect();
            sigmas = curve;
        }
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        sigmas.push(self.final_sigmas_type.of(&table));
        if self.is_continuous() {
            let noisy = &sigmas[..sigmas.len() - 1];
            timesteps = noisy.iter().map(|sigma| f64::from(0.25 * sigma.ln())).collect();
        }
        Ok(Plan {
            levels: sigmas.iter().take(timesteps.len()).map(|&sigma| [1.0, sigma]).collect(),
            timesteps,
            init_noise_sigma: init_noise_sigma(self.visits, &sigmas),
            scales_input: true,
            walk: Box::new(EulerWalk { prediction_type: self.prediction_type, sigmas }),
        })
    }

    /// The lowest level of [`Interpolation::LogLinear`] is a continuous timestep of its own.
    fn num_steps(&self, num_outputs: usize) -> Option<usize> {
        let has_one_more = self.is_continuous()
            && self.interpolation_type == Interpolation::LogLinear
            && self.sigmas.curve == Curve::Trained;
        num_outputs.checked_sub(usize::from(has_one_more))
    }
}

struct EulerWalk {
    prediction_type: Prediction,
    sigmas: Vec<f32>,
}

impl Walk for EulerWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        let (from, to) = (self.sigmas[index], self.sigmas[index + 1]);
        let clean = self.prediction_type.clean_of_scaled(output, sample.clone(), from);
        let slope = (sample.clone() - clean).div_scalar(from);
        Ok(sample + slope.mul_scalar(to - from))
    }
}

/// The timesteps as f32 has them; those of [`Spacing::Linspace`] are fractions.
pub(super) fn float_timesteps(
    class: &'static str,
    betas: &Betas,
    visits: Visits,
    num_steps: usize,
) -> Result<Vec<f64>, SchedulerError> {
    let timesteps = visits.timesteps(class, betas.num_train_timesteps, num_steps)?;
    Ok(timesteps.into_iter().map(in_f32).collect())
}

/// Standard deviation of the noise to begin with: that of the first level, with the image's power
/// added for leading timesteps, which do not begin at the last one.
pub(super) fn init_noise_sigma(visits: Visits, sigmas: &[f32]) -> f64 {
    let highest = sigmas.iter().copied().fold(0.0, f32::max);
    f64::from(match visits.timestep_spacing {
        Spacing::Leading => (highest * highest + 1.0).sqrt(),
        Spacing::Linspace | Spacing::Trailing => highest,
    })
}

pub(super) fn in_f32(timestep: f64) -> f64 {
    f64::from(timestep as f32)
}
