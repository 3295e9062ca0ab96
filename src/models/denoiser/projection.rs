//! The way into and out of a spatial transformer.

use crate::models::layers::{Conv2d, Linear, affine};
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::Tensor;

/// An affine map over the channels of tokens.
#[derive(Module, Debug)]
pub(super) enum Projection {
    /// Kept as a 1×1 convolution: Stable Diffusion 1.x.
    Conv(Conv2d),
    /// Kept as a matrix: 2.x.
    Linear(Linear),
}

impl Projection {
    pub(super) fn new(init: &mut Init, width: usize, as_linear: bool, fill: Fill) -> Self {
        if as_linear {
            Self::Linear(Linear::filled(init, width, width, fill, Some(fill)))
        } else {
            Self::Conv(Conv2d::filled(init, width, width, 1, fill))
        }
    }

    /// [B, N, C] to the same.
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Conv(conv) => {
                let [num_out, num_in, _, _] = conv.weight.lazy_shape().dims();
                let weight = conv.weight.val().reshape([num_out, num_in]);
                affine(tokens, weight, conv.bias.as_ref().map(|bias| bias.val()))
            }
            Self::Linear(linear) => linear.forward(tokens),
        }
    }

    pub(super) fn flops(&self, n: usize) -> u64 {
        match self {
            Self::Conv(conv) => conv.flops(1, n),
            Self::Linear(linear) => linear.flops(n),
        }
    }
}
