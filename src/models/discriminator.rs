//! What tells real images from restored ones, patch by patch.

use super::layers::{Conv2d, GroupNorm};
use super::{Compute, ConfigError, Fill, Init, check_at_most, check_depth, check_multiple, leave};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

const NETWORK: &str = "discriminator";
/// Deviation of the first weights, as pix2pix and all after it have it.
const INITIAL_STD: f64 = 0.02;
/// Slope of the nonlinearity below 0.
const SLOPE: f64 = 0.2;
/// PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Channels that are normalised together, where the width allows it (Wu & He 2018 find 16 as good as any).
const GROUP: usize = 16;
/// No layer is wider than this many times the first.
const WIDEST: usize = 8;
/// More halvings would leave nothing of any image.
const MOST_LAYERS: usize = 8;

/// Sizes of a discriminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscriminatorConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Channels of the first layer, doubled by each of the next up to eight times as many; a multiple of 8.
    pub channels: usize,
    /// Layers that halve the sides. 3 judge patches of 70 × 70 pixels.
    pub layers: usize,
}

impl DiscriminatorConfig {
    /// Fails where the network could not be built.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_multiple(NETWORK, ("channels", self.channels), ("its unit", 8))?;
        check_depth(NETWORK, ("layers", self.layers))?;
        check_at_most(NETWORK, ("layers", self.layers), MOST_LAYERS)
    }

    /// The least side of an image that it can judge, in pixels.
    pub fn least_side(&self) -> usize {
        3 << self.layers.min(MOST_LAYERS)
    }

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Discriminator {
        let width = |layer: usize| self.channels * (1 << layer).min(WIDEST);
        let first = conv(init, self.in_channels, width(0), 2, true);
        let mut main = vec![Layer::Conv(first), Layer::Leaky(Leaky {})];
        for layer in 1..=self.layers {
            let (num_in, num_out) = (width(layer - 1), width(layer));
            let stride = if layer < self.layers { 2 } else { 1 };
            main.push(Layer::Conv(conv(init, num_in, num_out, stride, false)));
            main.push(Layer::Norm(GroupNorm::new(init, groups(num_out), num_out, EPSILON)));
            main.push(Layer::Leaky(Leaky {}));
        }
        main.push(Layer::Conv(conv(init, width(self.layers), 1, 1, true)));
        Discriminator { main, compute: Compute::default() }
    }
}

/// The largest number of groups that divides `width` and leaves each at least [`GROUP`] channels, or 1.
fn groups(width: usize) -> usize {
    (1..=width / GROUP).rev().find(|groups| width.is_multiple_of(*groups)).unwrap_or(1)
}

/// A convolution of 4 × 4 pixels, with a bias where no norm follows.
fn conv(init: &mut Init, num_in: usize, num_out: usize, stride: usize, has_bias: bool) -> Conv2d {
    const KERNEL: usize = 4;
    let bias = Fill::torch_default(num_in * KERNEL * KERNEL);
    Conv2d {
        weight: init.param([num_out, num_in, KERNEL, KERNEL], Fill::Normal(INITIAL_STD)),
        bias: has_bias.then(|| init.param([num_out], bias)),
        stride,
        padding: (1, 1),
    }
}

/// The PatchGAN of pix2pix (Isola et al. 2017), as latent diffusion uses it, but normalised within groups of channels
/// of an image (Wu & He 2018) and not over the batch: what it says of an image then does not depend on which others are
/// looked at together with it.
#[derive(Module, Debug)]
pub struct Discriminator {
    main: Vec<Layer>,
    #[module(skip)]
    compute: Compute,
}

impl Discriminator {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// Images [B, C, H, W] in [-1, 1] to how real each patch of them looks, [B, 1, h, w], in f32: above 0 where rather
    /// real than not. No side may be below [`least_side`](DiscriminatorConfig::least_side).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        leave(self.main.iter().fold(self.compute.enter(images), |x, layer| match layer {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Norm(norm) => norm.forward(x),
            Layer::Leaky(_) => leaky_relu(x, SLOPE),
        }))
    }

    /// Forward cost for an image of `height` by `width` pixels, in floating-point operations.
    pub fn flops(&self, mut height: usize, mut width: usize) -> u64 {
        let mut flops = 0;
        for layer in &self.main {
            if let Layer::Conv(conv) = layer {
                let shrunk = |side: usize| (side.saturating_sub(2)) / conv.stride + 1;
                (height, width) = (shrunk(height), shrunk(width));
                flops += conv.flops(height, width);
            }
        }
        flops
    }
}

#[derive(Module, Debug)]
enum Layer {
    Conv(Conv2d),
    Norm(GroupNorm),
    Leaky(Leaky),
}

/// A nonlinearity; an entry of its own, as in PyTorch's `Sequential`, whose places are names.
#[derive(Module, Debug)]
struct Leaky {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::shapes;
    use crate::random::Stream;
    use burn::tensor::Device;

    #[test]
    fn the_published_sizes_and_names() {
        let config = DiscriminatorConfig { in_channels: 3, channels: 64, layers: 3 };
        config.check().unwrap();
        let init = &mut Init::new(Stream::new(1, "discriminator"), &Device::flex()).hollow();
        let network = config.init(init);
        let shapes = shapes(&network);
        // Those of pix2pix's NLayerDiscriminator(3, 64, 3), norms included.
        let expected: &[(&str, &[usize])] = &[
            ("main.0.bias", &[64]),
            ("main.0.weight", &[64, 3, 4, 4]),
            ("main.11.bias", &[1]),
            ("main.11.weight", &[1, 512, 4, 4]),
            ("main.2.weight", &[128, 64, 4, 4]),
            ("main.3.bias", &[128]),
            ("main.3.weight", &[128]),
            ("main.5.weight", &[256, 128, 4, 4]),
            ("main.6.bias", &[256]),
            ("main.6.weight", &[256]),
            ("main.8.weight", &[512, 256, 4, 4]),
            ("main.9.bias", &[512]),
            ("main.9.weight", &[512]),
        ];
        let found: Vec<(&str, &[usize])> =
            shapes.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
        assert_eq!(found, expected);
        for (side, patches) in [(256, 30), (64, 6), (24, 1), (25, 1)] {
            let images = Tensor::<4>::zeros([1, 3, side, side], &Device::flex());
            if side < 100 {
                assert_eq!(network.forward(images).dims(), [1, 1, patches, patches], "{side}");
            }
        }
        assert_eq!(config.least_side(), 24);
        // 2 · weights · places, by hand.
        let places = [128 * 128, 64 * 64, 32 * 32, 31 * 31, 30 * 30];
        let weights = [3 * 64, 64 * 128, 128 * 256, 256 * 512, 512].map(|pairs| 16 * pairs);
        let expected: u64 = places.iter().zip(weights).map(|(p, w)| 2 * p * w).sum();
        assert_eq!(network.flops(256, 256), expected);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let with = |channels, layers| DiscriminatorConfig { in_channels: 1, channels, layers };
        for wrong in [with(0, 3), with(12, 3), with(64, 0), with(64, 9)] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert_eq!([8, 16, 48, 64, 512].map(groups), [1, 1, 3, 4, 32]);
    }
}
