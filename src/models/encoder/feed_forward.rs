//! The feed-forward part of a block of DINO v1 and DINOv2, in both of its forms.

use crate::models::layers::Linear;
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, silu};

/// Works on each token alone.
#[derive(Module, Debug)]
pub(super) enum FeedForward {
    /// Every size of DINO v1, and of DINOv2 but the giant.
    Mlp(Mlp),
    /// DINOv2-giant.
    SwiGlu(SwiGlu),
}

impl FeedForward {
    /// `inner` wide between its layers.
    pub(super) fn new(init: &mut Init, width: usize, inner: usize, is_gated: bool) -> Self {
        let mut linear = |num_in, num_out| {
            Linear::filled(init, num_in, num_out, Fill::TruncatedNormal(0.02), Some(Fill::Zeros))
        };
        if is_gated {
            let weights_in = linear(width, 2 * inner);
            Self::SwiGlu(SwiGlu { weights_in, weights_out: linear(inner, width) })
        } else {
            let fc1 = linear(width, inner);
            Self::Mlp(Mlp { fc1, fc2: linear(inner, width) })
        }
    }

    /// [B, N, D] to the same.
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Mlp(Mlp { fc1, fc2 }) => fc2.forward(gelu(fc1.forward(tokens))),
            Self::SwiGlu(SwiGlu { weights_in, weights_out }) => {
                let both = weights_in.forward(tokens); // [B, N, 2 · inner]
                let inner = both.dims()[2] / 2;
                let gate = both.clone().narrow(2, 0, inner);
                weights_out.forward(silu(gate) * both.narrow(2, inner, inner))
            }
        }
    }

    /// Forward cost for `n` tokens, in floating-point operations.
    pub(super) fn flops(&self, n: usize) -> u64 {
        let (first, second) = match self {
            Self::Mlp(Mlp { fc1, fc2 }) => (fc1, fc2),
            Self::SwiGlu(SwiGlu { weights_in, weights_out }) => (weights_in, weights_out),
        };
        first.flops(n) + second.flops(n)
    }
}

/// Two layers with a GELU between them.
#[derive(Module, Debug)]
pub(super) struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

/// Two layers; the first one's lower half of channels goes through a SiLU and multiplies the upper half
/// (Shazeer 2020).
#[derive(Module, Debug)]
pub(super) struct SwiGlu {
    weights_in: Linear,
    weights_out: Linear,
}
