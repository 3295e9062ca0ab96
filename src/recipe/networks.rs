//! The sections that say what the networks are and how they are trained: one shape for all of them.

use super::Condition;
use crate::diffusion::Diffusion;
use crate::models::autoencoder::{AutoencoderKlConfig, AutoencoderTinyConfig};
use crate::models::condition::{ConditionConfig, Tokens};
use crate::models::denoiser::{ClassEmbedding, DenoiserConfig, UnetConfig};
use crate::models::encoder::VitConfig;
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
    /// A pretrained one, to fine-tune: a folder of diffusers' `UNet2DConditionModel`.
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

/// A vision transformer with a class token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitSection {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Width of a token.
    pub width: usize,
    /// Layers.
    pub depth: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Register tokens (arXiv 2309.16588).
    pub registers: usize,
}

impl Default for VitSection {
    fn default() -> Self {
        Self { patch: 16, width: 384, depth: 12, heads: 6, registers: 0 }
    }
}

/// A KL autoencoder in the layout of Stable Diffusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KlSection {
    /// Channels of each level; every level but the last halves the sides.
    pub channels: Vec<usize>,
    /// Residual blocks of each level.
    pub layers: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of the group norms; they divide every level's channels.
    pub groups: usize,
    /// Whether the middle has self-attention.
    pub attention: bool,
}

impl Default for KlSection {
    fn default() -> Self {
        Self {
            channels: vec![128, 256, 512, 512],
            layers: 2,
            latent_channels: 4,
            groups: 32,
            attention: true,
        }
    }
}

/// A tiny autoencoder in the layout of TAESD (Bohan 2023): convolutions alone, a fraction of the work. The defaults are
/// its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TinySection {
    /// Channels, the same at every level.
    pub channels: usize,
    /// Levels; every level but the last halves the sides.
    pub levels: usize,
    /// Residual blocks of each level but that of full resolution, which has one.
    pub blocks: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
}

impl Default for TinySection {
    fn default() -> Self {
        Self { channels: 64, levels: 4, blocks: 3, latent_channels: 4 }
    }
}

/// A conditional U-Net in the layout of Stable Diffusion 1.x. The defaults are its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnetSection {
    /// Channels of each level; every level but the last halves the sides.
    pub channels: Vec<usize>,
    /// Levels, from 0, that attend to themselves and to the condition. The middle always does.
    pub attention: Vec<usize>,
    /// Residual blocks of each level on the way down; one more on the way up.
    pub layers: usize,
    /// Attention heads: one number for all levels, or one per level. They divide the level's channels.
    pub heads: Vec<usize>,
    /// Width of a condition token.
    pub context_width: usize,
    /// Groups of the group norms; they divide every level's channels.
    pub groups: usize,
}

impl Default for UnetSection {
    fn default() -> Self {
        Self {
            channels: vec![320, 640, 1280, 1280],
            attention: vec![0, 1, 2],
            layers: 2,
            heads: vec![8],
            context_width: 768,
            groups: 32,
        }
    }
}

impl VitSection {
    /// The network for grey images of `size` × `size`.
    pub fn config(&self, size: usize) -> VitConfig {
        VitConfig {
            image_size: size,
            patch_size: self.patch,
            num_channels: 1,
            hidden_size: self.width,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            intermediate_size: 4 * self.width,
            num_register_tokens: self.registers,
            ..VitConfig::default()
        }
    }
}

impl KlSection {
    /// The network for grey images.
    pub fn config(&self) -> AutoencoderKlConfig {
        AutoencoderKlConfig {
            in_channels: 1,
            out_channels: 1,
            block_out_channels: self.channels.clone(),
            layers_per_block: self.layers,
            latent_channels: self.latent_channels,
            norm_num_groups: self.groups,
            mid_block_add_attention: self.attention,
            scaling_factor: 1.0,
            ..AutoencoderKlConfig::default()
        }
    }
}

impl TinySection {
    /// The network for grey images.
    pub fn config(&self) -> AutoencoderTinyConfig {
        // What is there for no level, or too many, is for the network's own check to say.
        let levels = self.levels.min(32);
        let mut num_blocks = vec![self.blocks; levels];
        num_blocks.iter_mut().take(1).for_each(|first| *first = 1);
        AutoencoderTinyConfig {
            in_channels: 1,
            out_channels: 1,
            encoder_block_out_channels: vec![self.channels; levels],
            decoder_block_out_channels: vec![self.channels; levels],
            num_decoder_blocks: num_blocks.iter().rev().copied().collect(),
            num_encoder_blocks: num_blocks,
            latent_channels: self.latent_channels,
            ..AutoencoderTinyConfig::default()
        }
    }
}

impl UnetSection {
    /// The denoiser for latents [C, H, W] and `num_tokens` condition tokens of `token_width`.
    pub fn config(
        &self,
        [channels, height, _]: [usize; 3],
        [num_tokens, token_width]: [usize; 2],
        condition: &Condition,
    ) -> DenoiserConfig {
        let unet = UnetConfig {
            sample_size: height,
            in_channels: channels,
            out_channels: channels,
            block_out_channels: self.channels.clone(),
            layers_per_block: self.layers,
            attention: (0..self.channels.len())
                .map(|level| self.attention.contains(&level))
                .collect(),
            attention_head_dim: self.heads.clone(),
            cross_attention_dim: self.context_width,
            norm_num_groups: self.groups,
            class_embedding: condition
                .pooled
                .then_some(ClassEmbedding::SimpleProjection(num_tokens * self.context_width)),
            ..UnetConfig::default()
        };
        let condition = ConditionConfig { num_tokens, token_width, width: self.context_width };
        DenoiserConfig { unet, condition }
    }
}

/// How many condition tokens the encoder gives.
pub fn num_tokens(tokens: Tokens, registers: usize) -> usize {
    match tokens {
        Tokens::Class => 1,
        Tokens::ClassAndRegisters => 1 + registers,
        Tokens::ClassAndMean => 2,
    }
}
