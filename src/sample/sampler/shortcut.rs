use super::Euler;
use crate::diffusion::self_consistency::FINEST;
use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// Few long steps of a denoiser that was trained to take them (`denoiser.task.self_consistency`): Frans et al. (2024),
/// algorithm 2. Euler's steps, but each question is also told how far its step leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shortcut {
    /// Steps: a power of two from 1 to 128.
    pub steps: usize,
}

impl Default for Shortcut {
    fn default() -> Self {
        Self { steps: 4 }
    }
}

impl Shortcut {
    pub(super) fn walk(&self) -> Euler {
        Euler { steps: self.steps, ..Euler::default() }
    }

    pub(super) fn check(&self) -> Option<String> {
        let is_learned = self.steps.is_power_of_two() && self.steps <= FINEST;
        demand(is_learned, "steps", self.steps, format!("a power of two from 1 to {FINEST}"))
    }
}
