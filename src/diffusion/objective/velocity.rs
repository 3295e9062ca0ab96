use super::{Prediction, Weights};

/// alpha · noise − sigma · clean. The divisions by the power alpha² + sigma² (1 on a variance
/// preserving schedule, at least a half on a flow) make it exact on every schedule.
pub(super) struct Velocity;

impl Prediction for Velocity {
    fn target(&self, alpha: f64, sigma: f64) -> Weights {
        [-sigma, alpha]
    }

    fn clean(&self, alpha: f64, sigma: f64) -> Weights {
        let power = alpha * alpha + sigma * sigma;
        [alpha / power, -sigma / power]
    }

    fn noise(&self, alpha: f64, sigma: f64) -> Weights {
        let power = alpha * alpha + sigma * sigma;
        [sigma / power, alpha / power]
    }
}
