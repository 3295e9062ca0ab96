use super::{Denoise, Fresh, Level};
use crate::diffusion::Spacing;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// DPM-Solver++(2M): Lu et al. (2022), algorithm 2; SDE-DPM-Solver++(2M) of the same paper (appendix C.2) where it is
/// `stochastic`. First order in its first and last step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmSolver2M {
    /// Steps, 1 to 1000.
    pub steps: usize,
    /// Whether each step renews a part of the noise.
    pub stochastic: bool,
    /// At which times it asks.
    pub spacing: Spacing,
}

impl Default for DpmSolver2M {
    fn default() -> Self {
        Self { steps: 20, stochastic: false, spacing: Spacing::Even }
    }
}

impl DpmSolver2M {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        fresh: &mut Fresh<'_>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        let mut before: Option<(f64, Tensor<4>)> = None;
        for (at, pair) in levels.windows(2).enumerate() {
            let (from, to) = (&pair[0], &pair[1]);
            let step = to.log_snr_half() - from.log_snr_half();
            let clean = denoise(noisy.clone(), from.t)?.clean;
            let ahead = match before {
                Some((step_before, clean_before)) => {
                    let weight = extrapolation(step, step_before);
                    clean.clone().mul_scalar(1.0 + weight) - clean_before.mul_scalar(weight)
                }
                None => clean.clone(),
            };
            noisy = match self.stochastic {
                false => to.reached_from(from, noisy, ahead.into()),
                true => to.drawn_from(from, noisy, ahead, || fresh(at)),
            };
            before = Some((step, clean));
        }
        Ok(noisy)
    }
}

impl Level {
    /// Goes on to `self` along the reverse SDE, on which the image is `clean` all the way: what is left of `noisy` shrinks
    /// twice as fast as without fresh noise, which makes up for it.
    fn drawn_from(
        &self,
        from: &Level,
        noisy: Tensor<4>,
        clean: Tensor<4>,
        fresh: impl FnOnce() -> Tensor<4>,
    ) -> Tensor<4> {
        // e^(-h), which is 0 where no noise is left and where no signal was there.
        let shrinks = from.alpha * self.sigma / (self.alpha * from.sigma);
        let kept = shrinks * self.sigma / from.sigma;
        let renewed = 1.0 - shrinks * shrinks;
        let image = clean.mul_scalar(self.alpha * renewed);
        let reached = noisy.mul_scalar(kept) + image;
        match self.sigma > 0.0 {
            true => reached + fresh().mul_scalar(self.sigma * renewed.max(0.0).sqrt()),
            false => reached,
        }
    }

    fn log_snr_half(&self) -> f64 {
        (self.alpha / self.sigma).ln()
    }
}

/// How far ahead of the newest image the step's image lies, in units of the change before: half of
/// `step` / `step_before`. 0 (first order) where either is infinite: at no signal and at no noise.
fn extrapolation(step: f64, step_before: f64) -> f64 {
    if step.is_finite() && step_before.is_finite() { 0.5 * step / step_before } else { 0.0 }
}
