use super::{Denoise, Level};
use crate::diffusion::Spacing;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Heun's method: an Euler step, and the same step again with image and noise averaged over both of
/// its ends (Karras et al. 2022, algorithm 1).
///
/// Steps in (alpha, sigma), which stay finite where sigma / alpha does not. Asks the network twice a
/// step, and once in the last one, where no noise is left to ask about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heun {
    /// Steps, 1 to 1000.
    pub steps: usize,
    /// At which times it asks.
    pub spacing: Spacing,
}

impl Default for Heun {
    fn default() -> Self {
        Self { steps: 13, spacing: Spacing::Even }
    }
}

impl Heun {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        for pair in levels.windows(2) {
            let (from, to) = (&pair[0], &pair[1]);
            let clean = denoise(noisy.clone(), from.t)?.clean;
            let ahead = to.reached_from(from, noisy.clone(), clean.clone().into());
            noisy = if to.sigma == 0.0 {
                ahead
            } else {
                let clean_ahead = denoise(ahead.clone(), to.t)?.clean;
                let noise = from.noise(noisy.clone(), clean.clone());
                let noise_ahead = to.noise(ahead, clean_ahead.clone());
                noisy
                    + (clean + clean_ahead).mul_scalar((to.alpha - from.alpha) / 2.0)
                    + (noise + noise_ahead).mul_scalar((to.sigma - from.sigma) / 2.0)
            };
        }
        Ok(noisy)
    }
}

impl Level {
    /// The noise in `noisy`, if `clean` is its image.
    pub(super) fn noise(&self, noisy: Tensor<4>, clean: Tensor<4>) -> Tensor<4> {
        (noisy - clean.mul_scalar(self.alpha)).div_scalar(self.sigma)
    }
}
