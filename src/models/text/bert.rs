//! BERT (Devlin et al. 2019), with the parameter names of transformers' `BertModel`.

#![expect(non_snake_case, reason = "PyTorch's name of a norm is LayerNorm")]

use super::bert_config::NETWORK;
use super::input::{self, Table};
use super::{Activation, BertConfig, InputError};
use crate::models::attention::{self, attention, masked_attention, merge_heads, split_heads};
use crate::models::layers::{Embedding, LayerNorm, Linear};
use crate::models::{Compute, Fill, Init, leave};
use burn::module::Module;
use burn::tensor::activation::tanh;
use burn::tensor::{Bool, Int, Tensor};

/// Standard deviation of all weights before training.
const START: Fill = Fill::Normal(0.02);

impl BertConfig {
    /// The network, untrained, with BERT's own start.
    pub fn init(&self, init: &mut Init) -> Bert {
        let width = self.hidden_size;
        let mut table = |rows| Embedding { weight: init.param([rows, width], START) };
        Bert {
            embeddings: Embeddings {
                word_embeddings: table(self.vocab_size),
                position_embeddings: table(self.max_position_embeddings),
                token_type_embeddings: table(self.type_vocab_size),
                LayerNorm: LayerNorm::new(init, width, self.layer_norm_eps),
            },
            encoder: Encoder {
                layer: (0..self.num_hidden_layers).map(|_| Block::new(self, init)).collect(),
            },
            pooler: self.add_pooling_layer.then(|| Pooler { dense: linear(init, width, width) }),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// BERT without a head.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: Embeddings,
    encoder: Encoder,
    pooler: Option<Pooler>,
    #[module(skip)]
    config: BertConfig,
    #[module(skip)]
    compute: Compute,
}

/// What BERT makes of texts, in f32.
#[derive(Debug, Clone)]
pub struct BertOutput {
    /// Tokens after the last block, [B, N, D].
    pub last_hidden_state: Tensor<3>,
    /// The first token after the pooler, [B, D], if there is one.
    pub pooler_output: Option<Tensor<2>>,
}

impl Bert {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Reads `input_ids` [B, N]. Each token sees all whose `attention_mask` [B, N] is not 0; all are of
    /// type 0 without `token_type_ids` [B, N].
    ///
    /// Fails on ids outside the vocabulary, on more tokens than there are positions, and on shapes that differ.
    pub fn forward(
        &self,
        input_ids: Tensor<2, Int>,
        attention_mask: Option<Tensor<2, Int>>,
        token_type_ids: Option<Tensor<2, Int>>,
    ) -> Result<BertOutput, InputError> {
        let BertConfig { vocab_size, type_vocab_size, hidden_size, .. } = self.config;
        let shape @ [b, n] = input_ids.dims();
        input::check_length(NETWORK, shape, self.config.max_position_embeddings)?;
        let table = Table { what: "input_ids", of: "vocab_size", size: vocab_size };
        input::read(NETWORK, &input_ids, &table)?;
        if let Some(mask) = &attention_mask {
            input::check_shape(NETWORK, "attention_mask", mask, shape)?;
        }
        if let Some(types) = &token_type_ids {
            input::check_shape(NETWORK, "token_type_ids", types, shape)?;
            let table =
                Table { what: "token_type_ids", of: "type_vocab_size", size: type_vocab_size };
            input::read(NETWORK, types, &table)?;
        }
        let hidden = input::padding(attention_mask.as_ref())
            .map(|padding| input::hidden(padding, shape, &input_ids.device()));

        let embeddings = &self.embeddings;
        let types = match token_type_ids {
            Some(types) => embeddings.token_type_embeddings.forward(types),
            None => embeddings.token_type_embeddings.weight.val().narrow(0, 0, 1).unsqueeze(),
        };
        let positions = embeddings.position_embeddings.weight.val().narrow(0, 0, n).unsqueeze();
        let tokens = embeddings.word_embeddings.forward(input_ids) + types + positions; // [B, N, D]
        let mut tokens = self.compute.enter(embeddings.LayerNorm.forward(tokens));
        for block in &self.encoder.layer {
            tokens = block.forward(tokens, hidden.as_ref());
        }
        let pooled = self.pooler.as_ref().map(|pooler| {
            let first = tokens.clone().narrow(1, 0, 1).reshape([b, hidden_size]);
            leave(tanh(pooler.dense.forward(first)))
        });
        Ok(BertOutput { last_hidden_state: leave(tokens), pooler_output: pooled })
    }

    /// Forward cost of a text of `n` tokens, in floating-point operations.
    pub fn flops(&self, n: usize) -> u64 {
        let pooler = self.pooler.as_ref().map_or(0, |pooler| pooler.dense.flops(1));
        self.encoder.layer.iter().map(|block| block.flops(n)).sum::<u64>() + pooler
    }
}

fn linear(init: &mut Init, num_in: usize, num_out: usize) -> Linear {
    Linear::filled(init, num_in, num_out, START, Some(Fill::Zeros))
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    LayerNorm: LayerNorm,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Block>,
}

/// One block: attention, then a feed-forward part, each added to its input and normed after.
#[derive(Module, Debug)]
struct Block {
    attention: Attention,
    intermediate: Intermediate,
    output: Output,
}

impl Block {
    fn new(config: &BertConfig, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let output = |init: &mut Init, num_in| Output {
            dense: linear(init, num_in, width),
            LayerNorm: LayerNorm::new(init, width, config.layer_norm_eps),
        };
        Self {
            attention: Attention {
                self_: SelfAttention {
                    query: linear(init, width, width),
                    key: linear(init, width, width),
                    value: linear(init, width, width),
                    num_heads: config.num_attention_heads,
                },
                output: output(init, width),
            },
            intermediate: Intermediate {
                dense: linear(init, width, inner),
                activation: config.hidden_act,
            },
            output: output(init, inner),
        }
    }

    fn forward(&self, tokens: Tensor<3>, hidden: Option<&Tensor<4, Bool>>) -> Tensor<3> {
        let branch = self.attention.self_.forward(tokens.clone(), hidden);
        let tokens = self.attention.output.forward(branch, tokens);
        let Intermediate { dense, activation } = &self.intermediate;
        let branch = activation.forward(dense.forward(tokens.clone()));
        self.output.forward(branch, tokens)
    }

    fn flops(&self, n: usize) -> u64 {
        let SelfAttention { query, key, value, .. } = &self.attention.self_;
        let (after, inner) = (&self.attention.output.dense, &self.intermediate.dense);
        let linears = [query, key, value, after, inner, &self.output.dense];
        let width = query.weight.lazy_shape()[0];
        linears.iter().map(|linear| linear.flops(n)).sum::<u64>() + attention::flops(n, n, width)
    }
}

#[derive(Module, Debug)]
struct Attention {
    self_: SelfAttention,
    output: Output,
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    num_heads: usize,
}

impl SelfAttention {
    fn forward(&self, tokens: Tensor<3>, hidden: Option<&Tensor<4, Bool>>) -> Tensor<3> {
        let [q, k, v] = [&self.query, &self.key, &self.value]
            .map(|part| split_heads(part.forward(tokens.clone()), self.num_heads));
        merge_heads(match hidden {
            Some(hidden) => masked_attention(q, k, v, hidden.clone()),
            None => attention(q, k, v),
        })
    }
}

#[derive(Module, Debug)]
struct Intermediate {
    dense: Linear,
    #[module(skip)]
    activation: Activation,
}

/// The end of a branch: back to the width of tokens, added to them, normed.
#[derive(Module, Debug)]
struct Output {
    dense: Linear,
    LayerNorm: LayerNorm,
}

impl Output {
    fn forward(&self, branch: Tensor<3>, tokens: Tensor<3>) -> Tensor<3> {
        self.LayerNorm.forward(self.dense.forward(branch) + tokens)
    }
}

#[derive(Module, Debug)]
struct Pooler {
    dense: Linear,
}
