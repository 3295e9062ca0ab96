//! Networks that are ready to use: trained by the run, or opened from the folders its recipe names.

use super::{AUTOENCODER, Cost, DENOISER, ENCODER, Run};
use crate::artifact;
use crate::data::latents::Scale;
use crate::models::Init;
use crate::models::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::models::denoiser::Denoiser;
use crate::models::encoder::Embedder;
use crate::models::encoder::{ImageEncoderConfig, Vit};
use crate::models::weights::{self, StateDict};
use crate::random::Stream;
use crate::recipe::networks;
use crate::recipe::resolve::Pinned;
use crate::train::checkpoint;
use crate::train::task::dino::Distilled;
use anyhow::{Context, Result, ensure};
use burn::module::Module;
use std::cell::OnceCell;

/// The hashes of the folders that a recipe names, each computed once.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    encoder: OnceCell<String>,
    autoencoder: OnceCell<String>,
    denoiser: OnceCell<String>,
}

impl Run {
    /// The hash of the folder that `stage` is given.
    pub(super) fn given_hash(&self, stage: &str) -> Result<String> {
        let (pinned, cell) =
            self.pinned(stage).expect("only asked where the recipe names a folder");
        folder_hash(pinned, cell, stage)
    }

    /// What `check` says of a network that the recipe names a folder for.
    pub(super) fn given_cost(&self, stage: &str, parameters: usize) -> Result<Cost> {
        let hash = self.given_hash(stage)?;
        let (pinned, _) = self.pinned(stage).expect("it has a hash");
        let what = format!("weights of {}, blake3 {hash}", pinned.folder.path.display());
        Ok(Cost { what, parameters: Some(parameters as u64), ..Cost::default() })
    }

    fn pinned(&self, stage: &str) -> Option<(&Pinned, &OnceCell<String>)> {
        let Self { networks, folders, .. } = self;
        let (pinned, cell) = match stage {
            ENCODER => (&networks.encoder_weights, &folders.encoder),
            AUTOENCODER => (&networks.autoencoder_weights, &folders.autoencoder),
            DENOISER => (&networks.denoiser_weights, &folders.denoiser),
            _ => return None,
        };
        Some((pinned.as_ref()?, cell))
    }

    /// The folder's tensors, its hash checked if the recipe pins it.
    fn folder_weights(&self, stage: &str) -> Result<StateDict> {
        let (pinned, cell) =
            self.pinned(stage).expect("only asked where the recipe names a folder");
        if pinned.blake3.is_some() {
            folder_hash(pinned, cell, stage)?;
        }
        Ok(pinned.folder.weights()?)
    }

    pub(super) fn init(&self, network: &str) -> Init {
        Init::new(Stream::new(self.recipe.seed, &format!("{network}/init")), &self.place.device)
    }

    /// The encoder before any step, what a trained one is compared with; none if it was not trained here.
    pub(super) fn untrained_encoder(&self) -> Option<Embedder> {
        let distilled = self.fresh_distilled()?.no_grad();
        Some(self.embedder(distilled.backbone))
    }

    /// The encoder: the teacher, or what the recipe's folder holds.
    pub(super) fn encoder(&self) -> Result<Embedder> {
        let device = &self.place.device;
        match self.fresh_distilled() {
            Some(fresh) => Ok(self.embedder(self.averaged(ENCODER, fresh.no_grad())?.backbone)),
            None => {
                let state = self.folder_weights(ENCODER)?;
                let network = self.networks.encoder.load(state, device);
                let network = network.with_context(|| self.misfit(ENCODER))?.no_grad();
                let input = self.networks.input.clone();
                Ok(Embedder { network, input, device: device.clone() })
            }
        }
    }

    fn embedder(&self, vit: Vit) -> Embedder {
        Embedder::trained_here(vit, self.recipe.data.size, &self.place.device)
    }

    fn fresh_distilled(&self) -> Option<Distilled> {
        let networks::Encoder::Train { dino, .. } = &self.recipe.encoder else { return None };
        let ImageEncoderConfig::Vit(network) = &self.networks.encoder else { return None };
        Some(Distilled::new(network, &dino.head, self.recipe.seed, &self.place.device))
    }

    /// The averaged autoencoder, or what the recipe's folder holds.
    pub(super) fn autoencoder(&self) -> Result<Autoencoder> {
        let config = &self.networks.autoencoder;
        match (&self.networks.autoencoder_weights, config) {
            (Some(_), _) => {
                let state = config.from_file(self.folder_weights(AUTOENCODER)?);
                let fresh = config.init(&mut self.init("autoencoder").deferred()).no_grad();
                weights::consume_state_dict(fresh, state).with_context(|| self.misfit(AUTOENCODER))
            }
            (None, AutoencoderConfig::Kl(kl)) => {
                let fresh = kl.init(&mut self.init("autoencoder")).no_grad();
                Ok(Autoencoder::Kl(self.averaged(AUTOENCODER, fresh)?))
            }
            (None, AutoencoderConfig::Tiny(_)) => {
                unreachable!("recipes train KL autoencoders only")
            }
        }
    }

    /// How the denoiser sees latents, if the autoencoder's folder says so; measured otherwise.
    pub(super) fn latent_scale(&self) -> Option<Scale> {
        let config = &self.networks.autoencoder;
        self.networks
            .autoencoder_weights
            .as_ref()
            .map(|_| Scale { mean: config.shift_factor(), std: 1.0 / config.scaling_factor() })
    }

    /// The averaged denoiser.
    pub(super) fn denoiser(&self) -> Result<Denoiser> {
        let fresh = self.networks.denoiser.init(&mut self.init("denoiser").deferred()).no_grad();
        self.averaged(DENOISER, fresh)
    }

    /// The denoiser before its first step here: its U-Net from the recipe's folder, if it names one.
    pub(super) fn fresh_denoiser(&self) -> Result<Denoiser> {
        let config = &self.networks.denoiser;
        if self.networks.denoiser_weights.is_none() {
            return Ok(config.init(&mut self.init("denoiser")));
        }
        let unet = config.unet.init(&mut self.init("denoiser").deferred());
        let unet = weights::consume_state_dict(unet, self.folder_weights(DENOISER)?)
            .with_context(|| self.misfit(DENOISER))?;
        let patterns = match &self.recipe.denoiser {
            networks::Denoiser::Weights { learns, .. } => learns.patterns(),
            networks::Denoiser::Unet(_) => None,
        };
        let unet = match patterns {
            Some(patterns) => weights::freeze_but(unet, |name| {
                patterns.iter().any(|pattern| weights::is_named(name, pattern))
            }),
            None => unet,
        };
        let condition = config.condition.init(&mut self.init("denoiser/condition"));
        Ok(Denoiser { unet, condition })
    }

    fn averaged<M: Module>(&self, stage: &str, fresh: M) -> Result<M> {
        let state = checkpoint::weights(&self.newest(stage)?, "ema")?;
        Ok(weights::consume_state_dict(fresh, state)?)
    }

    fn misfit(&self, stage: &str) -> String {
        let (pinned, _) = self.pinned(stage).expect("only asked where the recipe names a folder");
        pinned.folder.path.display().to_string()
    }
}

/// The folder's hash. Fails where the recipe pins another one.
fn folder_hash(pinned: &Pinned, cell: &OnceCell<String>, stage: &str) -> Result<String> {
    if let Some(hash) = cell.get() {
        return Ok(hash.clone());
    }
    let hash = pinned.folder.hash()?;
    if let Some(expected) = &pinned.blake3 {
        ensure!(
            hash == *expected,
            artifact::ArtifactError::Damaged {
                path: pinned.folder.path.clone(),
                what: format!("its BLAKE3 is {hash}, {stage}.blake3 in the recipe is {expected}"),
            }
        );
    }
    // Only this thread fills the cell.
    let _ = cell.set(hash.clone());
    Ok(hash)
}
