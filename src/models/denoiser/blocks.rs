//! What a U-Net is stacked from: blocks of residual blocks and transformers.

use super::UnetConfig;
use super::transformer::SpatialTransformer;
use super::unet_config::MidBlockKind;
use crate::models::Init;
use crate::models::layers::{Downsample, Resnet, Upsample, concat};
use burn::module::Module;
use burn::tensor::Tensor;

/// One level on the way down.
#[derive(Module, Debug)]
pub(super) struct DownBlock {
    pub(super) resnets: Vec<Resnet>,
    pub(super) attentions: Vec<SpatialTransformer>,
    pub(super) downsamplers: Vec<Downsample>,
}

impl DownBlock {
    pub(super) fn new(config: &UnetConfig, init: &mut Init, level: usize) -> Self {
        let channels = &config.block_out_channels;
        let num_out = channels[level];
        let mut block = Self { resnets: vec![], attentions: vec![], downsamplers: vec![] };
        for layer in 0..config.layers_per_block {
            let num_in = if layer == 0 { channels[level.saturating_sub(1)] } else { num_out };
            block.resnets.push(Resnet::new(init, config.resnet(num_in, num_out)));
            if config.attention[level] {
                block.attentions.push(config.transformer(init, level, config.is_only_cross(level)));
            }
        }
        if level + 1 < channels.len() {
            block.downsamplers.push(Downsample::new(init, num_out, (1, 1)));
        }
        block
    }

    pub(super) fn forward(
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

/// What is between the way down and the way up: a residual block, then transformers each with another after it.
#[derive(Module, Debug)]
pub(super) struct MidBlock {
    pub(super) attentions: Vec<SpatialTransformer>,
    pub(super) resnets: Vec<Resnet>,
}

impl MidBlock {
    pub(super) fn new(config: &UnetConfig, init: &mut Init) -> Option<Self> {
        let level = config.block_out_channels.len() - 1;
        let channels = config.block_out_channels[level];
        let shape = config.resnet(channels, channels);
        match config.mid_block {
            MidBlockKind::CrossAttention => Some(Self {
                // Never without self-attention.
                attentions: vec![config.transformer(init, level, false)],
                resnets: vec![Resnet::new(init, shape), Resnet::new(init, shape)],
            }),
            MidBlockKind::Residual => {
                Some(Self { attentions: vec![], resnets: vec![Resnet::new(init, shape)] })
            }
            MidBlockKind::None => None,
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, time: &Tensor<2>, context: &Tensor<3>) -> Tensor<4> {
        let mut x = self.resnets[0].forward(x, Some(time));
        for (transformer, resnet) in self.attentions.iter().zip(&self.resnets[1..]) {
            x = resnet.forward(transformer.forward(x, context), Some(time));
        }
        x
    }
}

/// One level on the way up.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    pub(super) resnets: Vec<Resnet>,
    pub(super) attentions: Vec<SpatialTransformer>,
    pub(super) upsamplers: Vec<Upsample>,
}

impl UpBlock {
    /// `skips`: the channels of the outputs kept on the way down, the last of which is used first.
    pub(super) fn new(
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
                block.attentions.push(config.transformer(init, level, config.is_only_cross(level)));
            }
        }
        if level > 0 {
            block.upsamplers.push(Upsample::new(init, num_out));
        }
        block
    }

    pub(super) fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        context: &Tensor<3>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        for (at, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().expect("one output was kept for every residual block here");
            x = resnet.forward(concat(x, skip), Some(time));
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
