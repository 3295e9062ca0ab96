//! One optimizer step: loss, gradients, weights, average.

use super::adamw::{GradientSum, Norm};
use super::checkpoint::Parts;
use super::learner::{Learner, Stride};
use super::task::{Progress, Task, group_means};
use super::{Procedure, Train};
use crate::data::{
    image::Gray,
    loader::{Loader, LoaderConfig, LoaderError},
};
use crate::models::weights::StateDict;
use anyhow::Result;
use burn::tensor::Tensor;
use burn_train::metric::state::NumericMetricState;
use std::ops::Range;

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
    type Batch = T::Batch;

    fn name(&self) -> &'static str {
        self.task.name()
    }

    fn loader(&self, config: LoaderConfig) -> Result<Loader<T::Batch>, LoaderError> {
        Loader::collated(self.task.samples(), self.task.collate(), config)
    }

    /// Takes one step down the mean loss of `batch`.
    fn step(&mut self, batch: T::Batch, plan: &Train, progress: Progress) -> Report {
        let Self { task, learner } = self;
        let seen_after = progress.images_seen + plan.batch_size as u64;
        let learning_rate = plan.learning_rate.at(seen_after, progress.images);
        let (gradients, figures) = descent(*task, learner, batch, plan, progress);
        let decays = plan.ema.decays(progress, seen_after);
        let stride = Stride {
            learning_rate,
            weight_decay: task.weight_decay(plan.optimizer.weight_decay, progress),
            ema_decay: task.ema_decay(decays[0], progress),
        };
        let gradient_norm = learner.step(gradients, stride);
        learner.follow(&gradient_norm, &decays[1..]);
        task.after_step(&gradient_norm, progress);
        Report { figures: figures.into(), gradient_norm, learning_rate }
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>> {
        self.task.validate(self.learner.ema())
    }

    fn preview(&self) -> Result<Option<Gray>> {
        self.task.preview(self.learner.ema())
    }

    fn powers(&self) -> Vec<(f64, StateDict)> {
        self.learner.powers()
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

/// Gradients of the mean loss of `task` over `batch`, micro-batch after micro-batch, and what it tells.
pub(super) fn descent<T: Task>(
    task: &mut T,
    learner: &Learner<T::Model>,
    batch: T::Batch,
    plan: &Train,
    progress: Progress,
) -> (GradientSum, Figures) {
    let images = plan.batch_size;
    let round = plan.micro_batch_size.unwrap_or(images).min(images);
    let num_rounds = images.div_ceil(round) as f64;
    let batch = task.share(learner.model(), learner.ema(), batch, round, progress);
    let mut gradients = GradientSum::default();
    let mut figures = Figures::default();
    for rows in rounds(images, round) {
        let share = rows.len() as f64 / images as f64;
        let loss = task.loss(learner.model(), &batch, rows, progress);
        let total = ("train/loss", loss.total.clone().inner());
        figures.add(std::iter::once(total).chain(loss.parts), share);
        // Rounds are averaged with equal weight; a smaller last one must count for less.
        gradients.add(learner.model(), (loss.total * (share * num_rounds)).backward());
    }
    (gradients, figures)
}

/// `images`, `round` at a time.
pub(super) fn rounds(images: usize, round: usize) -> impl Iterator<Item = Range<usize>> {
    (0..images).step_by(round).map(move |first| first..(first + round).min(images))
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

    /// The means, and a clean slate. The first figure is the loss. All that is still on the device is read at once.
    pub(super) fn take(&mut self) -> Vec<(String, f64)> {
        self.settle();
        let tensors = self.done.iter().flat_map(|(report, ..)| &report.figures);
        let tensors: Vec<Tensor<1>> = tensors.map(|(_, figure)| figure.clone()).collect();
        let values = match tensors.is_empty() {
            true => Vec::new(),
            false => {
                Tensor::cat(tensors, 0).into_data().try_into_vec::<f32>().expect("figures are f32")
            }
        };
        let mut values = values.into_iter().map(f64::from);
        // A name, and the running mean of each of its numbers.
        let mut means: Vec<(&'static str, Vec<NumericMetricState>)> = Vec::new();
        let mut last_rate = 0.0;
        for (report, norm, images) in self.done.drain(..) {
            last_rate = report.learning_rate;
            let figures = report.figures.into_iter().map(|(name, figure)| {
                let [len] = figure.dims();
                (name, values.by_ref().take(len).collect())
            });
            let figures = figures.chain([("train/gradient_norm", vec![norm])]);
            // By name: a procedure may tell more from some step on.
            for (name, values) in figures.collect::<Vec<(&'static str, Vec<f64>)>>() {
                let known = means.iter().position(|(known, _)| *known == name);
                let at = known.unwrap_or_else(|| {
                    let fresh = values.iter().map(|_| NumericMetricState::new());
                    means.push((name, fresh.collect()));
                    means.len() - 1
                });
                for (mean, value) in means[at].1.iter_mut().zip(values) {
                    mean.update(value, images);
                }
            }
        }
        let mut figures: Vec<(String, f64)> = Vec::new();
        for (name, means) in means {
            let values: Vec<f64> =
                means.iter().map(|mean| mean.running_value().current()).collect();
            match values[..] {
                [value] => figures.push((name.to_owned(), value)),
                [sum, size] => figures.extend((size > 0.0).then(|| (name.to_owned(), sum / size))),
                _ => {
                    let groups = group_means(&values).enumerate();
                    figures.extend(
                        groups.filter_map(|(at, mean)| Some((format!("{name}{at}"), mean?))),
                    );
                }
            }
        }
        if figures.is_empty() {
            figures.push(("train/loss".to_owned(), f64::NAN));
        }
        figures.push(("train/learning_rate".to_owned(), last_rate));
        figures
    }
}
