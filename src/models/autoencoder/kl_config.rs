//! What a KL autoencoder is built from.

use crate::models::{ConfigError, check_multiple, check_positive};
use serde::{Deserialize, Serialize};

const NETWORK: &str = "autoencoder";

/// Sizes of a KL autoencoder, in diffusers' words. Latents are 2^(levels - 1) times smaller per side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderKlConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Channels of a reconstruction.
    pub out_channels: usize,
    /// Channels at each level, from full resolution down.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every norm; divides every entry of `block_out_channels`.
    pub norm_num_groups: usize,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the lowest level has self-attention.
    pub mid_block_add_attention: bool,
    /// What latents (after `shift_factor`) are multiplied by for the denoiser.
    pub scaling_factor: f64,
    /// What is subtracted from latents before that.
    pub shift_factor: Option<f64>,
}

impl Default for AutoencoderKlConfig {
    /// Stable Diffusion's, factor 8.
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 4,
            norm_num_groups: 32,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            scaling_factor: 0.18215,
            shift_factor: None,
        }
    }
}

impl AutoencoderKlConfig {
    /// Pixels per latent, along a side.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }

    /// Fails where the network could not be built.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("layers_per_block", self.layers_per_block),
            ("latent_channels", self.latent_channels),
            ("number of block_out_channels", self.block_out_channels.len()),
        ];
        check_positive(NETWORK, &sizes)?;
        let groups = ("norm_num_groups", self.norm_num_groups);
        self.block_out_channels.iter().try_for_each(|&channels| {
            check_multiple(NETWORK, ("block_out_channels", channels), groups)
        })
    }

    /// Reads the `config.json` of diffusers' `AutoencoderKL`.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let foreign: Diffusers = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network: NETWORK, why: error.to_string() })?;
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        if foreign.act_fn != "silu" {
            return refuse(format!("act_fn {:?}", foreign.act_fn), "silu");
        }
        if let Some(other) = foreign.down_block_types.iter().find(|at| *at != "DownEncoderBlock2D")
        {
            return refuse(format!("the block {other}"), "DownEncoderBlock2D");
        }
        if let Some(other) = foreign.up_block_types.iter().find(|at| *at != "UpDecoderBlock2D") {
            return refuse(format!("the block {other}"), "UpDecoderBlock2D");
        }
        let config = Self {
            in_channels: foreign.in_channels,
            out_channels: foreign.out_channels,
            block_out_channels: foreign.block_out_channels,
            layers_per_block: foreign.layers_per_block,
            latent_channels: foreign.latent_channels,
            norm_num_groups: foreign.norm_num_groups,
            use_quant_conv: foreign.use_quant_conv,
            use_post_quant_conv: foreign.use_post_quant_conv,
            mid_block_add_attention: foreign.mid_block_add_attention,
            scaling_factor: foreign.scaling_factor,
            shift_factor: foreign.shift_factor,
        };
        config.check()?;
        Ok(config)
    }
}

/// The fields of a diffusers config that decide the network, with diffusers' defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Diffusers {
    in_channels: usize,
    out_channels: usize,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    act_fn: String,
    latent_channels: usize,
    norm_num_groups: usize,
    use_quant_conv: bool,
    use_post_quant_conv: bool,
    mid_block_add_attention: bool,
    scaling_factor: f64,
    shift_factor: Option<f64>,
}

impl Default for Diffusers {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: Vec::new(),
            up_block_types: Vec::new(),
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            scaling_factor: 0.18215,
            shift_factor: None,
        }
    }
}
