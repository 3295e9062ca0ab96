use super::{Denoise, Level};
use crate::random::Stream;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Song et al. (2020), "Denoising diffusion implicit models", eq. 12, for any schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddim {
    /// Steps, 1 to 1000.
    pub steps: usize,
    /// Share of fresh noise in [0, 1]: 0 adds none, 1 is DDPM.
    pub eta: f64,
}

impl Default for Ddim {
    fn default() -> Self {
        Self { steps: 25, eta: 0.0 }
    }
}

impl Ddim {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        if self.eta == 0.0 {
            return self.walk(levels, noise, denoise, &mut |_| None);
        }
        let (shape, device, seeds) = (noise.dims(), noise.device(), seeds_of(&noise));
        let size = shape[1..].iter().product();
        let mut fresh = |step: usize| {
            let of = |&seed| Stream::new(seed, "sample/fresh").at(step as u64).normals(size);
            let values: Vec<f32> = seeds.iter().flat_map(of).collect();
            Some(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        self.walk(levels, noise, denoise, &mut fresh)
    }

    /// `fresh` gives the noise to add in a step.
    pub(super) fn walk<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
        fresh: &mut dyn FnMut(usize) -> Option<Tensor<4>>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        for (step, pair) in levels.windows(2).enumerate() {
            let (from, to) = (&pair[0], &pair[1]);
            let clean = denoise(noisy.clone(), from.t)?;
            let of_fresh = fresh_noise(from, to, self.eta);
            let kept =
                Level { sigma: (to.sigma.powi(2) - of_fresh.powi(2)).max(0.0).sqrt(), ..*to };
            noisy = kept.reached_from(from, noisy, clean);
            if of_fresh > 0.0
                && let Some(fresh) = fresh(step)
            {
                noisy = noisy + fresh.mul_scalar(of_fresh);
            }
        }
        Ok(noisy)
    }
}

/// Standard deviation of the noise that a step renews: `eta` times that of the exact posterior.
fn fresh_noise(from: &Level, to: &Level, eta: f64) -> f64 {
    let kept = from.alpha * to.sigma / (to.alpha * from.sigma);
    eta * to.sigma * (1.0 - kept * kept).max(0.0).sqrt()
}

/// A seed per sample, from its own noise: what it adds on the way must not depend on its neighbours.
fn seeds_of(noise: &Tensor<4>) -> Vec<u64> {
    let [b, ..] = noise.dims();
    let data = noise.to_data();
    let bytes = data.as_bytes();
    let seed = |sample: &[u8]| {
        let hash = blake3::hash(sample);
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes of 32"))
    };
    bytes.chunks((bytes.len() / b.max(1)).max(1)).map(seed).collect()
}
