//! From what a denoiser knows after some blocks to what an encoder sees: three maps with SiLUs between them (Yu et al.
//! 2024, appendix). Used in training alone.

use crate::models::layers::Linear;
use crate::models::{Compute, Init, leave};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use serde::{Deserialize, Serialize};

/// Sizes of the projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    /// Blocks of the denoiser after which it looks.
    pub blocks: usize,
    /// Width of the denoiser's tokens.
    pub num_in: usize,
    /// Width of both hidden layers.
    pub hidden: usize,
    /// Width of the encoder's patches.
    pub num_out: usize,
}

impl ProjectorConfig {
    /// The module, untrained.
    pub fn init(&self, init: &mut Init) -> Projector {
        let Self { blocks, num_in, hidden, num_out } = *self;
        Projector {
            linear_1: Linear::new(init, num_in, hidden, true),
            linear_2: Linear::new(init, hidden, hidden, true),
            linear_3: Linear::new(init, hidden, num_out, true),
            blocks,
        }
    }
}

/// Says what an encoder sees.
#[derive(Module, Debug)]
pub struct Projector {
    linear_1: Linear,
    linear_2: Linear,
    linear_3: Linear,
    blocks: usize,
}

impl Projector {
    /// Blocks of the denoiser after which it looks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Tokens [B, T, D] to [B, T, d], in f32.
    pub fn forward(&self, tokens: Tensor<3>, compute: Compute) -> Tensor<3> {
        let hidden = silu(self.linear_1.forward(compute.enter(tokens)));
        leave(self.linear_3.forward(silu(self.linear_2.forward(hidden))))
    }

    /// Cost per token, in floating-point operations.
    pub fn flops(&self, tokens: usize) -> u64 {
        [&self.linear_1, &self.linear_2, &self.linear_3]
            .map(|it| it.flops(tokens))
            .into_iter()
            .sum()
    }
}
