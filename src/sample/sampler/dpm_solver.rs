use super::{Denoise, Level};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// DPM-Solver++(2M): Lu et al. (2022), algorithm 2. First order in its first and last step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmSolver2M {
    /// Steps, 1 to 1000.
    pub steps: usize,
}

impl Default for DpmSolver2M {
    fn default() -> Self {
        Self { steps: 20 }
    }
}

impl DpmSolver2M {
    pub(super) fn sample<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let mut noisy = noise;
        let mut before: Option<(f64, Tensor<4>)> = None;
        for pair in levels.windows(2) {
            let (from, to) = (&pair[0], &pair[1]);
            let step = to.log_snr_half() - from.log_snr_half();
            let clean = denoise(noisy.clone(), from.t)?;
            let ahead = match before {
                Some((step_before, clean_before)) => {
                    let weight = extrapolation(step, step_before);
                    clean.clone().mul_scalar(1.0 + weight) - clean_before.mul_scalar(weight)
                }
                None => clean.clone(),
            };
            noisy = to.reached_from(from, noisy, ahead);
            before = Some((step, clean));
        }
        Ok(noisy)
    }
}

impl Level {
    fn log_snr_half(&self) -> f64 {
        (self.alpha / self.sigma).ln()
    }
}

/// How far ahead of the newest image the step's image lies, in units of the change before: half of
/// `step` / `step_before`. 0 (first order) where either is infinite: at no signal and at no noise.
fn extrapolation(step: f64, step_before: f64) -> f64 {
    if step.is_finite() && step_before.is_finite() { 0.5 * step / step_before } else { 0.0 }
}
