//! The networks by which images are measured.

use super::inputs::{Inputs, Side};
use super::{BATCH, ForwardError, named};
use crate::models::features::{InceptionV3Config, LpipsConfig, XrayDenseNetConfig};
use crate::models::weights::StateDict;
use crate::models::weights::folder::ModelFolder;
use burn::tensor::Device;

/// Smallest side that Inception-v3's and AlexNet's unpadded layers leave anything of, in pixels.
const LEAST: usize = 75;

pub(super) fn densenet(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = XrayDenseNetConfig::from_json(&folder.config)?;
    let side = Side::AtLeast(2 << config.block_config.len(), "H");
    let pixels = [BATCH, Side::Exactly(config.in_channels), side, side];
    let pixels = inputs.floats("pixel_values", pixels)?;
    inputs.finish()?;
    let net = folder.network(|init| config.init(init), |state| config.from_file(state), device)?;
    let found = net.forward(pixels);
    let outputs = net.outputs(found.logits.clone());
    let found = [
        named("features", found.features),
        named("logits", found.logits),
        named("outputs", outputs),
    ];
    Ok(found.into())
}

pub(super) fn inception(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = InceptionV3Config::from_json(&folder.config)?;
    let side = Side::AtLeast(LEAST, "H");
    let pixels = inputs.floats("pixel_values", [BATCH, Side::Exactly(3), side, side])?;
    inputs.finish()?;
    let net = folder.network(|init| config.init(init), |state| config.from_file(state), device)?;
    Ok([named("features", net.forward(pixels))].into())
}

pub(super) fn lpips(
    folder: &ModelFolder,
    mut inputs: Inputs<'_>,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let config = LpipsConfig::from_json(&folder.config)?;
    let side = Side::AtLeast(LEAST, "H");
    let a = inputs.floats("a", [BATCH, Side::Exactly(3), side, side])?;
    let b = inputs.floats("b", a.dims().map(Side::Exactly))?;
    inputs.finish()?;
    let net = folder.network(|init| config.init(init), |state| config.from_file(state), device)?;
    Ok([named("distance", net.forward(a, b))].into())
}
