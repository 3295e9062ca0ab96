//! What a tiny autoencoder is built from, and what its files call things.

use crate::models::foreign::Foreign;
use crate::models::weights::StateDict;
use crate::models::{ConfigError, DEEPEST, check_at_most, check_positive};
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, mish, relu, silu};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NETWORK: &str = "tiny autoencoder";
pub(super) const CLASS: &str = "AutoencoderTiny";
pub(super) const RAW_CLASS: &str = "TinyAutoencoder";

/// Groups of the norm in a pool.
pub(super) const POOL_GROUPS: usize = 4;
/// How much wider a pool is than its block.
pub(super) const POOL_WIDENING: usize = 4;

/// Sizes of a tiny autoencoder, in diffusers' words. Lists have an entry per level, from full resolution down in
/// the encoder and up to it in the decoder.
///
/// Two layouts of files are read. diffusers' `AutoencoderTiny` calls parameters `encoder.layers.1.conv.0.weight`.
/// The TAESD repository keeps each half as a plain `Sequential` (`1.conv.0.weight`), without a config. A folder
/// of such files needs a `config.json` of class `TinyAutoencoder`:
///
/// ```json
/// {
///     "_class_name": "TinyAutoencoder",
///     "latent_channels": 32,
///     "pooled_blocks": { "encoder": [11, 12, 13], "decoder": [3, 4, 5] }
/// }
/// ```
///
/// beside `encoder.safetensors` and `decoder.safetensors`, whose names the loader puts `encoder.` and `decoder.`
/// in front of, or one `model.safetensors` that has them in front. `pooled_blocks` lists the entries of each
/// `Sequential` with tensors called `pool`: those above are TAEF2's, by default there are none. All other fields
/// are `AutoencoderTiny`'s and may be left out where they are TAESD's, as in [`default`](Self::default).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderTinyConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Channels of a reconstruction.
    pub out_channels: usize,
    /// Channels at each level of the encoder, all equal.
    pub encoder_block_out_channels: Vec<usize>,
    /// Channels at each level of the decoder, all equal.
    pub decoder_block_out_channels: Vec<usize>,
    /// Blocks at each level of the encoder.
    pub num_encoder_blocks: Vec<usize>,
    /// Blocks at each level of the decoder.
    pub num_decoder_blocks: Vec<usize>,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// By how much each level of the decoder but the last enlarges; the encoder's halve.
    pub upsampling_scaling_factor: usize,
    /// The nonlinearity between convolutions.
    pub act_fn: Activation,
    /// Which blocks have a pool; none in diffusers.
    pub pooled_blocks: PooledBlocks,
    /// Half of the range that latents are expected to fill; for who stores them as bytes.
    pub latent_magnitude: f64,
    /// Where 0 lies in that range, in [0, 1].
    pub latent_shift: f64,
    /// What latents (after `shift_factor`) are multiplied by for the denoiser.
    pub scaling_factor: f64,
    /// What is subtracted from latents before that.
    pub shift_factor: f64,
}

/// Blocks whose input first passes a wider, pointwise detour, as places in `layers` (diffusers' numbering, where
/// the decoder's first convolution is 0).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PooledBlocks {
    /// The encoder's.
    pub encoder: Vec<usize>,
    /// The decoder's.
    pub decoder: Vec<usize>,
}

/// A nonlinearity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x).
    #[default]
    Relu,
    /// x σ(x), also called swish.
    #[serde(alias = "swish")]
    Silu,
    /// x Φ(x), the exact form.
    Gelu,
    /// x tanh(ln(1 + eˣ)).
    Mish,
}

impl Activation {
    /// Of each element.
    pub(super) fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Relu => relu(x),
            Self::Silu => silu(x),
            Self::Gelu => gelu(x),
            Self::Mish => mish(x),
        }
    }
}

impl Default for AutoencoderTinyConfig {
    /// TAESD's, factor 8.
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            decoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            latent_channels: 4,
            upsampling_scaling_factor: 2,
            act_fn: Activation::Relu,
            pooled_blocks: PooledBlocks::default(),
            latent_magnitude: 3.0,
            latent_shift: 0.5,
            scaling_factor: 1.0,
            shift_factor: 0.0,
        }
    }
}

impl AutoencoderTinyConfig {
    /// Pixels per latent, along a side.
    pub fn factor(&self) -> usize {
        1 << (self.encoder_block_out_channels.len().max(1) - 1)
    }

    /// The place of the decoder's last layer in its `layers`.
    pub(super) fn last_place(&self) -> usize {
        let levels = self.num_decoder_blocks.len();
        2 + self.num_decoder_blocks.iter().sum::<usize>() + 2 * levels.saturating_sub(1)
    }

    /// Fails where the network could not be built, or would decode to another size than it encodes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let levels = self.encoder_block_out_channels.len();
        let enlargements = self.decoder_block_out_channels.len();
        let sizes = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("upsampling_scaling_factor", self.upsampling_scaling_factor),
            ("number of encoder_block_out_channels", levels),
            ("number of decoder_block_out_channels", enlargements),
        ];
        check_positive(NETWORK, &sizes)?;
        let misfit = |why: String| Err(ConfigError::Combination { network: NETWORK, why });
        let halves = [
            (
                ["encoder_block_out_channels", "num_encoder_blocks"],
                [&self.encoder_block_out_channels, &self.num_encoder_blocks],
            ),
            (
                ["decoder_block_out_channels", "num_decoder_blocks"],
                [&self.decoder_block_out_channels, &self.num_decoder_blocks],
            ),
        ];
        for ([per, what], [channels, blocks]) in halves {
            let (found, expected) = (blocks.len(), channels.len());
            if found != expected {
                return Err(ConfigError::Length { network: NETWORK, what, found, expected, per });
            }
            if channels.iter().any(|width| *width != channels[0]) {
                return misfit(format!(
                    "{per} is {channels:?}, which must be equal at every level"
                ));
            }
            check_positive(NETWORK, &[(per, channels[0])])?;
            for &count in blocks {
                check_at_most(NETWORK, (what, count), DEEPEST)?;
            }
        }
        let enlargement = u32::try_from(enlargements - 1)
            .ok()
            .and_then(|levels| self.upsampling_scaling_factor.checked_pow(levels));
        if levels > MOST_LEVELS || enlargement != Some(self.factor()) {
            return misfit(format!(
                "{levels} levels of the encoder and {enlargements} of the decoder with upsampling_scaling_factor {} \
                 do not undo each other",
                self.upsampling_scaling_factor
            ));
        }
        let half = |name, pooled: &[usize], blocks: Vec<usize>| match pooled
            .iter()
            .find(|place| !blocks.contains(place))
        {
            Some(place) => misfit(format!(
                "pooled_blocks of the {name} names entry {place} of layers, which is not a block"
            )),
            None => Ok(()),
        };
        let PooledBlocks { encoder, decoder } = &self.pooled_blocks;
        half("encoder", encoder, places(&self.num_encoder_blocks, 1, 1))?;
        half("decoder", decoder, places(&self.num_decoder_blocks, 2, 2))
    }

    /// Reads the `config.json` of diffusers' `AutoencoderTiny`, or one of class `TinyAutoencoder`. Fails, naming
    /// it, on a field that would change what is computed and is not understood.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let is_raw = super::class_name(NETWORK, json)?.as_deref() == Some(RAW_CLASS);
        let mut fields = Foreign::read(NETWORK, if is_raw { RAW_CLASS } else { CLASS }, json)?;
        fields.confine("upsample_fn", |name| name == "nearest", "nearest")?;
        // The first repeats the decoder's channels; the second is a warning for half precision.
        fields.pass_over(&["block_out_channels", "force_upcast"]);
        let mut pooled_blocks = PooledBlocks::default();
        if is_raw {
            pooled_blocks = fields.take("pooled_blocks", pooled_blocks)?;
            for place in &mut pooled_blocks.decoder {
                // A place that is not there is named as such by `check`.
                *place = place.checked_sub(CLAMP).unwrap_or(usize::MAX);
            }
        }
        let default = Self::default();
        let mut list = |name, value| fields.take(name, value);
        let config = Self {
            encoder_block_out_channels: list(
                "encoder_block_out_channels",
                default.encoder_block_out_channels,
            )?,
            decoder_block_out_channels: list(
                "decoder_block_out_channels",
                default.decoder_block_out_channels,
            )?,
            num_encoder_blocks: list("num_encoder_blocks", default.num_encoder_blocks)?,
            num_decoder_blocks: list("num_decoder_blocks", default.num_decoder_blocks)?,
            in_channels: fields.take("in_channels", default.in_channels)?,
            out_channels: fields.take("out_channels", default.out_channels)?,
            latent_channels: fields.take("latent_channels", default.latent_channels)?,
            upsampling_scaling_factor: fields
                .take("upsampling_scaling_factor", default.upsampling_scaling_factor)?,
            act_fn: fields.take("act_fn", default.act_fn)?,
            pooled_blocks,
            latent_magnitude: fields.take("latent_magnitude", default.latent_magnitude)?,
            latent_shift: fields.take("latent_shift", default.latent_shift)?,
            scaling_factor: fields.take("scaling_factor", default.scaling_factor)?,
            shift_factor: fields.take("shift_factor", default.shift_factor)?,
        };
        fields.finish()?;
        config.check()?;
        Ok(config)
    }

    /// The `config.json` with which diffusers opens the network's weights. One with pooled blocks, which diffusers
    /// does not have, is of class `TinyAutoencoder`.
    pub fn to_diffusers(&self) -> Value {
        let mut config = json!({
            "_class_name": CLASS,
            "act_fn": self.act_fn,
            "block_out_channels": self.decoder_block_out_channels,
            "decoder_block_out_channels": self.decoder_block_out_channels,
            "encoder_block_out_channels": self.encoder_block_out_channels,
            "force_upcast": false,
            "in_channels": self.in_channels,
            "latent_channels": self.latent_channels,
            "latent_magnitude": self.latent_magnitude,
            "latent_shift": self.latent_shift,
            "num_decoder_blocks": self.num_decoder_blocks,
            "num_encoder_blocks": self.num_encoder_blocks,
            "out_channels": self.out_channels,
            "scaling_factor": self.scaling_factor,
            "shift_factor": self.shift_factor,
            "upsample_fn": "nearest",
            "upsampling_scaling_factor": self.upsampling_scaling_factor,
        });
        let PooledBlocks { encoder, decoder } = &self.pooled_blocks;
        if !encoder.is_empty() || !decoder.is_empty() {
            let decoder: Vec<usize> = decoder.iter().map(|place| place + CLAMP).collect();
            config["_class_name"] = RAW_CLASS.into();
            config["pooled_blocks"] = json!({ "encoder": encoder, "decoder": decoder });
        }
        config
    }
}

/// Entries that the TAESD repository's decoder has before its first convolution: the clamp.
const CLAMP: usize = 1;
/// More would make latents of nothing.
const MOST_LEVELS: usize = 16;

/// Where in `layers` the blocks are: `before` the first level's there are that many other entries, and `between`
/// two levels' so many.
fn places(num_blocks: &[usize], before: usize, between: usize) -> Vec<usize> {
    let mut at = before;
    let mut places = Vec::new();
    for &count in num_blocks {
        places.extend(at..at + count);
        at += count + between;
    }
    places
}

/// A file's tensors under diffusers' names. Those of the TAESD repository, which come with the name of their half
/// in front (`decoder.1.weight`), count a clamp that holds no tensors.
pub(super) fn from_file(file: StateDict) -> StateDict {
    let rename = |name: String| {
        let mut parts = name.splitn(3, '.');
        let (half, place, rest) = (parts.next(), parts.next(), parts.next());
        let clamp = match half {
            Some("encoder") => 0,
            Some("decoder") => CLAMP,
            _ => return name,
        };
        let place = place.and_then(|place| place.parse::<usize>().ok()?.checked_sub(clamp));
        match (half, place, rest) {
            (Some(half), Some(place), Some(rest)) => format!("{half}.layers.{place}.{rest}"),
            _ => name,
        }
    };
    file.into_iter().map(|(name, data)| (rename(name), data)).collect()
}
