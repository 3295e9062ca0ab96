//! What a conditional U-Net is built from.

use super::{ClassEmbedding, TextTime};
use crate::models::foreign::OneOrEach;
use crate::models::{ConfigError, check_depth, check_multiple, check_positive};
use serde::{Deserialize, Deserializer, Serialize};

pub(super) const NETWORK: &str = "U-Net";

/// Sizes of a conditional U-Net, in diffusers' words. A list has one entry for all levels, or one per level, from
/// full resolution down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnetConfig {
    /// Height and width of the latents it is meant for; others work too.
    pub sample_size: usize,
    /// Channels of the noisy latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels at each level, from full resolution down.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Which levels have transformers.
    pub attention: Vec<bool>,
    /// What is between the way down and the way up.
    pub mid_block: MidBlockKind,
    /// Number of attention heads. diffusers' name for it: there, too, it holds the *number* of heads.
    pub attention_head_dim: Vec<usize>,
    /// Width of a condition token in cross-attention.
    pub cross_attention_dim: usize,
    /// Width of a condition token as it comes, if it is projected to `cross_attention_dim` first (diffusers'
    /// `encoder_hid_dim_type` "text_proj").
    pub encoder_hid_dim: Option<usize>,
    /// Transformer blocks per spatial transformer; the middle has as many as the last level.
    #[serde(deserialize_with = "one_or_each")]
    pub transformer_layers_per_block: Vec<usize>,
    /// Whether transformers attend to the condition only; the middle's always attends to itself, too.
    pub only_cross_attention: Vec<bool>,
    /// Groups of every group norm; divides every entry of `block_out_channels`.
    pub norm_num_groups: usize,
    /// Added to the variance by the group norms of residual blocks.
    pub norm_eps: f64,
    /// Whether transformers project by matrices rather than 1×1 convolutions.
    pub use_linear_projection: bool,
    /// Side of the first convolution's kernel; odd.
    pub conv_in_kernel: usize,
    /// Side of the last convolution's kernel; odd.
    pub conv_out_kernel: usize,
    /// Whether the latents x become 2 x - 1 first.
    pub center_input_sample: bool,
    /// Whether cosines come before sines in the time embedding.
    pub flip_sin_to_cos: bool,
    /// Shifts the lowest frequency of the time embedding.
    pub freq_shift: f64,
    /// Width of the time embedding; none for four times the first of `block_out_channels`.
    pub time_embedding_dim: Option<usize>,
    /// Width of a further vector that joins the sinusoids of the timestep; none for no such input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_cond_proj_dim: Option<usize>,
    /// How the time embedding enters residual blocks.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// What class labels or a pooled condition are and how they join the time embedding; none for no such input.
    #[serde(alias = "projection_class_embeddings_input_dim", deserialize_with = "class_embedding")]
    pub class_embedding: Option<ClassEmbedding>,
    /// Stable Diffusion XL's further inputs (diffusers' `addition_embed_type` "text_time"); none for no such.
    pub text_time: Option<TextTime>,
}

/// What is between the way down and the way up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MidBlockKind {
    /// A transformer between two residual blocks: `UNetMidBlock2DCrossAttn`.
    #[default]
    CrossAttention,
    /// One residual block: `UNetMidBlock2D`.
    Residual,
    /// Nothing.
    None,
}

/// How the time embedding enters a residual block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeScaleShift {
    /// Added before the second norm: "default".
    #[default]
    Shift,
    /// Scales and shifts after it: "scale_shift".
    ScaleShift,
}

impl Default for UnetConfig {
    /// Stable Diffusion 1.5's.
    fn default() -> Self {
        Self {
            sample_size: 64,
            in_channels: 4,
            out_channels: 4,
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            attention: vec![true, true, true, false],
            mid_block: MidBlockKind::CrossAttention,
            attention_head_dim: vec![8],
            cross_attention_dim: 768,
            encoder_hid_dim: None,
            transformer_layers_per_block: vec![1],
            only_cross_attention: vec![false],
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection: false,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_embedding_dim: None,
            time_cond_proj_dim: None,
            resnet_time_scale_shift: TimeScaleShift::Shift,
            class_embedding: None,
            text_time: None,
        }
    }
}

impl UnetConfig {
    /// Attention heads at `level`.
    pub fn num_heads(&self, level: usize) -> usize {
        at(&self.attention_head_dim, level)
    }

    /// Blocks of each transformer at `level`.
    pub fn num_transformer_layers(&self, level: usize) -> usize {
        at(&self.transformer_layers_per_block, level)
    }

    /// Whether transformers at `level` attend to the condition only.
    pub fn is_only_cross(&self, level: usize) -> bool {
        at(&self.only_cross_attention, level)
    }

    /// Width of the condition tokens that [`forward`](super::Unet::forward) takes.
    pub fn context_width(&self) -> usize {
        self.encoder_hid_dim.unwrap_or(self.cross_attention_dim)
    }

    /// Width of the time embedding.
    pub fn time_width(&self) -> usize {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let levels = self.block_out_channels.len();
        let sizes = [
            ("sample_size", self.sample_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("cross_attention_dim", self.cross_attention_dim),
            ("encoder_hid_dim", self.encoder_hid_dim.unwrap_or(1)),
            ("time_embedding_dim", self.time_embedding_dim.unwrap_or(1)),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("number of block_out_channels", levels))?;
        check_depth(NETWORK, ("layers_per_block", self.layers_per_block))?;
        for &layers in &self.transformer_layers_per_block {
            check_depth(NETWORK, ("transformer_layers_per_block", layers))?;
        }
        self.check_lists(levels)?;
        for (what, kernel) in
            [("conv_in_kernel", self.conv_in_kernel), ("conv_out_kernel", self.conv_out_kernel)]
        {
            if kernel.is_multiple_of(2) {
                return misfit(format!("{what} is {kernel}, which must be odd"));
            }
        }
        let first = self.block_out_channels[0];
        check_multiple(NETWORK, ("block_out_channels", first), ("2", 2))?;
        self.check_shift(first)?;
        self.check_added()?;
        for (level, &channels) in self.block_out_channels.iter().enumerate() {
            let channels = ("block_out_channels", channels);
            check_multiple(NETWORK, channels, ("norm_num_groups", self.norm_num_groups))?;
            let is_middle = level + 1 == levels && self.mid_block == MidBlockKind::CrossAttention;
            if self.attention[level] || is_middle {
                let heads = ("attention_head_dim (the number of heads)", self.num_heads(level));
                check_multiple(NETWORK, channels, heads)?;
                let layers = self.num_transformer_layers(level);
                check_positive(NETWORK, &[("transformer_layers_per_block", layers)])?;
            }
        }
        Ok(())
    }

    /// Fails, with the end of a sentence about them, where latents of `side` × `side` would not come back as they were.
    pub(super) fn check_side(&self, side: usize) -> Result<(), String> {
        let halvings = self.block_out_channels.len().saturating_sub(1).min(16);
        if side == 0 || !side.is_multiple_of(1 << halvings) {
            return Err(format!("which cannot be halved {halvings} times"));
        }
        Ok(())
    }

    /// What does not go with a condition that is `width` wide when pooled, which it is where `is_pooled`.
    pub(super) fn check_condition(&self, width: usize, is_pooled: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let expected = is_pooled.then_some(ClassEmbedding::SimpleProjection(width));
        if self.class_embedding != expected {
            let found = match self.class_embedding {
                Some(other) => format!("takes class labels ({other:?})"),
                None => "takes no class labels".into(),
            };
            faults.push(format!("{found}, which does not go with condition.pooled: {is_pooled}"));
        }
        if self.text_time.is_some() {
            faults.push(
                "takes text_embeds and time_ids, as Stable Diffusion XL does; there is nothing here to give it".into(),
            );
        }
        faults
    }

    fn check_lists(&self, levels: usize) -> Result<(), ConfigError> {
        let lists = [
            ("attention", self.attention.len(), false),
            ("attention_head_dim", self.attention_head_dim.len(), true),
            ("transformer_layers_per_block", self.transformer_layers_per_block.len(), true),
            ("only_cross_attention", self.only_cross_attention.len(), true),
        ];
        for (what, found, may_be_one) in lists {
            if found != levels && !(may_be_one && found == 1) {
                let (expected, per) = (levels, "block_out_channels");
                return Err(ConfigError::Length { network: NETWORK, what, found, expected, per });
            }
        }
        Ok(())
    }

    /// Fails where the frequencies of sinusoids of `width` would divide by zero or turn round.
    fn check_shift(&self, width: usize) -> Result<(), ConfigError> {
        if self.freq_shift.is_nan() || self.freq_shift >= width as f64 / 2.0 {
            return Err(ConfigError::FrequencyShift { freq_shift: self.freq_shift.to_string() });
        }
        Ok(())
    }

    fn check_added(&self) -> Result<(), ConfigError> {
        let class_width = match self.class_embedding {
            Some(ClassEmbedding::Projection(width) | ClassEmbedding::SimpleProjection(width)) => {
                check_positive(NETWORK, &[("projection_class_embeddings_input_dim", width)])?;
                Some(width)
            }
            Some(ClassEmbedding::Table(num_labels)) => {
                check_positive(NETWORK, &[("num_class_embeds", num_labels)])?;
                None
            }
            _ => None,
        };
        let Some(TextTime { input_dim, time_embed_dim }) = self.text_time else { return Ok(()) };
        check_multiple(NETWORK, ("addition_time_embed_dim", time_embed_dim), ("2", 2))?;
        self.check_shift(time_embed_dim)?;
        if input_dim <= time_embed_dim {
            return misfit(format!(
                "projection_class_embeddings_input_dim is {input_dim}, which must exceed addition_time_embed_dim ({time_embed_dim})"
            ));
        }
        // diffusers has one field for both.
        match class_width {
            Some(width) if width != input_dim => misfit(format!(
                "projection_class_embeddings_input_dim is {width} for class labels and {input_dim} for text_time"
            )),
            _ => Ok(()),
        }
    }
}

/// The entry of a list that has one for all levels, or one per level.
fn at<T: Copy>(values: &[T], level: usize) -> T {
    match *values {
        [all] => all,
        ref each => each[level],
    }
}

fn misfit(why: String) -> Result<(), ConfigError> {
    Err(ConfigError::Combination { network: NETWORK, why })
}

/// Checkpoints from before there could be a list hold a number.
fn one_or_each<'de, D: Deserializer<'de>>(stored: D) -> Result<Vec<usize>, D::Error> {
    OneOrEach::deserialize(stored).map(Vec::from)
}

/// Checkpoints from before there was a choice hold the width of a simple projection, under its diffusers name.
fn class_embedding<'de, D: Deserializer<'de>>(
    stored: D,
) -> Result<Option<ClassEmbedding>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Width(usize),
        Kind(ClassEmbedding),
    }
    Ok(Option::deserialize(stored)?.map(|stored| match stored {
        Stored::Width(width) => ClassEmbedding::SimpleProjection(width),
        Stored::Kind(kind) => kind,
    }))
}
