//! The vision transformer of DINO v1, DINOv2 and DINOv2 with registers, with DINOv2's parameter names.

use super::dropped::{Dropped, times};
use super::feed_forward::FeedForward;
use super::layer_scale::LayerScale;
use super::patches;
use super::position::{Resampling, resample};
use super::{Flavor, PoolerAct, VitConfig};
use crate::models::attention::{self, attention, merge_heads, split_heads};
use crate::models::layers::{Conv2d, LayerNorm, Linear};
use crate::models::{Compute, Fill, Init, cast_like, leave};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

impl VitConfig {
    /// The network, untrained: truncated normal weights, PyTorch's default for the patch projection.
    pub fn init(&self, init: &mut Init) -> Vit {
        let (width, small) = (self.hidden_size, Fill::TruncatedNormal(0.02));
        let grid = self.image_size / self.patch_size;
        let registers = self.num_register_tokens;
        Vit {
            embeddings: Embeddings {
                cls_token: init.param([1, 1, width], small),
                mask_token: self.mask_token.then(|| init.param([1, width], Fill::Zeros)),
                register_tokens: (registers > 0).then(|| init.param([1, registers, width], small)),
                position_embeddings: init.param([1, grid * grid + 1, width], small),
                patch_embeddings: PatchEmbeddings {
                    projection: Conv2d::new(init, self.num_channels, width, self.patch_size)
                        .with_stride(self.patch_size, (0, 0)),
                },
            },
            encoder: Encoder {
                layer: (0..self.num_hidden_layers).map(|_| Block::new(self, init)).collect(),
            },
            layernorm: LayerNorm::new(init, width, self.layer_norm_eps),
            pooler: self.pooler_size.map(|size| Pooler {
                dense: Linear::filled(init, width, size, small, Some(Fill::Zeros)),
            }),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// A vision transformer.
#[derive(Module, Debug)]
pub struct Vit {
    embeddings: Embeddings,
    encoder: Encoder,
    layernorm: LayerNorm,
    pooler: Option<Pooler>,
    #[module(skip)]
    config: VitConfig,
    #[module(skip)]
    compute: Compute,
}

impl Vit {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Normalised `pixels` [B, C, H, W] to tokens [B, 1 + R + N, D] after the last norm, in f32: the class
    /// token, R registers, N patches row by row. Any size is taken; pixels beyond whole patches are not seen.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.forward_without(pixels, &Dropped::default())
    }

    /// The same without what is `dropped`, as in training.
    ///
    /// # Panics
    ///
    /// Where patches are masked and the network has no mask token.
    pub fn forward_without(&self, pixels: Tensor<4>, dropped: &Dropped) -> Tensor<3> {
        let mut tokens = self.embed(pixels, dropped.patches.as_ref());
        for (at, block) in self.encoder.layer.iter().enumerate() {
            tokens = block.forward(tokens, dropped.of_block(at));
        }
        leave(self.layernorm.forward(tokens))
    }

    /// transformers' `pooler_output` [B, D'] of the tokens that [`forward`](Self::forward) gave: DINOv2's class
    /// token, or what the pooler makes of `ViTModel`'s; none where there is no pooler.
    pub fn pooled(&self, tokens: &Tensor<3>) -> Option<Tensor<2>> {
        let class = tokens.clone().narrow(1, 0, 1).squeeze_dim::<2>(1);
        match (self.config.flavor, &self.pooler) {
            (Flavor::Dinov2, _) => Some(class),
            (Flavor::Vit, Some(pooler)) => {
                let pooled = pooler.dense.forward(class);
                Some(match self.config.pooler_act {
                    PoolerAct::Tanh => pooled.tanh(),
                    PoolerAct::Linear => pooled,
                })
            }
            (Flavor::Vit, None) => None,
        }
    }

    /// What the class token attends to in the last block, per head, over the patches: [B, heads, N],
    /// from normalised `pixels` [B, C, H, W]. What goes to class token and registers is left out.
    pub fn class_attention(&self, pixels: Tensor<4>) -> Tensor<3> {
        let mut tokens = self.embed(pixels, None);
        let (last, before) =
            self.encoder.layer.split_last().expect("a checked config has at least one block");
        for block in before {
            tokens = block.forward(tokens, [None, None]);
        }
        let [q, k, _v] = last.attention.project(last.norm1.forward(tokens));
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
        let projection = &self.embeddings.patch_embeddings.projection;
        let blocks = self.encoder.layer.iter().map(|block| block.flops(n)).sum::<u64>();
        projection.flops(rows, columns) + blocks
    }

    /// [B, C, H, W] to [B, 1 + R + N, D]; where `masked` [B, N] is 1, the mask token stands for a patch.
    fn embed(&self, pixels: Tensor<4>, masked: Option<&Tensor<2>>) -> Tensor<3> {
        let [b, _c, h, w] = pixels.dims();
        let VitConfig { patch_size, hidden_size, .. } = self.config;
        let grid = [h / patch_size, w / patch_size];
        let embeddings = &self.embeddings;
        let patches =
            patches::project(&embeddings.patch_embeddings.projection, pixels, self.compute);
        let patches = match masked {
            Some(masked) => {
                let token = embeddings.mask_token.as_ref().expect("patches are masked by a token");
                let token = cast_like(token.val().unsqueeze::<3>(), &patches); // [1, 1, D]
                let masked = cast_like(masked.clone().unsqueeze_dim::<3>(2), &patches); // [B, N, 1]
                patches * (1.0 - masked.clone()) + token * masked
            }
            None => patches,
        };
        let (class_position, positions) = self.positions(grid);
        let patches = patches.clone() + cast_like(positions, &patches);
        let class = embeddings.cls_token.val() + class_position;
        let mut tokens = vec![cast_like(class, &patches).expand([b, 1, hidden_size])];
        if let Some(registers) = &embeddings.register_tokens {
            let count = self.config.num_register_tokens;
            tokens.push(cast_like(registers.val(), &patches).expand([b, count, hidden_size]));
        }
        tokens.push(patches);
        Tensor::cat(tokens, 1)
    }

    /// Position embeddings of the class token, [1, 1, D], and of a grid of patches, [1, N, D].
    fn positions(&self, grid: [usize; 2]) -> (Tensor<3>, Tensor<3>) {
        let VitConfig { image_size, patch_size, hidden_size, .. } = self.config;
        let learned = self.embeddings.position_embeddings.val();
        let from = image_size / patch_size;
        let class = learned.clone().narrow(1, 0, 1);
        let patches = learned.narrow(1, 1, from * from);
        if grid == [from, from] {
            return (class, patches);
        }
        let resampling = match self.config.num_register_tokens {
            0 => Resampling::Bicubic,
            _ => Resampling::BicubicAntialiased,
        };
        let patches = resample(patches.reshape([from * from, hidden_size]), from, grid, resampling);
        (class, patches.unsqueeze())
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    cls_token: Param<Tensor<3>>,
    mask_token: Option<Param<Tensor<2>>>,
    register_tokens: Option<Param<Tensor<3>>>,
    position_embeddings: Param<Tensor<3>>,
    patch_embeddings: PatchEmbeddings,
}

#[derive(Module, Debug)]
struct PatchEmbeddings {
    projection: Conv2d,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Block>,
}

/// One block: attention, then a feed-forward part, each normed before and added to its input.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    layer_scale1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: FeedForward,
    layer_scale2: Option<LayerScale>,
}

impl Block {
    fn new(config: &VitConfig, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let (weight, zeros) = (Fill::TruncatedNormal(0.02), Some(Fill::Zeros));
        let scale =
            |init: &mut Init| config.layer_scale.map(|start| LayerScale::new(init, width, start));
        let qkv_bias = config.qkv_bias.then_some(Fill::Zeros);
        Self {
            norm1: LayerNorm::new(init, width, config.layer_norm_eps),
            attention: SelfAttention {
                attention: Projections {
                    query: Linear::filled(init, width, width, weight, qkv_bias),
                    key: Linear::filled(init, width, width, weight, qkv_bias),
                    value: Linear::filled(init, width, width, weight, qkv_bias),
                },
                output: Output { dense: Linear::filled(init, width, width, weight, zeros) },
                num_heads: config.num_attention_heads,
            },
            layer_scale1: scale(init),
            norm2: LayerNorm::new(init, width, config.layer_norm_eps),
            mlp: FeedForward::new(init, width, inner, config.use_swiglu_ffn),
            layer_scale2: scale(init),
        }
    }

    /// `factors`: of both branches, for each image.
    fn forward(&self, tokens: Tensor<3>, factors: [Option<Tensor<3>>; 2]) -> Tensor<3> {
        let [first, second] = factors;
        let branch = self.attention.forward(self.norm1.forward(tokens.clone()));
        let tokens = tokens + times(scaled(&self.layer_scale1, branch), first);
        let branch = self.mlp.forward(self.norm2.forward(tokens.clone()));
        tokens + times(scaled(&self.layer_scale2, branch), second)
    }

    fn flops(&self, n: usize) -> u64 {
        let Projections { query, key, value } = &self.attention.attention;
        let linears = [query, key, value, &self.attention.output.dense];
        let linears = linears.iter().map(|linear| linear.flops(n)).sum::<u64>();
        linears + attention::flops(n, n, query.weight.lazy_shape()[0]) + self.mlp.flops(n)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    attention: Projections,
    output: Output,
    num_heads: usize,
}

impl SelfAttention {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [q, k, v] = self.project(tokens);
        self.output.dense.forward(merge_heads(attention(q, k, v)))
    }

    /// [B, N, D] to queries, keys and values [B, heads, N, d].
    fn project(&self, tokens: Tensor<3>) -> [Tensor<4>; 3] {
        let Projections { query, key, value } = &self.attention;
        [query, key, value].map(|part| split_heads(part.forward(tokens.clone()), self.num_heads))
    }
}

#[derive(Module, Debug)]
struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
}

#[derive(Module, Debug)]
struct Output {
    dense: Linear,
}

/// One more layer on the class token, with a tanh: `ViTModel` only.
#[derive(Module, Debug)]
struct Pooler {
    dense: Linear,
}

fn scaled(scale: &Option<LayerScale>, branch: Tensor<3>) -> Tensor<3> {
    match scale {
        Some(scale) => scale.forward(branch),
        None => branch,
    }
}
