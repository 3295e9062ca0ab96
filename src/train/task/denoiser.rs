//! Training the denoiser: latents and condition tokens from the store, noise in, the objective's target out.

use super::{Loss, Progress, Task, by_group, group_means, validated};
use crate::data::latents::Latents;
use crate::data::{
    image::Gray,
    loader::{SampleError, Samples},
};
use crate::diffusion::{Diffusion, Objective, Schedule, objective::add_noise, times::TimeDraws};
use crate::models::Compute;
use crate::models::denoiser::{Denoiser, DenoiserConfig};
use crate::models::images::values;
use crate::random::{Permutation, Stream};
use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// The task.
pub struct DenoiserTask {
    /// The network's shape: U-Net and condition.
    pub network: DenoiserConfig,
    /// Schedule, objective, weighting.
    pub diffusion: Diffusion,
    /// Probability that a sample is trained with the null condition.
    pub dropout: f64,
    /// What it learns from.
    pub train: Arc<Latents>,
    /// What it is measured on.
    pub valid: Arc<Latents>,
    /// The recipe's seed.
    pub seed: u64,
    /// Where it computes, without autodiff.
    pub device: Device,
    /// Rows per forward pass when measuring.
    pub batch_size: usize,
    /// Images per optimizer step, over which stratified times are shared out.
    pub step_size: usize,
    /// Draws a preview from the averaged weights.
    pub painter: Option<Painter>,
}

/// Turns a denoiser into a picture.
pub type Painter = Box<dyn Fn(&Denoiser) -> Result<Gray> + Send>;

/// One latent with everything its loss needs.
pub struct Item {
    clean: Vec<f32>,
    noise: Vec<f32>,
    tokens: Vec<f32>,
    t: f64,
    keep: bool,
}

/// Rows of a store with their draws.
struct Noised {
    latents: Arc<Latents>,
    dropout: f64,
    posterior: Stream,
    noise: Stream,
    /// None: whoever asks says.
    times: Option<TimeDraws>,
    keep: Stream,
}

impl Noised {
    fn new(latents: Arc<Latents>, dropout: f64, seed: u64, group: &str) -> Self {
        let stream = |what: &str| Stream::new(seed, &format!("{group}/{what}"));
        Self {
            latents,
            dropout,
            posterior: stream("posterior"),
            noise: stream("noise"),
            times: None,
            keep: stream("keep"),
        }
    }
}

impl Samples for Noised {
    type Item = Item;

    fn len(&self) -> u64 {
        self.latents.len() as u64
    }

    fn get(&self, index: u64, position: u64) -> Result<Item, SampleError> {
        let row = self.latents.row(index as usize);
        let clean = row.sample(&mut self.posterior.at(position));
        let noise = self.noise.at(position).normals(clean.len());
        Ok(Item {
            noise,
            clean,
            tokens: row.tokens,
            t: self.times.as_ref().map_or(0.0, |times| times.at(position)),
            keep: !self.keep.at(position).chance(self.dropout),
        })
    }
}

impl DenoiserTask {
    /// Mean squared error per item, shape [B], and the items' noise levels.
    fn errors(&self, model: &Denoiser, items: &[Item], device: &Device) -> (Tensor<1>, Levels) {
        let [channels, height, width] = self.train.latent_shape();
        let shape = [items.len(), channels, height, width];
        let gather = |part: fn(&Item) -> &[f32]| {
            let values: Vec<f32> =
                items.iter().flat_map(|item| part(item).iter().copied()).collect();
            Tensor::<4>::from_data(TensorData::new(values, shape), device)
        };
        let (clean, noise) = (gather(|item| &item.clean), gather(|item| &item.noise));
        let levels = Levels::at(&self.diffusion.schedule, items.iter().map(|item| item.t));
        let timesteps: Vec<f64> =
            items.iter().map(|item| self.diffusion.schedule.timestep(item.t)).collect();
        let tokens: Vec<f32> = items.iter().flat_map(|item| item.tokens.iter().copied()).collect();
        let [num_tokens, width_of_token] = self.train.token_shape();
        let tokens = Tensor::<3>::from_data(
            TensorData::new(tokens, [items.len(), num_tokens, width_of_token]),
            device,
        );
        let keep: Vec<bool> = items.iter().map(|item| item.keep).collect();

        let noisy = add_noise(clean.clone(), noise.clone(), &levels.alpha, &levels.sigma);
        let prediction = model.forward(noisy, &timesteps, tokens, &keep);
        (errors(self.diffusion.objective, prediction, clean, noise, &levels), levels)
    }
}

/// Times, and shares of image and noise at them, item by item.
struct Levels {
    times: Vec<f64>,
    alpha: Vec<f64>,
    sigma: Vec<f64>,
}

impl Levels {
    fn at(schedule: &Schedule, times: impl Iterator<Item = f64>) -> Self {
        let times: Vec<f64> = times.collect();
        let (alpha, sigma) = times.iter().map(|&t| schedule.alpha_sigma(t)).unzip();
        Self { times, alpha, sigma }
    }

    /// The mean of `errors` [B] in each quarter of the schedule's time, as [`by_group`] gives it.
    fn quarters(&self, errors: Tensor<1>) -> Tensor<1> {
        // A timestep at the end of a quarter belongs to it.
        let quarter = |t: &f64| (t * 4.0 - 1e-9).clamp(0.0, 3.0) as usize;
        by_group(errors, &self.times.iter().map(quarter).collect::<Vec<_>>(), 4)
    }
}

/// Mean squared error [B] of what a network predicts of noisy latents [B, C, h, w].
fn errors(
    objective: Objective,
    prediction: Tensor<4>,
    clean: Tensor<4>,
    noise: Tensor<4>,
    levels: &Levels,
) -> Tensor<1> {
    let [batch, ..] = prediction.dims();
    let target = objective.target(clean, noise, &levels.alpha, &levels.sigma);
    (prediction - target).square().mean_dims(&[1, 2, 3]).reshape([batch])
}

/// The mean of `errors` [B], each weighted by its noise.
fn weighted(diffusion: &Diffusion, errors: Tensor<1>, levels: &Levels) -> Loss {
    let weights = levels.alpha.iter().zip(&levels.sigma).map(|(&alpha, &sigma)| {
        diffusion.weighting.weight(diffusion.objective, alpha, sigma) as f32
    });
    let weights = TensorData::new(weights.collect(), errors.dims());
    let weights = Tensor::from_data(weights, &errors.device());
    let plain = errors.clone().inner();
    let parts = vec![
        ("train/unweighted_loss", plain.clone().mean()),
        ("train/loss_t", levels.quarters(plain)),
    ];
    Loss { total: (errors * weights).mean(), parts }
}

/// The validation loss in each quarter of the schedule's time, from least to most noise.
const QUARTERS: [&str; 4] =
    ["validation/loss_t0", "validation/loss_t1", "validation/loss_t2", "validation/loss_t3"];

/// Times for `count` rows, evenly spread over the schedule, so that a small split covers them all, and handed out in an
/// order of the seed's: where rows are sorted by dataset, noise level and dataset must not go together.
fn validation_times(schedule: &Schedule, count: usize, seed: u64) -> Vec<f64> {
    let order = Permutation::new(count as u64, Stream::new(seed, "denoiser/validation/order"), 0);
    let spread = |at| (order.apply(at) as f64 + 0.5) / count as f64;
    (0..count as u64).map(|at| schedule.draw(spread(at))).collect()
}

impl Task for DenoiserTask {
    type Model = Denoiser;
    type Item = Item;
    type Shared = ();

    const VERSION: u32 = 2;

    fn name(&self) -> &'static str {
        "denoiser"
    }

    fn with_compute(model: Denoiser, compute: Compute) -> Denoiser {
        model.with_compute(compute)
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        let Diffusion { schedule, times, stratified, .. } = self.diffusion.clone();
        let strata = stratified.then_some(self.step_size);
        let stream = Stream::new(self.seed, "denoiser/time");
        let times = Some(TimeDraws { schedule, times, strata, stream });
        let noised = Noised::new(self.train.clone(), self.dropout, self.seed, "denoiser");
        Arc::new(Noised { times, ..noised })
    }

    fn share(&mut self, _: &Denoiser, _: &Denoiser, _: &[Item], _: usize, _: Progress) {}

    fn loss(&self, model: &Denoiser, items: &[Item], _: &(), _: usize, _: Progress) -> Loss {
        let device = self.device.clone().autodiff();
        let (errors, levels) = self.errors(model, items, &device);
        weighted(&self.diffusion, errors, &levels)
    }

    /// The unweighted loss over the validation split, or a fixed part of a large one, and in each quarter of time; noise
    /// and times are fixed by the seed.
    fn validate(&self, ema: &Denoiser) -> Result<Vec<(&'static str, f64)>> {
        let fixed = Noised::new(self.valid.clone(), 0.0, self.seed, "denoiser/validation");
        let rows = validated(self.valid.len(), self.seed);
        let times = validation_times(&self.diffusion.schedule, rows.len(), self.seed);
        let rows: Vec<(usize, f64)> = rows.into_iter().zip(times).collect();
        // Of all errors; then, of each quarter of time, sums and sizes.
        let mut sums = [0.0; 9];
        for batch in rows.chunks(self.batch_size) {
            let item =
                |&(row, t): &(usize, f64)| Ok(Item { t, ..fixed.get(row as u64, row as u64)? });
            let items = batch.iter().map(item).collect::<Result<Vec<_>, SampleError>>()?;
            let (errors, levels) = self.errors(ema, &items, &self.device);
            let quarters = levels.quarters(errors.clone()) * items.len() as f64;
            let read = values(Tensor::cat(vec![errors.sum(), quarters], 0))?;
            sums.iter_mut().zip(read).for_each(|(sum, value)| *sum += f64::from(value));
        }
        let loss = ("validation/loss", sums[0] / rows.len() as f64);
        let quarters = QUARTERS.into_iter().zip(group_means(&sums[1..]));
        let quarters = quarters.filter_map(|(name, mean)| Some((name, mean?)));
        Ok(std::iter::once(loss).chain(quarters).collect())
    }

    fn preview(&self, ema: &Denoiser) -> Result<Option<Gray>> {
        self.painter.as_ref().map(|paint| paint(ema)).transpose()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "network": self.network,
            "diffusion": self.diffusion,
            "latent": { "shape": self.train.latent_shape(), "scale": self.train.scale() },
            "tokens": self.train.token_shape(),
        })
    }
}

#[cfg(test)]
mod tests;
