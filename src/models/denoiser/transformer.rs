//! The spatial transformer: how the condition reaches the image.

use super::projection::Projection;
use crate::engine;
use crate::models::attention::{self, attention, merge_heads, split_heads};
use crate::models::denoiser::UnetConfig;
use crate::models::layers::{GroupNorm, LayerNorm, Linear};
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::gelu;

/// Attention over the positions of an image and over the condition: diffusers' `Transformer2DModel`.
#[derive(Module, Debug)]
pub(super) struct SpatialTransformer {
    norm: GroupNorm,
    proj_in: Projection,
    transformer_blocks: Vec<Block>,
    proj_out: Projection,
}

/// What one [`SpatialTransformer`] is made of, beside what all share.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerShape {
    pub(super) width: usize,
    pub(super) num_heads: usize,
    pub(super) num_blocks: usize,
    /// Whether both attentions of a block are to the condition.
    pub(super) is_only_cross: bool,
}

impl SpatialTransformer {
    pub(super) fn new(config: &UnetConfig, init: &mut Init, shape: TransformerShape) -> Self {
        let width = shape.width;
        let as_linear = config.use_linear_projection;
        let fill = Fill::torch_default(width);
        Self {
            norm: GroupNorm::new(init, config.norm_num_groups, width, 1e-6),
            proj_in: Projection::new(init, width, as_linear, fill),
            transformer_blocks: (0..shape.num_blocks)
                .map(|_| Block::new(init, shape, config.cross_attention_dim))
                .collect(),
            // Zero at the start, as Stable Diffusion's own code has it (diffusers leaves PyTorch's default).
            proj_out: Projection::new(init, width, as_linear, Fill::Zeros),
        }
    }

    /// `x` [B, C, H, W] with `context` [B, K, D] to [B, C, H, W].
    pub(super) fn forward(&self, x: Tensor<4>, context: &Tensor<3>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let tokens = self.norm.forward(x.clone()).permute([0, 2, 3, 1]).reshape([b, h * w, c]);
        let mut tokens = self.proj_in.forward(tokens); // [B, N, C]
        for block in &self.transformer_blocks {
            tokens = block.forward(tokens, context);
        }
        let tokens = self.proj_out.forward(tokens);
        x + tokens.reshape([b, h, w, c]).permute([0, 3, 1, 2])
    }

    pub(super) fn flops(&self, n: usize, num_context: usize) -> u64 {
        let blocks = self.transformer_blocks.iter().map(|at| at.flops(n, num_context)).sum::<u64>();
        self.proj_in.flops(n) + blocks + self.proj_out.flops(n)
    }
}

/// Self-attention (or cross-attention), cross-attention and a gated feed-forward part, each normed before and
/// added after.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    is_only_cross: bool,
}

impl Block {
    fn new(init: &mut Init, shape: TransformerShape, context_width: usize) -> Self {
        let TransformerShape { width, num_heads, is_only_cross, .. } = shape;
        let inner = 4 * width;
        let first = if is_only_cross { context_width } else { width };
        Self {
            norm1: LayerNorm::new(init, width, 1e-5),
            attn1: Attention::new(init, width, first, num_heads),
            norm2: LayerNorm::new(init, width, 1e-5),
            attn2: Attention::new(init, width, context_width, num_heads),
            norm3: LayerNorm::new(init, width, 1e-5),
            ff: FeedForward {
                net: Net {
                    at_0: Gate { proj: Linear::new(init, width, 2 * inner, true) },
                    at_2: Linear::new(init, inner, width, true),
                },
            },
            is_only_cross,
        }
    }

    fn forward(&self, tokens: Tensor<3>, context: &Tensor<3>) -> Tensor<3> {
        let normal = self.norm1.forward(tokens.clone());
        let first = if self.is_only_cross { context.clone() } else { normal.clone() };
        let tokens = tokens + self.attn1.forward(normal, first);
        let normal = self.norm2.forward(tokens.clone());
        let tokens = tokens + self.attn2.forward(normal, context.clone());
        let Net { at_0: gate, at_2: out } = &self.ff.net;
        let branch = out.forward(gate.forward(self.norm3.forward(tokens.clone())));
        tokens + branch
    }

    fn flops(&self, n: usize, num_context: usize) -> u64 {
        let Net { at_0: gate, at_2: out } = &self.ff.net;
        let first = if self.is_only_cross { num_context } else { n };
        let attentions = self.attn1.flops(n, first) + self.attn2.flops(n, num_context);
        attentions + gate.proj.flops(n) + out.flops(n)
    }
}

/// Queries from the image; keys and values from it or from the condition.
#[derive(Module, Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
    num_heads: usize,
}

impl Attention {
    fn new(init: &mut Init, width: usize, context_width: usize, num_heads: usize) -> Self {
        Self {
            to_q: Linear::new(init, width, width, false),
            to_k: Linear::new(init, context_width, width, false),
            to_v: Linear::new(init, context_width, width, false),
            to_out: vec![Linear::new(init, width, width, true)],
            num_heads,
        }
    }

    fn forward(&self, tokens: Tensor<3>, context: Tensor<3>) -> Tensor<3> {
        let q = split_heads(self.to_q.forward(tokens), self.num_heads);
        let k = split_heads(self.to_k.forward(context.clone()), self.num_heads);
        let v = split_heads(self.to_v.forward(context), self.num_heads);
        self.to_out[0].forward(merge_heads(attention(q, k, v)))
    }

    fn flops(&self, n: usize, num_keys: usize) -> u64 {
        let width = self.to_q.weight.lazy_shape()[0];
        let keys = self.to_k.flops(num_keys) + self.to_v.flops(num_keys);
        2 * self.to_q.flops(n) + keys + attention::flops(n, num_keys, width)
    }
}

#[derive(Module, Debug)]
struct FeedForward {
    net: Net,
}

/// PyTorch's `Sequential` of gate, dropout (1, not ours) and output.
#[derive(Module, Debug)]
struct Net {
    at_0: Gate,
    at_2: Linear,
}

/// GEGLU (Shazeer 2020): half of the projection times the GELU of the other half.
#[derive(Module, Debug)]
struct Gate {
    proj: Linear,
}

impl Gate {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let both = self.proj.forward(tokens);
        if engine::takes(&both) {
            return engine::geglu(both);
        }
        let half = both.dims()[2] / 2;
        both.clone().narrow(2, 0, half) * gelu(both.narrow(2, half, half))
    }
}
