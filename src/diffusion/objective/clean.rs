use super::{Prediction, Weights, ratio};

/// The image.
pub(super) struct Clean;

impl Prediction for Clean {
    fn target(&self, _alpha: f64, _sigma: f64) -> Weights {
        [1.0, 0.0]
    }

    fn clean(&self, _alpha: f64, _sigma: f64) -> Weights {
        [0.0, 1.0]
    }

    fn noise(&self, alpha: f64, sigma: f64) -> Weights {
        [ratio(1.0, sigma), -ratio(alpha, sigma)]
    }
}
