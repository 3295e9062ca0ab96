//! Training the denoiser, from scratch or from the weights of a folder.

use super::trained::{Pass, TrainingStage, Trains};
use super::{Cost, DENOISER, ENCODE, Made, Run, hasher, text};
use crate::data::latents::Latents;
use crate::data::picture;
use crate::diffusion::Guidance;
use crate::models::weights::num_parameters;
use crate::recipe::resolve::Start;
use crate::sample::generate::{Generator, Request};
use crate::sample::sampler::{Ddim, Sampler};
use crate::train::task::Task as _;
use crate::train::task::denoiser::{DenoiserTask, Painter};
use anyhow::Result;
use std::cell::OnceCell;
use std::sync::Arc;

pub(super) struct Denoiser;

impl Trains for Denoiser {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let recipe = &run.recipe;
        let Some(data) = run.output(ENCODE) else { return Ok(None) };
        let training = &run.networks.denoiser;
        let hasher = hasher(run, DENOISER, DenoiserTask::VERSION);
        let hasher = match &training.start {
            Start::Random => hasher.section(&text(&recipe.denoiser.from)),
            Start::Pretrained { weights, learns } => {
                hasher.section(&text(learns)).upstream(&weights.hash()?)
            }
        };
        let hasher = hasher
            .section(&text(&training.task))
            .section(&text(&recipe.condition))
            .section(&text(&training.train.meaning()))
            .upstream(&data);
        Ok(Some(hasher.finish()))
    }

    fn training<'a>(&self, run: &'a Run) -> Option<TrainingStage<'a>> {
        Some(training(run))
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let denoiser = run.networks.denoiser.config.init(&mut run.init("plan").deferred());
        let [_, side, _] = run.networks.latent_shape;
        let parameters = num_parameters(&denoiser) as u64;
        let forward = denoiser.flops(side, side) as f64;
        // Each long step is first looked at by halves.
        let long = run.networks.denoiser.task.self_consistency.map_or(0.0, |it| it.share);
        Ok(training(run).cost(&Pass { parameters, forward, extra: 2.0 * long * forward }))
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let training = training(run);
        let (learned, held_out) = run.latents()?;
        let of_learned = learned.clone();
        let mut task = DenoiserTask {
            network: run.networks.denoiser.config.clone(),
            diffusion: run.networks.denoiser.task.clone(),
            dropout: run.recipe.condition.dropout,
            resampling: OnceCell::new(),
            painter: Some(painter(run, &held_out)?),
            train: learned,
            valid: held_out,
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: training.measuring_batch(),
            step_size: training.section.batch_size,
        };
        let data = run.output(ENCODE).expect("encode was walked first");
        training.make(inputs, &data, &mut task, || run.fresh_denoiser(&of_learned))
    }
}

fn training(run: &Run) -> TrainingStage<'_> {
    TrainingStage { run, name: DENOISER, section: &run.networks.denoiser.train }
}

/// Draws eight validation images again, each beside its source.
fn painter(run: &Run, valid: &Arc<Latents>) -> Result<Painter> {
    let autoencoder = run.autoencoder()?;
    let (valid, radiographs) = (valid.clone(), run.encoded()?.valid.clone());
    let (diffusion, device) = (run.networks.denoiser.task.clone(), run.place.device.clone());
    let scale = valid.scale().clone();
    Ok(Box::new(move |denoiser| {
        let count = radiographs.len().min(8);
        let generator = Generator {
            denoiser,
            weaker: &[],
            autoencoder: &autoencoder,
            diffusion: &diffusion,
            scale: &scale,
            latent_shape: valid.latent_shape(),
            token_shape: valid.token_shape(),
            sampler: Sampler::Ddim(Ddim { steps: 20, ..Ddim::default() }),
            device: &device,
        };
        let requests: Vec<Request> = (0..count)
            .map(|at| Request { tokens: Some(valid.tokens(at)), seed: at as u64 })
            .collect();
        let drawn = generator.images(&requests, &Guidance::None)?;
        let mut tiles = Vec::new();
        for (at, image) in drawn.into_iter().enumerate() {
            tiles.push(radiographs.tile(at)?);
            tiles.push(image);
        }
        let names = ["source", "sample"].repeat(4);
        Ok(picture::contact_sheet(&tiles, radiographs.size(), 8, 2, &names))
    }))
}
