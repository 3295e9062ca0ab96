//! Networks that are ready to use: trained by the run, or opened from the folders its recipe names.

use super::{AUTOENCODER, Cost, DENOISER, ENCODER, Run};
use crate::data::latents::Scale;
use crate::models::Init;
use crate::models::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::models::denoiser::Denoiser;
use crate::models::discriminator::Discriminator;
use crate::models::encoder::Embedder;
use crate::models::encoder::{Vit, VitConfig};
use crate::models::features::Lpips;
use crate::models::weights::{self, StateDict};
use crate::random::Stream;
use crate::recipe::resolve::{Network, Pinned, Start, Training};
use crate::train::checkpoint;
use crate::train::task::autoencoder::{Adversarial, KlLoss};
use crate::train::task::dino::{Dino, Distilled};
use anyhow::{Context, Result};
use burn::module::Module;

/// What `check` says of a network that the recipe gives.
pub(super) fn given_cost(weights: &Pinned, parameters: usize) -> Result<Cost> {
    let what = format!("weights of {}, blake3 {}", weights.folder.path.display(), weights.hash()?);
    Ok(Cost { what, parameters: Some(parameters as u64), ..Cost::default() })
}

/// `fresh` with the weights of the folder; those that do not learn are frozen.
fn pretrained<M: Module>(
    fresh: M,
    state: StateDict,
    weights: &Pinned,
    learns: &[String],
) -> Result<M> {
    let network = filled(fresh, state, weights)?;
    Ok(weights::freeze_but(network, |name| {
        learns.iter().any(|pattern| weights::is_named(name, pattern))
    }))
}

/// `fresh` with the tensors of `state`, which are those of a folder.
fn filled<M: Module>(fresh: M, state: StateDict, from: &Pinned) -> Result<M> {
    weights::consume_state_dict(fresh, state)
        .with_context(|| from.folder.path.display().to_string())
}

impl Run {
    pub(super) fn init(&self, network: &str) -> Init {
        Init::new(Stream::new(self.recipe.seed, &format!("{network}/init")), &self.place.device)
    }

    /// The encoder before any step, what a trained one is compared with; none if it was not trained here.
    pub(super) fn untrained_encoder(&self) -> Option<Embedder> {
        let training = self.networks.encoder.training()?;
        Some(self.embedder(self.fresh_distilled(training).no_grad().backbone))
    }

    /// The encoder: the teacher, or what the recipe's folder holds.
    pub(super) fn encoder(&self) -> Result<Embedder> {
        let device = &self.place.device;
        match &self.networks.encoder {
            Network::Trained(training) => {
                let fresh = self.fresh_distilled(training).no_grad();
                Ok(self.embedder(self.averaged(ENCODER, fresh)?.backbone))
            }
            Network::Given { config, weights } => {
                let network = config.load(weights.weights()?, device);
                let folder = || weights.folder.path.display().to_string();
                let network = network.with_context(folder)?.no_grad();
                let input = self.networks.input.clone();
                Ok(Embedder { network, input, device: device.clone() })
            }
        }
    }

    fn embedder(&self, vit: Vit) -> Embedder {
        Embedder::trained_here(vit, self.recipe.data.size, &self.place.device)
    }

    /// Student and heads of the encoder's training before its first step.
    pub(super) fn fresh_distilled(&self, training: &Training<VitConfig, Dino>) -> Distilled {
        let Training { config, task, .. } = training;
        Distilled::new(config, &task.head, self.recipe.seed, &self.place.device)
    }

    /// The averaged autoencoder, or what the recipe's folder holds.
    pub(super) fn autoencoder(&self) -> Result<Autoencoder> {
        match &self.networks.autoencoder {
            Network::Trained(training) => {
                let fresh = training.config.init(&mut self.init("autoencoder")).no_grad();
                self.averaged(AUTOENCODER, fresh)
            }
            Network::Given { config, weights } => {
                let state = config.from_file(weights.weights()?);
                let fresh = config.init(&mut self.init("autoencoder").deferred()).no_grad();
                filled(fresh, state, weights)
            }
        }
    }

    /// The autoencoder before its first step here.
    pub(super) fn fresh_autoencoder(
        &self,
        training: &Training<AutoencoderConfig, KlLoss>,
    ) -> Result<Autoencoder> {
        let config = &training.config;
        match &training.start {
            Start::Random => Ok(config.init(&mut self.init("autoencoder"))),
            Start::Pretrained { weights, learns } => {
                let state = config.from_file(weights.weights()?);
                let fresh = config.init(&mut self.init("autoencoder").deferred());
                pretrained(fresh, state, weights, learns)
            }
        }
    }

    /// The discriminator before its first step.
    pub(super) fn fresh_discriminator(
        &self,
        config: &AutoencoderConfig,
        section: &Adversarial,
    ) -> Discriminator {
        section.config(config.out_channels()).init(&mut self.init("discriminator"))
    }

    /// What sees how alike images look, if the autoencoder's loss asks for it; not learning.
    pub(super) fn perceptual(&self, loss: &KlLoss) -> Result<Option<Lpips>> {
        let Some(perceptual) = &loss.perceptual else { return Ok(None) };
        let folder = perceptual.folder(&self.place.data_root)?;
        Ok(Some(Lpips::from_folder(&folder, &self.place.device)?))
    }

    /// How the denoiser sees latents, if the autoencoder's folder says so; measured otherwise.
    pub(super) fn latent_scale(&self) -> Option<Scale> {
        match &self.networks.autoencoder {
            Network::Trained(_) => None,
            Network::Given { config, .. } => {
                Some(Scale { mean: config.shift_factor(), std: 1.0 / config.scaling_factor() })
            }
        }
    }

    /// The averaged denoiser.
    pub(super) fn denoiser(&self) -> Result<Denoiser> {
        let config = &self.networks.denoiser.config;
        self.averaged(DENOISER, config.init(&mut self.init("denoiser").deferred()).no_grad())
    }

    /// The denoiser before its first step here: its U-Net from the recipe's folder, if it names one.
    pub(super) fn fresh_denoiser(&self) -> Result<Denoiser> {
        let Training { config, start, .. } = &self.networks.denoiser;
        match start {
            Start::Random => Ok(config.init(&mut self.init("denoiser"))),
            Start::Pretrained { weights, learns } => {
                let fresh = config.unet.init(&mut self.init("denoiser").deferred());
                let unet = pretrained(fresh, weights.weights()?, weights, learns)?;
                let condition = config.condition.init(&mut self.init("denoiser/condition"));
                Ok(Denoiser { unet, condition })
            }
        }
    }

    fn averaged<M: Module>(&self, stage: &str, fresh: M) -> Result<M> {
        let state = checkpoint::weights(&self.newest(stage)?, "ema")?;
        Ok(weights::consume_state_dict(fresh, state)?)
    }
}
