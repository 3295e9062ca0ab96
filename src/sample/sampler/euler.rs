use super::{Denoise, Level};
use crate::diffusion::Spacing;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Euler's method, along straight lines of constant image and noise.
///
/// On a flow this is the usual step x + Δsigma · velocity; on a variance preserving schedule it is
/// Euler's method of Karras et al. (2022), and equals [`Ddim`](super::Ddim) without fresh noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Euler {
    /// Steps, 1 to 1000.
    pub steps: usize,
    /// At which times it asks.
    pub spacing: Spacing,
}

impl Default for Euler {
    fn default() -> Self {
        Self { steps: 25, spacing: Spacing::Even }
    }
}

impl Euler {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        for pair in levels.windows(2) {
            let (from, to) = (&pair[0], &pair[1]);
            let answer = denoise(noisy.clone(), from.t)?;
            noisy = to.reached_from(from, noisy, answer);
        }
        Ok(noisy)
    }
}
