//! The multimodal diffusion transformer of Stable Diffusion 3 (Esser et al. 2024), in diffusers' layout and names:
//! DiT (Peebles & Xie 2023) in which image and condition attend to each other.

use super::mmdit_block::{Block, Modulation, modulated, xavier};
use super::mmdit_config::MmditConfig;
use super::position;
use super::time::{TimeEmbedding, sinusoids};
use crate::models::layers::{Conv2d, Linear};
use crate::models::{Compute, Fill, Init, cast, cast_like, leave};
use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};

/// Sinusoids that tell the timestep.
const TIME_WAVES: usize = 256;

impl MmditConfig {
    /// The network, untrained, as DiT starts: every block passes on what it gets and the prediction is zero.
    pub fn init(&self, init: &mut Init) -> Mmdit {
        let (width, patch) = (self.width(), self.patch_size);
        let (table, base) = (self.pos_embed_max_size, (self.sample_size / patch).max(1));
        let pixels = self.in_channels * patch * patch;
        let proj = Conv2d {
            weight: init.param([width, self.in_channels, patch, patch], xavier(pixels, width)),
            bias: Some(init.param([width], Fill::Zeros)),
            stride: patch,
            padding: (0, 0),
        };
        let pos_embed = init
            .table([1, table * table, width], move || position::table(table, base, width))
            .set_require_grad(false);
        let plain = |init: &mut Init, num_in| {
            Linear::filled(init, num_in, width, xavier(num_in, width), Some(Fill::Zeros))
        };
        Mmdit {
            pos_embed: PatchEmbed { proj, pos_embed },
            time_text_embed: TimeTextEmbed {
                timestep_embedder: TimeEmbedding::filled(init, TIME_WAVES, width, |_, _| {
                    Fill::Normal(0.02)
                }),
                text_embedder: TimeEmbedding::filled(
                    init,
                    self.pooled_projection_dim,
                    width,
                    xavier,
                ),
            },
            context_embedder: plain(init, self.joint_attention_dim),
            transformer_blocks: (0..self.num_layers)
                .map(|at| Block::new(self, init, at + 1 == self.num_layers))
                .collect(),
            norm_out: Modulation::new(init, width, 2),
            proj_out: Linear::filled(
                init,
                width,
                patch * patch * self.out_channels,
                Fill::Zeros,
                Some(Fill::Zeros),
            ),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// Predicts, from noisy latents, whatever its training's objective asked for.
#[derive(Module, Debug)]
pub struct Mmdit {
    pos_embed: PatchEmbed,
    time_text_embed: TimeTextEmbed,
    context_embedder: Linear,
    transformer_blocks: Vec<Block>,
    norm_out: Modulation,
    proj_out: Linear,
    #[module(skip)]
    config: MmditConfig,
    #[module(skip)]
    compute: Compute,
}

/// Patches to tokens, and where they are.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv2d,
    /// [1, side², D], a table that never learns.
    pos_embed: Param<Tensor<3>>,
}

#[derive(Module, Debug)]
struct TimeTextEmbed {
    timestep_embedder: TimeEmbedding,
    text_embedder: TimeEmbedding,
}

impl Mmdit {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &MmditConfig {
        &self.config
    }

    /// `noisy` latents [B, C, h, w] at `timesteps` `[B]`, guided by `context` [B, K, D] and by a `pooled` condition
    /// [B, P], which is zero where there is none, to a prediction [B, out, h, w] in f32. Sides are multiples of the
    /// patch.
    pub fn forward(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
    ) -> Tensor<4> {
        self.pass(noisy, timesteps, context, pooled, None).0
    }

    /// [`forward`](Self::forward), and the image's tokens [B, N, D] after the first `blocks` blocks, in f32: patches
    /// row by row, after 0 blocks with nothing but their positions. None where there are fewer blocks.
    pub fn forward_hidden(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
        blocks: usize,
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        self.pass(noisy, timesteps, context, pooled, Some(blocks))
    }

    fn pass(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
        blocks: Option<usize>,
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        let [b, _, height, width] = noisy.dims();
        let patch = self.config.patch_size;
        let grid = [height / patch, width / patch];
        let mut image = self.embed(self.compute.enter(noisy), grid); // [B, N, D]
        let time = silu(self.embed_time(timesteps, pooled)); // every modulation starts with this SiLU
        let mut context = self.context_embedder.forward(self.compute.enter(context)); // [B, K, D]
        let mut hidden = None;
        for (at, block) in self.transformer_blocks.iter().enumerate() {
            if Some(at) == blocks {
                hidden = Some(leave(image.clone()));
            }
            (image, context) = block.forward(image, context, &time);
        }
        if blocks == Some(self.transformer_blocks.len()) {
            hidden = Some(leave(image.clone()));
        }
        let [scale, shift] = self.norm_out.forward(&time);
        let out = self.proj_out.forward(modulated(image, scale, shift)); // [B, N, p · p · out]
        let channels = self.config.out_channels;
        let out = out
            .reshape([b, grid[0], grid[1], patch, patch, channels])
            .permute([0, 5, 1, 3, 2, 4])
            .reshape([b, channels, height, width]);
        (leave(out), hidden)
    }

    /// Forward cost per image of `height` by `width` latents under `num_context` condition tokens, in
    /// floating-point operations.
    pub fn flops(&self, height: usize, width: usize, num_context: usize) -> u64 {
        let patch = self.config.patch_size;
        let grid = [height / patch, width / patch];
        let n = grid[0] * grid[1];
        let TimeTextEmbed { timestep_embedder, text_embedder } = &self.time_text_embed;
        let blocks = self.transformer_blocks.iter();
        self.pos_embed.proj.flops(grid[0], grid[1])
            + timestep_embedder.flops()
            + text_embedder.flops()
            + self.context_embedder.flops(num_context)
            + blocks.map(|block| block.flops(n, num_context)).sum::<u64>()
            + self.norm_out.flops()
            + self.proj_out.flops(n)
    }

    /// Latents [B, C, h, w] to tokens [B, N, D] that know where they are.
    fn embed(&self, noisy: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
        let tokens = self.pos_embed.proj.forward(noisy).permute([0, 2, 3, 1]).flatten::<3>(1, 2);
        let (side, width) = (self.config.pos_embed_max_size, self.config.width());
        let [top, left] = grid.map(|patches| (side - patches) / 2);
        // Detached: a training that switches all parameters on must not reach the table.
        let positions = self.pos_embed.pos_embed.val().detach().reshape([side, side, width]);
        let positions = positions.narrow(0, top, grid[0]).narrow(1, left, grid[1]);
        let positions = positions.reshape([1, grid[0] * grid[1], width]);
        cast_like(cast(tokens.clone(), FloatDType::F32) + positions, &tokens)
    }

    /// Timesteps `[B]` and the pooled condition [B, P] to what modulates, [B, D].
    fn embed_time(&self, timesteps: Tensor<1>, pooled: Option<Tensor<2>>) -> Tensor<2> {
        let TimeTextEmbed { timestep_embedder, text_embedder } = &self.time_text_embed;
        let [b] = timesteps.dims();
        let nothing = || Tensor::zeros([b, self.config.pooled_projection_dim], &timesteps.device());
        let pooled = text_embedder.forward(self.compute.enter(pooled.unwrap_or_else(nothing)));
        let waves = sinusoids(timesteps, TIME_WAVES, true, 0.0);
        timestep_embedder.forward(self.compute.enter(waves)) + pooled
    }
}
