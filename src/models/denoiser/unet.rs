//! The conditional U-Net of Stable Diffusion, in diffusers' layout and names.

use super::added::{Added, ClassMaps, beside_waves, embed_class, waves};
use super::blocks::{DownBlock, MidBlock, UpBlock};
use super::time::TimeEmbedding;
use super::transformer::{SpatialTransformer, TransformerShape};
use super::unet_config::{TimeScaleShift, UnetConfig};
use crate::models::layers::{Conv2d, GroupNorm, Linear, Resnet, ResnetShape};
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
        let conv_in = Conv2d::new(init, self.in_channels, first, self.conv_in_kernel);
        let time_embedding = TimeEmbedding::new(init, first, time_width);
        let class_embedding = ClassMaps::new(self, init);
        let add_embedding =
            self.text_time.map(|shape| TimeEmbedding::new(init, shape.input_dim, time_width));
        let encoder_hid_proj = self
            .encoder_hid_dim
            .map(|width| Linear::new(init, width, self.cross_attention_dim, true));

        let mut down_blocks = Vec::with_capacity(channels.len());
        let mut skips = vec![first]; // channels of each output kept for the way up
        for (level, &num_out) in channels.iter().enumerate() {
            let block = DownBlock::new(self, init, level);
            skips.extend(vec![num_out; self.layers_per_block + block.downsamplers.len()]);
            down_blocks.push(block);
        }
        let mid_block = MidBlock::new(self, init);
        let mut up_blocks = Vec::with_capacity(channels.len());
        let mut num_in = last;
        for level in (0..channels.len()).rev() {
            let skips = skips.split_off(skips.len() - self.layers_per_block - 1);
            up_blocks.push(UpBlock::new(self, init, level, num_in, skips));
            num_in = channels[level];
        }
        let conv_norm_out = GroupNorm::new(init, self.norm_num_groups, first, self.norm_eps);
        let kernel = self.conv_out_kernel;
        // Zero at the start, as Stable Diffusion's own code has it (diffusers leaves PyTorch's default).
        let conv_out = Conv2d::filled(init, first, self.out_channels, kernel, Fill::Zeros);
        Unet {
            conv_in,
            // Last, so that what comes before is drawn as without it.
            time_embedding: time_embedding.told(init, first, self.time_cond_proj_dim),
            class_embedding,
            add_embedding,
            encoder_hid_proj,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out,
            conv_out,
            config: self.clone(),
            compute: Compute::default(),
        }
    }

    pub(super) fn resnet(&self, num_in: usize, num_out: usize) -> ResnetShape {
        ResnetShape {
            num_in,
            num_out,
            time_width: Some(self.time_width()),
            is_scaled: self.resnet_time_scale_shift == TimeScaleShift::ScaleShift,
            num_groups: self.norm_num_groups,
            epsilon: self.norm_eps,
        }
    }

    pub(super) fn transformer(
        &self,
        init: &mut Init,
        level: usize,
        is_only_cross: bool,
    ) -> SpatialTransformer {
        let shape = TransformerShape {
            width: self.block_out_channels[level],
            num_heads: self.num_heads(level),
            num_blocks: self.num_transformer_layers(level),
            is_only_cross,
        };
        SpatialTransformer::new(self, init, shape)
    }
}

/// Predicts, from noisy latents, whatever its training's objective asked for.
#[derive(Module, Debug)]
pub struct Unet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    class_embedding: Option<ClassMaps>,
    add_embedding: Option<TimeEmbedding>,
    encoder_hid_proj: Option<Linear>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
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
        let added = Added { class_labels: pooled, ..Added::default() };
        self.forward_added(noisy, timesteps, context, added)
    }

    /// [`forward`](Self::forward) with what else the network was built for. What is missing adds nothing and what
    /// was not expected is ignored: [`UnetConfig::check_inputs`] is for who wants to know.
    pub fn forward_added(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        added: Added,
    ) -> Tensor<4> {
        let mut context = self.compute.enter(context);
        if let Some(projection) = &self.encoder_hid_proj {
            context = projection.forward(context);
        }
        let time = silu(self.embed_time(timesteps, added)); // every block starts with this SiLU
        let noisy = match self.config.center_input_sample {
            true => noisy.mul_scalar(2.0).sub_scalar(1.0),
            false => noisy,
        };

        let mut x = self.conv_in.forward(self.compute.enter(noisy));
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &time, &context, &mut skips);
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(x, &time, &context);
        }
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
        let class = self.class_embedding.as_ref().map_or(0, ClassMaps::flops);
        let add = self.add_embedding.as_ref().map_or(0, TimeEmbedding::flops);
        let hid = self.encoder_hid_proj.as_ref().map_or(0, |linear| linear.flops(num_context));
        let mut flops = self.time_embedding.flops() + class + add + hid;
        flops += self.conv_in.flops(height, width);
        for block in &self.down_blocks {
            sizes.push(size);
            flops += level_flops(&block.resnets, &block.attentions, size, num_context);
            for downsample in &block.downsamplers {
                size = size.map(|side| side.div_ceil(2));
                flops += downsample.flops(size[0], size[1]);
            }
        }
        if let Some(block) = &self.mid_block {
            flops += level_flops(&block.resnets, &block.attentions, size, num_context);
        }
        for (block, level) in self.up_blocks.iter().zip((0..sizes.len()).rev()) {
            flops += level_flops(&block.resnets, &block.attentions, sizes[level], num_context);
            for upsample in &block.upsamplers {
                let [height, width] = sizes[level - 1];
                flops += upsample.flops(height, width);
            }
        }
        flops + self.conv_out.flops(height, width)
    }

    /// Timesteps [B] and what else there is to [B, width of the time embedding].
    fn embed_time(&self, timesteps: Tensor<1>, added: Added) -> Tensor<2> {
        let config = &self.config;
        let waves = waves(config, timesteps, config.block_out_channels[0]);
        let Added { class_labels, text_embeds, time_ids, timestep_cond } = added;
        let waves = self.time_embedding.joined(waves, timestep_cond);
        let mut time = self.time_embedding.forward(self.compute.enter(waves));
        let maps = self.class_embedding.as_ref();
        if let Some(labels) = class_labels
            && let Some(class) = embed_class(config, maps, labels, self.compute)
        {
            time = time + class;
        }
        if let (Some(maps), Some(shape)) = (&self.add_embedding, config.text_time)
            && let (Some(text), Some(ids)) = (text_embeds, time_ids)
        {
            let both = beside_waves(config, shape, text, ids);
            time = time + maps.forward(self.compute.enter(both));
        }
        time
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
