//! Networks that are ready to use: trained by the run, or opened from the folders its recipe names.

use super::{Run, Stage};
use crate::artifact;
use crate::encode::{Embedder, Scale};
use crate::models::Init;
use crate::models::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::models::denoiser::Denoiser;
use crate::models::encoder::{ImageEncoderConfig, Vit};
use crate::models::weights::{self, StateDict};
use crate::random::Stream;
use crate::recipe::networks::{self, Learns};
use crate::recipe::resolve::Pinned;
use crate::train::checkpoint;
use crate::train::task::dino::Distilled;
use anyhow::{Context, Result, ensure};
use burn::module::Module;
use std::{cell::OnceCell, path::PathBuf};

/// The hashes of the folders that a recipe names, each computed once.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    encoder: OnceCell<String>,
    autoencoder: OnceCell<String>,
    denoiser: OnceCell<String>,
}

impl Run {
    /// The hash of the weights that `stage` ended with: of the average, where they were trained here, of the
    /// folder otherwise.
    pub(super) fn weights_hash(&self, stage: Stage) -> Result<String> {
        match self.pinned(stage) {
            Some((pinned, cell)) if stage != Stage::Denoiser => folder_hash(pinned, cell, stage),
            _ => Ok(artifact::file_hash(&self.newest(stage)?.join("ema.safetensors"))?),
        }
    }

    /// The hash of the folder that the denoiser goes on from, if it does.
    pub(super) fn base_hash(&self) -> Result<Option<String>> {
        self.pinned(Stage::Denoiser)
            .map(|(pinned, cell)| folder_hash(pinned, cell, Stage::Denoiser))
            .transpose()
    }

    fn pinned(&self, stage: Stage) -> Option<(&Pinned, &OnceCell<String>)> {
        let Self { networks, folders, .. } = self;
        let (pinned, cell) = match stage {
            Stage::Encoder => (&networks.encoder_weights, &folders.encoder),
            Stage::Autoencoder => (&networks.autoencoder_weights, &folders.autoencoder),
            Stage::Denoiser => (&networks.denoiser_weights, &folders.denoiser),
            _ => return None,
        };
        Some((pinned.as_ref()?, cell))
    }

    /// The folder's tensors, its hash checked if the recipe pins it.
    fn folder_weights(&self, stage: Stage) -> Result<StateDict> {
        let (pinned, cell) =
            self.pinned(stage).expect("only asked where the recipe names a folder");
        if pinned.blake3.is_some() {
            folder_hash(pinned, cell, stage)?;
        }
        Ok(pinned.folder.weights()?)
    }

    pub(super) fn newest(&self, stage: Stage) -> Result<PathBuf> {
        checkpoint::newest(&self.stage_folder(stage))?
            .with_context(|| format!("{} is not trained yet", stage.name()))
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
            Some(fresh) => {
                Ok(self.embedder(self.averaged(Stage::Encoder, fresh.no_grad())?.backbone))
            }
            None => {
                let state = self.folder_weights(Stage::Encoder)?;
                let network = self.networks.encoder.load(state, device);
                let network = network.with_context(|| self.misfit(Stage::Encoder))?.no_grad();
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
                let state = config.from_file(self.folder_weights(Stage::Autoencoder)?);
                let fresh = config.init(&mut self.init("autoencoder").deferred()).no_grad();
                weights::consume_state_dict(fresh, state)
                    .with_context(|| self.misfit(Stage::Autoencoder))
            }
            (None, AutoencoderConfig::Kl(kl)) => {
                let fresh = kl.init(&mut self.init("autoencoder")).no_grad();
                Ok(Autoencoder::Kl(self.averaged(Stage::Autoencoder, fresh)?))
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
        self.averaged(Stage::Denoiser, fresh)
    }

    /// The denoiser before its first step here: its U-Net from the recipe's folder, if it names one.
    pub(super) fn fresh_denoiser(&self) -> Result<Denoiser> {
        let config = &self.networks.denoiser;
        if self.networks.denoiser_weights.is_none() {
            return Ok(config.init(&mut self.init("denoiser")));
        }
        let unet = config.unet.init(&mut self.init("denoiser").deferred());
        let unet = weights::consume_state_dict(unet, self.folder_weights(Stage::Denoiser)?)
            .with_context(|| self.misfit(Stage::Denoiser))?;
        let unet = match &self.recipe.denoiser {
            networks::Denoiser::Weights { learns: Learns::CrossAttention, .. } => {
                weights::freeze_but(unet, |name| name.contains(".attn2."))
            }
            _ => unet,
        };
        let condition = config.condition.init(&mut self.init("denoiser/condition"));
        Ok(Denoiser { unet, condition })
    }

    fn averaged<M: Module>(&self, stage: Stage, fresh: M) -> Result<M> {
        let state = checkpoint::weights(&self.newest(stage)?, "ema")?;
        Ok(weights::consume_state_dict(fresh, state)?)
    }

    fn misfit(&self, stage: Stage) -> String {
        let (pinned, _) = self.pinned(stage).expect("only asked where the recipe names a folder");
        pinned.folder.path.display().to_string()
    }
}

/// The folder's hash. Fails where the recipe pins another one.
fn folder_hash(pinned: &Pinned, cell: &OnceCell<String>, stage: Stage) -> Result<String> {
    if let Some(hash) = cell.get() {
        return Ok(hash.clone());
    }
    let hash = pinned.folder.hash()?;
    if let Some(expected) = &pinned.blake3 {
        ensure!(
            hash == *expected,
            artifact::ArtifactError::Damaged {
                path: pinned.folder.path.clone(),
                what: format!(
                    "its BLAKE3 is {hash}, {}.blake3 in the recipe is {expected}",
                    stage.name()
                ),
            }
        );
    }
    // Only this thread fills the cell.
    let _ = cell.set(hash.clone());
    Ok(hash)
}
