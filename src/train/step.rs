//! One optimizer step: loss, gradients, weights, average.

use super::adamw::{GradientSum, Norm};
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
    /// Norm of all gradients together, before clipping. Where it is no finite number, nothing was changed.
    pub gradient_norm: Norm,
    /// Learning rate of this step.
    pub learning_rate: f64,
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
        let (gradients, figures) = descent(*task, learner, items, plan, progress);
        let stride = Stride {
            learning_rate,
            weight_decay: task.weight_decay(plan.optimizer.weight_decay, progress),
            ema_decay: task.ema_decay(plan.ema.decay_at(progress.step), progress),
        };
        let gradient_norm = learner.step(gradients, stride);
        task.after_step(&gradient_norm, progress);
        Report { figures: figures.into(), gradient_norm, learning_rate }
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>> {
        self.task.validate(self.learner.ema())
    }

    fn preview(&self) -> Result<Option<Gray>> {
        self.task.preview(self.learner.ema())
    }

    fn save(&mut self, parts: &mut Parts) {
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

/// Gradients of the mean loss of `task` over `items`, micro-batch after micro-batch, and what it tells.
pub(super) fn descent<T: Task>(
    task: &mut T,
    learner: &Learner<T::Model>,
    items: &[T::Item],
    plan: &Train,
    progress: Progress,
) -> (GradientSum, Figures) {
    let round = plan.micro_batch_size.unwrap_or(items.len()).min(items.len());
    let rounds = items.chunks(round);
    let num_rounds = rounds.len() as f64;
    let shared = task.share(learner.model(), learner.ema(), items, round, progress);
    let mut gradients = GradientSum::default();
    let mut figures = Figures::default();
    for (at, micro) in rounds.enumerate() {
        let share = micro.len() as f64 / items.len() as f64;
        let loss = task.loss(learner.model(), micro, &shared, at * round, progress);
        let total = ("train/loss", loss.total.clone().inner());
        figures.add(std::iter::once(total).chain(loss.parts), share);
        // Rounds are averaged with equal weight; a smaller last one must count for less.
        gradients.add(learner.model(), (loss.total * (share * num_rounds)).backward());
    }
    (gradients, figures)
}

/// Means over a batch, in the order in which they were first told. Still on the device.
#[derive(Default)]
pub(super) struct Figures(Vec<(&'static str, Tensor<1>)>);

impl Figures {
    /// Adds what a `share` of the batch tells.
    pub(super) fn add(
        &mut self,
        parts: impl IntoIterator<Item = (&'static str, Tensor<1>)>,
        share: f64,
    ) {
        for (name, value) in parts {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum = sum.clone() + value * share,
                None => self.0.push((name, value * share)),
            }
        }
    }

    /// What was told under `name`.
    pub(super) fn get(&self, name: &str) -> Tensor<1> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.expect("who asks has told it before").1.clone()
    }
}

impl From<Figures> for Vec<(&'static str, Tensor<1>)> {
    fn from(figures: Figures) -> Self {
        figures.0
    }
}

/// Means over the images since the last record, and steps that were left out.
#[derive(Default)]
pub(super) struct Average {
    /// Queued, and perhaps not yet computed.
    last: Option<(Report, usize)>,
    done: Vec<(Report, f64, usize)>,
    /// Steps left out since somebody asked.
    skipped: u64,
    /// Steps left out one after the other, up to now.
    pub(super) skipped_in_a_row: u32,
}

impl Average {
    /// Takes a step's report in, and looks at the one before: that has been computed by now, so nothing waits.
    pub(super) fn add(&mut self, report: Report, images: usize) {
        self.settle();
        self.last = Some((report, images));
    }

    /// Looks at the last report, too; waits for the device.
    pub(super) fn settle(&mut self) {
        let Some((report, images)) = self.last.take() else { return };
        let norm = report.gradient_norm.read();
        if norm.is_finite() {
            self.skipped_in_a_row = 0;
            self.done.push((report, norm, images));
        } else {
            self.skipped_in_a_row += 1;
            self.skipped += 1;
            tracing::warn!("a gradient was not finite: the step was left out");
        }
    }

    /// Steps left out since this was asked last.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The means, and a clean slate. The first figure is the loss.
    pub(super) fn take(&mut self) -> Vec<(&'static str, f64)> {
        self.settle();
        let mut means: Vec<(&'static str, NumericMetricState)> = Vec::new();
        let mut last_rate = 0.0;
        for (report, norm, images) in self.done.drain(..) {
            last_rate = report.learning_rate;
            let figures = report
                .figures
                .into_iter()
                .map(|(name, value)| (name, f64::from(value.into_scalar::<f32>())))
                .chain([("train/gradient_norm", norm)]);
            // By name: a procedure may tell more from some step on.
            for (name, value) in figures {
                let known = means.iter().position(|(known, _)| *known == name);
                let at = known.unwrap_or_else(|| {
                    means.push((name, NumericMetricState::new()));
                    means.len() - 1
                });
                means[at].1.update(value, images);
            }
        }
        let mut figures: Vec<(&'static str, f64)> =
            means.iter().map(|(name, mean)| (*name, mean.running_value().current())).collect();
        if figures.is_empty() {
            figures.push(("train/loss", f64::NAN));
        }
        figures.push(("train/learning_rate", last_rate));
        figures
    }
}
