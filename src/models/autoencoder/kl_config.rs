//! What a KL autoencoder is built from.

use crate::models::foreign::Foreign;
use crate::models::{ConfigError, check_at_most, check_depth, check_multiple, check_positive};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NETWORK: &str = "autoencoder";
const CLASS: &str = "AutoencoderKL";
/// More would make latents of nothing.
const MOST_LEVELS: usize = 16;
const DOWN_BLOCK: &str = "DownEncoderBlock2D";
const UP_BLOCK: &str = "UpDecoderBlock2D";
/// What diffusers takes where a config says nothing: that of Stable Diffusion 1.x.
const DIFFUSERS_SCALING_FACTOR: f64 = 0.18215;

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
    /// Mean of each latent channel, subtracted instead of `shift_factor` where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents_mean: Option<Vec<f64>>,
    /// Standard deviation of each latent channel, divided by where it is there, beside `scaling_factor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents_std: Option<Vec<f64>>,
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
            scaling_factor: DIFFUSERS_SCALING_FACTOR,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
        }
    }
}

impl AutoencoderKlConfig {
    /// Pixels per latent, along a side.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1).min(MOST_LEVELS)
    }

    /// Fails where the network could not be built.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("layers_per_block", self.layers_per_block))?;
        let levels = ("number of block_out_channels", self.block_out_channels.len());
        check_positive(NETWORK, &[levels])?;
        check_at_most(NETWORK, levels, MOST_LEVELS)?;
        let groups = ("norm_num_groups", self.norm_num_groups);
        self.block_out_channels.iter().try_for_each(|&channels| {
            check_multiple(NETWORK, ("block_out_channels", channels), groups)
        })
    }

    /// Reads the `config.json` of diffusers' `AutoencoderKL`, of any version: what an older one lacks has
    /// diffusers' default. Fails, naming it, on a field that would change what is computed and is not understood.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Foreign::read(NETWORK, CLASS, json)?;
        fields.confine("act_fn", |name| name == "silu" || name == "swish", "silu")?;
        let down = blocks(&mut fields, "down_block_types", DOWN_BLOCK)?;
        let up = blocks(&mut fields, "up_block_types", UP_BLOCK)?;
        // What it was trained at, and a warning for half precision: everything here is f32 where it matters.
        fields.pass_over(&["sample_size", "force_upcast"]);
        let config = Self {
            in_channels: fields.take("in_channels", 3)?,
            out_channels: fields.take("out_channels", 3)?,
            block_out_channels: fields.take("block_out_channels", vec![64])?,
            layers_per_block: fields.take("layers_per_block", 1)?,
            latent_channels: fields.take("latent_channels", 4)?,
            norm_num_groups: fields.take("norm_num_groups", 32)?,
            use_quant_conv: fields.take("use_quant_conv", true)?,
            use_post_quant_conv: fields.take("use_post_quant_conv", true)?,
            mid_block_add_attention: fields.take("mid_block_add_attention", true)?,
            scaling_factor: fields.take("scaling_factor", DIFFUSERS_SCALING_FACTOR)?,
            shift_factor: fields.take("shift_factor", None)?,
            latents_mean: fields.take("latents_mean", None)?,
            latents_std: fields.take("latents_std", None)?,
        };
        fields.finish()?;
        let statistics =
            [("latents_mean", &config.latents_mean), ("latents_std", &config.latents_std)];
        for (what, values) in statistics {
            let (expected, per) = (config.latent_channels, "latent_channels");
            let found = values.as_ref().map_or(expected, Vec::len);
            if found != expected {
                return Err(ConfigError::Length { network: NETWORK, what, found, expected, per });
            }
        }
        for (what, found) in [("down_block_types", down), ("up_block_types", up)] {
            let (expected, per) = (config.block_out_channels.len(), "block_out_channels");
            if found != expected {
                return Err(ConfigError::Length { network: NETWORK, what, found, expected, per });
            }
        }
        config.check()?;
        Ok(config)
    }

    /// The `config.json` with which diffusers opens the network's weights.
    pub fn to_diffusers(&self) -> Value {
        let levels = self.block_out_channels.len();
        let mut written = json!({
            "_class_name": CLASS,
            "act_fn": "silu",
            "block_out_channels": self.block_out_channels,
            "down_block_types": vec![DOWN_BLOCK; levels],
            "in_channels": self.in_channels,
            "latent_channels": self.latent_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_add_attention": self.mid_block_add_attention,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": self.out_channels,
            "scaling_factor": self.scaling_factor,
            "shift_factor": self.shift_factor,
            "up_block_types": vec![UP_BLOCK; levels],
            "use_post_quant_conv": self.use_post_quant_conv,
            "use_quant_conv": self.use_quant_conv,
        });
        for (name, values) in
            [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)]
        {
            if let Some(values) = values {
                written[name] = json!(values);
            }
        }
        written
    }
}

/// How many blocks a field lists, all of which are of the one `known` kind.
fn blocks(
    fields: &mut Foreign,
    name: &'static str,
    known: &'static str,
) -> Result<usize, ConfigError> {
    let types: Vec<String> = fields.take(name, vec![known.to_owned()])?;
    match types.iter().find(|block| *block != known) {
        Some(other) => fields.refuse(name, &json!(other), known),
        None => Ok(types.len()),
    }
}
