//! One network of a folder in the Hugging Face layout, once, on recorded inputs: the parity gate.
//!
//! Inputs carry the argument names of the reference's forward, outputs its output names, so that a
//! safetensors file written beside a run of diffusers or transformers is all that a comparison takes.

mod features;
mod image;
mod inputs;
mod text;

use crate::interop::scheduler::{SchedulerConfig, SchedulerError, trajectory};
use crate::models::ConfigError;
use crate::models::denoiser::{AddedError, BackboneConfig};
use crate::models::text::InputError;
use crate::models::weights::StateDict;
use crate::models::weights::folder::{self, FolderError, ModelFolder};
use burn::tensor::{Device, Tensor, TensorData};
use inputs::{Inputs, Side};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const BATCH: Side = Side::AtLeast(1, "B");

/// Computes the network of `folder` on `tensors`.
///
/// | the folder's config says | inputs | outputs |
/// |---|---|---|
/// | `UNet2DConditionModel` | `sample`, `timestep`, `encoder_hidden_states`, and what its config asks for of `class_labels`, `text_embeds`, `time_ids`, `timestep_cond` | `sample` |
/// | `SD3Transformer2DModel` | `hidden_states`, `timestep`, `encoder_hidden_states`, `pooled_projections` | `sample` |
/// | `AutoencoderKL`, `AutoencoderTiny`, `TinyAutoencoder` | `x`, `z`, or both | `mean`, `logvar` (a tiny one's `latents`), `sample` |
/// | `vit`, `dinov2`, `dinov2_with_registers`, `dinov3_vit` | `pixel_values` | `last_hidden_state`, `pooler_output` |
/// | `clip_text_model`, `clip` | `input_ids`, `attention_mask` | `last_hidden_state`, `pooler_output`, `text_embeds` |
/// | `bert` | `input_ids`, `attention_mask`, `token_type_ids` | `last_hidden_state`, `pooler_output` |
/// | `XrayDenseNet` | `pixel_values` | `features`, `logits`, `outputs` |
/// | `InceptionV3Features` | `pixel_values` | `features` |
/// | `Lpips` | `a`, `b` | `distance` |
/// | a scheduler (`scheduler_config.json`) | `sample`, `model_output` [n, …], `noise` [n, …] of DDPM (none without it) | `sample` [n, …] |
///
/// Fails on a folder that cannot be opened or is of another kind, on weights that do not fit its config, and on
/// inputs that are missing, unknown or of a shape the network does not take.
pub fn forward(
    folder: &Path,
    tensors: StateDict,
    device: &Device,
) -> Result<StateDict, ForwardError> {
    let inputs = Inputs::new(tensors, device);
    const SCHEDULER: &str = "scheduler_config.json";
    if folder.join(SCHEDULER).is_file() && !folder.join("config.json").exists() {
        return scheduler(&folder::read_config(folder, SCHEDULER)?, inputs);
    }
    // A pipeline's folder has one network in each of its own.
    if folder.join("model_index.json").is_file() {
        return Err(ForwardError::Pipeline { path: folder.into() });
    }
    let folder = ModelFolder::open(folder)?;
    match class(&folder)?.as_str() {
        "UNet2DConditionModel" => image::unet(&folder, inputs, device),
        "SD3Transformer2DModel" => image::transformer(&folder, inputs, device),
        "AutoencoderKL" | "AutoencoderTiny" | "TinyAutoencoder" => {
            image::autoencoder(&folder, inputs, device)
        }
        "vit" | "dinov2" | "dinov2_with_registers" | "dinov3_vit" => {
            image::encoder(&folder, inputs, device)
        }
        "clip_text_model" | "clip" => text::clip(&folder, inputs, device),
        "bert" => text::bert(&folder, inputs, device),
        "XrayDenseNet" => features::densenet(&folder, inputs, device),
        "InceptionV3Features" => features::inception(&folder, inputs, device),
        "Lpips" => features::lpips(&folder, inputs, device),
        other => Err(ForwardError::Class { path: folder.path, found: other.into() }),
    }
}

fn scheduler(config: &str, mut inputs: Inputs<'_>) -> Result<StateDict, ForwardError> {
    let config = SchedulerConfig::from_diffusers(config)?;
    let any = Side::AtLeast(1, "n");
    let sample = inputs.floats("sample", [BATCH, any, any, any])?;
    let shape = sample.dims().map(Side::Exactly);
    let recorded = [any, shape[0], shape[1], shape[2], shape[3]];
    let outputs = inputs.floats("model_output", recorded)?;
    let noise = inputs.optional_floats("noise", recorded)?;
    inputs.finish()?;
    let noise = match (&config, noise) {
        // The mean of every step, as a reference whose noise is switched off.
        (SchedulerConfig::Ddpm(_), None) => Some(outputs.zeros_like()),
        (_, noise) => noise,
    };
    Ok([named("sample", trajectory(&config, sample, outputs, noise)?)].into())
}

/// The denoiser's folder in a pipeline's.
fn part(pipeline: &Path) -> PathBuf {
    let parts = BackboneConfig::PARTS.map(|name| pipeline.join(name));
    parts.iter().find(|part| part.is_dir()).unwrap_or(&parts[0]).clone()
}

/// diffusers' class name or transformers' model type.
fn class(folder: &ModelFolder) -> Result<String, ForwardError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "_class_name")]
        class_name: Option<String>,
        model_type: Option<String>,
    }
    let json = |why: String| ForwardError::Config { path: folder.path.clone(), why };
    let named: Named =
        serde_json::from_str(&folder.config).map_err(|error| json(error.to_string()))?;
    let class = named.class_name.or(named.model_type);
    class.ok_or_else(|| json("it has neither _class_name nor model_type".into()))
}

fn named<const D: usize>(name: &str, tensor: Tensor<D>) -> (String, TensorData) {
    (name.to_owned(), tensor.into_data())
}

/// Why nothing was computed.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The folder or its weights.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The config is no config.
    #[error("{}: config.json cannot be used: {why}", path.display())]
    Config {
        /// The folder.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The config describes a network that cannot be built here.
    #[error(transparent)]
    Unsupported(#[from] ConfigError),
    /// A kind of network that is not known here.
    #[error(
        "{} is a {found}; expected UNet2DConditionModel, SD3Transformer2DModel, AutoencoderKL, AutoencoderTiny, \
         TinyAutoencoder, XrayDenseNet, InceptionV3Features, Lpips, a scheduler, or a model of type vit, dinov2, \
         dinov2_with_registers, dinov3_vit, clip_text_model or bert", path.display()
    )]
    Class {
        /// The folder.
        path: PathBuf,
        /// What its config calls itself.
        found: String,
    },
    /// A whole pipeline.
    #[error("{} holds a pipeline; name one of the folders in it, such as {}", path.display(), part(path).display())]
    Pipeline {
        /// The folder.
        path: PathBuf,
    },
    /// A scheduler's config, or what was recorded for it.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// Numbers that a text encoder has no entry for.
    #[error(transparent)]
    Text(#[from] InputError),
    /// Class labels and the like that do not fit the U-Net.
    #[error(transparent)]
    Added(#[from] AddedError),
    /// An input is not there.
    #[error("the input has no tensor {name}; it holds: {found}")]
    Missing {
        /// Its name in the reference.
        name: &'static str,
        /// The names that are there.
        found: String,
    },
    /// An input that the network does not take.
    #[error("the input has a tensor {name}, which this network does not take")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// An input of another shape or number format.
    #[error("the input {name} is {found}; expected {expected}")]
    Shape {
        /// Its name.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}

impl ForwardError {
    /// Whether the input is at fault rather than the folder.
    pub fn is_about_input(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Unknown { .. }
                | Self::Shape { .. }
                | Self::Pipeline { .. }
                | Self::Text(_)
                | Self::Added(_)
                | Self::Scheduler(SchedulerError::Outputs { .. } | SchedulerError::NoNoise { .. })
                | Self::Folder(FolderError::NotAFolder { .. })
        )
    }
}
