//! Training the denoiser: latents and condition tokens from the store, noise in, the objective's target out.

use super::{Loss, Progress, Task};
use crate::data::{
    image::Gray,
    loader::{SampleError, Samples},
};
use crate::diffusion::{Diffusion, Schedule, objective::add_noise};
use crate::encode::Latents;
use crate::models::Compute;
use crate::models::denoiser::{Denoiser, DenoiserConfig};
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
    schedule: Schedule,
    dropout: f64,
    posterior: Stream,
    noise: Stream,
    time: Stream,
    keep: Stream,
}

impl Noised {
    fn new(
        latents: Arc<Latents>,
        schedule: Schedule,
        dropout: f64,
        seed: u64,
        group: &str,
    ) -> Self {
        let stream = |what: &str| Stream::new(seed, &format!("{group}/{what}"));
        Self {
            latents,
            schedule,
            dropout,
            posterior: stream("posterior"),
            noise: stream("noise"),
            time: stream("time"),
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
            t: self.schedule.draw(self.time.at(position).uniform()),
            keep: !self.keep.at(position).chance(self.dropout),
        })
    }
}

impl DenoiserTask {
    /// Mean squared error per item, shape [B], and the items' weights.
    fn errors(&self, model: &Denoiser, items: &[Item], device: &Device) -> (Tensor<1>, Vec<f32>) {
        let [channels, height, width] = self.train.latent_shape();
        let shape = [items.len(), channels, height, width];
        let gather = |part: fn(&Item) -> &[f32]| {
            let values: Vec<f32> =
                items.iter().flat_map(|item| part(item).iter().copied()).collect();
            Tensor::<4>::from_data(TensorData::new(values, shape), device)
        };
        let (clean, noise) = (gather(|item| &item.clean), gather(|item| &item.noise));
        let levels: Vec<(f64, f64)> =
            items.iter().map(|item| self.diffusion.schedule.alpha_sigma(item.t)).collect();
        let (alpha, sigma): (Vec<f64>, Vec<f64>) = levels.iter().copied().unzip();
        let timesteps: Vec<f64> =
            items.iter().map(|item| self.diffusion.schedule.timestep(item.t)).collect();
        let tokens: Vec<f32> = items.iter().flat_map(|item| item.tokens.iter().copied()).collect();
        let [num_tokens, width_of_token] = self.train.token_shape();
        let tokens = Tensor::<3>::from_data(
            TensorData::new(tokens, [items.len(), num_tokens, width_of_token]),
            device,
        );
        let keep: Vec<bool> = items.iter().map(|item| item.keep).collect();

        let noisy = add_noise(clean.clone(), noise.clone(), &alpha, &sigma);
        let target = self.diffusion.objective.target(clean, noise, &alpha, &sigma);
        let prediction = model.forward(noisy, &timesteps, tokens, &keep);
        let errors = (prediction - target).square().mean_dims(&[1, 2, 3]).reshape([items.len()]);
        let weights = levels
            .iter()
            .map(|&(alpha, sigma)| {
                self.diffusion.weighting.weight(self.diffusion.objective, alpha, sigma) as f32
            })
            .collect();
        (errors, weights)
    }
}

impl Task for DenoiserTask {
    type Model = Denoiser;
    type Item = Item;

    const VERSION: u32 = 2;

    fn name(&self) -> &'static str {
        "denoiser"
    }

    fn with_compute(model: Denoiser, compute: Compute) -> Denoiser {
        model.with_compute(compute)
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        Arc::new(Noised::new(
            self.train.clone(),
            self.diffusion.schedule.clone(),
            self.dropout,
            self.seed,
            "denoiser",
        ))
    }

    fn loss(
        &mut self,
        model: &Denoiser,
        _ema: &Denoiser,
        items: &[Item],
        _progress: Progress,
    ) -> Loss {
        let device = self.device.clone().autodiff();
        let (errors, weights) = self.errors(model, items, &device);
        let count = weights.len();
        let weights = Tensor::<1>::from_data(TensorData::new(weights, [count]), &device);
        let unweighted = errors.clone().inner().mean();
        Loss {
            total: (errors * weights).mean(),
            parts: vec![("train/unweighted_loss", unweighted)],
        }
    }

    /// The unweighted loss over the validation split, noise and times fixed by the seed.
    fn validate(&self, ema: &Denoiser) -> Result<Vec<(&'static str, f64)>> {
        let fixed = Noised::new(
            self.valid.clone(),
            self.diffusion.schedule.clone(),
            0.0,
            self.seed,
            "denoiser/validation",
        );
        let rows = fixed.len();
        // Rows may lie sorted by dataset: which time a row gets must not follow from where it lies.
        let stream = Stream::new(self.seed, "denoiser/validation/order");
        let order = Permutation::new(rows, stream, 0);
        let mut sum = 0.0;
        for first in (0..rows).step_by(self.batch_size) {
            let items = (first..(first + self.batch_size as u64).min(rows))
                // Times evenly spread over the split, so that a small one covers them all.
                .map(|at| {
                    let mut item = fixed.get(at, at)?;
                    item.t = fixed.schedule.draw((order.apply(at) as f64 + 0.5) / rows as f64);
                    Ok(item)
                })
                .collect::<Result<Vec<_>, SampleError>>()?;
            let (errors, _) = self.errors(ema, &items, &self.device);
            sum += f64::from(errors.sum().into_scalar::<f32>());
        }
        Ok(vec![("validation/loss", sum / rows as f64)])
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
