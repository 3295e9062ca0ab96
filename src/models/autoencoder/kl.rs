//! The KL autoencoder of Stable Diffusion, in diffusers' layout and names.

use super::{AutoencoderKlConfig, Moments};
use crate::models::attention::{self, attention, merge_heads, split_heads};
use crate::models::layers::{Conv2d, Downsample, GroupNorm, Linear, Resnet, ResnetShape, Upsample};
use crate::models::{Compute, Init, leave};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

const EPSILON: f64 = 1e-6;

impl AutoencoderKlConfig {
    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> AutoencoderKl {
        let (latent, double) = (self.latent_channels, 2 * self.latent_channels);
        AutoencoderKl {
            encoder: Encoder::new(self, init),
            decoder: Decoder::new(self, init),
            quant_conv: self.use_quant_conv.then(|| Conv2d::new(init, double, double, 1)),
            post_quant_conv: self.use_post_quant_conv.then(|| Conv2d::new(init, latent, latent, 1)),
            config: self.clone(),
            compute: Compute::default(),
        }
    }

    fn resnet(&self, num_in: usize, num_out: usize) -> ResnetShape {
        let num_groups = self.norm_num_groups;
        let (time_width, is_scaled) = (None, false);
        ResnetShape { num_in, num_out, time_width, is_scaled, num_groups, epsilon: EPSILON }
    }
}

/// A variational autoencoder for images.
#[derive(Module, Debug)]
pub struct AutoencoderKl {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: AutoencoderKlConfig,
    #[module(skip)]
    compute: Compute,
}

impl AutoencoderKl {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// Images [B, C, H, W] in [-1, 1] to a distribution over latents [B, c, H / f, W / f], in f32.
    /// Height and width are multiples of the factor f.
    pub fn encode(&self, images: Tensor<4>) -> Moments {
        let mut moments = self.encoder.forward(self.compute.enter(images));
        if let Some(conv) = &self.quant_conv {
            moments = conv.forward(moments);
        }
        Moments::from_channels(leave(moments))
    }

    /// Latents [B, c, h, w], unscaled, to images [B, C, f h, f w], nominally in [-1, 1], in f32.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        self.finish(self.before_last(latents))
    }

    /// Latents as [`decode`](Self::decode) takes them to what the decoder's last layer sees, in the network's own
    /// number format.
    pub fn before_last(&self, latents: Tensor<4>) -> Tensor<4> {
        let mut latents = self.compute.enter(latents);
        if let Some(conv) = &self.post_quant_conv {
            latents = conv.forward(latents);
        }
        self.decoder.before_last(latents)
    }

    /// What [`before_last`](Self::before_last) gives to images, as [`decode`](Self::decode) gives them.
    pub fn finish(&self, features: Tensor<4>) -> Tensor<4> {
        leave(self.decoder.conv_out.forward(features))
    }

    /// The weight of the decoder's last layer, against whose gradient an adversarial loss is balanced.
    pub fn last_layer(&self) -> Tensor<4> {
        self.decoder.conv_out.weight.val()
    }

    /// Cost of encoding an image of `height` by `width` pixels, in floating-point operations.
    pub fn encode_flops(&self, height: usize, width: usize) -> u64 {
        self.encoder.flops(height, width)
    }

    /// Cost of decoding to an image of `height` by `width` pixels, in floating-point operations.
    pub fn decode_flops(&self, height: usize, width: usize) -> u64 {
        let factor = self.config.factor();
        self.decoder.flops(height / factor, width / factor)
    }

    /// A file's tensors under today's names: files from before diffusers 0.18 call the parts of the
    /// attention otherwise, and the original code keeps them as 1×1 convolutions.
    pub fn from_file(file: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
        const RENAMED: [(&str, &str); 4] =
            [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
        let modern = |name: String, data: TensorData| {
            let Some((stem, part)) = name.split_once(".mid_block.attentions.0.") else {
                return (name, data);
            };
            let mut part = part.to_owned();
            for (old, new) in RENAMED {
                if let Some(rest) = part.strip_prefix(old) {
                    part = format!("{new}{rest}");
                    break;
                }
            }
            let data = match *data.shape().as_slice() {
                [num_out, num_in, 1, 1] => {
                    let dtype = data.dtype();
                    TensorData::from_bytes(data.into_bytes(), [num_out, num_in], dtype)
                }
                _ => data,
            };
            (format!("{stem}.mid_block.attentions.0.{part}"), data)
        };
        file.into_iter().map(|(name, data)| modern(name, data)).collect()
    }
}

#[derive(Module, Debug)]
struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(config: &AutoencoderKlConfig, init: &mut Init) -> Self {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let conv_in = Conv2d::new(init, config.in_channels, first, 3);
        let mut num_in = first;
        let mut down_blocks = Vec::with_capacity(channels.len());
        for (level, &num_out) in channels.iter().enumerate() {
            let mut resnets = Vec::with_capacity(config.layers_per_block);
            for _ in 0..config.layers_per_block {
                resnets.push(Resnet::new(init, config.resnet(num_in, num_out)));
                num_in = num_out;
            }
            // The reference pads after, not before.
            let downsamplers = (level + 1 < channels.len())
                .then(|| Downsample::new(init, num_out, (0, 1)))
                .into_iter()
                .collect();
            down_blocks.push(DownBlock { resnets, downsamplers });
        }
        Self {
            conv_in,
            down_blocks,
            mid_block: MidBlock::new(config, init, last),
            conv_norm_out: GroupNorm::new(init, config.norm_num_groups, last, EPSILON),
            conv_out: Conv2d::new(init, last, 2 * config.latent_channels, 3),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let mut x = self.conv_in.forward(images);
        for DownBlock { resnets, downsamplers } in &self.down_blocks {
            for resnet in resnets {
                x = resnet.forward(x, None);
            }
            for downsample in downsamplers {
                x = downsample.forward(x);
            }
        }
        let x = self.mid_block.forward(x);
        self.conv_out.forward(self.conv_norm_out.forward_silu(x))
    }

    fn flops(&self, mut height: usize, mut width: usize) -> u64 {
        let mut flops = self.conv_in.flops(height, width);
        for DownBlock { resnets, downsamplers } in &self.down_blocks {
            flops += resnets.iter().map(|resnet| resnet.flops(height, width)).sum::<u64>();
            for downsample in downsamplers {
                (height, width) = (height / 2, width / 2);
                flops += downsample.flops(height, width);
            }
        }
        flops + self.mid_block.flops(height, width) + self.conv_out.flops(height, width)
    }
}

#[derive(Module, Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(config: &AutoencoderKlConfig, init: &mut Init) -> Self {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let conv_in = Conv2d::new(init, config.latent_channels, last, 3);
        let mid_block = MidBlock::new(config, init, last);
        let mut num_in = last;
        let mut up_blocks = Vec::with_capacity(channels.len());
        for (level, &num_out) in channels.iter().enumerate().rev() {
            let mut resnets = Vec::with_capacity(config.layers_per_block + 1);
            for _ in 0..=config.layers_per_block {
                resnets.push(Resnet::new(init, config.resnet(num_in, num_out)));
                num_in = num_out;
            }
            let upsamplers =
                (level > 0).then(|| Upsample::new(init, num_out)).into_iter().collect();
            up_blocks.push(UpBlock { resnets, upsamplers });
        }
        Self {
            conv_in,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::new(init, config.norm_num_groups, first, EPSILON),
            conv_out: Conv2d::new(init, first, config.out_channels, 3),
        }
    }

    fn before_last(&self, latents: Tensor<4>) -> Tensor<4> {
        let mut x = self.mid_block.forward(self.conv_in.forward(latents));
        for UpBlock { resnets, upsamplers } in &self.up_blocks {
            for resnet in resnets {
                x = resnet.forward(x, None);
            }
            for upsample in upsamplers {
                let [_, _, h, w] = x.dims();
                x = upsample.forward(x, [2 * h, 2 * w]);
            }
        }
        self.conv_norm_out.forward_silu(x)
    }

    fn flops(&self, mut height: usize, mut width: usize) -> u64 {
        let mut flops = self.conv_in.flops(height, width) + self.mid_block.flops(height, width);
        for UpBlock { resnets, upsamplers } in &self.up_blocks {
            flops += resnets.iter().map(|resnet| resnet.flops(height, width)).sum::<u64>();
            for upsample in upsamplers {
                (height, width) = (2 * height, 2 * width);
                flops += upsample.flops(height, width);
            }
        }
        flops + self.conv_out.flops(height, width)
    }
}

#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    downsamplers: Vec<Downsample>,
}

#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    upsamplers: Vec<Upsample>,
}

#[derive(Module, Debug)]
struct MidBlock {
    attentions: Vec<SpatialAttention>,
    resnets: Vec<Resnet>,
}

impl MidBlock {
    fn new(config: &AutoencoderKlConfig, init: &mut Init, channels: usize) -> Self {
        let attention = |init: &mut Init| SpatialAttention {
            group_norm: GroupNorm::new(init, config.norm_num_groups, channels, EPSILON),
            to_q: Linear::new(init, channels, channels, true),
            to_k: Linear::new(init, channels, channels, true),
            to_v: Linear::new(init, channels, channels, true),
            to_out: vec![Linear::new(init, channels, channels, true)],
        };
        let shape = config.resnet(channels, channels);
        Self {
            attentions: config
                .mid_block_add_attention
                .then(|| attention(init))
                .into_iter()
                .collect(),
            resnets: vec![Resnet::new(init, shape), Resnet::new(init, shape)],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = self.resnets[0].forward(x, None);
        for attention in &self.attentions {
            x = attention.forward(x);
        }
        self.resnets[1].forward(x, None)
    }

    fn flops(&self, height: usize, width: usize) -> u64 {
        let resnets = self.resnets.iter().map(|resnet| resnet.flops(height, width)).sum::<u64>();
        resnets + self.attentions.iter().map(|at| at.flops(height * width)).sum::<u64>()
    }
}

/// Self-attention over the positions of an image, with one head.
#[derive(Module, Debug)]
struct SpatialAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
}

impl SpatialAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let tokens =
            self.group_norm.forward(x.clone()).permute([0, 2, 3, 1]).reshape([b, h * w, c]);
        let [q, k, v] = [&self.to_q, &self.to_k, &self.to_v]
            .map(|part| split_heads(part.forward(tokens.clone()), 1));
        let tokens = self.to_out[0].forward(merge_heads(attention(q, k, v)));
        x + tokens.reshape([b, h, w, c]).permute([0, 3, 1, 2])
    }

    fn flops(&self, n: usize) -> u64 {
        let width = self.to_q.weight.lazy_shape()[0];
        4 * self.to_q.flops(n) + attention::flops(n, n, width)
    }
}
