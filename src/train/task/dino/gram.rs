//! Patches whose likeness to each other is kept as an earlier teacher saw it: Gram anchoring (DINOv3, arXiv 2508.10104).
//!
//! In a long training the class token gets better and the patches, which it no longer needs, worse. The anchor is a teacher
//! of some time ago: the student's patches may change, but not which of them are alike.

use crate::faults::demand;
use crate::models::Init;
use crate::models::encoder::{Vit, VitConfig};
use crate::models::weights::{self, StateDict};
use crate::random::Stream;
use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// What the anchor's weights are called in a checkpoint, before their own names.
const PREFIX: &str = "anchor.";

/// When patches are anchored, to what and how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gram {
    /// Weight of the loss beside that of the class tokens.
    pub weight: f64,
    /// Images seen before it begins. The teacher of that moment is the first anchor.
    pub from: u64,
    /// Images until the teacher of that moment becomes the next anchor.
    pub every: u64,
}

impl Default for Gram {
    fn default() -> Self {
        Self { weight: 2.0, from: 0, every: 100_000 }
    }
}

impl Gram {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub(super) fn check(&self) -> Vec<String> {
        let is_weight = self.weight > 0.0 && self.weight.is_finite();
        let weight = demand(is_weight, "weight", self.weight, "a number above 0");
        let every = demand(self.every > 0, "every", self.every, "at least 1 image");
        weight.into_iter().chain(every).collect()
    }

    /// Whether patches are anchored after `seen` images.
    fn has_begun(&self, seen: u64) -> bool {
        seen >= self.from
    }

    /// Whether the batch of `batch` images after `seen` images is the first since another anchor was due.
    fn is_due(&self, seen: u64, batch: u64) -> bool {
        let period = |seen: u64| seen.checked_sub(self.from).map(|since| since / self.every);
        seen.checked_sub(batch).and_then(period) != period(seen)
    }
}

/// The teacher that patches are anchored to, once there is one.
#[derive(Debug, Default)]
pub struct Anchor(Option<Vit>);

impl Anchor {
    /// The anchor for the batch of `batch` images after `seen` images, of which `teacher` is the one of this moment.
    pub(super) fn of(&mut self, gram: &Gram, seen: u64, batch: u64, teacher: &Vit) -> Option<&Vit> {
        if !gram.has_begun(seen) {
            return None;
        }
        if self.0.is_none() || gram.is_due(seen, batch) {
            self.0 = Some(teacher.clone());
        }
        self.0.as_ref()
    }

    /// What survives a restart.
    pub(super) fn state(&self) -> StateDict {
        let state = self.0.as_ref().map(weights::state_dict).unwrap_or_default();
        state.into_iter().map(|(name, data)| (format!("{PREFIX}{name}"), data)).collect()
    }

    /// Takes out of `state` what [`state`](Self::state) gave, for a network of `config` on `device`.
    pub(super) fn take(state: &mut StateDict, config: &VitConfig, device: &Device) -> Result<Self> {
        let is_own = |name: &String| name.starts_with(PREFIX);
        let names: Vec<String> = state.keys().filter(|name| is_own(name)).cloned().collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let own = |name: String| Some((name[PREFIX.len()..].to_owned(), state.remove(&name)?));
        let own: StateDict = names.into_iter().filter_map(own).collect();
        let stream = Stream::new(0, "encoder/anchor");
        let fresh = config.init(&mut Init::new(stream, device).deferred()).no_grad();
        Ok(Self(Some(weights::consume_state_dict(fresh, own)?)))
    }
}

/// The patches [B, N, D] among `tokens` [B, T, D], of which `skipped` come before them.
pub(super) fn patches(tokens: Tensor<3>, skipped: usize) -> Tensor<3> {
    let [_, num_tokens, _] = tokens.dims();
    tokens.slice_dim(1, skipped..num_tokens)
}

/// How far the cosines of the student's `patches` [B, N, D] with each other are from those of the `anchor`'s: their mean
/// square over all pairs. Shape `[1]`.
pub(super) fn apart(patches: Tensor<3>, anchor: Tensor<3>) -> Tensor<1> {
    let cosines = |tokens: Tensor<3>| {
        let length = (tokens.clone().square().sum_dim(2) + 1e-12).sqrt();
        let rows = tokens / length;
        rows.clone().matmul(rows.swap_dims(1, 2)) // [B, N, N]
    };
    (cosines(patches) - cosines(anchor)).square().mean()
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn patches_are_anchored_as_in_the_reference() {
        let golden = Golden::read();
        let device = Device::flex().autodiff();
        let student = golden.tensor::<3>("gram/student", &device).require_grad();
        let anchor = golden.tensor::<3>("gram/anchor", &device);
        let loss = apart(student.clone(), anchor);
        // Sums of a hundred squares in f32.
        golden.assert_close("gram/loss", &loss.clone().inner(), 1e-6);
        let gradient = student.grad_remove(&mut loss.backward()).unwrap();
        golden.assert_close("gram/gradient", &gradient, 1e-5);
    }

    #[test]
    fn anchors_are_renewed_with_the_first_batch_after_they_are_due() {
        let gram = Gram { from: 100, every: 50, ..Gram::default() };
        let due =
            (0..300).step_by(16).filter(|&seen| gram.has_begun(seen) && gram.is_due(seen, 16));
        assert_eq!(due.collect::<Vec<_>>(), [112, 160, 208, 256]);
    }
}
