//! The residual block and the changes of size that autoencoder and U-Net share.

use super::{Conv2d, GroupNorm, Linear};
use crate::engine;
use crate::models::{Fill, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// Two normalised convolutions beside a shortcut: diffusers' `ResnetBlock2D`.
#[derive(Module, Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    /// Whether the time embedding scales, too.
    is_scaled: bool,
}

/// What a [`Resnet`] is made of.
#[derive(Debug, Clone, Copy)]
pub struct ResnetShape {
    /// Channels in.
    pub num_in: usize,
    /// Channels out.
    pub num_out: usize,
    /// Width of the time embedding that comes in between the convolutions, if there is one.
    pub time_width: Option<usize>,
    /// Whether it scales and shifts after the second norm rather than shifting before it.
    pub is_scaled: bool,
    /// Groups of both norms.
    pub num_groups: usize,
    /// Added to the variance by both norms.
    pub epsilon: f64,
}

impl Resnet {
    /// A block. In a denoiser (one with a time embedding) the second convolution starts at zero, as
    /// Stable Diffusion's own code has it (diffusers leaves PyTorch's default).
    pub fn new(init: &mut Init, shape: ResnetShape) -> Self {
        let ResnetShape { num_in, num_out, time_width, is_scaled, num_groups, epsilon } = shape;
        let fill = Fill::torch_default(num_out * 9);
        let last = if time_width.is_some() { Fill::Zeros } else { fill };
        Self {
            norm1: GroupNorm::new(init, num_groups, num_in, epsilon),
            conv1: Conv2d::new(init, num_in, num_out, 3),
            time_emb_proj: time_width.map(|width| {
                let num_values = if is_scaled { 2 * num_out } else { num_out };
                Linear::new(init, width, num_values, true)
            }),
            norm2: GroupNorm::new(init, num_groups, num_out, epsilon),
            conv2: Conv2d::filled(init, num_out, num_out, 3, last),
            conv_shortcut: (num_in != num_out).then(|| Conv2d::new(init, num_in, num_out, 1)),
            is_scaled,
        }
    }

    /// `x` [B, in, H, W] to [B, out, H, W]; `time` [B, width] has been through its SiLU.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let hidden = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let time = self.time_emb_proj.as_ref().zip(time);
        let time = time.map(|(projection, time)| projection.forward(time.clone())); // [B, out or 2 out]
        let hidden = match time {
            Some(time) if self.is_scaled => {
                let channels = hidden.dims()[1];
                let time = time.unsqueeze_dims::<4>(&[2, 3]);
                let scale = time.clone().narrow(1, 0, channels) + 1.0;
                let shift = time.narrow(1, channels, channels);
                silu(self.norm2.forward(hidden) * scale + shift)
            }
            Some(time) => self.norm2.forward_shifted_silu(hidden, time),
            None => self.norm2.forward_silu(hidden),
        };
        let hidden = self.conv2.forward(hidden);
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        shortcut + hidden
    }

    /// Forward cost per image of `height` by `width`, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let shortcut = self.conv_shortcut.as_ref().map_or(0, |conv| conv.flops(height, width));
        let time = self.time_emb_proj.as_ref().map_or(0, |linear| linear.flops(1));
        self.conv1.flops(height, width) + self.conv2.flops(height, width) + shortcut + time
    }
}

/// Halves height and width by a strided convolution.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    /// With `padding` zeros (before, after) each axis: (1, 1) in the U-Net, (0, 1) in the autoencoder.
    pub fn new(init: &mut Init, num_channels: usize, padding: (usize, usize)) -> Self {
        Self { conv: Conv2d::new(init, num_channels, num_channels, 3).with_stride(2, padding) }
    }

    /// [B, C, H, W] to [B, C, H / 2, W / 2] (rounded up with padding (1, 1), down with (0, 1)).
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(x)
    }

    /// Forward cost for an output of `height` by `width`, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        self.conv.flops(height, width)
    }
}

/// Doubles height and width by repetition, followed by a convolution.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    /// A layer with PyTorch's default start.
    pub fn new(init: &mut Init, num_channels: usize) -> Self {
        Self { conv: Conv2d::new(init, num_channels, num_channels, 3) }
    }

    /// [B, C, H, W] to [B, C, h, w] for `size` [h, w], each 2 H or 2 H - 1.
    pub fn forward(&self, x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        if engine::takes(&x) {
            return self.conv.forward(engine::repeat(x, size));
        }
        let mut x = repeat(x, 2);
        if size != [2 * h, 2 * w] {
            x = x.slice([0..b, 0..c, 0..size[0], 0..size[1]]);
        }
        self.conv.forward(x)
    }

    /// Forward cost for an output of `height` by `width`, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        self.conv.flops(height, width)
    }
}

/// Each pixel of [B, C, H, W] as a square of `times` by `times`: [B, C, times H, times W].
pub(crate) fn repeat(x: Tensor<4>, times: usize) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let x = x.reshape([b, c, h, 1, w, 1]).expand([b, c, h, times, w, times]);
    x.reshape([b, c, times * h, times * w])
}

/// The channels of `a` [B, C, H, W] before those of `b` [B, D, H, W].
pub(crate) fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    if engine::takes(&a) {
        return engine::concat(a, b);
    }
    Tensor::cat(vec![a, b], 1)
}
