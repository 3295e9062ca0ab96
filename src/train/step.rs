//! One optimizer step: loss, gradients, weights, average.

use super::adamw::{GradientSum, Step};
use super::checkpoint::Parts;
use super::learner::{Learner, Stride};
use super::task::{Progress, Task};
use super::{Procedure, Train};
use crate::data::{image::Gray, loader::Samples};
use anyhow::Result;
use burn::tensor::Tensor;
use burn_train::metric::state::NumericMetricState;
use std::sync::Arc;

/// What a step tells.
#[derive(Debug)]
pub struct Report {
    /// The first is the loss. Still on the device: reading waits for it.
    pub figures: Vec<(&'static str, Tensor<1>)>,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// A gradient was not finite, so nothing was changed.
    pub is_skipped: bool,
}

/// The plainest procedure: one learner down one loss.
pub(super) struct Descent<'a, T: Task> {
    task: &'a mut T,
    learner: Learner<T::Model>,
}

impl<'a, T: Task> Descent<'a, T> {
    /// `fresh` are the first weights.
    pub(super) fn new(task: &'a mut T, fresh: T::Model, plan: &Train) -> Self {
        let learner = Learner::new(None, T::with_compute(fresh, plan.compute), plan);
        Self { task, learner }
    }
}

impl<T: Task> Procedure for Descent<'_, T> {
    type Item = T::Item;

    fn name(&self) -> &'static str {
        self.task.name()
    }

    fn samples(&self) -> Arc<dyn Samples<Item = T::Item>> {
        self.task.samples()
    }

    /// Takes one step down the mean loss of `items`.
    fn step(&mut self, items: &[T::Item], plan: &Train, progress: Progress) -> Report {
        let Self { task, learner } = self;
        let seen_after = progress.images_seen + items.len() as u64;
        let learning_rate = plan.learning_rate.at(seen_after, progress.images);
        let round = plan.micro_batch_size.unwrap_or(items.len()).min(items.len());
        let rounds = items.chunks(round);
        let num_rounds = rounds.len() as f64;
        let shared = task.share(learner.model(), learner.ema(), items, round, progress);
        let mut gradients = GradientSum::default();
        let mut figures: Vec<(&'static str, Tensor<1>)> = Vec::new();
        for (at, micro) in rounds.enumerate() {
            let share = micro.len() as f64 / items.len() as f64;
            let loss = task.loss(learner.model(), micro, &shared, at * round, progress);
            let total = ("train/loss", loss.total.clone().inner());
            for (at, (name, value)) in std::iter::once(total).chain(loss.parts).enumerate() {
                match figures.get_mut(at) {
                    Some((_, sum)) => *sum = sum.clone() + value * share,
                    None => figures.push((name, value * share)),
                }
            }
            // Rounds are averaged with equal weight; a smaller last one must count for less.
            gradients.add(learner.model(), (loss.total * (share * num_rounds)).backward());
        }
        let stride = Stride {
            learning_rate,
            weight_decay: task.weight_decay(plan.optimizer.weight_decay, progress),
            ema_decay: task.ema_decay(plan.ema.decay_at(progress.step), progress),
        };
        let (gradient_norm, is_skipped) = match learner.step(gradients, stride) {
            Step::Applied { norm } => (norm, false),
            Step::Skipped => (f64::NAN, true),
        };
        if !is_skipped {
            task.after_step(progress);
        }
        Report { figures, gradient_norm, learning_rate, is_skipped }
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>> {
        self.task.validate(self.learner.ema())
    }

    fn preview(&self) -> Result<Option<Gray>> {
        self.task.preview(self.learner.ema())
    }

    fn save(&self, parts: &mut Parts) {
        self.learner.save(parts);
        parts.insert("task".to_owned(), self.task.state());
    }

    fn load(&mut self, parts: &Parts) -> Result<()> {
        self.learner.load(parts)?;
        self.task.restore(parts.get("task")?.clone())
    }

    fn config(&self) -> serde_json::Value {
        self.task.config()
    }
}

/// Means over the images since the last record.
#[derive(Default)]
pub(super) struct Average {
    pending: Vec<(Report, usize)>,
}

impl Average {
    /// Takes a step's report in; nothing is read from the device yet.
    pub(super) fn add(&mut self, report: Report, images: usize) {
        if !report.is_skipped {
            self.pending.push((report, images));
        }
    }

    /// The means, and a clean slate. The first figure is the loss.
    pub(super) fn take(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let mut means: Vec<(&'static str, NumericMetricState)> = Vec::new();
        let mut last_rate = 0.0;
        for (report, images) in self.pending.drain(..) {
            last_rate = report.learning_rate;
            let norm = ("train/gradient_norm", report.gradient_norm);
            let figures = report
                .figures
                .into_iter()
                .map(|(name, value)| (name, f64::from(value.into_scalar::<f32>())))
                .chain([norm]);
            for (at, (name, value)) in figures.enumerate() {
                if means.len() <= at {
                    means.push((name, NumericMetricState::new()));
                }
                means[at].1.update(value, images);
            }
        }
        let mut figures: Vec<(&'static str, f64)> =
            means.iter().map(|(name, mean)| (*name, mean.running_value().current())).collect();
        if figures.is_empty() {
            figures.push(("train/loss", f64::NAN));
        }
        figures.push(("train/learning_rate", last_rate));
        Ok(figures)
    }
}
