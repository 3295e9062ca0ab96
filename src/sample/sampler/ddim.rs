use super::{Denoise, Fresh, Level};
use crate::diffusion::Spacing;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Song et al. (2020), "Denoising diffusion implicit models", eq. 12, for any schedule. With `eta` 1 it is the ancestral
/// sampler of DDPM (Ho et al. 2020, algorithm 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddim {
    /// Steps, 1 to 1000.
    pub steps: usize,
    /// Share of fresh noise in [0, 1]: 0 adds none, 1 is DDPM.
    pub eta: f64,
    /// At which times it asks.
    pub spacing: Spacing,
}

impl Default for Ddim {
    fn default() -> Self {
        Self { steps: 25, eta: 0.0, spacing: Spacing::Even }
    }
}

impl Ddim {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        fresh: &mut Fresh<'_>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        for (step, pair) in levels.windows(2).enumerate() {
            let (from, to) = (&pair[0], &pair[1]);
            let answer = denoise(noisy.clone(), from.t)?;
            let of_fresh = fresh_share(from, to, self.eta);
            let kept =
                Level { sigma: (to.sigma.powi(2) - of_fresh.powi(2)).max(0.0).sqrt(), ..*to };
            noisy = kept.reached_from(from, noisy, answer);
            if of_fresh > 0.0 {
                noisy = noisy + fresh(step).mul_scalar(of_fresh);
            }
        }
        Ok(noisy)
    }
}

/// Standard deviation of the noise that a step renews: `eta` times that of the exact posterior.
fn fresh_share(from: &Level, to: &Level, eta: f64) -> f64 {
    let kept = from.alpha * to.sigma / (to.alpha * from.sigma);
    eta * to.sigma * (1.0 - kept * kept).max(0.0).sqrt()
}
