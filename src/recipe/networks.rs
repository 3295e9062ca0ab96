//! The sections that say what the networks are and how they are trained: one shape for all of them.

use super::Condition;
use super::architectures::{KlSection, TinySection, TransformerSection, UnetSection, VitSection};
use crate::diffusion::Diffusion;
use crate::models::condition::Tokens;
use crate::models::denoiser::DenoiserConfig;
use crate::train::Train;
use crate::train::task::{autoencoder::KlLoss, dino::Dino};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A network of a recipe: what it starts from, which of its weights are trainable, at which task, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Network")]
pub struct NetworkSection<From, Task> {
    /// An architecture, whose weights are then random, or a folder of pretrained weights.
    pub from: From,
    /// Which pretrained weights are trainable: patterns over their names in the folder's file, in which `*` stands for
    /// any text. All others are frozen: they stay as they are, to the bit. `["*.attn2.*"]` are a U-Net's
    /// cross-attentions.
    #[serde(default = "all")]
    pub learns: Vec<String>,
    /// What it is trained at.
    #[serde(default)]
    pub task: Task,
    /// How long and how fast. Left out, the network is frozen.
    #[serde(default)]
    pub train: Option<Train>,
}

/// The image encoder, whose tokens guide the denoiser.
pub type Encoder = NetworkSection<EncoderFrom, EncoderTask>;

/// The autoencoder, between images and latents.
pub type Autoencoder = NetworkSection<AutoencoderFrom, AutoencoderTask>;

/// The denoiser of latents.
pub type Denoiser = NetworkSection<DenoiserFrom, DenoiserTask>;

/// What the image encoder starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EncoderFrom {
    /// A vision transformer for grey images.
    Vit(VitSection),
    /// A pretrained one: a folder of transformers' `ViTModel`, `Dinov2Model` (RAD-DINO too),
    /// `Dinov2WithRegistersModel` or `DINOv3ViTModel`, with its `preprocessor_config.json`.
    Folder {
        /// The folder; relative paths start at `--data-root`.
        path: PathBuf,
        /// BLAKE3 of the folder as `umbra check` shows it: another one is refused.
        #[serde(default)]
        blake3: Option<String>,
        /// Side of the square that the encoder sees, in pixels: a multiple of its patch. Left out, what its
        /// preprocessor says.
        #[serde(default)]
        side: Option<usize>,
    },
}

/// What the autoencoder starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum AutoencoderFrom {
    /// A KL autoencoder for grey images.
    Kl(KlSection),
    /// A tiny autoencoder for grey images, whose latents have no variances.
    Tiny(TinySection),
    /// A pretrained one: a folder of diffusers' `AutoencoderKL` or `AutoencoderTiny`, or of the TAESD family.
    /// Latents are scaled as its config says.
    Folder {
        /// The folder; relative paths start at `--data-root`.
        path: PathBuf,
        /// BLAKE3 of the folder as `umbra check` shows it: another one is refused.
        #[serde(default)]
        blake3: Option<String>,
    },
}

/// What the denoiser starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum DenoiserFrom {
    /// The U-Net of Stable Diffusion 1.x.
    Unet(UnetSection),
    /// The transformer of Stable Diffusion 3, at the sizes of DiT and SiT.
    Transformer(TransformerSection),
    /// A pretrained one, to fine-tune: a folder of diffusers' `UNet2DConditionModel` or `SD3Transformer2DModel`.
    Folder {
        /// The folder; relative paths start at `--data-root`.
        path: PathBuf,
        /// BLAKE3 of the folder as `umbra check` shows it: another one is refused.
        #[serde(default)]
        blake3: Option<String>,
    },
}

/// What an image encoder is trained at, without labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EncoderTask {
    /// Self-distillation.
    Dino(Dino),
}

/// What an autoencoder is trained at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum AutoencoderTask {
    /// Its input, through a small latent.
    Reconstruct(KlLoss),
}

/// What a denoiser is trained at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum DenoiserTask {
    /// Latents without their noise.
    Denoise(Diffusion),
}

impl Default for EncoderTask {
    fn default() -> Self {
        Self::Dino(Dino::default())
    }
}

impl Default for AutoencoderTask {
    fn default() -> Self {
        Self::Reconstruct(KlLoss::default())
    }
}

impl Default for DenoiserTask {
    fn default() -> Self {
        Self::Denoise(Diffusion::default())
    }
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl DenoiserFrom {
    /// The denoiser for latents [C, H, W] and `num_tokens` condition tokens of `token_width`, unless it is a folder.
    pub fn architecture(
        &self,
        latent_shape: [usize; 3],
        token_shape: [usize; 2],
        condition: &Condition,
    ) -> Option<DenoiserConfig> {
        match self {
            Self::Unet(section) => Some(section.config(latent_shape, token_shape, condition)),
            Self::Transformer(section) => {
                Some(section.config(latent_shape, token_shape, condition))
            }
            Self::Folder { .. } => None,
        }
    }

    /// Every fault of an architecture that its network would not know of, a sentence each.
    pub fn check(&self) -> Vec<String> {
        match self {
            Self::Unet(section) => section.check(),
            Self::Transformer(section) => section.check(),
            Self::Folder { .. } => Vec::new(),
        }
    }
}

/// How many condition tokens the encoder gives.
pub fn num_tokens(tokens: Tokens, registers: usize) -> usize {
    match tokens {
        Tokens::Class => 1,
        Tokens::ClassAndRegisters => 1 + registers,
        Tokens::ClassAndMean => 2,
        Tokens::ClassAndGrid(grid) => 1 + grid * grid,
    }
}
