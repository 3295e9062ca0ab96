//! The architectures that a recipe names, and the networks that they mean.

use super::Condition;
use crate::faults::demand;
use crate::models::autoencoder::{AutoencoderKlConfig, AutoencoderTinyConfig};
use crate::models::condition::ConditionConfig;
use crate::models::denoiser::{
    BackboneConfig, ClassEmbedding, DenoiserConfig, MmditConfig, UnetConfig,
};
use crate::models::encoder::{VitConfig, gated_width};
use serde::{Deserialize, Serialize};

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
    /// What the learned factors on each residual branch start at (arXiv 2103.17239); 1e-5 is DINOv2's. None: no such
    /// factors.
    pub layer_scale: Option<f64>,
    /// The part of a layer that works on each token alone.
    pub feed_forward: FeedForward,
}

/// The part of a layer that works on each token alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedForward {
    /// Two linear layers, four times as wide inside.
    #[default]
    Mlp,
    /// One of them gated (arXiv 2002.05202), with about as many weights: DINOv2-giant's.
    SwiGlu,
}

impl Default for VitSection {
    fn default() -> Self {
        Self {
            patch: 16,
            width: 384,
            depth: 12,
            heads: 6,
            registers: 0,
            layer_scale: None,
            feed_forward: FeedForward::Mlp,
        }
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

/// A diffusion transformer in which image and condition attend to each other, in the layout of Stable Diffusion 3.
///
/// The sizes of DiT (arXiv 2212.09748) and SiT (2401.08740), of which S is the default:
///
/// | | `width` | `depth` | `heads` |
/// |---|---|---|---|
/// | S | 384 | 12 | 6 |
/// | B | 768 | 12 | 12 |
/// | L | 1024 | 24 | 16 |
/// | XL | 1152 | 28 | 16 |
///
/// With weights for the condition, too, it has about twice as many parameters as theirs at hardly more operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerSection {
    /// Side of a patch, in latent pixels; it divides the latents' side. Half of it costs four times the operations.
    pub patch: usize,
    /// Width of a token; a multiple of 4.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Width of a condition token; left out, that of an image token.
    pub context_width: Option<usize>,
    /// Whether queries and keys are normed, which keeps a long training in bfloat16 from diverging (Esser et al. 2024).
    pub qk_norm: bool,
}

impl Default for TransformerSection {
    fn default() -> Self {
        Self { patch: 2, width: 384, depth: 12, heads: 6, context_width: None, qk_norm: true }
    }
}

impl VitSection {
    /// The network for grey images of `size` × `size`.
    pub fn config(&self, size: usize) -> VitConfig {
        let use_swiglu_ffn = self.feed_forward == FeedForward::SwiGlu;
        let wide = self.width.saturating_mul(4);
        VitConfig {
            image_size: size,
            patch_size: self.patch,
            num_channels: 1,
            hidden_size: self.width,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            // What is too large to be doubled is refused for its width.
            intermediate_size: if use_swiglu_ffn { gated_width(wide.min(1 << 40)) } else { wide },
            num_register_tokens: self.registers,
            layer_scale: self.layer_scale,
            use_swiglu_ffn,
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

impl TransformerSection {
    /// The denoiser for latents [C, H, W] and `num_tokens` condition tokens of `token_width`.
    pub fn config(
        &self,
        [channels, height, _]: [usize; 3],
        [num_tokens, token_width]: [usize; 2],
        condition: &Condition,
    ) -> DenoiserConfig {
        let width = self.context_width.unwrap_or(self.width);
        let transformer = MmditConfig {
            sample_size: height,
            patch_size: self.patch,
            in_channels: channels,
            out_channels: channels,
            num_layers: self.depth,
            attention_head_dim: self.width / self.heads.max(1),
            num_attention_heads: self.heads,
            joint_attention_dim: width,
            // Where nothing is pooled it sees a zero: diffusers' class has no fewer.
            pooled_projection_dim: if condition.pooled { num_tokens * width } else { 1 },
            pos_embed_max_size: (height / self.patch.max(1)).max(1),
            qk_norm: self.qk_norm,
        };
        let condition = ConditionConfig { num_tokens, token_width, width };
        DenoiserConfig {
            backbone: BackboneConfig::Transformer(transformer),
            condition,
            projector: None,
        }
    }

    pub(super) fn check(&self) -> Vec<String> {
        let divides = self.heads > 0 && self.width > 0 && self.width.is_multiple_of(self.heads);
        let expected = format!("a positive multiple of heads ({})", self.heads);
        demand(divides, "width", self.width, expected).into_iter().collect()
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
        DenoiserConfig { backbone: BackboneConfig::Unet(unet), condition, projector: None }
    }

    pub(super) fn check(&self) -> Vec<String> {
        let levels = self.channels.len();
        let missing = self.attention.iter().find(|level| **level >= levels);
        let sentence = |level| {
            format!("attention names level {level}; there are {levels} levels, numbered from 0")
        };
        missing.map(sentence).into_iter().collect()
    }
}
