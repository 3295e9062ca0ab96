use super::{Prediction, Weights};

/// noise − clean. The divisions by alpha + sigma (1 on a flow, at least 1 on a variance preserving
/// schedule) make it exact on every schedule.
pub(super) struct Flow;

impl Prediction for Flow {
    fn target(&self, _alpha: f64, _sigma: f64) -> Weights {
        [-1.0, 1.0]
    }

    fn clean(&self, alpha: f64, sigma: f64) -> Weights {
        let sum = alpha + sigma;
        [1.0 / sum, -sigma / sum]
    }

    fn noise(&self, alpha: f64, sigma: f64) -> Weights {
        let sum = alpha + sigma;
        [1.0 / sum, alpha / sum]
    }
}
