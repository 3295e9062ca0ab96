//! Normalisation, always computed in f32.

use super::kernels;
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
        if kernels::can_take(&x) {
            return self.forward_on_cpu(x, false);
        }
        let [b, c, h, w] = x.dims();
        let wide = cast(x.clone(), FloatDType::F32);
        let grouped = wide.reshape([b, self.num_groups, c / self.num_groups * h * w]);
        let centred = grouped.clone() - grouped.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = centred / (variance + self.epsilon).sqrt();
        let weight = self.weight.val().reshape([1, c, 1, 1]);
        let bias = self.bias.val().reshape([1, c, 1, 1]);
        cast_like(normal.reshape([b, c, h, w]) * weight + bias, &x)
    }

    /// SiLU of [`forward`](Self::forward).
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        if kernels::can_take(&x) {
            return self.forward_on_cpu(x, true);
        }
        silu(self.forward(x))
    }

    fn forward_on_cpu(&self, x: Tensor<4>, with_silu: bool) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        kernels::group_norm(x, weight, bias, self.num_groups, self.epsilon, with_silu)
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
        let wide = cast(x.clone(), FloatDType::F32);
        cast_like(layer_norm(wide, self.weight.val(), Some(self.bias.val()), self.epsilon), &x)
    }
}
