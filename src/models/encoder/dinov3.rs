//! DINOv3's vision transformer: transformers' `DINOv3ViTModel` and its parameter names.

use super::layer_scale::LayerScale;
use super::patches;
use super::rotary::Rotary;
use super::{Activation, Dinov3Config};
use crate::models::attention::{self, attention, merge_heads, split_heads};
use crate::models::layers::{Conv2d, LayerNorm, Linear};
use crate::models::{Compute, Fill, Init, cast_like, leave};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

impl Dinov3Config {
    /// The network, untrained: truncated normal weights, PyTorch's default for the patch projection.
    pub fn init(&self, init: &mut Init) -> Dinov3 {
        let (width, small) = (self.hidden_size, Fill::TruncatedNormal(0.02));
        let registers = self.num_register_tokens;
        Dinov3 {
            embeddings: Embeddings {
                cls_token: init.param([1, 1, width], small),
                mask_token: init.param([1, 1, width], Fill::Zeros),
                register_tokens: (registers > 0).then(|| init.param([1, registers, width], small)),
                patch_embeddings: Conv2d::new(init, self.num_channels, width, self.patch_size)
                    .with_stride(self.patch_size, (0, 0)),
            },
            layer: (0..self.num_hidden_layers).map(|_| Block::new(self, init)).collect(),
            norm: LayerNorm::new(init, width, self.layer_norm_eps),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// A vision transformer that knows places from the angles of its queries and keys.
///
/// Computes as transformers does outside training: places are never shifted, jittered or rescaled.
#[derive(Module, Debug)]
pub struct Dinov3 {
    embeddings: Embeddings,
    layer: Vec<Block>,
    norm: LayerNorm,
    #[module(skip)]
    config: Dinov3Config,
    #[module(skip)]
    compute: Compute,
}

impl Dinov3 {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &Dinov3Config {
        &self.config
    }

    /// Normalised `pixels` [B, C, H, W] to tokens [B, 1 + R + N, D] after the last norm, in f32: the class
    /// token, R registers, N patches row by row. Any size is taken; pixels beyond whole patches are not seen.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let rotary = self.rotary(&pixels);
        let mut tokens = self.embed(pixels);
        for block in &self.layer {
            tokens = block.forward(tokens, &rotary);
        }
        leave(self.norm.forward(tokens))
    }

    /// transformers' `pooler_output` [B, D] of the tokens that [`forward`](Self::forward) gave: the class token.
    pub fn pooled(&self, tokens: &Tensor<3>) -> Tensor<2> {
        tokens.clone().narrow(1, 0, 1).squeeze_dim(1)
    }

    /// What the class token attends to in the last block, per head, over the patches: [B, heads, N],
    /// from normalised `pixels` [B, C, H, W]. What goes to class token and registers is left out.
    pub fn class_attention(&self, pixels: Tensor<4>) -> Tensor<3> {
        let rotary = self.rotary(&pixels);
        let mut tokens = self.embed(pixels);
        let (last, before) =
            self.layer.split_last().expect("a checked config has at least one block");
        for block in before {
            tokens = block.forward(tokens, &rotary);
        }
        let [q, k, _v] = last.attention.project(last.norm1.forward(tokens), &rotary);
        let [b, heads, n, _] = q.dims();
        let skipped = 1 + self.config.num_register_tokens;
        let weights = attention::weights(q.narrow(2, 0, 1), k); // [B, heads, 1, 1 + R + N]
        weights.narrow(3, skipped, n - skipped).reshape([b, heads, n - skipped])
    }

    /// Forward cost per image of `height` by `width` pixels, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let patch = self.config.patch_size;
        let (rows, columns) = (height / patch, width / patch);
        let n = 1 + self.config.num_register_tokens + rows * columns;
        let blocks = self.layer.iter().map(|block| block.flops(n)).sum::<u64>();
        self.embeddings.patch_embeddings.flops(rows, columns) + blocks
    }

    /// [B, C, H, W] to [B, 1 + R + N, D].
    fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [b, _c, _h, _w] = pixels.dims();
        let embeddings = &self.embeddings;
        let patches = patches::project(&embeddings.patch_embeddings, pixels, self.compute);
        let registers = embeddings.register_tokens.iter();
        let mut tokens: Vec<_> = [&embeddings.cls_token]
            .into_iter()
            .chain(registers)
            .map(|learned| {
                let [_, count, width] = learned.dims();
                cast_like(learned.val(), &patches).expand([b, count, width])
            })
            .collect();
        tokens.push(patches);
        Tensor::cat(tokens, 1)
    }

    fn rotary(&self, pixels: &Tensor<4>) -> Rotary {
        let [_b, _c, h, w] = pixels.dims();
        let Dinov3Config { patch_size, hidden_size, num_attention_heads, rope_theta, .. } =
            self.config;
        Rotary::new(
            [h / patch_size, w / patch_size],
            1 + self.config.num_register_tokens,
            hidden_size / num_attention_heads,
            rope_theta,
            &pixels.device(),
        )
        .with_compute(self.compute)
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    cls_token: Param<Tensor<3>>,
    mask_token: Param<Tensor<3>>,
    register_tokens: Option<Param<Tensor<3>>>,
    patch_embeddings: Conv2d,
}

/// One block: attention, then a feed-forward part, each normed before, scaled after and added to its input.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    layer_scale1: LayerScale,
    norm2: LayerNorm,
    mlp: Mlp,
    layer_scale2: LayerScale,
}

impl Block {
    fn new(config: &Dinov3Config, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |init: &mut Init| LayerNorm::new(init, width, config.layer_norm_eps);
        let scale = |init: &mut Init| LayerScale::new(init, width, config.layerscale_value);
        Self {
            norm1: norm(init),
            attention: SelfAttention {
                q_proj: linear(init, width, width, config.query_bias),
                k_proj: linear(init, width, width, config.key_bias),
                v_proj: linear(init, width, width, config.value_bias),
                o_proj: linear(init, width, width, config.proj_bias),
                num_heads: config.num_attention_heads,
            },
            layer_scale1: scale(init),
            norm2: norm(init),
            mlp: Mlp {
                gate_proj: config
                    .use_gated_mlp
                    .then(|| linear(init, width, inner, config.mlp_bias)),
                up_proj: linear(init, width, inner, config.mlp_bias),
                down_proj: linear(init, inner, width, config.mlp_bias),
                activation: config.hidden_act,
            },
            layer_scale2: scale(init),
        }
    }

    fn forward(&self, tokens: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let branch = self.attention.forward(self.norm1.forward(tokens.clone()), rotary);
        let tokens = tokens + self.layer_scale1.forward(branch);
        let branch = self.mlp.forward(self.norm2.forward(tokens.clone()));
        tokens + self.layer_scale2.forward(branch)
    }

    fn flops(&self, n: usize) -> u64 {
        let SelfAttention { q_proj, k_proj, v_proj, o_proj, .. } = &self.attention;
        let Mlp { gate_proj, up_proj, down_proj, .. } = &self.mlp;
        let linears = [q_proj, k_proj, v_proj, o_proj, up_proj, down_proj];
        let linears = linears.into_iter().chain(gate_proj).map(|linear| linear.flops(n));
        linears.sum::<u64>() + attention::flops(n, n, q_proj.weight.lazy_shape()[0])
    }
}

fn linear(init: &mut Init, num_in: usize, num_out: usize, with_bias: bool) -> Linear {
    let bias = with_bias.then_some(Fill::Zeros);
    Linear::filled(init, num_in, num_out, Fill::TruncatedNormal(0.02), bias)
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    num_heads: usize,
}

impl SelfAttention {
    fn forward(&self, tokens: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let [q, k, v] = self.project(tokens, rotary);
        self.o_proj.forward(merge_heads(attention(q, k, v)))
    }

    /// [B, N, D] to queries and keys, turned, and values [B, heads, N, d].
    fn project(&self, tokens: Tensor<3>, rotary: &Rotary) -> [Tensor<4>; 3] {
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj]
            .map(|part| split_heads(part.forward(tokens.clone()), self.num_heads));
        [rotary.turn(q), rotary.turn(k), v]
    }
}

#[derive(Module, Debug)]
struct Mlp {
    gate_proj: Option<Linear>,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let up = self.up_proj.forward(tokens.clone());
        let bent = match &self.gate_proj {
            Some(gate) => self.activation.apply(gate.forward(tokens)) * up,
            None => self.activation.apply(up),
        };
        self.down_proj.forward(bent)
    }
}
