//! The schedulers of diffusers, read from their `scheduler_config.json`: other people's weights are
//! sampled as their authors sample them.
//!
//! umbra's own samplers ([`crate::sample::sampler`]) are formulas over a schedule; these walk the grids and
//! tables of diffusers, f32 and rounding included, so that equal model outputs give equal samples.
//! Nothing here draws noise: a scheduler that wants some is handed it.

mod betas;
mod ddim;
mod ddpm;
mod dpm_solver;
mod error;
mod euler;
mod export;
mod fields;
mod flow_match;
mod grid;
mod heun;
mod pndm;
mod prediction;
mod sigmas;
mod spacing;
mod walk;

pub use {
    betas::{BetaSchedule, Betas},
    ddim::Ddim,
    ddpm::{Ddpm, Variance},
    dpm_solver::{DpmSolver, SolverType},
    error::SchedulerError,
    euler::{Euler, Interpolation, TimestepType},
    export::from_umbra,
    flow_match::FlowMatch,
    heun::Heun,
    pndm::Pndm,
    prediction::{Clip, Prediction},
    sigmas::{Curve, FinalSigma, Sigmas},
    spacing::{Spacing, Visits},
    walk::{Scheduler, trajectory},
};

use self::fields::Fields;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The version of diffusers that these follow, and that written configs name.
pub const DIFFUSERS_VERSION: &str = "0.42.1";

/// Every class that is understood.
pub const CLASSES: [&str; 7] = [
    ddpm::CLASS,
    ddim::CLASS,
    euler::CLASS,
    heun::CLASS,
    dpm_solver::CLASS,
    pndm::CLASS,
    flow_match::CLASS,
];

/// A scheduler of diffusers, as its `scheduler_config.json` says it.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerConfig {
    /// Ancestral sampling.
    Ddpm(Ddpm),
    /// First order, without fresh noise.
    Ddim(Ddim),
    /// First order in the ratio of noise to signal.
    Euler(Euler),
    /// Second order, two model outputs per step.
    Heun(Heun),
    /// DPM-Solver++, of order 1 to 3.
    DpmSolver(DpmSolver),
    /// Fourth order from the model outputs of earlier steps.
    Pndm(Pndm),
    /// First order along the straight line from image to noise.
    FlowMatch(FlowMatch),
}

/// What the classes have in common.
trait Method {
    /// Its name in diffusers.
    fn class(&self) -> &'static str;

    /// The fields of its config.
    fn write(&self) -> Vec<(&'static str, Value)>;

    /// The grid of `num_steps` steps, and a walk along it.
    fn plan(&self, num_steps: usize) -> Result<walk::Plan, SchedulerError>;

    /// The inference steps that take `num_outputs` model outputs, if there are any.
    fn num_steps(&self, num_outputs: usize) -> Option<usize> {
        Some(num_outputs)
    }
}

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`.
    ///
    /// Fields of other classes are ignored, as diffusers ignores them. Fails, naming the field, on one that
    /// no class is known to read, and on a class, option or value that is not built here: dynamic thresholding, learned variances, fresh noise in DPM-Solver, flows in
    /// DPM-Solver, shifts that depend on the image, beta curves of noise levels.
    pub fn from_diffusers(json: &str) -> Result<Self, SchedulerError> {
        let mut fields = fields::parse(json)?;
        let found = fields.shift_remove("_class_name");
        let name = found.as_ref().and_then(Value::as_str).unwrap_or_default();
        let Some(class) = CLASSES.into_iter().find(|class| *class == name) else {
            let found = found.map_or_else(|| "missing".to_owned(), |value| value.to_string());
            return Err(SchedulerError::Class { found });
        };
        let mut fields = Fields::new(class, fields);
        let config = match class {
            ddpm::CLASS => Self::Ddpm(Ddpm::read(&mut fields)?),
            ddim::CLASS => Self::Ddim(Ddim::read(&mut fields)?),
            euler::CLASS => Self::Euler(Euler::read(&mut fields)?),
            heun::CLASS => Self::Heun(Heun::read(&mut fields)?),
            dpm_solver::CLASS => Self::DpmSolver(DpmSolver::read(&mut fields)?),
            pndm::CLASS => Self::Pndm(Pndm::read(&mut fields)?),
            _ => Self::FlowMatch(FlowMatch::read(&mut fields)?),
        };
        fields.finish()?;
        Ok(config)
    }

    /// The `scheduler_config.json` that diffusers reads, fields in diffusers' order.
    pub fn to_diffusers(&self) -> Value {
        let mut fields: BTreeMap<&str, Value> = self.get().write().into_iter().collect();
        fields.insert("_class_name", self.class().into());
        fields.insert("_diffusers_version", DIFFUSERS_VERSION.into());
        let fields = fields.into_iter().map(|(field, value)| (field.to_owned(), value));
        Value::Object(fields.collect::<Map<_, _>>())
    }

    /// Its class in diffusers.
    pub fn class(&self) -> &'static str {
        self.get().class()
    }

    /// The inference steps whose scheduler takes `num_outputs` model outputs: as many in most
    /// classes; Heun takes 2 k − 1 for k steps, PNDM k + 1 (k + 9 with Runge-Kutta steps).
    ///
    /// Fails where there is no such number.
    pub fn num_inference_steps(&self, num_outputs: usize) -> Result<usize, SchedulerError> {
        let outputs =
            |why: String| SchedulerError::Outputs { class: self.class(), num_outputs, why };
        let num_steps = self.get().num_steps(num_outputs);
        let num_steps = num_steps.ok_or_else(|| outputs(String::new()))?;
        match self.get().plan(num_steps) {
            Err(error) => Err(outputs(format!(": {error}"))),
            Ok(plan) if plan.timesteps.len() != num_outputs => Err(outputs(String::new())),
            Ok(_) => Ok(num_steps),
        }
    }

    fn get(&self) -> &dyn Method {
        match self {
            Self::Ddpm(method) => method,
            Self::Ddim(method) => method,
            Self::Euler(method) => method,
            Self::Heun(method) => method,
            Self::DpmSolver(method) => method,
            Self::Pndm(method) => method,
            Self::FlowMatch(method) => method,
        }
    }
}

#[cfg(test)]
mod tests;
