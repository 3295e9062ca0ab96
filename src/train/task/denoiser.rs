//! Training the denoiser: latents and condition tokens from the store, noise in, the objective's target out.

mod ahead;

use super::{Loss, Progress, Task, by_group, group_means, validated};
use crate::data::latents::Latents;
use crate::data::{
    image::Gray,
    loader::{Collate, SampleError, Samples, column},
};
use crate::diffusion::alignment;
use crate::diffusion::self_consistency::{SelfConsistency, Step};
use crate::diffusion::{Diffusion, Schedule, objective::add_noise, times::TimeDraws};
use crate::models::Compute;
use crate::models::denoiser::{Denoiser, DenoiserConfig};
use crate::models::images::values;
use crate::random::{Permutation, Stream};
use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

/// The task.
pub struct DenoiserTask {
    /// The network's shape, condition included.
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
    /// What brings the encoder's patches to the network's grid, [1, T, P], once it was needed.
    pub resampling: OnceCell<Tensor<3>>,
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
    /// What the encoder sees in the image, [P · d]; empty where nothing is held to it.
    patches: Vec<f32>,
    t: f64,
    /// The long step that it is about, if it is about one.
    step: Option<Step>,
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
    /// How many are about long steps; none where nobody learns them.
    consistency: Option<SelfConsistency>,
    steps: Stream,
    /// Whether the encoder's patches are read, too.
    takes_patches: bool,
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
            consistency: None,
            steps: stream("steps"),
            takes_patches: false,
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
        let step = self.consistency.and_then(|it| it.draw(&mut self.steps.at(position)));
        let time = || self.times.as_ref().map_or(0.0, |times| times.at(position));
        Ok(Item {
            noise,
            clean,
            tokens: row.tokens,
            patches: match self.takes_patches {
                true => self.latents.patches(index as usize),
                false => Vec::new(),
            },
            t: step.map_or_else(time, |step| step.from),
            step,
            keep: !self.keep.at(position).chance(self.dropout),
        })
    }
}

/// Items side by side, and the noise levels at their times.
pub struct Batch {
    clean: Vec<f32>,
    noise: Vec<f32>,
    tokens: Vec<f32>,
    patches: Vec<f32>,
    levels: Levels,
    steps: Vec<Option<Step>>,
    keep: Vec<bool>,
}

impl Batch {
    fn of(items: &[Item], schedule: &Schedule) -> Self {
        Self {
            clean: column(items, |item| &item.clean),
            noise: column(items, |item| &item.noise),
            tokens: column(items, |item| &item.tokens),
            patches: column(items, |item| &item.patches),
            levels: Levels::at(schedule, items.iter().map(|item| item.t)),
            steps: items.iter().map(|item| item.step).collect(),
            keep: items.iter().map(|item| item.keep).collect(),
        }
    }
}

/// A batch where it is computed: what the network is shown, and what it should say.
pub struct Shown {
    /// [B, C, h, w].
    noisy: Tensor<4>,
    /// [B, C, h, w].
    target: Tensor<4>,
    /// [B, N, D].
    tokens: Tensor<3>,
    /// What the encoder sees in the images, on the network's grid of tokens: [B, T, d]; none where nothing is held to it.
    patches: Option<Tensor<3>>,
    timesteps: Vec<f64>,
    /// How far the step leads that an item is about, as the network is told; 0 of the flow itself.
    lengths: Vec<f64>,
    levels: Levels,
    keep: Vec<bool>,
}

impl DenoiserTask {
    /// Brings a batch to the device.
    fn show(&self, batch: Batch) -> Shown {
        let Batch { clean, noise, tokens, patches, levels, steps, keep } = batch;
        let [channels, height, width] = self.train.latent_shape();
        let [num_tokens, width_of_token] = self.train.token_shape();
        let images = keep.len();
        let latents = |values| {
            let data = TensorData::new(values, [images, channels, height, width]);
            Tensor::<4>::from_data(data, &self.device)
        };
        let (clean, noise) = (latents(clean), latents(noise));
        let tokens = TensorData::new(tokens, [images, num_tokens, width_of_token]);
        let Levels { times, alpha, sigma } = &levels;
        Shown {
            noisy: add_noise(clean.clone(), noise.clone(), alpha, sigma),
            target: self.diffusion.objective.target(clean, noise, alpha, sigma),
            tokens: Tensor::from_data(tokens, &self.device),
            patches: self.on_grid(patches, images),
            timesteps: times.iter().map(|&t| self.diffusion.schedule.timestep(t)).collect(),
            lengths: ahead::lengths(&self.diffusion.schedule, &steps),
            levels,
            keep,
        }
    }
}

impl DenoiserTask {
    /// The encoder's patches of `images` on the network's grid of tokens.
    fn on_grid(&self, patches: Vec<f32>, images: usize) -> Option<Tensor<3>> {
        let [_, side, _] = self.train.latent_shape();
        let [to, ..] = self.network.backbone.blocks_of_tokens(side)?;
        let [count, width] = self.train.patch_shape().filter(|_| !patches.is_empty())?;
        let weights = self.resampling.get_or_init(|| {
            let weights = alignment::resampling(count.isqrt(), to);
            Tensor::from_data(TensorData::new(weights, [1, to * to, count]), &self.device)
        });
        let patches = TensorData::new(patches, [images, count, width]);
        let patches = Tensor::<3>::from_data(patches, &self.device);
        Some(weights.clone().expand([images, to * to, count]).matmul(patches))
    }
}

/// One minus the mean cosine between what a network says the encoder sees and what it sees, both [b, T, d].
fn misaligned(said: Tensor<3>, seen: Tensor<3>) -> Tensor<1> {
    let length = |x: &Tensor<3>| x.clone().square().sum_dim(2).add_scalar(1e-8).sqrt();
    let cosine = (said.clone() * seen.clone()).sum_dim(2) / (length(&said) * length(&seen));
    cosine.mean().neg().add_scalar(1.0)
}

/// Some of a batch, on the autodiff device or on the plain one.
fn part<const D: usize>(batch: &Tensor<D>, rows: Range<usize>, tracks: bool) -> Tensor<D> {
    let rows = batch.clone().slice_dim(0, rows);
    if tracks { Tensor::from_inner(rows) } else { rows }
}

/// Mean squared error [b] of what `model` predicts of some `rows` of a batch, and how far it is from saying what the encoder
/// sees, if it says so.
fn errors_of(
    model: &Denoiser,
    batch: &Shown,
    rows: Range<usize>,
    tracks: bool,
) -> (Tensor<1>, Option<Tensor<1>>) {
    let [noisy, target] =
        [&batch.noisy, &batch.target].map(|tensor| part(tensor, rows.clone(), tracks));
    let tokens = part(&batch.tokens, rows.clone(), tracks);
    let [timesteps, lengths] = [&batch.timesteps, &batch.lengths].map(|it| &it[rows.clone()]);
    let (prediction, said) =
        model.forward_aligned(noisy, timesteps, lengths, tokens, &batch.keep[rows.clone()]);
    let apart = said
        .zip(batch.patches.as_ref())
        .map(|(said, seen)| misaligned(said, part(seen, rows, tracks)));
    (errors(prediction, target), apart)
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

    /// Those of some items.
    fn of(&self, rows: Range<usize>) -> Self {
        let [times, alpha, sigma] =
            [&self.times, &self.alpha, &self.sigma].map(|values| values[rows.clone()].to_vec());
        Self { times, alpha, sigma }
    }

    /// The mean of `errors` [B] in each quarter of the schedule's time, as [`by_group`] gives it.
    fn quarters(&self, errors: Tensor<1>, lengths: &[f64]) -> Tensor<1> {
        let quarter = |(t, length): (&f64, &f64)| match *length {
            // A timestep at the end of a quarter belongs to it.
            0.0 => (t * 4.0 - 1e-9).clamp(0.0, 3.0) as usize,
            // Long steps belong to none.
            _ => 4,
        };
        by_group(errors, &self.times.iter().zip(lengths).map(quarter).collect::<Vec<_>>(), 4)
    }
}

/// Mean squared error [B] of a prediction [B, C, h, w].
fn errors(prediction: Tensor<4>, target: Tensor<4>) -> Tensor<1> {
    let [batch, ..] = prediction.dims();
    (prediction - target).square().mean_dims(&[1, 2, 3]).reshape([batch])
}

/// The mean of `errors` [B], each weighted by its noise. Those of long steps, which have `lengths`, are told apart.
fn weighted(diffusion: &Diffusion, errors: Tensor<1>, levels: &Levels, lengths: &[f64]) -> Loss {
    let weights = levels.alpha.iter().zip(&levels.sigma).map(|(&alpha, &sigma)| {
        diffusion.weighting.weight(diffusion.objective, alpha, sigma) as f32
    });
    let weights = TensorData::new(weights.collect(), errors.dims());
    let weights = Tensor::from_data(weights, &errors.device());
    let plain = errors.clone().inner();
    let mut parts = vec![
        ("train/unweighted_loss", plain.clone().mean()),
        ("train/loss_t", levels.quarters(plain.clone(), lengths)),
    ];
    if diffusion.self_consistency.is_some() {
        let group = |length: &f64| usize::from(*length == 0.0);
        let groups: Vec<usize> = lengths.iter().map(group).collect();
        parts.push(("train/long_steps", by_group(plain, &groups, 1)));
    }
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
    type Batch = Batch;
    type Shared = Shown;

    const VERSION: u32 = 3;

    fn name(&self) -> &'static str {
        "denoiser"
    }

    fn with_compute(model: Denoiser, compute: Compute) -> Denoiser {
        model.with_compute(compute)
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        let Diffusion { schedule, times, stratified, self_consistency: consistency, .. } =
            self.diffusion.clone();
        let strata = stratified.then_some(self.step_size);
        let stream = Stream::new(self.seed, "denoiser/time");
        let times = Some(TimeDraws { schedule, times, strata, stream });
        let noised = Noised::new(self.train.clone(), self.dropout, self.seed, "denoiser");
        let takes_patches = self.diffusion.alignment.is_some();
        Arc::new(Noised { times, consistency, takes_patches, ..noised })
    }

    fn collate(&self) -> Collate<Item, Batch> {
        let schedule = self.diffusion.schedule.clone();
        Arc::new(move |items| Batch::of(&items, &schedule))
    }

    fn share(
        &mut self,
        _: &Denoiser,
        ema: &Denoiser,
        batch: Batch,
        round: usize,
        _: Progress,
    ) -> Shown {
        let steps = batch.steps.clone();
        let mut shown = self.show(batch);
        ahead::look(&self.diffusion.schedule, ema, &steps, &mut shown, round);
        shown
    }

    fn loss(&self, model: &Denoiser, batch: &Shown, rows: Range<usize>, _: Progress) -> Loss {
        let (errors, apart) = errors_of(model, batch, rows.clone(), true);
        let lengths = &batch.lengths[rows.clone()];
        let mut loss = weighted(&self.diffusion, errors, &batch.levels.of(rows), lengths);
        if let (Some(apart), Some(alignment)) = (apart, &self.diffusion.alignment) {
            loss.parts.push(("train/alignment", apart.clone().inner()));
            loss.total = loss.total + apart * alignment.weight;
        }
        loss
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
            let shown = self.show(Batch::of(&items, &self.diffusion.schedule));
            let (errors, _) = errors_of(ema, &shown, 0..items.len(), false);
            let quarters =
                shown.levels.quarters(errors.clone(), &shown.lengths) * items.len() as f64;
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
