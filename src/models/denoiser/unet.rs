//! The conditional U-Net of Stable Diffusion 1.x, in diffusers' layout and names.

use super::UnetConfig;
use super::time::{TimeEmbedding, sinusoids};
use super::transformer::SpatialTransformer;
use crate::models::layers::{Conv2d, Downsample, GroupNorm, Linear, Resnet, ResnetShape, Upsample};
use crate::models::{Compute, Fill, Init, leave};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

impl UnetConfig {
    /// The network, untrained; its output layers zero where `init` says so.
    pub fn init(&self, init: &mut Init) -> Unet {
        let channels = &self.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let time_width = self.time_width();
        let conv_in = Conv2d::new(init, self.in_channels, first, 3);
        let time_embedding = TimeEmbedding::new(init, first, time_width);
        let class_embedding = self
            .projection_class_embeddings_input_dim
            .map(|width| Linear::new(init, width, time_width, true));

        let mut down_blocks = Vec::with_capacity(channels.len());
        let mut skips = vec![first]; // channels of each output kept for the way up
        for (level, &num_out) in channels.iter().enumerate() {
            let block = DownBlock::new(self, init, level);
            skips.extend(vec![num_out; self.layers_per_block + block.downsamplers.len()]);
            down_blocks.push(block);
        }
        let shape = self.resnet(last, last);
        let mid_block = MidBlock {
            attentions: vec![self.transformer(init, channels.len() - 1)],
            resnets: vec![Resnet::new(init, shape), Resnet::new(init, shape)],
        };
        let mut up_blocks = Vec::with_capacity(channels.len());
        let mut num_in = last;
        for level in (0..channels.len()).rev() {
            let skips = skips.split_off(skips.len() - self.layers_per_block - 1);
            up_blocks.push(UpBlock::new(self, init, level, num_in, skips));
            num_in = channels[level];
        }
        let output = init.output(Fill::torch_default(first * 9));
        Unet {
            conv_in,
            time_embedding,
            class_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::new(init, self.norm_num_groups, first, self.norm_eps),
            conv_out: Conv2d::filled(init, first, self.out_channels, 3, output),
            config: self.clone(),
            compute: Compute::default(),
        }
    }

    fn time_width(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    fn resnet(&self, num_in: usize, num_out: usize) -> ResnetShape {
        ResnetShape {
            num_in,
            num_out,
            time_width: Some(self.time_width()),
            num_groups: self.norm_num_groups,
            epsilon: self.norm_eps,
        }
    }

    fn transformer(&self, init: &mut Init, level: usize) -> SpatialTransformer {
        SpatialTransformer::new(self, init, self.block_out_channels[level], self.num_heads(level))
    }
}

/// Predicts, from noisy latents, whatever its training's objective asked for.
#[derive(Module, Debug)]
pub struct Unet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    class_embedding: Option<Linear>,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    config: UnetConfig,
    #[module(skip)]
    compute: Compute,
}

impl Unet {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// `noisy` latents [B, C, h, w] at `timesteps` `[B]`, guided by `context` [B, K, D], to a prediction
    /// [B, out, h, w] in f32.
    pub fn forward(&self, noisy: Tensor<4>, timesteps: Tensor<1>, context: Tensor<3>) -> Tensor<4> {
        self.forward_pooled(noisy, timesteps, context, None)
    }

    /// [`forward`](Self::forward) with a `pooled` condition [B, P] that joins the time embedding, if the
    /// network was built for one.
    pub fn forward_pooled(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
    ) -> Tensor<4> {
        let context = self.compute.enter(context);
        let time = silu(self.embed_time(timesteps, pooled)); // every block starts with this SiLU

        let mut x = self.conv_in.forward(self.compute.enter(noisy));
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &time, &context, &mut skips);
        }
        x = self.mid_block.forward(x, &time, &context);
        for block in &self.up_blocks {
            x = block.forward(x, &time, &context, &mut skips);
        }
        leave(self.conv_out.forward(self.conv_norm_out.forward_silu(x)))
    }

    /// Forward cost per image of `height` by `width` latents under `num_context` condition tokens, in
    /// floating-point operations.
    pub fn flops(&self, height: usize, width: usize, num_context: usize) -> u64 {
        let mut size = [height, width];
        let mut sizes = Vec::with_capacity(self.down_blocks.len());
        let class = self.class_embedding.as_ref().map_or(0, |linear| linear.flops(1));
        let mut flops = self.time_embedding.flops() + class + self.conv_in.flops(height, width);
        for block in &self.down_blocks {
            sizes.push(size);
            flops += level_flops(&block.resnets, &block.attentions, size, num_context);
            for downsample in &block.downsamplers {
                size = size.map(|side| side.div_ceil(2));
                flops += downsample.flops(size[0], size[1]);
            }
        }
        flops +=
            level_flops(&self.mid_block.resnets, &self.mid_block.attentions, size, num_context);
        for (block, level) in self.up_blocks.iter().zip((0..sizes.len()).rev()) {
            flops += level_flops(&block.resnets, &block.attentions, sizes[level], num_context);
            for upsample in &block.upsamplers {
                let [height, width] = sizes[level - 1];
                flops += upsample.flops(height, width);
            }
        }
        flops + self.conv_out.flops(height, width)
    }

    /// [B] and [B, P] to [B, width of the time embedding].
    fn embed_time(&self, timesteps: Tensor<1>, pooled: Option<Tensor<2>>) -> Tensor<2> {
        let UnetConfig { flip_sin_to_cos, freq_shift, .. } = self.config;
        let width = self.config.block_out_channels[0];
        let waves = sinusoids(timesteps, width, flip_sin_to_cos, freq_shift);
        let time = self.time_embedding.forward(self.compute.enter(waves));
        match (&self.class_embedding, pooled) {
            (Some(projection), Some(pooled)) => {
                time + projection.forward(self.compute.enter(pooled))
            }
            _ => time,
        }
    }
}

#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialTransformer>,
    downsamplers: Vec<Downsample>,
}

impl DownBlock {
    fn new(config: &UnetConfig, init: &mut Init, level: usize) -> Self {
        let channels = &config.block_out_channels;
        let num_out = channels[level];
        let mut block = Self { resnets: vec![], attentions: vec![], downsamplers: vec![] };
        for layer in 0..config.layers_per_block {
            let num_in = if layer == 0 { channels[level.saturating_sub(1)] } else { num_out };
            block.resnets.push(Resnet::new(init, config.resnet(num_in, num_out)));
            if config.attention[level] {
                block.attentions.push(config.transformer(init, level));
            }
        }
        if level + 1 < channels.len() {
            block.downsamplers.push(Downsample::new(init, num_out, (1, 1)));
        }
        block
    }

    fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        context: &Tensor<3>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        for (at, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(time));
            if let Some(transformer) = self.attentions.get(at) {
                x = transformer.forward(x, context);
            }
            skips.push(x.clone());
        }
        for downsample in &self.downsamplers {
            x = downsample.forward(x);
            skips.push(x.clone());
        }
        x
    }
}

#[derive(Module, Debug)]
struct MidBlock {
    attentions: Vec<SpatialTransformer>,
    resnets: Vec<Resnet>,
}

impl MidBlock {
    fn forward(&self, x: Tensor<4>, time: &Tensor<2>, context: &Tensor<3>) -> Tensor<4> {
        let mut x = self.resnets[0].forward(x, Some(time));
        for transformer in &self.attentions {
            x = transformer.forward(x, context);
        }
        self.resnets[1].forward(x, Some(time))
    }
}

#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialTransformer>,
    upsamplers: Vec<Upsample>,
}

impl UpBlock {
    /// `skips`: the channels of the outputs kept on the way down, the last of which is used first.
    fn new(
        config: &UnetConfig,
        init: &mut Init,
        level: usize,
        mut num_in: usize,
        skips: Vec<usize>,
    ) -> Self {
        let num_out = config.block_out_channels[level];
        let mut block = Self { resnets: vec![], attentions: vec![], upsamplers: vec![] };
        for skip in skips.into_iter().rev() {
            block.resnets.push(Resnet::new(init, config.resnet(num_in + skip, num_out)));
            num_in = num_out;
            if config.attention[level] {
                block.attentions.push(config.transformer(init, level));
            }
        }
        if level > 0 {
            block.upsamplers.push(Upsample::new(init, num_out));
        }
        block
    }

    fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        context: &Tensor<3>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        for (at, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().expect("one output was kept for every residual block here");
            x = resnet.forward(Tensor::cat(vec![x, skip], 1), Some(time));
            if let Some(transformer) = self.attentions.get(at) {
                x = transformer.forward(x, context);
            }
        }
        for upsample in &self.upsamplers {
            let next = skips.last().expect("the level above still has its outputs");
            let [_, _, height, width] = next.dims();
            x = upsample.forward(x, [height, width]);
        }
        x
    }
}

fn level_flops(
    resnets: &[Resnet],
    attentions: &[SpatialTransformer],
    [height, width]: [usize; 2],
    num_context: usize,
) -> u64 {
    let resnets = resnets.iter().map(|resnet| resnet.flops(height, width)).sum::<u64>();
    let tokens = height * width;
    resnets + attentions.iter().map(|at| at.flops(tokens, num_context)).sum::<u64>()
}
