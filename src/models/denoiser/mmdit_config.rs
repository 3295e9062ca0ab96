//! What a multimodal diffusion transformer is built from.

use crate::models::{ConfigError, check_at_most, check_depth, check_multiple, check_positive};
use serde::{Deserialize, Serialize};

pub(super) const NETWORK: &str = "transformer";

/// Longest side of the table of positions, in patches.
const MOST_POSITIONS: usize = 1024;

/// Sizes of a multimodal diffusion transformer (Esser et al. 2024), in diffusers' words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MmditConfig {
    /// Height and width of the latents it is meant for; others work too, up to `pos_embed_max_size` patches.
    pub sample_size: usize,
    /// Side of a patch, in latent pixels.
    pub patch_size: usize,
    /// Channels of the noisy latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Width of an attention head.
    pub attention_head_dim: usize,
    /// Number of attention heads; with `attention_head_dim` it gives the width of a token.
    pub num_attention_heads: usize,
    /// Width of a condition token as it comes.
    pub joint_attention_dim: usize,
    /// Width of the pooled condition, which joins the time embedding.
    pub pooled_projection_dim: usize,
    /// Side of the table of positions, in patches; of it, the middle is used.
    pub pos_embed_max_size: usize,
    /// Whether queries and keys are normed, head by head: `qk_norm: "rms_norm"`.
    pub qk_norm: bool,
}

impl Default for MmditConfig {
    /// Those of diffusers' class.
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            out_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            pooled_projection_dim: 2048,
            pos_embed_max_size: 96,
            qk_norm: false,
        }
    }
}

impl MmditConfig {
    /// Width D of a token.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("sample_size", self.sample_size),
            ("patch_size", self.patch_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("attention_head_dim", self.attention_head_dim),
            ("num_attention_heads", self.num_attention_heads),
            ("joint_attention_dim", self.joint_attention_dim),
            ("pooled_projection_dim", self.pooled_projection_dim),
            ("pos_embed_max_size", self.pos_embed_max_size),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("num_layers", self.num_layers))?;
        check_at_most(NETWORK, ("pos_embed_max_size", self.pos_embed_max_size), MOST_POSITIONS)?;
        // Sines and cosines of rows and of columns.
        let width = "attention_head_dim times num_attention_heads";
        check_at_most(NETWORK, ("patch_size", self.patch_size), MOST_POSITIONS)?;
        check_multiple(NETWORK, (width, self.width()), ("4", 4))
    }

    /// Fails, with the end of a sentence about them, where latents of `side` × `side` cannot be cut into patches that
    /// all have a position.
    pub(super) fn check_side(&self, side: usize) -> Result<(), String> {
        let (patch, most) = (self.patch_size, self.pos_embed_max_size);
        if side == 0 || !side.is_multiple_of(patch) {
            return Err(format!("which cannot be cut into patches of {patch} × {patch}"));
        }
        let patches = side / patch;
        if patches > most {
            return Err(format!(
                "which are {patches} × {patches} patches; pos_embed_max_size is {most}"
            ));
        }
        Ok(())
    }

    /// What does not go with a condition that is `width` wide when pooled, which it is where `is_pooled`.
    pub(super) fn check_condition(&self, width: usize, is_pooled: bool) -> Option<String> {
        let found = self.pooled_projection_dim;
        (is_pooled != (found == width)).then(|| {
            format!(
                "takes pooled_projections {found} wide and the pooled condition is {width} wide, which does not go \
                 with condition.pooled: {is_pooled}"
            )
        })
    }
}
