//! The running mean of the teacher's scores.

use super::{Dino, HeadConfig, Ibot};
use crate::models::weights::StateDict;
use crate::train::adamw::Norm;
use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};

/// A running mean [1, K] of the teacher's scores (arXiv 2104.14294, equation 4), which moves when a step is taken, and
/// not at all for a step that was left out.
#[derive(Debug)]
pub(super) struct Center {
    pub(super) mean: Tensor<2>,
    /// Where it moves with this step.
    ahead: Option<Tensor<2>>,
}

/// The centres of a training.
#[derive(Debug)]
pub struct Centers {
    /// Of class tokens.
    pub(super) classes: Center,
    /// Of masked patches, where there are any.
    pub(super) patches: Option<Center>,
}

/// Centres of zeros, as many as `dino` needs.
pub fn fresh_centers(dino: &Dino, device: &Device) -> Centers {
    let zeros = |head: &HeadConfig| {
        let zeros = TensorData::new(vec![0f32; head.prototypes], [1, head.prototypes]);
        Center::new(Tensor::from_data(zeros, device))
    };
    let of_patches = |ibot: &Ibot| zeros(ibot.own_head().unwrap_or(&dino.head));
    Centers { classes: zeros(&dino.head), patches: dino.ibot.as_ref().map(of_patches) }
}

impl Centers {
    /// As [`Center::follow`], each of them.
    pub(super) fn follow(&mut self, momentum: f64, norm: &Norm) {
        let Self { classes, patches } = self;
        std::iter::once(classes).chain(patches).for_each(|center| center.follow(momentum, norm));
    }

    /// What survives a restart.
    pub(super) fn state(&self) -> StateDict {
        let of_patches = self.patches.iter().map(|center| ("patch_center", center));
        std::iter::once(("center", &self.classes))
            .chain(of_patches)
            .map(|(name, center)| (name.to_owned(), center.mean.to_data()))
            .collect()
    }

    /// Takes back what [`state`](Self::state) gave.
    pub(super) fn restore(&mut self, mut state: StateDict, device: &Device) -> Result<()> {
        let mut take = |name: &str| {
            let center = state.remove(name);
            let center = center.with_context(|| format!("the checkpoint has no {name}"))?;
            anyhow::Ok(Center::new(Tensor::from_data(center, device)))
        };
        self.classes = take("center")?;
        if let Some(patches) = &mut self.patches {
            *patches = take("patch_center")?;
        }
        Ok(())
    }
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
