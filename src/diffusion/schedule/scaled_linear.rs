use super::{Betas, NUM_TIMESTEPS};
use serde::{Deserialize, Serialize};

/// Square roots of betas on a line, as Stable Diffusion has it (Rombach et al. 2022).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaledLinear {
    /// Beta of timestep 0, in (0, 1).
    pub first: f64,
    /// Beta of timestep 999, from `first` to 1.
    pub last: f64,
    /// Rescales so that nothing of the image is left at the last timestep (Lin et al. 2023).
    pub zero_terminal_snr: bool,
}

impl Default for ScaledLinear {
    fn default() -> Self {
        Self { first: 0.00085, last: 0.012, zero_terminal_snr: false }
    }
}

impl Betas for ScaledLinear {
    fn beta(&self, timestep: usize) -> f64 {
        let weight = timestep as f64 / (NUM_TIMESTEPS - 1) as f64;
        let root = self.first.sqrt() + weight * (self.last.sqrt() - self.first.sqrt());
        root * root
    }

    fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }
}
