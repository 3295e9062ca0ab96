//! TorchXRayVision's DenseNet, which made the features of "FID (XRV)" in the literature.

use super::resize;
use super::{XrayDenseNetConfig, max_pool, plain_conv, spatial_mean};
use crate::models::images::stack;
use crate::models::layers::{BatchNorm, Conv2d, Linear};
use crate::models::{Compute, Init, leave};
use burn::module::Module;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

/// Side of the images the published weights were trained on.
const SIZE: usize = 224;

/// torch's default.
const EPSILON: f64 = 1e-5;

/// torchvision's weights of red, green and blue in grey. They sum to 0.9999, so that grey images become darker.
const LUMINANCE: f32 = 0.2989 + 0.587 + 0.114;

impl XrayDenseNetConfig {
    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> XrayDenseNet {
        let mut channels = self.num_init_features;
        let conv0 = plain_conv(init, self.in_channels, channels, 7).with_stride(2, (3, 3));
        let norm0 = BatchNorm::new(init, channels, EPSILON);
        let (mut denseblock, mut transition) = (Vec::new(), Vec::new());
        for (at, &num_layers) in self.block_config.iter().enumerate() {
            if at > 0 {
                transition.push(Transition {
                    norm: BatchNorm::new(init, channels, EPSILON),
                    conv: plain_conv(init, channels, channels / 2, 1),
                });
                channels /= 2;
            }
            let layer = |at| DenseLayer::new(self, channels + at * self.growth_rate, init);
            denseblock.push(DenseBlock { denselayer: (0..num_layers).map(layer).collect() });
            channels += num_layers * self.growth_rate;
        }
        let norm5 = BatchNorm::new(init, channels, EPSILON);
        XrayDenseNet {
            features: Features { conv0, norm0, denseblock, transition, norm5 },
            classifier: Linear::new(init, channels, self.num_classes, true),
            config: self.clone(),
            compute: Compute::default(),
        }
    }
}

/// A DenseNet for radiographs (Cohen et al. 2022).
#[derive(Module, Debug)]
pub struct XrayDenseNet {
    features: Features,
    classifier: Linear,
    #[module(skip)]
    config: XrayDenseNetConfig,
    #[module(skip)]
    compute: Compute,
}

/// What a [`XrayDenseNet`] sees.
#[derive(Debug, Clone)]
pub struct XrayDenseNetOutput {
    /// Means over the last maps, [B, `num_features`], at least 0: what distances between sets are taken of.
    pub features: Tensor<2>,
    /// One number per finding, [B, `num_classes`].
    pub logits: Tensor<2>,
}

impl XrayDenseNet {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// What it was built from.
    pub fn config(&self) -> &XrayDenseNetConfig {
        &self.config
    }

    /// `pixels` [B, C, H, W], for the published weights in [-1024, 1024] and 224 × 224, to features and logits
    /// in f32. Other sizes are taken as they are; no side may be below 2^(blocks + 1) pixels.
    pub fn forward(&self, pixels: Tensor<4>) -> XrayDenseNetOutput {
        let Features { conv0, norm0, denseblock, transition, norm5 } = &self.features;
        let x = conv0.forward(self.compute.enter(pixels));
        let mut x = max_pool(relu(norm0.forward(x)), 2, 1);
        for (at, block) in denseblock.iter().enumerate() {
            if at > 0 {
                x = transition[at - 1].forward(x);
            }
            for layer in &block.denselayer {
                x = layer.forward(x);
            }
        }
        let features = spatial_mean(leave(relu(norm5.forward(x))));
        XrayDenseNetOutput { logits: self.classifier.forward(features.clone()), features }
    }

    /// What TorchXRayVision's own `forward` returns for `logits` [B, `num_classes`]: with thresholds the
    /// probability, stretched so that the finding's threshold becomes one half (and one half where there is
    /// none); without thresholds the logits.
    pub fn outputs(&self, logits: Tensor<2>) -> Tensor<2> {
        let Some(thresholds) = &self.config.op_threshs else { return logits };
        let row = |value: fn(&Option<f32>) -> f32| {
            let values: Vec<f32> = thresholds.iter().map(value).collect();
            Tensor::<1>::from_floats(values.as_slice(), &logits.device()).unsqueeze::<2>()
        };
        let threshold = row(|it| it.unwrap_or(0.5));
        let is_known = row(|it| f32::from(u8::from(it.is_some())));
        let probability = sigmoid(logits);
        let below = probability.clone() / (threshold.clone() * 2.0);
        let above = (probability.clone() - 1.0) / ((-threshold.clone() + 1.0) * 2.0) + 1.0;
        let is_below = probability.lower(threshold.expand(below.dims()));
        let stretched = above.mask_where(is_below, below);
        (stretched - 0.5) * is_known + 0.5
    }

    /// Grey images of `size` × `size` in [0, 1] as this network saw images when it was measured with
    /// (RoentGen's evaluation, Chambon et al. 2022): [B, 1, 224, 224] in about [-1024, 1024].
    ///
    /// Each image is rounded to 8 bits, resized to 299 × 299 as clean-fid does (bicubic, antialiased, clipped to
    /// [0, 255]), turned from three equal channels into one by torchvision's weights, mapped by
    /// 2048 x / 255 - 1024, and resized to 224 × 224 (bilinear, antialiased).
    pub fn preprocess(images: &[&[f32]], size: usize, device: &Device) -> Tensor<4> {
        let ready: Vec<Vec<f32>> = images
            .iter()
            .map(|image| {
                let mut pixels = resize::clean(&resize::levels(image), size);
                for value in &mut pixels {
                    *value = 2048.0 * (LUMINANCE * *value) / 255.0 - 1024.0;
                }
                resize::bilinear(&pixels, resize::CLEAN, SIZE)
            })
            .collect();
        stack(ready.iter().map(Vec::as_slice), SIZE, device)
    }
}

#[derive(Module, Debug)]
struct Features {
    conv0: Conv2d,
    norm0: BatchNorm,
    denseblock: Vec<DenseBlock>,
    /// One fewer than blocks.
    transition: Vec<Transition>,
    norm5: BatchNorm,
}

#[derive(Module, Debug)]
struct DenseBlock {
    denselayer: Vec<DenseLayer>,
}

/// Adds channels that are computed from all before.
#[derive(Module, Debug)]
struct DenseLayer {
    norm1: BatchNorm,
    conv1: Conv2d,
    norm2: BatchNorm,
    conv2: Conv2d,
}

impl DenseLayer {
    fn new(config: &XrayDenseNetConfig, num_in: usize, init: &mut Init) -> Self {
        let inner = config.bn_size * config.growth_rate;
        Self {
            norm1: BatchNorm::new(init, num_in, EPSILON),
            conv1: plain_conv(init, num_in, inner, 1),
            norm2: BatchNorm::new(init, inner, EPSILON),
            conv2: plain_conv(init, inner, config.growth_rate, 3),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let new = self.conv1.forward(relu(self.norm1.forward(x.clone())));
        let new = self.conv2.forward(relu(self.norm2.forward(new)));
        Tensor::cat(vec![x, new], 1)
    }
}

/// Halves channels and sides.
#[derive(Module, Debug)]
struct Transition {
    norm: BatchNorm,
    conv: Conv2d,
}

impl Transition {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv.forward(relu(self.norm.forward(x)));
        avg_pool2d(x, AvgPoolOptions::new([2, 2]))
    }
}
