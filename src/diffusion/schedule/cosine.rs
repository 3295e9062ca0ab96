use super::{Betas, NUM_TIMESTEPS};
use crate::faults::demand;
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// No timestep takes away more than this share of the signal power.
const MAX_BETA: f64 = 0.999;

/// Signal power along a squared cosine: Nichol & Dhariwal (2021), eq. 17, betas capped at 0.999.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Keeps the first betas from vanishing; in [0, 1].
    pub offset: f64,
    /// Rescales so that nothing of the image is left at the last timestep (Lin et al. 2023).
    pub zero_terminal_snr: bool,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { offset: 0.008, zero_terminal_snr: false }
    }
}

impl Cosine {
    pub(super) fn check(&self) -> Vec<String> {
        let is_share = (0.0..=1.0).contains(&self.offset);
        demand(is_share, "offset", self.offset, "0 to 1").into_iter().collect()
    }

    fn power(&self, t: f64) -> f64 {
        ((t + self.offset) / (1.0 + self.offset) * FRAC_PI_2).cos().powi(2)
    }
}

impl Betas for Cosine {
    fn beta(&self, timestep: usize) -> f64 {
        let time = |timestep: usize| timestep as f64 / NUM_TIMESTEPS as f64;
        (1.0 - self.power(time(timestep + 1)) / self.power(time(timestep))).min(MAX_BETA)
    }

    fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }
}
