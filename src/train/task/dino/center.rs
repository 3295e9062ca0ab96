//! The running mean of the teacher's scores.

use burn::tensor::{Device, Tensor, TensorData};

/// A running mean [1, K] of the teacher's scores (arXiv 2104.14294, equation 4), which moves when a step is
/// taken: by the mean over all micro-batches of the step, and not at all for a step that was left out.
#[derive(Debug)]
pub struct Center {
    pub(super) mean: Tensor<2>,
    pending: Option<Pending>,
}

/// The scores of the micro-batches of one step.
#[derive(Debug)]
struct Pending {
    step: u64,
    sum: Tensor<2>,
    rows: usize,
}

/// A centre of zeros for `prototypes` scores.
pub fn fresh_center(prototypes: usize, device: &Device) -> Center {
    let zeros = TensorData::new(vec![0f32; prototypes], [1, prototypes]);
    Center::new(Tensor::from_data(zeros, device))
}

impl Center {
    pub(super) fn new(mean: Tensor<2>) -> Self {
        Self { mean, pending: None }
    }

    /// Takes note of the scores [R, K] of a micro-batch of step number `step`, and forgets those of other steps.
    pub(super) fn note(&mut self, scores: Tensor<2>, step: u64) {
        let [rows, _] = scores.dims();
        let sum = scores.sum_dim(0);
        self.pending = Some(match self.pending.take() {
            Some(before) if before.step == step => {
                Pending { step, sum: before.sum + sum, rows: before.rows + rows }
            }
            _ => Pending { step, sum, rows },
        });
    }

    /// Moves to the mean of the noted scores, keeping `momentum` of what it was.
    pub(super) fn follow(&mut self, momentum: f64) {
        if let Some(Pending { sum, rows, .. }) = self.pending.take() {
            let moved = sum / rows as f64 * (1.0 - momentum);
            self.mean = self.mean.clone() * momentum + moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn the_centre_follows_as_in_the_reference_whatever_the_micro_batches() {
        let golden = Golden::read();
        let device = Device::flex();
        let scores = golden.tensor::<2>("teacher", &device);
        let [rows, _] = scores.dims();
        for micro in [rows, 4, 3] {
            let mut center = Center::new(golden.tensor("center", &device));
            for first in (0..rows).step_by(micro) {
                center.note(scores.clone().slice_dim(0, first..(first + micro).min(rows)), 7);
            }
            golden.assert_close("center", &center.mean, 1e-7);
            center.follow(0.9);
            // A mean of ten numbers in f32.
            golden.assert_close("center_after", &center.mean, 1e-6);
        }
    }
}
