//! The running mean of the teacher's scores.

use crate::train::adamw::Norm;
use burn::tensor::{Device, Tensor, TensorData};

/// A running mean [1, K] of the teacher's scores (arXiv 2104.14294, equation 4), which moves when a step is taken, and
/// not at all for a step that was left out.
#[derive(Debug)]
pub struct Center {
    pub(super) mean: Tensor<2>,
    /// Where it moves with this step.
    ahead: Option<Tensor<2>>,
}

/// A centre of zeros for `prototypes` scores.
pub fn fresh_center(prototypes: usize, device: &Device) -> Center {
    let zeros = TensorData::new(vec![0f32; prototypes], [1, prototypes]);
    Center::new(Tensor::from_data(zeros, device))
}

impl Center {
    pub(super) fn new(mean: Tensor<2>) -> Self {
        Self { mean, ahead: None }
    }

    /// Takes note of the scores [R, K] of a batch.
    pub(super) fn note(&mut self, scores: Tensor<2>) {
        let [rows, _] = scores.dims();
        self.ahead = Some(scores.sum_dim(0) / rows as f64);
    }

    /// Moves to the mean of the noted scores, keeping `momentum` of what it was, if the step with this `norm` was taken.
    pub(super) fn follow(&mut self, momentum: f64, norm: &Norm) {
        if let Some(ahead) = self.ahead.take() {
            let moved = self.mean.clone() * momentum + ahead * (1.0 - momentum);
            self.mean = norm.choose(moved, self.mean.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn the_centre_follows_as_in_the_reference() {
        let golden = Golden::read();
        let device = Device::flex();
        let mut center = Center::new(golden.tensor("center", &device));
        center.note(golden.tensor("teacher", &device));
        golden.assert_close("center", &center.mean, 1e-7);
        center.follow(0.9, &Norm::new(Tensor::from_data([1.0], &Device::flex())));
        // A mean of ten numbers in f32.
        golden.assert_close("center_after", &center.mean, 1e-6);
    }
}
