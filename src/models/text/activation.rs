//! The nonlinearities of text encoders.

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
    /// What `from_transformers` understands.
    pub(super) const EXPECTED: &str = "gelu, gelu_new, gelu_pytorch_tanh, quick_gelu or relu";

    /// The one that a config's `hidden_act` names; none for others.
    pub(super) fn from_transformers(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "quick_gelu" => Some(Self::QuickGelu),
            "relu" => Some(Self::Relu),
            _ => None,
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
