//! CLIP's text encoder (Radford et al. 2021), with the parameter names of transformers' `CLIPTextModel`.

use super::clip_config::NETWORK;
use super::input::{self, Table};
use super::{Activation, ClipTextConfig, InputError};
use crate::models::attention::{self, masked_attention, merge_heads, split_heads};
use crate::models::layers::{Embedding, LayerNorm, Linear};
use crate::models::{Compute, Fill, Init, leave};
use burn::module::Module;
use burn::tensor::{Bool, Int, Tensor};

impl ClipTextConfig {
    /// The network, untrained, with CLIP's own start.
    pub fn init(&self, init: &mut Init) -> ClipText {
        let width = self.hidden_size;
        let mut table = |rows| Embedding { weight: init.param([rows, width], Fill::Normal(0.02)) };
        ClipText {
            embeddings: Embeddings {
                token_embedding: table(self.vocab_size),
                position_embedding: table(self.max_position_embeddings),
            },
            encoder: Encoder {
                layers: (0..self.num_hidden_layers).map(|_| Block::new(self, init)).collect(),
            },
            final_layer_norm: LayerNorm::new(init, width, self.layer_norm_eps),
            text_projection: self.projection_dim.map(|shared| {
                Linear::filled(init, width, shared, Fill::Normal((width as f64).powf(-0.5)), None)
            }),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// CLIP's text encoder.
#[derive(Module, Debug)]
pub struct ClipText {
    embeddings: Embeddings,
    encoder: Encoder,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    #[module(skip)]
    config: ClipTextConfig,
    #[module(skip)]
    compute: Compute,
}

/// What CLIP's text encoder makes of texts, in f32.
#[derive(Debug, Clone)]
pub struct ClipTextOutput {
    /// Tokens after the last norm, [B, N, D]: the condition of Stable Diffusion 1 and 2.
    pub last_hidden_state: Tensor<3>,
    /// Tokens before the last block, without the norm, [B, N, D]: the condition of Stable Diffusion XL.
    pub penultimate_hidden_state: Tensor<3>,
    /// The token that ends the text, after the last norm, [B, D].
    pub pooler_output: Tensor<2>,
    /// That token in the space shared with images, [B, P], if there is a projection.
    pub text_embeds: Option<Tensor<2>>,
}

impl ClipText {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Reads `input_ids` [B, N]. Each token sees itself and those before it, but none whose
    /// `attention_mask` [B, N] is 0.
    ///
    /// The pooled token is the first `eos_token_id` of a text, or its first token where there is none; if
    /// that id is 2, the first of the largest. What a token that sees nothing comes out as means nothing.
    ///
    /// Fails on ids outside the vocabulary, on more tokens than there are positions, and on shapes that differ.
    pub fn forward(
        &self,
        input_ids: Tensor<2, Int>,
        attention_mask: Option<Tensor<2, Int>>,
    ) -> Result<ClipTextOutput, InputError> {
        let ClipTextConfig { vocab_size, max_position_embeddings, hidden_size, .. } = self.config;
        let shape @ [b, n] = input_ids.dims();
        input::check_length(NETWORK, shape, max_position_embeddings)?;
        let table = Table { what: "input_ids", of: "vocab_size", size: vocab_size };
        let ids = input::read(NETWORK, &input_ids, &table)?;
        if let Some(mask) = &attention_mask {
            input::check_shape(NETWORK, "attention_mask", mask, shape)?;
        }
        let device = input_ids.device();
        let hidden =
            input::hidden_causally(input::padding(attention_mask.as_ref()), shape, &device);

        let positions = self.embeddings.position_embedding.weight.val().narrow(0, 0, n);
        let tokens = self.embeddings.token_embedding.forward(input_ids); // [B, N, D]
        let mut tokens = self.compute.enter(tokens + positions.unsqueeze::<3>());
        let mut before_last = tokens.clone();
        for block in &self.encoder.layers {
            before_last = tokens.clone();
            tokens = block.forward(tokens, &hidden);
        }
        let tokens = self.final_layer_norm.forward(tokens);

        let ends =
            ids.chunks_exact(n).enumerate().map(|(row, ids)| (row * n + self.end(ids)) as i32);
        let ends = Tensor::<1, Int>::from_ints(ends.collect::<Vec<_>>().as_slice(), &device);
        let pooled = tokens.clone().reshape([b * n, hidden_size]).select(0, ends); // [B, D]
        let projected = self.text_projection.as_ref().map(|linear| linear.forward(pooled.clone()));
        Ok(ClipTextOutput {
            last_hidden_state: leave(tokens),
            penultimate_hidden_state: leave(before_last),
            pooler_output: leave(pooled),
            text_embeds: projected.map(leave),
        })
    }

    /// Forward cost of a text of `n` tokens, in floating-point operations.
    pub fn flops(&self, n: usize) -> u64 {
        let projection = self.text_projection.as_ref().map_or(0, |linear| linear.flops(1));
        self.encoder.layers.iter().map(|block| block.flops(n)).sum::<u64>() + projection
    }

    /// Where a text ends: transformers' two rules.
    fn end(&self, ids: &[i64]) -> usize {
        let is_end: &dyn Fn(i64) -> bool = match self.config.eos_token_id {
            2 => {
                let largest = ids.iter().copied().max();
                &move |id| Some(id) == largest
            }
            eos => &move |id| id == eos,
        };
        ids.iter().position(|&id| is_end(id)).unwrap_or(0)
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
}

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<Block>,
}

/// One block: attention, then a feed-forward part, each normed before and added to its input.
#[derive(Module, Debug)]
struct Block {
    self_attn: SelfAttention,
    layer_norm1: LayerNorm,
    mlp: Mlp,
    layer_norm2: LayerNorm,
}

impl Block {
    fn new(config: &ClipTextConfig, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let std = (width as f64).powf(-0.5);
        let std_deep = std * (2.0 * config.num_hidden_layers as f64).powf(-0.5);
        let mut linear = |num_in, num_out, std| {
            Linear::filled(init, num_in, num_out, Fill::Normal(std), Some(Fill::Zeros))
        };
        let self_attn = SelfAttention {
            k_proj: linear(width, width, std_deep),
            v_proj: linear(width, width, std_deep),
            q_proj: linear(width, width, std_deep),
            out_proj: linear(width, width, std),
            num_heads: config.num_attention_heads,
        };
        let mlp = Mlp {
            fc1: linear(width, inner, (2.0 * width as f64).powf(-0.5)),
            fc2: linear(inner, width, std_deep),
            activation: config.hidden_act,
        };
        Self {
            self_attn,
            layer_norm1: LayerNorm::new(init, width, config.layer_norm_eps),
            mlp,
            layer_norm2: LayerNorm::new(init, width, config.layer_norm_eps),
        }
    }

    fn forward(&self, tokens: Tensor<3>, hidden: &Tensor<4, Bool>) -> Tensor<3> {
        let branch = self.self_attn.forward(self.layer_norm1.forward(tokens.clone()), hidden);
        let tokens = tokens + branch;
        let branch = self.mlp.forward(self.layer_norm2.forward(tokens.clone()));
        tokens + branch
    }

    fn flops(&self, n: usize) -> u64 {
        let SelfAttention { k_proj, v_proj, q_proj, out_proj, .. } = &self.self_attn;
        let linears = [k_proj, v_proj, q_proj, out_proj, &self.mlp.fc1, &self.mlp.fc2];
        let width = q_proj.weight.lazy_shape()[0];
        linears.iter().map(|linear| linear.flops(n)).sum::<u64>() + attention::flops(n, n, width)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
    num_heads: usize,
}

impl SelfAttention {
    fn forward(&self, tokens: Tensor<3>, hidden: &Tensor<4, Bool>) -> Tensor<3> {
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj]
            .map(|part| split_heads(part.forward(tokens.clone()), self.num_heads));
        self.out_proj.forward(merge_heads(masked_attention(q, k, v, hidden.clone())))
    }
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(self.activation.forward(self.fc1.forward(tokens)))
    }
}
