//! What a conditional U-Net is built from.

use crate::models::{ConfigError, check_multiple, check_positive};
use serde::{Deserialize, Serialize};

const NETWORK: &str = "U-Net";

/// Sizes of a conditional U-Net, in diffusers' words.
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
    /// Which levels have transformers; the middle always has one.
    pub attention: Vec<bool>,
    /// Number of attention heads, one entry for all levels or one per level. diffusers' name for it:
    /// there, too, it holds the *number* of heads.
    pub attention_head_dim: Vec<usize>,
    /// Width of a condition token.
    pub cross_attention_dim: usize,
    /// Transformer blocks per spatial transformer.
    pub transformer_layers_per_block: usize,
    /// Groups of every group norm; divides every entry of `block_out_channels`.
    pub norm_num_groups: usize,
    /// Added to the variance by the group norms of residual blocks.
    pub norm_eps: f64,
    /// Whether transformers project by matrices rather than 1×1 convolutions.
    pub use_linear_projection: bool,
    /// Whether cosines come before sines in the time embedding.
    pub flip_sin_to_cos: bool,
    /// Shifts the lowest frequency of the time embedding.
    pub freq_shift: f64,
    /// Width of a pooled condition that is projected and added to the time embedding (diffusers'
    /// `class_embed_type` "simple_projection"); none for no such input.
    pub projection_class_embeddings_input_dim: Option<usize>,
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
            attention_head_dim: vec![8],
            cross_attention_dim: 768,
            transformer_layers_per_block: 1,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            projection_class_embeddings_input_dim: None,
        }
    }
}

impl UnetConfig {
    /// Attention heads at `level`.
    pub fn num_heads(&self, level: usize) -> usize {
        match self.attention_head_dim[..] {
            [all] => all,
            ref each => each[level],
        }
    }

    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let levels = self.block_out_channels.len();
        let sizes = [
            ("sample_size", self.sample_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("layers_per_block", self.layers_per_block),
            ("cross_attention_dim", self.cross_attention_dim),
            ("transformer_layers_per_block", self.transformer_layers_per_block),
            ("number of block_out_channels", levels),
            (
                "projection_class_embeddings_input_dim",
                self.projection_class_embeddings_input_dim.unwrap_or(1),
            ),
        ];
        check_positive(NETWORK, &sizes)?;
        let length = |what, found| ConfigError::Length {
            network: NETWORK,
            what,
            found,
            expected: levels,
            per: "block_out_channels",
        };
        if self.attention.len() != levels {
            return Err(length("attention", self.attention.len()));
        }
        if ![1, levels].contains(&self.attention_head_dim.len()) {
            return Err(length("attention_head_dim", self.attention_head_dim.len()));
        }
        check_multiple(NETWORK, ("block_out_channels", self.block_out_channels[0]), ("2", 2))?;
        if self.freq_shift.is_nan() || self.freq_shift >= self.block_out_channels[0] as f64 / 2.0 {
            return Err(ConfigError::FrequencyShift { freq_shift: self.freq_shift.to_string() });
        }
        for (level, &channels) in self.block_out_channels.iter().enumerate() {
            let channels = ("block_out_channels", channels);
            check_multiple(NETWORK, channels, ("norm_num_groups", self.norm_num_groups))?;
            if self.attention[level] || level + 1 == levels {
                let heads = ("attention_head_dim (the number of heads)", self.num_heads(level));
                check_multiple(NETWORK, channels, heads)?;
            }
        }
        Ok(())
    }

    /// Reads the `config.json` of diffusers' `UNet2DConditionModel`.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let foreign: Diffusers = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network: NETWORK, why: error.to_string() })?;
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        let mut attention = Vec::with_capacity(foreign.down_block_types.len());
        for block in &foreign.down_block_types {
            attention.push(match block.as_str() {
                "CrossAttnDownBlock2D" => true,
                "DownBlock2D" => false,
                _ => {
                    let known = "CrossAttnDownBlock2D or DownBlock2D";
                    return refuse(format!("the block {block}"), known);
                }
            });
        }
        let up =
            attention.iter().rev().map(|at| if *at { "CrossAttnUpBlock2D" } else { "UpBlock2D" });
        if !up.eq(foreign.up_block_types.iter().map(String::as_str)) {
            let what = format!("up_block_types {:?}", foreign.up_block_types);
            return refuse(what, "the mirror of down_block_types");
        }
        if foreign.act_fn != "silu" {
            return refuse(format!("act_fn {:?}", foreign.act_fn), "silu");
        }
        if !matches!(foreign.class_embed_type.as_deref(), None | Some("simple_projection")) {
            let what = format!("class_embed_type {:?}", foreign.class_embed_type);
            return refuse(what, "none or simple_projection");
        }
        let pooled = foreign.class_embed_type.and(foreign.projection_class_embeddings_input_dim);
        let config = Self {
            sample_size: foreign.sample_size.unwrap_or(64),
            in_channels: foreign.in_channels,
            out_channels: foreign.out_channels,
            block_out_channels: foreign.block_out_channels,
            layers_per_block: foreign.layers_per_block,
            attention,
            attention_head_dim: match foreign
                .num_attention_heads
                .unwrap_or(foreign.attention_head_dim)
            {
                OneOrEach::One(all) => vec![all],
                OneOrEach::Each(each) => each,
            },
            cross_attention_dim: foreign.cross_attention_dim,
            transformer_layers_per_block: foreign.transformer_layers_per_block,
            norm_num_groups: foreign.norm_num_groups,
            norm_eps: foreign.norm_eps,
            use_linear_projection: foreign.use_linear_projection,
            flip_sin_to_cos: foreign.flip_sin_to_cos,
            freq_shift: foreign.freq_shift,
            projection_class_embeddings_input_dim: pooled,
        };
        config.check()?;
        Ok(config)
    }
}

/// diffusers writes one number for all levels, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrEach {
    One(usize),
    Each(Vec<usize>),
}

/// The fields of a diffusers config that decide the network.
#[derive(Deserialize)]
struct Diffusers {
    sample_size: Option<usize>,
    in_channels: usize,
    out_channels: usize,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    act_fn: String,
    attention_head_dim: OneOrEach,
    num_attention_heads: Option<OneOrEach>,
    cross_attention_dim: usize,
    #[serde(default = "one")]
    transformer_layers_per_block: usize,
    norm_num_groups: usize,
    norm_eps: f64,
    #[serde(default)]
    use_linear_projection: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    class_embed_type: Option<String>,
    projection_class_embeddings_input_dim: Option<usize>,
}

fn one() -> usize {
    1
}
