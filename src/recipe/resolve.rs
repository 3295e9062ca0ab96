//! What a recipe's networks are: from its own sections, or from the folders it names.

use super::Recipe;
use super::networks::{self, num_tokens};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::condition::ConditionConfig;
use crate::models::denoiser::{DenoiserConfig, UnetConfig};
use crate::models::encoder::trained_input;
use crate::models::encoder::{ImageEncoderConfig, Preprocessing};
use crate::models::weights::folder::{self, ModelFolder};
use std::path::{Path, PathBuf};

/// The networks of a recipe, each with the folder that its weights come from, if they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Networks {
    /// What sees images.
    pub encoder: ImageEncoderConfig,
    /// How an image reaches it.
    pub input: Preprocessing,
    /// What makes images small.
    pub autoencoder: AutoencoderConfig,
    /// What draws, and what guides it.
    pub denoiser: DenoiserConfig,
    /// Where the encoder's weights are.
    pub encoder_weights: Option<Pinned>,
    /// Where the autoencoder's weights are.
    pub autoencoder_weights: Option<Pinned>,
    /// Where the U-Net's first weights are.
    pub denoiser_weights: Option<Pinned>,
    /// Channels, height and width of a latent.
    pub latent_shape: [usize; 3],
    /// Condition tokens and their width.
    pub token_shape: [usize; 2],
}

/// A folder of weights and the hash it must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    /// The folder.
    pub folder: ModelFolder,
    /// BLAKE3 that the recipe asks for.
    pub blake3: Option<String>,
}

impl Recipe {
    /// Reads the configs of the folders that the recipe names (not their weights) and puts the networks' sizes
    /// together. Fails with every fault, a sentence each.
    pub fn networks(&self, data_root: &Path) -> Result<Networks, Vec<String>> {
        let mut faults = Vec::new();
        let encoder = self.encoder_network(data_root).map_err(|fault| faults.push(fault)).ok();
        let autoencoder =
            self.autoencoder_network(data_root).map_err(|fault| faults.push(fault)).ok();
        let unet = self.foreign_unet(data_root).map_err(|fault| faults.push(fault)).ok();
        let (Some((encoder, input, encoder_weights)), Some((autoencoder, autoencoder_weights))) =
            (encoder, autoencoder)
        else {
            return Err(faults);
        };
        let Some(unet) = unet else { return Err(faults) };
        let side = self.data.size / autoencoder.factor();
        let latent_shape = [autoencoder.latent_channels(), side, side];
        let num_tokens = num_tokens(self.condition.tokens, encoder.num_registers());
        let token_shape = [num_tokens, encoder.hidden_size()];
        let (denoiser, denoiser_weights) = match (&self.denoiser, unet) {
            (networks::Denoiser::Unet(section), _) => {
                (section.config(latent_shape, token_shape, &self.condition), None)
            }
            (_, Some((unet, pinned))) => {
                let width = unet.context_width();
                let condition = ConditionConfig { num_tokens, token_width: token_shape[1], width };
                (DenoiserConfig { unet, condition }, Some(pinned))
            }
            (networks::Denoiser::Weights { .. }, None) => {
                unreachable!("a named folder was opened or its fault returned")
            }
        };
        Ok(Networks {
            encoder,
            input,
            autoencoder,
            denoiser,
            encoder_weights,
            autoencoder_weights,
            denoiser_weights,
            latent_shape,
            token_shape,
        })
    }

    fn encoder_network(
        &self,
        data_root: &Path,
    ) -> Result<(ImageEncoderConfig, Preprocessing, Option<Pinned>), String> {
        let (path, blake3, side) = match &self.encoder {
            networks::Encoder::Train { vit, dino, .. } => {
                // The size that position embeddings are learned at; others are interpolated.
                let config = vit.config(dino.views.global_size.unwrap_or(self.data.size));
                return Ok((ImageEncoderConfig::Vit(config), trained_input(self.data.size), None));
            }
            networks::Encoder::Weights { folder, blake3, side } => (folder, blake3, side),
        };
        let pinned = open("encoder", data_root, path, blake3)?;
        let fault = |error: &dyn std::fmt::Display| {
            format!("encoder.folder {}: {error}", pinned.folder.path.display())
        };
        let config = ImageEncoderConfig::from_transformers(&pinned.folder.config)
            .map_err(|error| fault(&error))?;
        const PREPROCESSOR: &str = "preprocessor_config.json";
        let mut input = if pinned.folder.path.join(PREPROCESSOR).is_file() {
            let text = folder::read_config(&pinned.folder.path, PREPROCESSOR)
                .map_err(|error| fault(&error))?;
            Preprocessing::from_transformers(&text, &config).map_err(|error| fault(&error))?
        } else {
            Preprocessing::default_for(&config)
        };
        if let Some(side) = *side {
            input = input
                .with_side(side, config.patch_size())
                .map_err(|error| format!("encoder.side: {error}"))?;
        }
        Ok((config, input, Some(pinned)))
    }

    fn autoencoder_network(
        &self,
        data_root: &Path,
    ) -> Result<(AutoencoderConfig, Option<Pinned>), String> {
        match &self.autoencoder {
            networks::Autoencoder::Train { kl, .. } => {
                Ok((AutoencoderConfig::Kl(kl.config()), None))
            }
            networks::Autoencoder::Weights { folder, blake3 } => {
                let pinned = open("autoencoder", data_root, folder, blake3)?;
                let config = AutoencoderConfig::from_diffusers(&pinned.folder.config);
                let path = pinned.folder.path.display();
                let config =
                    config.map_err(|error| format!("autoencoder.folder {path}: {error}"))?;
                Ok((config, Some(pinned)))
            }
        }
    }

    /// The U-Net of the folder that the recipe goes on from, if it names one.
    fn foreign_unet(&self, data_root: &Path) -> Result<Option<(UnetConfig, Pinned)>, String> {
        match &self.denoiser {
            networks::Denoiser::Unet(_) => Ok(None),
            networks::Denoiser::Weights { folder, blake3, .. } => {
                let pinned = open("denoiser", data_root, folder, blake3)?;
                let config = UnetConfig::from_diffusers(&pinned.folder.config);
                let path = pinned.folder.path.display();
                let config = config.map_err(|error| format!("denoiser.folder {path}: {error}"))?;
                Ok(Some((config, pinned)))
            }
        }
    }
}

fn open(
    section: &str,
    data_root: &Path,
    path: &PathBuf,
    blake3: &Option<String>,
) -> Result<Pinned, String> {
    if let Some(hash) = blake3
        && (hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(format!("{section}.blake3 is \"{hash}\"; expected 64 hexadecimal digits"));
    }
    let folder = ModelFolder::open(&data_root.join(path))
        .map_err(|error| format!("{section}.folder: {error}"))?;
    Ok(Pinned { folder, blake3: blake3.as_ref().map(|hash| hash.to_ascii_lowercase()) })
}
