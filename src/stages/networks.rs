//! Networks that are ready to use: trained by the run, or opened from the folders its recipe names.

use super::{AUTOENCODER, Cost, DENOISER, ENCODER, Run};
use crate::data::latents::{Latents, Scale, TokenStatistics};
use crate::models::Init;
use crate::models::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::models::denoiser::Denoiser;
use crate::models::discriminator::Discriminator;
use crate::models::encoder::{Embedder, ImageEncoder, VitConfig};
use crate::models::features::Lpips;
use crate::models::weights::{self, StateDict};
use crate::random::Stream;
use crate::recipe::resolve::{Network, Pinned, Start, Training};
use crate::train::checkpoint;
use crate::train::task::autoencoder::{Adversarial, KlLoss};
use crate::train::task::dino::{Dino, Distilled};
use anyhow::{Context, Result};
use burn::module::Module;
use std::collections::BTreeSet;

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
    Ok(weights::freeze_but(network, |name| is_trainable(name, learns)))
}

fn is_trainable(name: &str, learns: &[String]) -> bool {
    learns.iter().any(|pattern| weights::is_named(name, pattern))
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
    pub(super) fn untrained_encoder(&self) -> Result<Option<Embedder>> {
        let training = self.networks.encoder.training();
        let untrained = |training| {
            let fresh = self.fresh_distilled(training)?.no_grad();
            Ok(self.embedder(ImageEncoder::Vit(fresh.backbone)))
        };
        training.map(untrained).transpose()
    }

    /// The encoder: the teacher, or what the recipe's folder holds.
    pub(super) fn encoder(&self) -> Result<Embedder> {
        let network = match &self.networks.encoder {
            Network::Trained(Training { config, task, .. }) => {
                let fresh = Distilled::of(config, task, &mut self.init("encoder").deferred());
                ImageEncoder::Vit(self.averaged(ENCODER, fresh.no_grad())?.backbone)
            }
            Network::Given { config, weights } => {
                let network = config.load(weights.weights()?, &self.place.device);
                let folder = || weights.folder.path.display().to_string();
                network.with_context(folder)?.no_grad()
            }
        };
        Ok(self.embedder(network))
    }

    fn embedder(&self, network: ImageEncoder) -> Embedder {
        let (input, device) = (self.networks.input.clone(), self.place.device.clone());
        Embedder { network, input, device }
    }

    /// Student and heads of the encoder's training before its first step: the student as the recipe's folder has it, if it
    /// names one.
    pub(super) fn fresh_distilled(
        &self,
        training: &Training<VitConfig, Dino>,
    ) -> Result<Distilled> {
        let Training { config, task, .. } = training;
        let fresh = Distilled::new(config, task, self.recipe.seed, &self.place.device);
        let Start::Pretrained { weights, learns } = &training.start else { return Ok(fresh) };
        let state = config.to_train(config.from_file(weights.weights()?));
        let backbone = filled(fresh.backbone, state, weights)?;
        let backbone = weights::freeze_but(backbone, |name| {
            // What stands for masked patches is new where the folder has not used it.
            name == VitConfig::MASK_TOKEN || is_trainable(&config.file_name(name), learns)
        });
        Ok(Distilled { backbone, ..fresh })
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

    /// How the denoiser sees latents, if it is a pretrained one, which has seen them as the autoencoder's folder says;
    /// measured otherwise.
    pub(super) fn latent_scale(&self) -> Option<Scale> {
        match (&self.networks.autoencoder, &self.networks.denoiser.start) {
            (Network::Given { config, .. }, Start::Pretrained { .. }) => {
                let (mean, std) = config.latent_statistics();
                Some(Scale { mean, std })
            }
            _ => None,
        }
    }

    /// The averaged denoiser.
    pub(super) fn denoiser(&self) -> Result<Denoiser> {
        let config = &self.networks.denoiser.config;
        self.averaged(DENOISER, config.init(&mut self.init("denoiser").deferred()).no_grad())
    }

    /// The denoiser before its first step here: its network from the recipe's folder, if it names one. Its condition
    /// expects the tokens of `latents`.
    pub(super) fn fresh_denoiser(&self, latents: &Latents) -> Result<Denoiser> {
        let TokenStatistics { mean, std } = latents.token_statistics()?;
        let mut denoiser = self.untrained_denoiser()?;
        denoiser.condition = denoiser.condition.standardised(mean, std);
        Ok(denoiser)
    }

    fn untrained_denoiser(&self) -> Result<Denoiser> {
        let Training { config, start, .. } = &self.networks.denoiser;
        match start {
            Start::Random => Ok(config.init(&mut self.init("denoiser"))),
            Start::Pretrained { weights, learns } => {
                let fresh = config.backbone.init(&mut self.init("denoiser").deferred());
                let backbone = pretrained(fresh, weights.weights()?, weights, learns)?;
                let condition = config.condition.init(&mut self.init("denoiser/condition"));
                let projector = config
                    .projector
                    .map(|config| config.init(&mut self.init("denoiser/projector")));
                let mut denoiser = Denoiser::of(backbone, condition);
                denoiser.projector = projector;
                Ok(denoiser)
            }
        }
    }

    /// The averaged denoiser at the milestones that the recipe is guided by.
    pub(super) fn weaker_denoisers(&self) -> Result<Vec<(u64, Denoiser)>> {
        let Training { config, train, .. } = &self.networks.denoiser;
        let drawn = self.recipe.drawn().into_iter();
        let wanted: BTreeSet<u64> =
            drawn.filter_map(|(_, (_, guidance))| guidance.milestone()).collect();
        let at = |images| {
            let folder =
                checkpoint::milestone(&self.stage_folder(DENOISER), images, train.batch_size)?;
            let fresh = config.init(&mut self.init("denoiser").deferred()).no_grad();
            let state = checkpoint::weights(&folder, "ema")?;
            Ok((images, weights::consume_state_dict(fresh, state)?))
        };
        wanted.into_iter().map(at).collect()
    }

    fn averaged<M: Module>(&self, stage: &str, fresh: M) -> Result<M> {
        let state = checkpoint::weights(&self.newest(stage)?, "ema")?;
        Ok(weights::consume_state_dict(fresh, state)?)
    }
}
