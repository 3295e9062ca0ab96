use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// The straight line from image to noise: Liu et al. (2022), Lipman et al. (2022).
///
/// sigma = `shift` · t / (1 + (`shift` − 1) · t), alpha = 1 − sigma; the shift is that of Esser et al.
/// (2024), eq. 23, in training and in sampling alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RectifiedFlow {
    /// Above 1 spends more of the time at high noise, for large images; 1 is the plain line.
    pub shift: f64,
}

impl Default for RectifiedFlow {
    fn default() -> Self {
        Self { shift: 1.0 }
    }
}

impl RectifiedFlow {
    pub(super) fn alpha_sigma(&self, t: f64) -> (f64, f64) {
        let whole = 1.0 + (self.shift - 1.0) * t;
        ((1.0 - t) / whole, self.shift * t / whole)
    }

    pub(super) fn check(&self) -> Vec<String> {
        let is_shift = self.shift > 0.0 && self.shift.is_finite();
        demand(is_shift, "shift", self.shift, "a number above 0").into_iter().collect()
    }
}
