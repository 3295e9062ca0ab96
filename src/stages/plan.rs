//! What a run will do, before it does anything: the walk of [`Run::run`], with what each stage costs in the place of
//! making it.

use super::{EVALUATE, Kind, Place, Run, State};
use crate::interop::scheduler;
use crate::recipe::{Checked, Recipe};
use crate::telemetry::progress;
use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;

/// Floating-point operations per second and thread, in training and when only computing forward. Measured with
/// flex on the machine class of docs/experiments.md; a rough guide for others.
const CPU_RATE_PER_THREAD: f64 = 22e9;

/// The same for a whole GPU: see docs/experiments.md.
const GPU_RATE: f64 = 2e12;

/// The plan.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// Where it would be computed.
    pub device: String,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// What will be regretted later, a sentence each; no fault.
    pub warnings: Vec<String>,
    /// Bytes of memory at the peak, roughly.
    pub peak_memory_bytes: u64,
    /// Bytes on disk when all is done, roughly.
    pub disk_bytes: u64,
    /// Seconds still to go, roughly.
    pub seconds_to_go: f64,
}

/// One stage of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct StagePlan {
    /// Its name.
    pub name: &'static str,
    /// What sort of work it is.
    pub kind: Kind,
    /// What is there of it: `up_to_date`, `resume` or `to_do`.
    pub state: &'static str,
    /// The share that is there, from 0 to 1.
    pub done: f64,
    /// What it does, in words.
    pub what: String,
    /// Trainable parameters, or those of a network that is given.
    pub parameters: Option<u64>,
    /// Floating-point operations from the start; a whole number, but of more digits than 64 bits have.
    pub operations: f64,
    /// Seconds still to go, roughly.
    pub seconds_to_go: f64,
}

impl Plan {
    /// Makes the plan of `recipe` at `place`. Reads what earlier runs left and lists the images; writes nothing.
    pub fn new(checked: Checked, place: Place) -> Result<Self> {
        let run = Run::plan(checked, place);
        let rate = match run.place.device_name.starts_with("cuda") {
            true => GPU_RATE,
            false => CPU_RATE_PER_THREAD * run.place.threads as f64,
        };
        let (mut peak_memory_bytes, mut disk_bytes) = (0, 0);
        let mut stages = Vec::new();
        for (node, state) in run.survey(EVALUATE)? {
            let cost = node.stage.cost(&run)?;
            peak_memory_bytes = peak_memory_bytes.max(cost.memory);
            disk_bytes += cost.disk;
            stages.push(StagePlan {
                name: node.name,
                kind: node.kind,
                state: state.name(),
                done: state.done(),
                what: cost.what,
                parameters: cost.parameters,
                operations: cost.operations,
                seconds_to_go: (1.0 - state.done()) * cost.operations / rate,
            });
        }
        Ok(Self {
            recipe: run.recipe.name.clone(),
            device: run.place.device_name.clone(),
            peak_memory_bytes,
            disk_bytes,
            seconds_to_go: stages.iter().map(|stage| stage.seconds_to_go).sum(),
            stages,
            warnings: warnings(&run.recipe),
        })
    }
}

impl StagePlan {
    fn state_in_words(&self) -> String {
        match self.state {
            state if state == State::UpToDate.name() => "up to date".to_owned(),
            state if state == State::ToDo.name() => "to do".to_owned(),
            _ if self.done > 0.0 => format!("{:.0} % done, goes on", 100.0 * self.done),
            _ => "begun, goes on".to_owned(),
        }
    }
}

/// What `recipe` may do, and its user may not want.
pub(super) fn warnings(recipe: &Recipe) -> Vec<String> {
    let diffusion = recipe.diffusion();
    let export = scheduler::from_umbra(&diffusion.schedule, &diffusion.objective);
    let refused = |error| {
        format!(
            "denoiser.task: umbra will sample from this, but not export it to diffusers: {error}"
        )
    };
    export.err().map(refused).into_iter().collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.recipe, self.device)?;
        for stage in &self.stages {
            write!(f, "  {:<12} {:<44}", stage.name, stage.what)?;
            match stage.parameters {
                Some(parameters) => {
                    write!(f, "{:>16} parameters", HumanCount(parameters).to_string())?
                }
                None => write!(f, "{:>27}", "")?,
            }
            let (operations, unit) = match stage.operations {
                many if many >= 1e17 => (many / 1e15, "PFLOP"),
                few => (few / 1e12, "TFLOP"),
            };
            write!(
                f,
                " {operations:>10.2} {unit}  ~{:<9}",
                progress::duration(stage.seconds_to_go)
            )?;
            writeln!(f, " {}", stage.state_in_words())?;
        }
        writeln!(
            f,
            "  about {} to go, {} of memory at the peak, {} on disk",
            progress::duration(self.seconds_to_go),
            HumanBytes(self.peak_memory_bytes),
            HumanBytes(self.disk_bytes)
        )?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  warning: {warning}"))
    }
}
