//! One optimizer step: loss, gradients, weights, average.

use super::adamw::{GradientSum, Step};
use super::{Setup, State, task::Task};
use anyhow::Result;
use burn::tensor::Tensor;
use burn_train::metric::state::NumericMetricState;

/// What a step tells.
pub(super) struct Report {
    /// The first is the loss. Still on the device: reading waits for it.
    figures: Vec<(&'static str, Tensor<1>)>,
    gradient_norm: f64,
    learning_rate: f64,
    /// The gradient was not finite, so nothing was changed.
    pub(super) is_skipped: bool,
}

/// Takes one step down the mean loss of `items`.
pub(super) fn descend<T: Task>(
    task: &mut T,
    state: &mut State<T::Model>,
    items: &[T::Item],
    setup: &Setup,
) -> Report {
    let plan = &setup.section;
    let progress = state.progress(plan);
    let seen_after = progress.images_seen + items.len() as u64;
    let learning_rate = plan.learning_rate.at(seen_after, progress.images);
    let rounds = items.chunks(plan.micro_batch_size.unwrap_or(items.len()));
    let num_rounds = rounds.len() as f64;
    let mut gradients = GradientSum::default();
    let mut figures: Vec<(&'static str, Tensor<1>)> = Vec::new();
    for micro in rounds {
        let share = micro.len() as f64 / items.len() as f64;
        let loss = task.loss(&state.model, &state.ema, micro, progress);
        let parts = std::iter::once(("train/loss", loss.total.clone().inner())).chain(loss.parts);
        for (at, (name, value)) in parts.enumerate() {
            match figures.get_mut(at) {
                Some((_, sum)) => *sum = sum.clone() + value * share,
                None => figures.push((name, value * share)),
            }
        }
        // Rounds are averaged with equal weight; a smaller last one must count for less.
        gradients.add(&state.model, (loss.total * (share * num_rounds)).backward());
    }
    state.optimizer.set_weight_decay(task.weight_decay(plan.optimizer.weight_decay, progress));
    let (model, step) = state.optimizer.step(state.model.clone(), gradients, learning_rate);
    state.model = model;
    state.step += 1;
    state.images_seen += items.len() as u64;
    let (gradient_norm, is_skipped) = match step {
        Step::Applied { norm } => (norm, false),
        Step::Skipped => (f64::NAN, true),
    };
    if is_skipped {
        state.skipped_steps += 1;
        tracing::warn!(
            images = state.images_seen,
            "a gradient was not finite: the step was left out"
        );
    } else {
        let decay = task.ema_decay(plan.ema.decay_at(progress.step), progress);
        state.ema = super::ema::blend(state.ema.clone(), &state.model, decay);
        task.after_step(progress);
    }
    Report { figures, gradient_norm, learning_rate, is_skipped }
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
