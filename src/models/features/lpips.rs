//! LPIPS, version 0.1 over AlexNet: how different two images look.

use super::{max_pool, parse, plain_conv};
use crate::models::layers::Conv2d;
use crate::models::weights::StateDict;
use crate::models::{Compute, ConfigError, Init, leave};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

const NETWORK: &str = "LPIPS";

/// Where ImageNet's channels are, for images in [-1, 1], and how wide.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Added to the length of a feature vector.
const EPSILON: f64 = 1e-10;

/// Added to its square: less than shows beside [`EPSILON`], and a vector of zeros still has a gradient.
const TINY: f64 = 1e-24;

/// Which of the published distances. Only the one that papers report is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LpipsConfig {
    /// The network below it; `alex`.
    pub net: String,
    /// Of the weights; `0.1`.
    pub version: String,
}

impl Default for LpipsConfig {
    fn default() -> Self {
        Self { net: "alex".into(), version: "0.1".into() }
    }
}

impl LpipsConfig {
    /// Reads a folder's `config.json`.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let config: Self = parse(NETWORK, "Lpips", json)?;
        config.check()?;
        Ok(config)
    }

    /// Fails on another network or version.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        if self.net != "alex" {
            return refuse(format!("net {:?}", self.net), "alex");
        }
        if self.version != "0.1" {
            return refuse(format!("version {:?}", self.version), "0.1");
        }
        Ok(())
    }

    /// The tensors of the `lpips` package's state dict, without its second copy of the last layers and the
    /// constants of its input.
    pub fn from_file(&self, mut file: StateDict) -> StateDict {
        file.retain(|name, _| !name.starts_with("lins.") && !name.starts_with("scaling_layer."));
        file
    }

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Lpips {
        let mut lin = |channels| Lin { model: Model { at_1: plain_conv(init, channels, 1, 1) } };
        Lpips {
            lin0: lin(64),
            lin1: lin(192),
            lin2: lin(384),
            lin3: lin(256),
            lin4: lin(256),
            net: AlexNet {
                slice1: Slice1 { at_0: Conv2d::new(init, 3, 64, 11).with_stride(4, (2, 2)) },
                slice2: Slice2 { at_3: Conv2d::new(init, 64, 192, 5) },
                slice3: Slice3 { at_6: Conv2d::new(init, 192, 384, 3) },
                slice4: Slice4 { at_8: Conv2d::new(init, 384, 256, 3) },
                slice5: Slice5 { at_10: Conv2d::new(init, 256, 256, 3) },
            },
            compute: Compute::default(),
        }
    }
}

/// A learned perceptual distance (Zhang et al. 2018).
#[derive(Module, Debug)]
pub struct Lpips {
    net: AlexNet,
    lin0: Lin,
    lin1: Lin,
    lin2: Lin,
    lin3: Lin,
    lin4: Lin,
    #[module(skip)]
    compute: Compute,
}

impl Lpips {
    /// The least side of an image that it can see, in pixels.
    pub const LEAST_SIDE: usize = 31;

    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// How different each image of `a` looks from that of `b`, both [B, 3, H, W] in [-1, 1] (a single channel is
    /// repeated): `[B]`, 0 for the same image. No side may be below 31 pixels.
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        let [first, rest @ ..] = self.layers(a, b);
        rest.into_iter().fold(first, |sum, layer| sum + layer)
    }

    /// Cost of seeing one image of `height` by `width` pixels, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let AlexNet { slice1, slice2, slice3, slice4, slice5 } = &self.net;
        let first = [height, width].map(|side| side.saturating_sub(7) / 4 + 1);
        let pooled = |sides: [usize; 2]| sides.map(|side| side.saturating_sub(3) / 2 + 1);
        let (second, third) = (pooled(first), pooled(pooled(first)));
        [
            (&slice1.at_0, first),
            (&slice2.at_3, second),
            (&slice3.at_6, third),
            (&slice4.at_8, third),
            (&slice5.at_10, third),
        ]
        .map(|(conv, [height, width])| conv.flops(height, width))
        .iter()
        .sum()
    }

    /// What each of the five layers adds to that, `[B]` each.
    pub fn layers(&self, a: Tensor<4>, b: Tensor<4>) -> [Tensor<1>; 5] {
        let [a, b] =
            [a, b].map(|pixels| self.net.forward(self.compute.enter(standardised(pixels))));
        let lins = [&self.lin0, &self.lin1, &self.lin2, &self.lin3, &self.lin4];
        let mut pairs = a.into_iter().zip(b).zip(lins);
        std::array::from_fn(|_| {
            let ((a, b), lin) = pairs.next().expect("AlexNet has five layers here");
            lin.forward((unit(leave(a)) - unit(leave(b))).square())
        })
    }
}

/// `pixels` [B, 1 or 3, H, W] in [-1, 1] as AlexNet expects its three channels.
fn standardised(pixels: Tensor<4>) -> Tensor<4> {
    let [b, _, h, w] = pixels.dims();
    let channels =
        |values| Tensor::<1>::from_floats(values, &pixels.device()).reshape([1, 3, 1, 1]);
    let (shift, scale) = (channels(SHIFT), channels(SCALE));
    (pixels.expand([b, 3, h, w]) - shift) / scale
}

/// `x` [B, C, H, W] with the channels of each pixel divided by their length.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let length = (x.clone().square().sum_dim(1) + TINY).sqrt();
    x / (length + EPSILON)
}

/// The convolutions of AlexNet (Krizhevsky 2014), named as torchvision numbers its layers.
#[derive(Module, Debug)]
struct AlexNet {
    slice1: Slice1,
    slice2: Slice2,
    slice3: Slice3,
    slice4: Slice4,
    slice5: Slice5,
}

impl AlexNet {
    /// What each convolution finds.
    fn forward(&self, x: Tensor<4>) -> [Tensor<4>; 5] {
        let first = relu(self.slice1.at_0.forward(x));
        let second = relu(self.slice2.at_3.forward(max_pool(first.clone(), 2, 0)));
        let third = relu(self.slice3.at_6.forward(max_pool(second.clone(), 2, 0)));
        let fourth = relu(self.slice4.at_8.forward(third.clone()));
        let fifth = relu(self.slice5.at_10.forward(fourth.clone()));
        [first, second, third, fourth, fifth]
    }
}

#[derive(Module, Debug)]
struct Slice1 {
    at_0: Conv2d,
}

#[derive(Module, Debug)]
struct Slice2 {
    at_3: Conv2d,
}

#[derive(Module, Debug)]
struct Slice3 {
    at_6: Conv2d,
}

#[derive(Module, Debug)]
struct Slice4 {
    at_8: Conv2d,
}

#[derive(Module, Debug)]
struct Slice5 {
    at_10: Conv2d,
}

/// What each channel counts.
#[derive(Module, Debug)]
struct Lin {
    model: Model,
}

#[derive(Module, Debug)]
struct Model {
    at_1: Conv2d,
}

impl Lin {
    /// [B, C, H, W] to the weighted sum over channels, mean over pixels, `[B]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<1> {
        let [b, ..] = x.dims();
        super::spatial_mean(self.model.at_1.forward(x)).reshape([b])
    }
}
