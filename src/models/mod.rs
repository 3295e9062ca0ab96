//! Networks, their weights and configs: tensors in, tensors out; no noise, no training.
//!
//! The path of a parameter through the structs here *is* its name in the PyTorch state dict that
//! diffusers or transformers would write, so weights move both ways without a table (the ViT of
//! DINO v1 is the exception, see [`encoder`]).
//!
//! Letters in shape comments: B batch, C channels, H W height and width, N tokens, D model width,
//! K condition tokens.

pub mod attention;
pub mod autoencoder;
pub mod condition;
pub mod denoiser;
pub mod discriminator;
pub mod encoder;
pub mod features;
mod foreign;
pub mod images;
mod init;
pub mod layers;
pub mod text;
pub mod weights;

pub use init::{Fill, Init};

use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// The number format in which a network's activations and matrix products are computed.
///
/// Master weights, norms, softmax and what a network returns are f32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compute {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// bfloat16 activations and products.
    Bf16,
    /// 32-bit floats, of which a GPU's products see the first 10 bits of the mantissa, as PyTorch's `allow_tf32` has it;
    /// on the CPU the same as `F32`.
    Tf32,
}

impl Compute {
    /// `x` in this format.
    pub fn enter<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let dtype: FloatDType = match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::Tf32 => FloatDType::Flex32,
        };
        cast(x, dtype)
    }
}

/// A network's output in f32, as losses and samplers expect it.
pub(crate) fn leave<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast(x, FloatDType::F32)
}

/// `x` as `dtype`; no node in the graph if it is that already.
pub(crate) fn cast<const D: usize>(x: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    if FloatDType::from(x.dtype()) == dtype { x } else { x.cast(dtype) }
}

/// `x` in the number format of `like`.
pub(crate) fn cast_like<const D: usize, const E: usize>(
    x: Tensor<D>,
    like: &Tensor<E>,
) -> Tensor<D> {
    cast(x, like.dtype().into())
}

/// A config that cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A size must be a positive multiple of another.
    #[error("{network}: {what} is {value}, which must be a positive multiple of {of} ({by})")]
    Multiple {
        /// Which network.
        network: &'static str,
        /// Which field.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The field that must divide it.
        of: &'static str,
        /// That field's value.
        by: usize,
    },
    /// Two lists must have one entry per level.
    #[error("{network}: {what} has {found} entries, expected {expected}, one per level of {per}")]
    Length {
        /// Which network.
        network: &'static str,
        /// Which field.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
        /// The list that decides the number of levels.
        per: &'static str,
    },
    /// A size that must not be zero.
    #[error("{network}: {what} must be at least 1")]
    Zero {
        /// Which network.
        network: &'static str,
        /// Which field.
        what: &'static str,
    },
    /// A size that no network has.
    #[error("{network}: {what} is {value}; at most {most} is understood")]
    TooLarge {
        /// Which network.
        network: &'static str,
        /// Which field.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The largest that is taken.
        most: usize,
    },
    /// The time embedding's frequencies would divide by zero or turn round.
    #[error(
        "U-Net: freq_shift is {freq_shift}, which must be below half of the first block_out_channels"
    )]
    FrequencyShift {
        /// Its value.
        freq_shift: String,
    },
    /// Sizes that are possible each, but not together or not at all levels.
    #[error("{network}: {why}")]
    Combination {
        /// Which network.
        network: &'static str,
        /// What does not fit, with its values.
        why: String,
    },
    /// The other project's `config.json` cannot be read as this network.
    #[error("{network}: the config file has {what}, which is not supported; expected {expected}")]
    Foreign {
        /// Which network.
        network: &'static str,
        /// What it says.
        what: String,
        /// What would be understood.
        expected: &'static str,
    },
    /// The other project's `config.json` lacks a field or has it in another type.
    #[error("{network}: the config file cannot be read: {why}")]
    Parse {
        /// Which network.
        network: &'static str,
        /// The JSON reader's words.
        why: String,
    },
}

/// Largest size of any part of a network: a config comes with other people's files and may ask for anything.
pub(crate) const MOST: usize = 1 << 20;
/// Most blocks, layers or levels of a network.
pub(crate) const DEEPEST: usize = 1024;

/// Fails unless `value` is a positive multiple of `by`, and of a size that networks have.
pub(crate) fn check_multiple(
    network: &'static str,
    (what, value): (&'static str, usize),
    (of, by): (&'static str, usize),
) -> Result<(), ConfigError> {
    if by == 0 {
        Err(ConfigError::Zero { network, what: of })
    } else if value == 0 || !value.is_multiple_of(by) {
        Err(ConfigError::Multiple { network, what, value, of, by })
    } else {
        check_at_most(network, (what, value), MOST)
    }
}

/// Fails if any of the named sizes is zero or larger than networks are.
pub(crate) fn check_positive(
    network: &'static str,
    sizes: &[(&'static str, usize)],
) -> Result<(), ConfigError> {
    for &(what, size) in sizes {
        if size == 0 {
            return Err(ConfigError::Zero { network, what });
        }
        check_at_most(network, (what, size), MOST)?;
    }
    Ok(())
}

/// Fails if there are no or more blocks, layers or levels than networks have.
pub(crate) fn check_depth(
    network: &'static str,
    (what, value): (&'static str, usize),
) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::Zero { network, what });
    }
    check_at_most(network, (what, value), DEEPEST)
}

/// Fails if there is more of something than networks have.
pub(crate) fn check_at_most(
    network: &'static str,
    (what, value): (&'static str, usize),
    most: usize,
) -> Result<(), ConfigError> {
    if value > most { Err(ConfigError::TooLarge { network, what, value, most }) } else { Ok(()) }
}
