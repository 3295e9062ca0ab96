//! Why a scheduler could not be read, set up or stepped.

use super::CLASSES;

/// Why a scheduler could not be read, set up or stepped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// Not JSON, or not an object.
    #[error("the config of the scheduler is not a JSON object: {why}")]
    Parse {
        /// What the parser said.
        why: String,
    },
    /// A class that is not built here.
    #[error("the scheduler's _class_name is {found}; expected one of {}", CLASSES.join(", "))]
    Class {
        /// The value, or "missing".
        found: String,
    },
    /// A field whose value is not understood.
    #[error("{class}: {field} is {value}; expected {expected}")]
    Field {
        /// The scheduler's class.
        class: &'static str,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What is understood.
        expected: String,
    },
    /// A number of steps for which the scheduler has no timesteps.
    #[error("{class} cannot make {num_steps} inference steps: {why}")]
    Steps {
        /// The scheduler's class.
        class: &'static str,
        /// Steps that were asked for.
        num_steps: usize,
        /// What is in the way.
        why: String,
    },
    /// A number of model outputs that no number of steps asks for.
    #[error("{class} has no number of inference steps that takes {num_outputs} model outputs{why}")]
    Outputs {
        /// The scheduler's class.
        class: &'static str,
        /// Model outputs that were given.
        num_outputs: usize,
        /// What is in the way.
        why: String,
    },
    /// A random scheduler was given no noise.
    #[error("{class} adds noise after each timestep above 0; give it as `noise`")]
    NoNoise {
        /// The scheduler's class.
        class: &'static str,
    },
    /// A tensor of another shape than the sample's.
    #[error("{what} has shape {found:?}; expected {expected:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that goes with the sample.
        expected: Vec<usize>,
    },
    /// More steps than timesteps, or an index beyond them.
    #[error("{class} has {num_timesteps} timesteps; there is no timestep {index}")]
    Finished {
        /// The scheduler's class.
        class: &'static str,
        /// How many timesteps there are.
        num_timesteps: usize,
        /// The one that was asked for, from 0.
        index: usize,
    },
    /// A schedule and objective that diffusers has no scheduler for.
    #[error("no scheduler of diffusers samples {0}")]
    Foreign(String),
}
