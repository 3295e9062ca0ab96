//! What can be trained. One loop trains them all; each task says what a sample is and what the loss is.

pub mod autoencoder;
pub mod denoiser;
pub mod dino;

use crate::data::{
    image::Gray,
    loader::{Collate, Samples},
};
use crate::models::{Compute, weights::StateDict};
use crate::random::{Permutation, Stream};
use crate::train::adamw::Norm;
use anyhow::Result;
use burn::{
    module::Module,
    tensor::{Tensor, TensorData},
};
use std::ops::Range;
use std::sync::Arc;

/// Something trainable: samples in, a scalar loss out.
///
/// `Model` is what learns. The loop keeps an exponential average of it (`ema`), which is what validation,
/// previews and later stages use, and which self-distillation uses as its teacher.
pub trait Task {
    /// What learns.
    type Model: Module + Clone;
    /// One sample, as the loader's threads make it.
    type Item: Send + 'static;

    /// A batch of them, as the loader's threads deliver it: column by column.
    type Batch: Send + 'static;

    /// A batch where it is computed, with what crosses it.
    type Shared;

    /// Raised when a change here changes what a recipe's training of this network means.
    const VERSION: u32;

    /// The stage's name in folders, logs and reports.
    fn name(&self) -> &'static str;

    /// The model, computing in another number format.
    fn with_compute(model: Self::Model, compute: Compute) -> Self::Model;

    /// The samples, with everything random already drawn by their position.
    fn samples(&self) -> Arc<dyn Samples<Item = Self::Item>>;

    /// What puts them together, in the loader's threads.
    fn collate(&self) -> Collate<Self::Item, Self::Batch>;

    /// Brings a batch to where it is computed, and finds what its items have to do with each other from all of them before
    /// the loss of any, in rounds of `round` items and without gradients: so neither the size of a micro-batch nor, one
    /// day, the number of devices changes a step.
    fn share(
        &mut self,
        model: &Self::Model,
        ema: &Self::Model,
        batch: Self::Batch,
        round: usize,
        progress: Progress,
    ) -> Self::Shared;

    /// The loss of a micro-batch, the `rows` of a batch: a mean over them, on the autodiff device. Shape `[1]`.
    fn loss(
        &self,
        model: &Self::Model,
        batch: &Self::Shared,
        rows: Range<usize>,
        progress: Progress,
    ) -> Loss;

    /// After the weights took a step, or were left as they were: [`Norm::choose`] knows which.
    fn after_step(&mut self, _norm: &Norm, _progress: Progress) {}

    /// Decay of the average at this step; `recipe` is what the recipe's `ema` says.
    fn ema_decay(&self, recipe: f64, _progress: Progress) -> f64 {
        recipe
    }

    /// Weight decay at this step; `recipe` is the recipe's `weight_decay`.
    fn weight_decay(&self, recipe: f64, _progress: Progress) -> f64 {
        recipe
    }

    /// Figures on the validation split, from the averaged weights. Names are `group/name`.
    fn validate(&self, ema: &Self::Model) -> Result<Vec<(&'static str, f64)>>;

    /// A picture of how far it is.
    fn preview(&self, _ema: &Self::Model) -> Result<Option<Gray>> {
        Ok(None)
    }

    /// What else must survive a restart.
    fn state(&self) -> StateDict {
        StateDict::new()
    }

    /// Takes back what [`Task::state`] gave.
    fn restore(&mut self, _state: StateDict) -> Result<()> {
        Ok(())
    }

    /// The network's configuration, as JSON: with it a checkpoint opens without its recipe.
    fn config(&self) -> serde_json::Value;
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images_seen: u64,
    /// Images to see in all.
    pub images: u64,
}

impl Progress {
    /// The done fraction, in [0, 1].
    pub fn fraction(&self) -> f64 {
        (self.images_seen as f64 / self.images.max(1) as f64).min(1.0)
    }
}

/// A loss and whatever else is worth a curve.
pub struct Loss {
    /// Shape `[1]`, tracked.
    pub total: Tensor<1>,
    /// Other scalars, shape `[1]`, not tracked. Or a figure of each of n groups of items, shape `[2n]`: the groups' sums,
    /// then their sizes, both over the number of all items ([`by_group`]); they are logged as `name0`, `name1` …
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

/// The mean of `errors` `[B]` in each of `count` groups, as [`Loss::parts`] take it, shape `[2 · count]`; `groups` has the
/// group of each item; one that is `count` or above is none.
pub fn by_group(errors: Tensor<1>, groups: &[usize], count: usize) -> Tensor<1> {
    let [batch] = errors.dims();
    let share = 1.0 / batch as f32;
    let mut members = vec![0.0f32; count * batch];
    for (item, group) in groups.iter().enumerate() {
        if *group < count {
            members[group * batch + item] = share;
        }
    }
    let members = TensorData::new(members, [count, batch]);
    let members = Tensor::<2>::from_data(members, &errors.device());
    let sums = (members.clone() * errors.unsqueeze()).sum_dim(1);
    Tensor::cat(vec![sums, members.sum_dim(1)], 0).flatten(0, 1)
}

/// The means behind a sum over batches of what [`by_group`] gave, each times the items of its batch; `None` of a group
/// without any.
pub fn group_means(sums: &[f64]) -> impl Iterator<Item = Option<f64>> {
    let (sums, sizes) = sums.split_at(sums.len() / 2);
    sums.iter().zip(sizes).map(|(sum, size)| (*size > 0.0).then(|| sum / size))
}

/// Most images of a validation split that one validation looks at: a figure's standard error is then below a
/// fortieth of its spread, and a validation costs the same however large the split is.
const MOST_VALIDATED: usize = 2_000;

/// Which images of a validation split of `len` a validation looks at, in order: all of them, or as many as it may,
/// chosen by the seed and the same each time.
fn validated(len: usize, seed: u64) -> Vec<usize> {
    let order = Permutation::new(len as u64, Stream::new(seed, "validation/images"), 0);
    let count = len.min(MOST_VALIDATED);
    let mut chosen: Vec<usize> = (0..count as u64).map(|at| order.apply(at) as usize).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_means_of_their_items() {
        let device = burn::tensor::Device::flex();
        let mut total = vec![0.0; 6];
        // Two batches of unequal size, in one of which a group is missing; one group is missing in both.
        for (errors, groups) in [(vec![1.0f32, 2.0, 6.0], vec![0, 2, 0]), (vec![4.0], vec![2])] {
            let sums = by_group(Tensor::from_data(&errors[..], &device), &groups, 3);
            let sums = sums.into_data().try_into_vec::<f32>().unwrap();
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += f64::from(sum) * errors.len() as f64;
            }
        }
        let means: Vec<Option<f64>> = group_means(&total).collect();
        assert_eq!(means[1], None);
        for (mean, expected) in [(means[0], 3.5), (means[2], 3.0)] {
            // Thirds in f32.
            assert!((mean.unwrap() - expected).abs() < 1e-6, "{means:?}");
        }
    }

    #[test]
    fn a_validation_looks_at_a_fixed_part_of_a_large_split() {
        assert!(validated(0, 1).is_empty());
        assert_eq!(validated(100, 1), (0..100).collect::<Vec<_>>());
        let chosen = validated(87_000, 1);
        assert_eq!(chosen.len(), MOST_VALIDATED);
        assert!(chosen.is_sorted_by(|a, b| a < b) && chosen[MOST_VALIDATED - 1] < 87_000);
        // From all over the split: a uniform draw's mean, within four standard errors.
        let mean = chosen.iter().sum::<usize>() as f64 / MOST_VALIDATED as f64;
        assert!((mean / 43_500.0 - 1.0).abs() < 4.0 / (3.0 * 2_000f64).sqrt(), "{mean}");
        assert_eq!(chosen, validated(87_000, 1));
        assert_ne!(chosen, validated(87_000, 2));
    }
}
