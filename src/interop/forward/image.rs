//! Networks over images and latents.

use super::inputs::{Inputs, Side};
use super::{BATCH, ForwardError, named};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::denoiser::{Added, MmditConfig, UnetConfig};
use crate::models::encoder::ImageEncoderConfig;
use crate::models::weights::StateDict;
use crate::models::weights::folder::{FolderError, ModelFolder};
use burn::module::Module;
use burn::tensor::Device;

pub(super) fn unet(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = UnetConfig::from_diffusers(&folder.config)?;
    let side = Side::AtLeast(1, "H");
    let noisy = inputs.floats("sample", [BATCH, Side::Exactly(config.in_channels), side, side])?;
    let batch = noisy.dims()[0];
    let timesteps = inputs.per_sample("timestep", batch)?;
    let (exact, any) = (Side::Exactly(batch), Side::AtLeast(1, "N"));
    let width = config.context_width();
    let context = inputs.floats("encoder_hidden_states", [exact, any, Side::Exactly(width)])?;
    let added = Added {
        class_labels: inputs.labels("class_labels", batch)?,
        text_embeds: inputs.optional_floats("text_embeds", [exact, any])?,
        time_ids: inputs.optional_floats("time_ids", [exact, any])?,
        timestep_cond: inputs.optional_floats("timestep_cond", [exact, any])?,
    };
    inputs.finish()?;
    config.check_inputs(&added, batch)?;
    let unet = folder.network(|init| config.init(init), |state| state, device)?;
    Ok([named("sample", unet.forward_added(noisy, timesteps, context, added))].into())
}

pub(super) fn transformer(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = MmditConfig::from_diffusers(&folder.config)?;
    let exactly = Side::Exactly;
    let side = Side::MultipleOf(config.patch_size);
    let name = "hidden_states";
    let noisy = inputs.floats(name, [BATCH, exactly(config.in_channels), side, side])?;
    let [batch, _, height, width] = noisy.dims();
    let most = config.pos_embed_max_size * config.patch_size;
    if height.max(width) > most {
        let found = format!("{height} × {width}");
        let expected = format!("sides of at most {most} (pos_embed_max_size times patch_size)");
        return Err(ForwardError::Shape { name, found, expected });
    }
    let timesteps = inputs.per_sample("timestep", batch)?;
    let context = [exactly(batch), Side::AtLeast(1, "N"), exactly(config.joint_attention_dim)];
    let context = inputs.floats("encoder_hidden_states", context)?;
    let pooled = [exactly(batch), exactly(config.pooled_projection_dim)];
    let pooled = inputs.floats("pooled_projections", pooled)?;
    inputs.finish()?;
    let transformer = folder.network(|init| config.init(init), |state| state, device)?;
    Ok([named("sample", transformer.forward(noisy, timesteps, context, Some(pooled)))].into())
}

pub(super) fn autoencoder(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = AutoencoderConfig::from_diffusers(&folder.config)?;
    let side = Side::MultipleOf(config.factor());
    let image = [BATCH, Side::Exactly(config.in_channels()), side, side];
    let latent = Side::AtLeast(1, "h");
    let latents = [BATCH, Side::Exactly(config.latent_channels()), latent, latent];
    // Either is enough.
    let images = match inputs.has("z") {
        true => inputs.optional_floats("x", image)?,
        false => Some(inputs.floats("x", image)?),
    };
    let latents = inputs.optional_floats("z", latents)?;
    inputs.finish()?;
    let rename = |state| config.from_file(state);
    let autoencoder = folder.network(|init| config.init(init), rename, device)?;
    let mut outputs = StateDict::new();
    if let Some(images) = images {
        let moments = autoencoder.encode(images);
        if let AutoencoderConfig::Tiny(_) = config {
            outputs.extend([named("latents", moments.mean.clone())]);
        }
        outputs.extend([named("mean", moments.mean), named("logvar", moments.logvar)]);
    }
    if let Some(latents) = latents {
        outputs.extend([named("sample", autoencoder.decode(latents))]);
    }
    Ok(outputs)
}

pub(super) fn encoder(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = ImageEncoderConfig::from_transformers(&folder.config)?;
    let side = Side::AtLeast(config.patch_size(), "H");
    let pixels = [BATCH, Side::Exactly(config.num_channels()), side, side];
    let pixels = inputs.floats("pixel_values", pixels)?;
    inputs.finish()?;
    let encoder = config.load(folder.weights()?, device);
    let encoder =
        encoder.map_err(|source| FolderError::Fit { path: folder.path.clone(), source })?.no_grad();
    let tokens = encoder.forward(pixels);
    let pooled = encoder.pooled(&tokens).map(|pooled| named("pooler_output", pooled));
    Ok([named("last_hidden_state", tokens)].into_iter().chain(pooled).collect())
}
