//! The tiny autoencoders of TAESD's family (Bohan 2023), in diffusers' layout and names.

use super::tiny_config::{self, POOL_GROUPS, POOL_WIDENING};
use super::{Activation, AutoencoderTinyConfig, Moments};
use crate::models::layers::{Conv2d, GroupNorm, repeat};
use crate::models::weights::StateDict;
use crate::models::{Compute, Init, leave};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

/// PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Latents are squashed smoothly to between minus and plus this before they are decoded.
const RANGE: f64 = 3.0;

impl AutoencoderTinyConfig {
    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> AutoencoderTiny {
        AutoencoderTiny {
            encoder: self.encoder(init),
            decoder: self.decoder(init),
            config: self.clone(),
            compute: Compute::default(),
        }
    }

    fn encoder(&self, init: &mut Init) -> Sequential {
        let mut layers = Vec::new();
        let width = self.encoder_block_out_channels[0];
        for (level, &num_blocks) in self.num_encoder_blocks.iter().enumerate() {
            layers.push(Layer::Conv(match level {
                0 => Conv2d::new(init, self.in_channels, width, 3),
                _ => Conv2d::without_bias(init, width, width, 3).with_stride(2, (1, 1)),
            }));
            for _ in 0..num_blocks {
                let is_pooled = self.pooled_blocks.encoder.contains(&layers.len());
                layers.push(Layer::Block(Block::new(init, width, self.act_fn, is_pooled)));
            }
        }
        layers.push(Layer::Conv(Conv2d::new(init, width, self.latent_channels, 3)));
        Sequential { layers }
    }

    fn decoder(&self, init: &mut Init) -> Sequential {
        let width = self.decoder_block_out_channels[0];
        let mut layers = vec![
            Layer::Conv(Conv2d::new(init, self.latent_channels, width, 3)),
            Layer::Activate(Activate { activation: self.act_fn }),
        ];
        for (level, &num_blocks) in self.num_decoder_blocks.iter().enumerate() {
            if level > 0 {
                layers.push(Layer::Repeat(Repeat { times: self.upsampling_scaling_factor }));
                layers.push(Layer::Conv(Conv2d::without_bias(init, width, width, 3)));
            }
            for _ in 0..num_blocks {
                let is_pooled = self.pooled_blocks.decoder.contains(&layers.len());
                layers.push(Layer::Block(Block::new(init, width, self.act_fn, is_pooled)));
            }
        }
        layers.push(Layer::Conv(Conv2d::new(init, width, self.out_channels, 3)));
        Sequential { layers }
    }
}

/// An autoencoder of convolutions alone, distilled from a larger one whose latents it shares.
#[derive(Module, Debug)]
pub struct AutoencoderTiny {
    encoder: Sequential,
    decoder: Sequential,
    #[module(skip)]
    config: AutoencoderTinyConfig,
    #[module(skip)]
    compute: Compute,
}

impl AutoencoderTiny {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &AutoencoderTinyConfig {
        &self.config
    }

    /// Images [B, C, H, W] in [-1, 1] to latents [B, c, H / f, W / f], in f32, of which it is
    /// [certain](Moments::certain). Height and width are multiples of the factor f.
    pub fn encode(&self, images: Tensor<4>) -> Moments {
        let unit = self.compute.enter(images).mul_scalar(0.5).add_scalar(0.5);
        Moments::certain(leave(self.encoder.forward(unit)))
    }

    /// Latents [B, c, h, w], unscaled, to images [B, C, f h, f w], nominally in [-1, 1], in f32.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        self.finish(self.before_last(latents))
    }

    /// Latents as [`decode`](Self::decode) takes them to what the decoder's last layer sees, in the network's own
    /// number format.
    pub fn before_last(&self, latents: Tensor<4>) -> Tensor<4> {
        let squashed = self.compute.enter(latents).div_scalar(RANGE).tanh().mul_scalar(RANGE);
        self.decoder.but_last(squashed)
    }

    /// What [`before_last`](Self::before_last) gives to images, as [`decode`](Self::decode) gives them.
    pub fn finish(&self, features: Tensor<4>) -> Tensor<4> {
        leave(self.decoder.last().forward(features)).mul_scalar(2.0).sub_scalar(1.0)
    }

    /// The weight of the decoder's last layer, against whose gradient an adversarial loss is balanced.
    pub fn last_layer(&self) -> Tensor<4> {
        self.decoder.last().weight.val()
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

    /// A file's tensors under diffusers' names, whether it is diffusers' or the TAESD repository's (with the name
    /// of the half in front: `encoder.0.weight`).
    pub fn from_file(file: StateDict) -> StateDict {
        tiny_config::from_file(file)
    }
}

/// PyTorch's `Sequential`: an entry's place is its name.
#[derive(Module, Debug)]
struct Sequential {
    layers: Vec<Layer>,
}

impl Sequential {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.last().forward(self.but_last(x))
    }

    fn but_last(&self, x: Tensor<4>) -> Tensor<4> {
        self.layers[..self.layers.len() - 1].iter().fold(x, |x, layer| match layer {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Block(block) => block.forward(x),
            Layer::Activate(Activate { activation }) => activation.forward(x),
            Layer::Repeat(Repeat { times }) => repeat(x, *times),
        })
    }

    fn last(&self) -> &Conv2d {
        match self.layers.last() {
            Some(Layer::Conv(conv)) => conv,
            _ => unreachable!("both halves end in a convolution"),
        }
    }

    fn flops(&self, mut height: usize, mut width: usize) -> u64 {
        let mut flops = 0;
        for layer in &self.layers {
            match layer {
                Layer::Conv(conv) => {
                    (height, width) = (height.div_ceil(conv.stride), width.div_ceil(conv.stride));
                    flops += conv.flops(height, width);
                }
                Layer::Block(block) => flops += block.flops(height, width),
                Layer::Activate(_) => {}
                Layer::Repeat(Repeat { times }) => {
                    (height, width) = (height * times, width * times);
                }
            }
        }
        flops
    }
}

#[expect(clippy::large_enum_variant, reason = "few are alive at once, and a box is no module")]
#[derive(Module, Debug)]
enum Layer {
    Conv(Conv2d),
    Block(Block),
    Activate(Activate),
    Repeat(Repeat),
}

/// A nonlinearity that stands by itself.
#[derive(Module, Debug)]
struct Activate {
    #[module(skip)]
    activation: Activation,
}

/// Enlarges by repetition.
#[derive(Module, Debug)]
struct Repeat {
    times: usize,
}

/// Three convolutions beside a shortcut, after a pool if there is one.
#[derive(Module, Debug)]
struct Block {
    pool: Option<Pool>,
    conv: Convolutions,
    #[module(skip)]
    activation: Activation,
}

/// PyTorch's `Sequential` of convolutions with nonlinearities (1 and 3) between them.
#[derive(Module, Debug)]
struct Convolutions {
    at_0: Conv2d,
    at_2: Conv2d,
    at_4: Conv2d,
}

/// PyTorch's `Sequential` of a widening, a norm, a ReLU (2) and a narrowing, all pointwise but the norm, which
/// lets every position know of the others.
#[derive(Module, Debug)]
struct Pool {
    at_0: Conv2d,
    at_1: GroupNorm,
    at_3: Conv2d,
}

impl Block {
    fn new(init: &mut Init, width: usize, activation: Activation, is_pooled: bool) -> Self {
        let wide = POOL_WIDENING * width;
        Self {
            pool: is_pooled.then(|| Pool {
                at_0: Conv2d::without_bias(init, width, wide, 1),
                at_1: GroupNorm::new(init, POOL_GROUPS, wide, EPSILON),
                at_3: Conv2d::without_bias(init, wide, width, 1),
            }),
            conv: Convolutions {
                at_0: Conv2d::new(init, width, width, 3),
                at_2: Conv2d::new(init, width, width, 3),
                at_4: Conv2d::new(init, width, width, 3),
            },
            activation,
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<4> {
        if let Some(Pool { at_0: widen, at_1: norm, at_3: narrow }) = &self.pool {
            x = x.clone() + narrow.forward(relu(norm.forward(widen.forward(x))));
        }
        let Convolutions { at_0, at_2, at_4 } = &self.conv;
        let hidden = self.activation.forward(at_0.forward(x.clone()));
        let hidden = self.activation.forward(at_2.forward(hidden));
        relu(at_4.forward(hidden) + x) // a ReLU whatever the nonlinearity inside
    }

    fn flops(&self, height: usize, width: usize) -> u64 {
        let Convolutions { at_0, at_2, at_4 } = &self.conv;
        let pool = self.pool.iter().flat_map(|pool| [&pool.at_0, &pool.at_3]);
        pool.chain([at_0, at_2, at_4]).map(|conv| conv.flops(height, width)).sum()
    }
}
