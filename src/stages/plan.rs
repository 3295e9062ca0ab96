//! What a run will do, before it does anything: the walk of [`Run::run`], with what each stage costs in the place of
//! making it.

use super::rates::Rates;
use super::{EVALUATE, Kind, Place, Run, State};
use crate::interop::scheduler;
use crate::recipe::{Checked, Recipe};
use crate::telemetry::progress;
use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;

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
    /// Bytes of memory at the peak, roughly; none where nobody has measured what the device keeps.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes on disk when all is done, roughly.
    pub disk_bytes: u64,
    /// Seconds still to go, roughly; none where the speed of a stage that is not done is unknown.
    pub seconds_to_go: Option<f64>,
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
    /// Seconds still to go, roughly; none where nobody has measured the device.
    pub seconds_to_go: Option<f64>,
}

impl Plan {
    /// Makes the plan of `recipe` at `place`. Reads what earlier runs left and lists the images; writes nothing.
    pub fn new(checked: Checked, place: Place) -> Result<Self> {
        let run = Run::plan(checked, place);
        let rates = Rates::known();
        let (mut peak_memory_bytes, mut disk_bytes) = (Some(0), 0);
        let mut stages = Vec::new();
        for (node, state) in run.survey(EVALUATE)? {
            let cost = node.stage.cost(&run)?;
            let rate = rates.of(&run.place.device_name, cost.compute, run.place.threads);
            if cost.weights > 0 {
                let memory =
                    rate.map(|it| cost.weights + (cost.kept * it.bytes_per_operation) as u64);
                peak_memory_bytes = peak_memory_bytes.zip(memory).map(|(a, b)| a.max(b));
            }
            let operations = (1.0 - state.done()) * cost.operations;
            let seconds_to_go = match operations {
                0.0 => Some(0.0),
                operations => rate.map(|it| operations / it.operations_per_second),
            };
            disk_bytes += cost.disk;
            stages.push(StagePlan {
                name: node.name,
                kind: node.kind,
                state: state.name(),
                done: state.done(),
                what: cost.what,
                parameters: cost.parameters,
                operations: cost.operations,
                seconds_to_go,
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

fn told<T>(value: Option<T>, tell: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "an unknown amount".to_owned(), tell)
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
            let time = match stage.seconds_to_go {
                Some(seconds) => format!("~{}", progress::duration(seconds)),
                None => "unknown".to_owned(),
            };
            write!(f, " {operations:>10.2} {unit}  {time:<10}")?;
            writeln!(f, " {}", stage.state_in_words())?;
        }
        writeln!(
            f,
            "  {} to go, {} of memory at the peak, {} on disk",
            told(self.seconds_to_go, |seconds| format!("about {}", progress::duration(seconds))),
            told(self.peak_memory_bytes, |bytes| HumanBytes(bytes).to_string()),
            HumanBytes(self.disk_bytes)
        )?;
        if self.seconds_to_go.is_none() {
            let device = &self.device;
            writeln!(
                f,
                "  what is unknown of {device}, `umbra bench --device {device} --save` measures"
            )?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  warning: {warning}"))
    }
}
