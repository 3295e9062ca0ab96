//! U-Net and condition together: what is trained, saved and sampled.

use super::{ClassEmbedding, Unet, UnetConfig};
use crate::models::condition::{Condition, ConditionConfig};
use crate::models::{Compute, Init};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Sizes of the U-Net and of its condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenoiserConfig {
    /// The U-Net.
    pub unet: UnetConfig,
    /// What guides it.
    pub condition: ConditionConfig,
}

impl DenoiserConfig {
    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Denoiser {
        Denoiser { unet: self.unet.init(init), condition: self.condition.init(init) }
    }
}

/// A U-Net guided by an encoder's tokens.
#[derive(Module, Debug)]
pub struct Denoiser {
    /// Predicts what the objective asks for.
    pub unet: Unet,
    /// Makes keys and values of tokens.
    pub condition: Condition,
}

impl Denoiser {
    /// `noisy` latents [B, C, h, w] at `timesteps` (B of them), guided by `tokens` [B, N, d] where `keep` and by
    /// the null condition elsewhere, to a prediction [B, C, h, w] in f32.
    pub fn forward(
        &self,
        noisy: Tensor<4>,
        timesteps: &[f64],
        tokens: Tensor<3>,
        keep: &[bool],
    ) -> Tensor<4> {
        let device = noisy.device();
        let row = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), &device)
        };
        let keep = row(keep.iter().map(|&keep| f32::from(u8::from(keep))).collect());
        let context = self.condition.forward(tokens, keep); // [B, N + 1, D]
        let timesteps = row(timesteps.iter().map(|&timestep| timestep as f32).collect());
        let is_pooled = matches!(
            self.unet.config().class_embedding,
            Some(ClassEmbedding::SimpleProjection(_) | ClassEmbedding::Projection(_))
        );
        let pooled = is_pooled.then(|| Condition::pooled(context.clone()));
        self.unet.forward_pooled(noisy, timesteps, context, pooled)
    }

    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.unet = self.unet.with_compute(compute);
        self
    }

    /// Forward cost per image of `height` by `width` latents, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let tokens = self.condition.num_tokens() + 1;
        self.unet.flops(height, width, tokens) + self.condition.flops()
    }
}
