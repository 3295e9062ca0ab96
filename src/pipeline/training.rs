//! The three stages that train.

use super::{Ended, Run, Stage, Timing, text};
use crate::data::picture;
use crate::encode::{Latents, Scale};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::encoder::ImageEncoderConfig;
use crate::recipe::networks;
use crate::sample::generate::{Generator, Request};
use crate::sample::sampler::{Ddim, Sampler};
use crate::train::task::Task;
use crate::train::task::autoencoder::AutoencoderTask;
use crate::train::task::denoiser::{DenoiserTask, Painter};
use crate::train::task::dino::{DinoTask, Distilled, fresh_center};
use crate::train::{self, Outcome, Setup, Train, checkpoint};
use anyhow::{Context, Result};
use std::{fs, sync::Arc};

impl Run {
    pub(super) fn train_encoder(&self) -> Result<Ended> {
        let networks::Encoder::Train { dino, train, .. } = &self.recipe.encoder else {
            return Ok(Ended::UpToDate);
        };
        let ImageEncoderConfig::Vit(network) = &self.networks.encoder else {
            unreachable!("recipes train this kind only")
        };
        let hash = self.encoder_hash()?;
        let images = self.ingested()?;
        let mut task = DinoTask {
            center: fresh_center(dino.head.prototypes, &self.place.device),
            network: network.clone(),
            dino: dino.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            batch_size: measuring_batch(train),
        };
        let fresh =
            || Ok(Distilled::new(network, &dino.head, self.recipe.seed, &self.place.device));
        self.train(Stage::Encoder, &mut task, train, hash, &images.fingerprint, fresh)
    }

    pub(super) fn train_autoencoder(&self) -> Result<Ended> {
        let networks::Autoencoder::Train { loss, train, .. } = &self.recipe.autoencoder else {
            return Ok(Ended::UpToDate);
        };
        let AutoencoderConfig::Kl(network) = &self.networks.autoencoder else {
            unreachable!("recipes train this kind only")
        };
        let hash = self.autoencoder_hash()?;
        let images = self.ingested()?;
        let mut task = AutoencoderTask {
            network: network.clone(),
            loss: loss.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            batch_size: measuring_batch(train),
        };
        let fresh = || Ok(network.init(&mut self.init("autoencoder")));
        self.train(Stage::Autoencoder, &mut task, train, hash, &images.fingerprint, fresh)
    }

    pub(super) fn train_denoiser(&self) -> Result<Ended> {
        let train = &self.recipe.train;
        let hash = self.denoiser_hash()?;
        if self.is_trained(Stage::Denoiser, train, &hash)? {
            return Ok(Ended::UpToDate);
        }
        let (learned, held_out) = self.latents()?;
        let mut task = DenoiserTask {
            network: self.networks.denoiser.clone(),
            diffusion: self.recipe.diffusion.clone(),
            dropout: self.recipe.condition.dropout,
            painter: Some(self.painter(&held_out)?),
            train: learned,
            valid: held_out,
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            batch_size: measuring_batch(train),
        };
        let fresh = || self.fresh_denoiser();
        let fingerprint = self.data_hash()?;
        self.train(Stage::Denoiser, &mut task, train, hash, &fingerprint, fresh)
    }

    fn train<T: Task>(
        &self,
        stage: Stage,
        task: &mut T,
        section: &Train,
        inputs_hash: String,
        data_fingerprint: &str,
        fresh: impl FnOnce() -> Result<T::Model>,
    ) -> Result<Ended> {
        if self.is_trained(stage, section, &inputs_hash)? {
            return Ok(Ended::UpToDate);
        }
        self.set_aside(stage, &inputs_hash)?;
        let setup = Setup {
            section: section.clone(),
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            folder: self.stage_folder(stage),
            threads: self.place.threads,
            data_fingerprint: data_fingerprint.to_owned(),
            inputs_hash,
            name: self.recipe.name.clone(),
            recipe: self.resolved.clone(),
            environment: self.environment(),
        };
        match train::run(task, &setup, fresh)? {
            Outcome::Interrupted => Ok(Ended::Interrupted),
            Outcome::Done(done) => {
                let timing = Timing { seconds: done.seconds, images: done.images_seen };
                self.write_timing(stage, timing)?;
                Ok(Ended::Done)
            }
        }
    }

    /// True when the newest checkpoint of `stage` has these inputs and has seen enough images.
    pub(super) fn is_trained(
        &self,
        stage: Stage,
        section: &Train,
        inputs_hash: &str,
    ) -> Result<bool> {
        let Some(folder) = checkpoint::newest(&self.stage_folder(stage))? else { return Ok(false) };
        let header = checkpoint::header(&folder)?;
        Ok(header.inputs_hash == inputs_hash && header.images_seen >= section.images)
    }

    /// Renames the folder of a stage that was trained from other inputs: nothing stale is used, nothing lost.
    fn set_aside(&self, stage: Stage, inputs_hash: &str) -> Result<()> {
        let folder = self.stage_folder(stage);
        let Some(newest) = checkpoint::newest(&folder)? else { return Ok(()) };
        let old = checkpoint::header(&newest)?.inputs_hash;
        if old == inputs_hash {
            return Ok(());
        }
        let aside =
            self.folder.join(format!("{}-superseded-{}", stage.name(), &old[..old.len().min(8)]));
        tracing::warn!(
            "what {} depends on has changed since it was trained; the old checkpoints are kept in {}",
            stage.name(),
            aside.display()
        );
        if aside.exists() {
            fs::remove_dir_all(&aside)
                .with_context(|| format!("cannot replace {}", aside.display()))?;
        }
        fs::rename(&folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
    }

    pub(super) fn encoder_hash(&self) -> Result<String> {
        let networks::Encoder::Train { vit, dino, train } = &self.recipe.encoder else {
            return self.weights_hash(Stage::Encoder);
        };
        Ok(self
            .hasher(Stage::Encoder, DinoTask::VERSION)
            .section(&text(vit))
            .section(&text(dino))
            .section(&text(&if dino.compares_images() {
                train.meaning_by_micro_batch()
            } else {
                train.meaning()
            }))
            .section(&self.recipe.data.size.to_string())
            .upstream(&self.ingested()?.fingerprint)
            .finish())
    }

    pub(super) fn autoencoder_hash(&self) -> Result<String> {
        let networks::Autoencoder::Train { kl, loss, train } = &self.recipe.autoencoder else {
            return self.weights_hash(Stage::Autoencoder);
        };
        Ok(self
            .hasher(Stage::Autoencoder, AutoencoderTask::VERSION)
            .section(&text(kl))
            .section(&text(loss))
            .section(&text(&train.meaning()))
            .section(&self.recipe.data.size.to_string())
            .upstream(&self.ingested()?.fingerprint)
            .finish())
    }

    pub(super) fn denoiser_hash(&self) -> Result<String> {
        let recipe = &self.recipe;
        // Which folder it is does not matter, what is in it does.
        let (section, base) = match &recipe.denoiser {
            networks::Denoiser::Unet(_) => (text(&recipe.denoiser), None),
            networks::Denoiser::Weights { learns, .. } => (text(learns), self.base_hash()?),
        };
        let hasher = self
            .hasher(Stage::Denoiser, DenoiserTask::VERSION)
            .section(&section)
            .section(&text(&recipe.diffusion))
            .section(&text(&recipe.condition))
            .section(&text(&recipe.train.meaning()))
            .upstream(&self.data_hash()?);
        Ok(match base {
            Some(base) => hasher.upstream(&base).finish(),
            None => hasher.finish(),
        })
    }

    /// Draws eight validation images again, each beside its source.
    fn painter(&self, valid: &Arc<Latents>) -> Result<Painter> {
        let autoencoder = self.autoencoder()?;
        let (valid, radiographs) = (valid.clone(), self.encoded()?.valid.clone());
        let (diffusion, device) = (self.recipe.diffusion.clone(), self.place.device.clone());
        let scale: Scale = valid.scale();
        Ok(Box::new(move |denoiser| {
            let count = radiographs.len().min(8);
            let generator = Generator {
                denoiser,
                autoencoder: &autoencoder,
                diffusion: &diffusion,
                scale,
                latent_shape: valid.latent_shape(),
                token_shape: valid.token_shape(),
                sampler: Sampler::Ddim(Ddim { steps: 20, ..Ddim::default() }),
                device: &device,
            };
            let requests: Vec<Request> = (0..count)
                .map(|at| Request { tokens: Some(valid.tokens(at)), seed: at as u64 })
                .collect();
            let drawn = generator.images(&requests, 1.0)?;
            let mut tiles = Vec::new();
            for (at, image) in drawn.into_iter().enumerate() {
                tiles.push(radiographs.tile(at)?);
                tiles.push(image);
            }
            Ok(picture::contact_sheet(
                &tiles,
                radiographs.size(),
                8,
                2,
                &["source", "sample"].repeat(4),
            ))
        }))
    }
}

/// Images per forward pass where nothing is kept for a backward pass.
fn measuring_batch(train: &Train) -> usize {
    train.micro_batch_size.unwrap_or(train.batch_size).max(16)
}
