//! An exported folder, opened again.

use super::condition::Described;
use crate::artifact;
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::condition::ConditionConfig;
use crate::models::denoiser::{BackboneConfig, Denoiser};
use crate::models::encoder::{Embedder, ImageEncoderConfig, Preprocessing};
use crate::models::weights::folder::{FolderError, ModelFolder, read_config};
use crate::sample::model::Model;
use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use std::path::Path;

/// The model in `folder`, which [`diffusers`](super::diffusers) wrote.
///
/// # Errors
///
/// When a file is missing or altered, or was written by an umbra that did not say how the denoiser was trained.
pub fn open(folder: &Path, device: &Device) -> Result<Model> {
    artifact::verify(folder)?;
    let part = |name: &str| ModelFolder::open(&folder.join(name));

    let at = part("encoder")?;
    let config = at.parsed(ImageEncoderConfig::from_transformers)?;
    let input = read_config(&at.path, "preprocessor_config.json")?;
    let input = Preprocessing::from_transformers(&input, &config)
        .with_context(|| at.path.display().to_string())?;
    let network = config
        .load(at.weights()?, device)
        .map_err(|source| FolderError::Fit { path: at.path.clone(), source })?;
    let encoder = Embedder { network: network.no_grad(), input, device: device.clone() };

    let at = part("vae")?;
    let config = at.parsed(AutoencoderConfig::from_diffusers)?;
    let autoencoder =
        at.network(|init| config.init(init), |file| config.from_file(file), device)?;

    let names = BackboneConfig::PARTS;
    let name = names.into_iter().find(|name| folder.join(name).is_dir()).unwrap_or(names[0]);
    let at = part(name)?;
    let backbone = at.parsed(BackboneConfig::from_diffusers)?;
    let backbone = at.network(|init| backbone.init(init), |file| file, device)?;
    let at = part("condition")?;
    let Described {
        recipe,
        image_size,
        tokens,
        num_tokens,
        token_width,
        width,
        latents,
        diffusion,
        window,
    } = serde_json::from_str(&at.config)
        .with_context(|| format!("cannot use {}; export the run again", at.path.display()))?;
    let condition = ConditionConfig { num_tokens, token_width, width };
    condition.check().with_context(|| at.path.display().to_string())?;
    let condition = at.network(|init| condition.init(init), |file| file, device)?;

    let side = image_size / config.factor();
    Ok(Model {
        recipe,
        encoder,
        tokens,
        latent_shape: [config.latent_channels(), side, side],
        token_shape: [num_tokens, token_width],
        autoencoder,
        denoiser: Denoiser::of(backbone, condition),
        diffusion,
        scale: latents,
        image_size,
        window,
        device: device.clone(),
    })
}
