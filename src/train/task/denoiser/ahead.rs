//! What a denoiser should say of long steps: Frans et al. (2024), eq. 5.

use super::Shown;
use crate::diffusion::Schedule;
use crate::diffusion::self_consistency::{Step, told};
use crate::models::denoiser::Denoiser;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// How far the step leads that an item is about, as the network is told; 0 of the flow itself.
pub(super) fn lengths(schedule: &Schedule, steps: &[Option<Step>]) -> Vec<f64> {
    steps.iter().map(|step| step.map_or(0.0, |it| length(schedule, it.from, it.to))).collect()
}

fn length(schedule: &Schedule, from: f64, to: f64) -> f64 {
    let sigma = |t| schedule.alpha_sigma(t).1;
    told(sigma(from), sigma(to))
}

/// Puts into `shown` what the network should say of long steps: the mean of what its average `ema` says of their halves,
/// the second from where the first leads. In rounds of `round` items, which change nothing.
pub(super) fn look(
    schedule: &Schedule,
    ema: &Denoiser,
    steps: &[Option<Step>],
    shown: &mut Shown,
    round: usize,
) {
    let long = |(row, step): (usize, &Option<Step>)| step.map(|step| (row, step));
    let long: Vec<(usize, Step)> = steps.iter().enumerate().filter_map(long).collect();
    let targets: Vec<Tensor<4>> =
        long.chunks(round).map(|steps| halves(schedule, ema, steps, shown)).collect();
    if targets.is_empty() {
        return;
    }
    let device = shown.target.device();
    let rows = rows(&long, &device);
    let is_flow = column(steps.iter().map(|step| f64::from(u8::from(step.is_none()))), &device);
    let targets = Tensor::cat(targets, 0);
    let target = shown.target.clone() * is_flow;
    shown.target = target.select_assign(0, rows, targets, IndexingUpdateOp::Add);
}

/// The mean over both halves of each of `steps`, which are those of rows of `shown`: [K, C, h, w].
fn halves(
    schedule: &Schedule,
    ema: &Denoiser,
    steps: &[(usize, Step)],
    shown: &Shown,
) -> Tensor<4> {
    let device = shown.noisy.device();
    let rows = rows(steps, &device);
    let (noisy, tokens) =
        (shown.noisy.clone().select(0, rows.clone()), shown.tokens.clone().select(0, rows));
    let keep: Vec<bool> = steps.iter().map(|(row, _)| shown.keep[*row]).collect();
    // From `from` to `to` of each step: what is asked at its beginning, and how much noise it takes away.
    let ask = |noisy: Tensor<4>, from: fn(&Step) -> f64, to: fn(&Step) -> f64| {
        let timesteps: Vec<f64> =
            steps.iter().map(|(_, step)| schedule.timestep(from(step))).collect();
        // Halves of the shortest steps are the flow itself.
        let length = |step: &Step| match step.is_finest() {
            true => 0.0,
            false => length(schedule, from(step), to(step)),
        };
        let lengths: Vec<f64> = steps.iter().map(|(_, step)| length(step)).collect();
        ema.forward_step(noisy, &timesteps, &lengths, tokens.clone(), &keep)
    };
    let width = |from: fn(&Step) -> f64, to: fn(&Step) -> f64| {
        let sigma = |t| schedule.alpha_sigma(t).1;
        column(steps.iter().map(|(_, step)| sigma(to(step)) - sigma(from(step))), &device)
    };
    let (begin, middle, end) =
        (|step: &Step| step.from, |step: &Step| step.middle, |step: &Step| step.to);
    let (first_width, second_width) = (width(begin, middle), width(middle, end));
    let first = ask(noisy.clone(), begin, middle);
    let half_way = noisy + first.clone() * first_width.clone();
    let second = ask(half_way, middle, end);
    (first * first_width + second * second_width) / width(begin, end)
}

/// `values` as a column [K, 1, 1, 1].
fn column(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count, 1, 1, 1]), device)
}

/// The rows of a batch that `steps` are of.
fn rows(steps: &[(usize, Step)], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = steps.iter().map(|(row, _)| *row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}
