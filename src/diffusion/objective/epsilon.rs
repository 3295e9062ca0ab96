use super::{Prediction, Weights, ratio};

/// The noise.
pub(super) struct Epsilon;

impl Prediction for Epsilon {
    fn target(&self, _alpha: f64, _sigma: f64) -> Weights {
        [0.0, 1.0]
    }

    fn clean(&self, alpha: f64, sigma: f64) -> Weights {
        [ratio(1.0, alpha), -ratio(sigma, alpha)]
    }

    fn noise(&self, _alpha: f64, _sigma: f64) -> Weights {
        [0.0, 1.0]
    }
}
