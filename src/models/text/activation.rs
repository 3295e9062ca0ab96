//! The nonlinearities of text encoders.

use crate::models::ConfigError;
use crate::models::foreign::Foreign;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid};
use serde::{Deserialize, Serialize};

/// What comes between the two maps of a feed-forward part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// x Φ(x), with the error function.
    #[default]
    Gelu,
    /// The same, with tanh in place of the error function.
    GeluTanh,
    /// x σ(1.702 x), as OpenAI trained CLIP.
    QuickGelu,
    /// The positive part.
    Relu,
}

impl Activation {
    /// The one that `hidden_act` names, or `usual` where it is absent.
    pub(super) fn take(fields: &mut Foreign, usual: Self) -> Result<Self, ConfigError> {
        let Some(name) = fields.take::<Option<String>>("hidden_act", None)? else {
            return Ok(usual);
        };
        match name.as_str() {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "quick_gelu" => Ok(Self::QuickGelu),
            "relu" => Ok(Self::Relu),
            other => fields.refuse(
                "hidden_act",
                &other.into(),
                "gelu, gelu_new, gelu_pytorch_tanh, quick_gelu or relu",
            ),
        }
    }

    /// Applies it to every element.
    pub(super) fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x.mul_scalar(1.702)),
            Self::Relu => relu(x),
        }
    }
}
