//! Networks that see: images to tokens.
//!
//! [`ImageEncoder`] is any of them, and what a DINO folder in the Hugging Face layout becomes:
//! `config.json` says which ([`ImageEncoderConfig::from_transformers`]), its weights fill it
//! ([`ImageEncoderConfig::load`]), [`Preprocessing`] is what images go through before.

mod dinov3;
mod dinov3_config;
pub(crate) mod dropped;
mod embedder;
mod feed_forward;
mod layer_scale;
mod patches;
mod position;
mod preprocessing;
mod rotary;
mod vit;
mod vit_config;

pub use dinov3::Dinov3;
pub use dinov3_config::{Activation, Dinov3Config};
pub use dropped::{Dropped, branch_factors};
pub use embedder::{Embedder, trained_input};
pub use preprocessing::{Preprocessing, Resample};
pub use vit::Vit;
pub use vit_config::{Flavor, PoolerAct, VitConfig, gated_width};

use super::weights::{StateDict, WeightsError, consume_state_dict};
use super::{Compute, ConfigError, Init};
use crate::random::Stream;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

const NETWORK: &str = "image encoder";

/// What an image encoder is built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ImageEncoderConfig {
    /// DINO v1, DINOv2 with or without registers.
    Vit(VitConfig),
    /// DINOv3's vision transformers.
    Dinov3(Dinov3Config),
}

impl From<VitConfig> for ImageEncoderConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

impl ImageEncoderConfig {
    /// Reads the `config.json` of transformers' `ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel` or
    /// `DINOv3ViTModel`, told apart by `model_type`.
    pub fn from_transformers(json: &str) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Named {
            model_type: String,
        }
        let Named { model_type } = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network: NETWORK, why: error.to_string() })?;
        match model_type.as_str() {
            "vit" | "dinov2" | "dinov2_with_registers" => {
                VitConfig::from_transformers(json).map(Self::Vit)
            }
            "dinov3_vit" => Dinov3Config::from_transformers(json).map(Self::Dinov3),
            other => Err(ConfigError::Foreign {
                network: NETWORK,
                what: format!("model_type {other:?}"),
                expected: "vit, dinov2, dinov2_with_registers or dinov3_vit",
            }),
        }
    }

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> ImageEncoder {
        match self {
            Self::Vit(config) => ImageEncoder::Vit(config.init(init)),
            Self::Dinov3(config) => ImageEncoder::Dinov3(config.init(init)),
        }
    }

    /// The network on `device` with the weights of `file`, a pooler included if the file has one.
    ///
    /// Fails, naming every tensor at fault, unless names and shapes are what this config expects.
    pub fn load(&self, file: StateDict, device: &Device) -> Result<ImageEncoder, WeightsError> {
        let config = match self {
            Self::Vit(config) => Self::Vit(config.clone().with_parts_of(&file)),
            Self::Dinov3(_) => self.clone(),
        };
        // Every number comes from the file: the stream is never drawn from, but names the parameters.
        let stream = Stream::new(0, "image encoder");
        let encoder = config.init(&mut Init::new(stream, device).deferred());
        consume_state_dict(encoder, config.from_file(file))
    }

    /// A state dict under the names its files use.
    pub fn to_file(&self, state: StateDict) -> StateDict {
        match self {
            Self::Vit(config) => config.to_file(state),
            Self::Dinov3(config) => config.to_file(state),
        }
    }

    /// A file's tensors under the names of the state dict.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        match self {
            Self::Vit(config) => config.from_file(file),
            Self::Dinov3(config) => config.from_file(file),
        }
    }

    /// Side of the square images it was trained on, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(config) => config.image_size,
            Self::Dinov3(config) => config.image_size,
        }
    }

    /// Side of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size,
            Self::Dinov3(config) => config.patch_size,
        }
    }

    /// Channels of an image.
    pub fn num_channels(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_channels,
            Self::Dinov3(config) => config.num_channels,
        }
    }

    /// Width of a token.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Vit(config) => config.hidden_size,
            Self::Dinov3(config) => config.hidden_size,
        }
    }

    /// Register tokens between the class token and the patches.
    pub fn num_registers(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_register_tokens,
            Self::Dinov3(config) => config.num_register_tokens,
        }
    }
}

/// An image encoder.
#[expect(clippy::large_enum_variant, reason = "few are alive at once, and a box is no module")]
#[derive(Module, Debug)]
pub enum ImageEncoder {
    /// DINO v1, DINOv2 with or without registers.
    Vit(Vit),
    /// DINOv3's vision transformers.
    Dinov3(Dinov3),
}

impl ImageEncoder {
    /// What it was built from.
    pub fn config(&self) -> ImageEncoderConfig {
        match self {
            Self::Vit(vit) => ImageEncoderConfig::Vit(vit.config().clone()),
            Self::Dinov3(dinov3) => ImageEncoderConfig::Dinov3(dinov3.config().clone()),
        }
    }

    /// The same network computing in another number format.
    pub fn with_compute(self, compute: Compute) -> Self {
        match self {
            Self::Vit(vit) => Self::Vit(vit.with_compute(compute)),
            Self::Dinov3(dinov3) => Self::Dinov3(dinov3.with_compute(compute)),
        }
    }

    /// Normalised `pixels` [B, C, H, W] to tokens [B, 1 + R + N, D] after the last norm, in f32: the class
    /// token, R registers, N patches row by row. transformers' `last_hidden_state`.
    ///
    /// Any height and width of at least a patch is taken, without being asked to interpolate positions; pixels
    /// beyond whole patches are not seen. A single channel is repeated where the network has more.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        match self {
            Self::Vit(vit) => vit.forward(pixels),
            Self::Dinov3(dinov3) => dinov3.forward(pixels),
        }
    }

    /// transformers' `pooler_output` [B, D'] of the tokens that [`forward`](Self::forward) gave; none for a
    /// `ViTModel` whose file has no pooler.
    pub fn pooled(&self, tokens: &Tensor<3>) -> Option<Tensor<2>> {
        match self {
            Self::Vit(vit) => vit.pooled(tokens),
            Self::Dinov3(dinov3) => Some(dinov3.pooled(tokens)),
        }
    }

    /// What the class token attends to in the last block, per head, over the patches: [B, heads, N],
    /// from normalised `pixels` [B, C, H, W].
    pub fn class_attention(&self, pixels: Tensor<4>) -> Tensor<3> {
        match self {
            Self::Vit(vit) => vit.class_attention(pixels),
            Self::Dinov3(dinov3) => dinov3.class_attention(pixels),
        }
    }

    /// Forward cost per image of `height` by `width` pixels, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        match self {
            Self::Vit(vit) => vit.flops(height, width),
            Self::Dinov3(dinov3) => dinov3.flops(height, width),
        }
    }

    /// Register tokens between the class token and the patches.
    pub fn num_registers(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().num_register_tokens,
            Self::Dinov3(dinov3) => dinov3.config().num_register_tokens,
        }
    }

    /// Width of a token.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().hidden_size,
            Self::Dinov3(dinov3) => dinov3.config().hidden_size,
        }
    }

    /// Side of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.config().patch_size,
            Self::Dinov3(dinov3) => dinov3.config().patch_size,
        }
    }
}
