//! Normalisation, always computed in f32.

use crate::engine::{self, Groups};
use crate::models::{Fill, Init, cast, cast_like};
use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::module::layer_norm;
use burn::tensor::{FloatDType, Tensor};

/// Normalises each group of channels of each image to mean 0 and variance 1, then scales and shifts
/// each channel (Wu & He 2018).
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// Scale, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<1>>,
    /// Groups of channels; divides C.
    pub num_groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl GroupNorm {
    /// A layer that starts without scale or shift.
    pub fn new(init: &mut Init, num_groups: usize, num_channels: usize, epsilon: f64) -> Self {
        Self {
            weight: init.param([num_channels], Fill::Ones),
            bias: init.param([num_channels], Fill::Zeros),
            num_groups,
            epsilon,
        }
    }

    /// [B, C, H, W] to the same, in the number format of `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.apply(x, None, false)
    }

    /// SiLU of [`forward`](Self::forward).
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        self.apply(x, None, true)
    }

    /// [`forward_silu`](Self::forward_silu) of `x` with `shift` [B, C] added to every pixel.
    pub fn forward_shifted_silu(&self, x: Tensor<4>, shift: Tensor<2>) -> Tensor<4> {
        self.apply(x, Some(shift), true)
    }

    fn apply(&self, x: Tensor<4>, shift: Option<Tensor<2>>, with_silu: bool) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if engine::takes(&x) {
            let groups = Groups { count: self.num_groups, epsilon: self.epsilon, with_silu };
            return engine::group_norm(x, shift, weight, bias, groups);
        }
        let x = match shift {
            Some(shift) => x + shift.unsqueeze_dims::<4>(&[2, 3]),
            None => x,
        };
        let [b, c, h, w] = x.dims();
        let wide = cast(x.clone(), FloatDType::F32);
        let grouped = wide.reshape([b, self.num_groups, c / self.num_groups * h * w]);
        let centred = grouped.clone() - grouped.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = centred / (variance + self.epsilon).sqrt();
        let normal = normal.reshape([b, c, h, w]) * weight.reshape([1, c, 1, 1]);
        let out = cast_like(normal + bias.reshape([1, c, 1, 1]), &x);
        if with_silu { silu(out) } else { out }
    }
}

/// Normalises the last axis to mean 0 and variance 1, then scales and shifts (Ba et al. 2016).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[D]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[D]`.
    pub bias: Param<Tensor<1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// A layer that starts without scale or shift.
    pub fn new(init: &mut Init, width: usize, epsilon: f64) -> Self {
        Self {
            weight: init.param([width], Fill::Ones),
            bias: init.param([width], Fill::Zeros),
            epsilon,
        }
    }

    /// [.., D] to the same, in the number format of `x`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        norm_layer(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

/// `x` [.., D] with its last axis normalised to mean 0 and variance 1: a [`LayerNorm`] that learns nothing.
pub(crate) fn normalised<const R: usize>(x: Tensor<R>, epsilon: f64) -> Tensor<R> {
    let (device, width) = (x.device(), x.dims()[R - 1]);
    norm_layer(x, Tensor::ones([width], &device), Tensor::zeros([width], &device), epsilon)
}

fn norm_layer<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<R> {
    if engine::takes(&x) {
        return engine::layer_norm(x, weight, bias, epsilon);
    }
    let wide = cast(x.clone(), FloatDType::F32);
    cast_like(layer_norm(wide, weight, Some(bias), epsilon), &x)
}

/// Scales the last axis to mean square 1, then by what it learned (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale, `[D]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl RmsNorm {
    /// A layer that starts without a scale of its own.
    pub fn new(init: &mut Init, width: usize, epsilon: f64) -> Self {
        Self { weight: init.param([width], Fill::Ones), epsilon }
    }

    /// [.., D] to the same, in the number format of `x`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        let wide = cast(x.clone(), FloatDType::F32);
        let size = (wide.clone().square().mean_dim(R - 1) + self.epsilon).sqrt();
        cast_like(wide / size * self.weight.val().unsqueeze(), &x)
    }
}
