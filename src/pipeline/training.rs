//! The three stages that train.

use super::{Ended, Run, Stage, Timing, text};
use crate::artifact;
use crate::data::picture;
use crate::encode::{self, Latents, Scale};
use crate::models::autoencoder::AutoencoderKl;
use crate::models::denoiser::Denoiser;
use crate::models::{Init, weights};
use crate::random::Stream;
use crate::recipe::networks;
use crate::sample::generate::{Generator, Request};
use crate::sample::sampler::{Ddim, Sampler};
use crate::train::task::Task;
use crate::train::task::autoencoder::AutoencoderTask;
use crate::train::task::denoiser::{DenoiserTask, Painter};
use crate::train::task::dino::{DinoTask, Distilled, fresh_center};
use crate::train::{self, Outcome, Setup, Train, checkpoint};
use anyhow::{Context, Result};
use burn::module::Module;
use std::{fs, path::PathBuf, sync::Arc};

impl Run {
    pub(super) fn train_encoder(&self) -> Result<Ended> {
        let networks::Encoder::Train { dino, train, .. } = &self.recipe.encoder;
        let hash = self.encoder_hash()?;
        let images = self.ingested()?;
        let network = self.recipe.vit_config();
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
        let fresh = || Distilled::new(&network, &dino.head, self.recipe.seed, &self.place.device);
        self.train(Stage::Encoder, &mut task, train, hash, &images.fingerprint, fresh)
    }

    pub(super) fn train_autoencoder(&self) -> Result<Ended> {
        let networks::Autoencoder::Train { loss, train, .. } = &self.recipe.autoencoder;
        let hash = self.autoencoder_hash()?;
        let images = self.ingested()?;
        let network = self.recipe.autoencoder_config();
        let mut task = AutoencoderTask {
            network: network.clone(),
            loss: loss.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            batch_size: measuring_batch(train),
        };
        let fresh = || network.init(&mut self.init("autoencoder"));
        self.train(Stage::Autoencoder, &mut task, train, hash, &images.fingerprint, fresh)
    }

    pub(super) fn train_denoiser(&self) -> Result<Ended> {
        let train = &self.recipe.train;
        let hash = self.denoiser_hash()?;
        if self.is_trained(Stage::Denoiser, train, &hash)? {
            return Ok(Ended::UpToDate);
        }
        let (learned, held_out) = self.latents()?;
        let network = self.recipe.denoiser_config();
        let mut task = DenoiserTask {
            network: network.clone(),
            diffusion: self.recipe.diffusion.clone(),
            dropout: self.recipe.condition.dropout,
            painter: Some(self.painter(&held_out)?),
            train: learned,
            valid: held_out,
            seed: self.recipe.seed,
            device: self.place.device.clone(),
            batch_size: measuring_batch(train),
        };
        let fresh = || network.init(&mut self.init("denoiser")).with_compute(train.compute);
        let fingerprint = self.store_hash()?;
        self.train(Stage::Denoiser, &mut task, train, hash, &fingerprint, fresh)
    }

    fn train<T: Task>(
        &self,
        stage: Stage,
        task: &mut T,
        section: &Train,
        inputs_hash: String,
        data_fingerprint: &str,
        fresh: impl FnOnce() -> T::Model,
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
        let networks::Encoder::Train { vit, dino, train } = &self.recipe.encoder;
        Ok(self
            .hasher(Stage::Encoder, train::VERSION)
            .section(&text(vit))
            .section(&text(dino))
            .section(&text(&train.meaning()))
            .section(&self.recipe.data.size.to_string())
            .upstream(&self.ingested()?.fingerprint)
            .finish())
    }

    pub(super) fn autoencoder_hash(&self) -> Result<String> {
        let networks::Autoencoder::Train { kl, loss, train } = &self.recipe.autoencoder;
        Ok(self
            .hasher(Stage::Autoencoder, train::VERSION)
            .section(&text(kl))
            .section(&text(loss))
            .section(&text(&train.meaning()))
            .section(&self.recipe.data.size.to_string())
            .upstream(&self.ingested()?.fingerprint)
            .finish())
    }

    pub(super) fn denoiser_hash(&self) -> Result<String> {
        let recipe = &self.recipe;
        Ok(self
            .hasher(Stage::Denoiser, train::VERSION)
            .section(&text(&recipe.denoiser))
            .section(&text(&recipe.diffusion))
            .section(&text(&recipe.condition))
            .section(&text(&recipe.train.meaning()))
            .upstream(&self.store_hash()?)
            .finish())
    }

    /// The hash of the averaged weights that `stage` ended with.
    pub(super) fn weights_hash(&self, stage: Stage) -> Result<String> {
        Ok(artifact::file_hash(&self.newest(stage)?.join("ema.safetensors"))?)
    }

    fn newest(&self, stage: Stage) -> Result<PathBuf> {
        checkpoint::newest(&self.stage_folder(stage))?
            .with_context(|| format!("{} is not trained yet", stage.name()))
    }

    fn init(&self, network: &str) -> Init {
        Init::new(Stream::new(self.recipe.seed, &format!("{network}/init")), &self.place.device)
    }

    /// The encoder before any step: what a trained one is compared with.
    pub(super) fn untrained_encoder(&self) -> Distilled {
        let networks::Encoder::Train { dino, .. } = &self.recipe.encoder;
        let network = self.recipe.vit_config();
        Distilled::new(&network, &dino.head, self.recipe.seed, &self.place.device).no_grad()
    }

    /// The teacher.
    pub(super) fn encoder(&self) -> Result<Distilled> {
        self.averaged(Stage::Encoder, self.untrained_encoder())
    }

    /// The averaged autoencoder.
    pub(super) fn autoencoder(&self) -> Result<AutoencoderKl> {
        let fresh = self.recipe.autoencoder_config().init(&mut self.init("autoencoder")).no_grad();
        self.averaged(Stage::Autoencoder, fresh)
    }

    /// The averaged denoiser.
    pub(super) fn denoiser(&self) -> Result<Denoiser> {
        let fresh = self.recipe.denoiser_config().init(&mut self.init("denoiser")).no_grad();
        self.averaged(Stage::Denoiser, fresh)
    }

    fn averaged<M: Module>(&self, stage: Stage, fresh: M) -> Result<M> {
        let state = checkpoint::weights(&self.newest(stage)?, "ema")?;
        Ok(weights::load_state_dict(fresh, &state)?)
    }

    /// Training and validation rows of the store.
    pub(super) fn latents(&self) -> Result<(Arc<Latents>, Arc<Latents>)> {
        let store = encode::open(&self.store_folder()?)?;
        let images = self.ingested()?;
        let train = Latents::new(store.clone(), images.train.entries(), None)?;
        let valid = Latents::new(store, images.valid.entries(), Some(train.scale()))?;
        Ok((Arc::new(train), Arc::new(valid)))
    }

    /// Draws eight validation images again, each beside its source.
    fn painter(&self, valid: &Arc<Latents>) -> Result<Painter> {
        let autoencoder = self.autoencoder()?;
        let (valid, radiographs) = (valid.clone(), self.ingested()?.valid.clone());
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
                tiles.push(radiographs.get(at)?.square.pixels.clone());
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
