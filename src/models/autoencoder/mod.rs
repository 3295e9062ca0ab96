//! Networks that compress: images to latents and back.

mod kl;
mod kl_config;
mod moments;
mod tiny;
mod tiny_config;

pub use kl::AutoencoderKl;
pub use kl_config::AutoencoderKlConfig;
pub use moments::Moments;
pub use tiny::AutoencoderTiny;
pub use tiny_config::{Activation, AutoencoderTinyConfig, PooledBlocks};

use super::weights::StateDict;
use super::{Compute, ConfigError, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sizes of an autoencoder of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AutoencoderConfig {
    /// `AutoencoderKL`: a variational autoencoder, as Stable Diffusion's.
    Kl(AutoencoderKlConfig),
    /// `AutoencoderTiny`: TAESD's family, without variances.
    Tiny(AutoencoderTinyConfig),
}

impl From<AutoencoderKlConfig> for AutoencoderConfig {
    fn from(config: AutoencoderKlConfig) -> Self {
        Self::Kl(config)
    }
}

impl AutoencoderConfig {
    /// Reads the `config.json` of an `AutoencoderKL` (also where no class is named), an `AutoencoderTiny` or a
    /// `TinyAutoencoder`. Fails on any other class, and as those do.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        const NETWORK: &str = "autoencoder";
        match class_name(NETWORK, json)?.as_deref() {
            None | Some("AutoencoderKL") => {
                Ok(Self::Kl(AutoencoderKlConfig::from_diffusers(json)?))
            }
            Some(tiny_config::CLASS | tiny_config::RAW_CLASS) => {
                Ok(Self::Tiny(AutoencoderTinyConfig::from_diffusers(json)?))
            }
            Some(other) => Err(ConfigError::Foreign {
                network: NETWORK,
                what: format!("_class_name {other:?}"),
                expected: "AutoencoderKL, AutoencoderTiny or TinyAutoencoder",
            }),
        }
    }

    /// The `config.json` with which diffusers opens the network's weights.
    pub fn to_diffusers(&self) -> Value {
        match self {
            Self::Kl(config) => config.to_diffusers(),
            Self::Tiny(config) => config.to_diffusers(),
        }
    }

    /// As a checkpoint keeps it: the sizes of a KL autoencoder alone, those of any other with their kind before them.
    pub fn record(&self) -> Value {
        let plain = match self {
            Self::Kl(config) => serde_json::to_value(config),
            other => serde_json::to_value(other),
        };
        plain.expect("a network's configuration is plain data")
    }

    /// The other way. Fails on what [`record`](Self::record) has not written.
    pub fn from_record(record: Value) -> Result<Self, serde_json::Error> {
        if record.get("Tiny").is_some() {
            return serde_json::from_value(record);
        }
        Ok(Self::Kl(serde_json::from_value(record)?))
    }

    /// The name of the weight that [`Autoencoder::last_layer`] is.
    pub fn last_layer(&self) -> String {
        match self {
            Self::Kl(_) => "decoder.conv_out.weight".to_owned(),
            Self::Tiny(config) => format!("decoder.layers.{}.weight", config.last_place()),
        }
    }

    /// Whether its latents have variances, which a KL divergence can hold.
    pub fn has_variances(&self) -> bool {
        matches!(self, Self::Kl(_))
    }

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Autoencoder {
        match self {
            Self::Kl(config) => Autoencoder::Kl(config.init(init)),
            Self::Tiny(config) => Autoencoder::Tiny(config.init(init)),
        }
    }

    /// A file's tensors under the network's names, whichever layout of its kind the file has.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        match self {
            Self::Kl(_) => AutoencoderKl::from_file(file),
            Self::Tiny(_) => AutoencoderTiny::from_file(file),
        }
    }

    /// Fails where the network could not be built.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Kl(config) => config.check(),
            Self::Tiny(config) => config.check(),
        }
    }

    /// Pixels per latent, along a side.
    pub fn factor(&self) -> usize {
        match self {
            Self::Kl(config) => config.factor(),
            Self::Tiny(config) => config.factor(),
        }
    }

    /// Channels of an image.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::Kl(config) => config.in_channels,
            Self::Tiny(config) => config.in_channels,
        }
    }

    /// Channels of a reconstruction.
    pub fn out_channels(&self) -> usize {
        match self {
            Self::Kl(config) => config.out_channels,
            Self::Tiny(config) => config.out_channels,
        }
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        match self {
            Self::Kl(config) => config.latent_channels,
            Self::Tiny(config) => config.latent_channels,
        }
    }

    /// Mean and standard deviation of each latent channel, by which a denoiser that was trained with it sees latents:
    /// (latent − mean) / std.
    pub fn latent_statistics(&self) -> (Vec<f64>, Vec<f64>) {
        let (shift, scale) = (self.shift_factor(), self.scaling_factor());
        let channels = self.latent_channels();
        let (mean, std) = match self {
            Self::Kl(config) => (config.latents_mean.clone(), config.latents_std.clone()),
            Self::Tiny(_) => (None, None),
        };
        let mean = mean.unwrap_or_else(|| vec![shift; channels]);
        let std = std.unwrap_or_else(|| vec![1.0; channels]);
        (mean, std.into_iter().map(|std| std / scale).collect())
    }

    /// What latents, after [`shift_factor`](Self::shift_factor), are multiplied by for the denoiser.
    pub fn scaling_factor(&self) -> f64 {
        match self {
            Self::Kl(config) => config.scaling_factor,
            Self::Tiny(config) => config.scaling_factor,
        }
    }

    /// What is subtracted from latents before that.
    pub fn shift_factor(&self) -> f64 {
        match self {
            Self::Kl(config) => config.shift_factor.unwrap_or(0.0),
            Self::Tiny(config) => config.shift_factor,
        }
    }
}

/// An autoencoder of any kind.
#[expect(clippy::large_enum_variant, reason = "few are alive at once, and a box is no module")]
#[derive(Module, Debug)]
pub enum Autoencoder {
    /// See [`AutoencoderConfig::Kl`].
    Kl(AutoencoderKl),
    /// See [`AutoencoderConfig::Tiny`].
    Tiny(AutoencoderTiny),
}

impl Autoencoder {
    /// Images [B, C, H, W] in [-1, 1] to a distribution over latents [B, c, H / f, W / f], in f32; an encoder
    /// without variances is [certain](Moments::certain). Height and width are multiples of the factor f.
    pub fn encode(&self, images: Tensor<4>) -> Moments {
        match self {
            Self::Kl(network) => network.encode(images),
            Self::Tiny(network) => network.encode(images),
        }
    }

    /// Latents [B, c, h, w], unscaled, to images [B, C, f h, f w], nominally in [-1, 1], in f32.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Kl(network) => network.decode(latents),
            Self::Tiny(network) => network.decode(latents),
        }
    }

    /// Latents as [`decode`](Self::decode) takes them to what the decoder's last layer sees, in the network's own
    /// number format.
    pub fn before_last(&self, latents: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Kl(network) => network.before_last(latents),
            Self::Tiny(network) => network.before_last(latents),
        }
    }

    /// What [`before_last`](Self::before_last) gives to images, as [`decode`](Self::decode) gives them.
    pub fn finish(&self, features: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Kl(network) => network.finish(features),
            Self::Tiny(network) => network.finish(features),
        }
    }

    /// The weight of the decoder's last layer, against whose gradient an adversarial loss is balanced.
    pub fn last_layer(&self) -> Tensor<4> {
        match self {
            Self::Kl(network) => network.last_layer(),
            Self::Tiny(network) => network.last_layer(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> AutoencoderConfig {
        match self {
            Self::Kl(network) => AutoencoderConfig::Kl(network.config().clone()),
            Self::Tiny(network) => AutoencoderConfig::Tiny(network.config().clone()),
        }
    }

    /// The same network computing in another number format.
    pub fn with_compute(self, compute: Compute) -> Self {
        match self {
            Self::Kl(network) => Self::Kl(network.with_compute(compute)),
            Self::Tiny(network) => Self::Tiny(network.with_compute(compute)),
        }
    }

    /// Cost of encoding an image of `height` by `width` pixels, in floating-point operations.
    pub fn encode_flops(&self, height: usize, width: usize) -> u64 {
        match self {
            Self::Kl(network) => network.encode_flops(height, width),
            Self::Tiny(network) => network.encode_flops(height, width),
        }
    }

    /// Cost of decoding to an image of `height` by `width` pixels, in floating-point operations.
    pub fn decode_flops(&self, height: usize, width: usize) -> u64 {
        match self {
            Self::Kl(network) => network.decode_flops(height, width),
            Self::Tiny(network) => network.decode_flops(height, width),
        }
    }
}

/// The class that a diffusers config names, if it does.
fn class_name(network: &'static str, json: &str) -> Result<Option<String>, ConfigError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "_class_name")]
        class_name: Option<String>,
    }
    let named: Named = serde_json::from_str(json)
        .map_err(|error| ConfigError::Parse { network, why: error.to_string() })?;
    Ok(named.class_name)
}
