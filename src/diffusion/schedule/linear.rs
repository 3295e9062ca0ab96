use super::{Betas, NUM_TIMESTEPS};
use serde::{Deserialize, Serialize};

/// Betas on a line: Ho et al. (2020), "Denoising diffusion probabilistic models", section 4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// Beta of timestep 0, in (0, 1).
    pub first: f64,
    /// Beta of timestep 999, from `first` to 1.
    pub last: f64,
    /// Rescales so that nothing of the image is left at the last timestep (Lin et al. 2023).
    pub zero_terminal_snr: bool,
}

impl Default for Linear {
    fn default() -> Self {
        Self { first: 1e-4, last: 0.02, zero_terminal_snr: false }
    }
}

impl Betas for Linear {
    fn beta(&self, timestep: usize) -> f64 {
        let weight = timestep as f64 / (NUM_TIMESTEPS - 1) as f64;
        self.first + weight * (self.last - self.first)
    }

    fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }
}
