//! Batch normalisation as it is used after training.

use crate::models::{Fill, Init, cast, cast_like};
use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};

/// Normalises each channel by the mean and variance that training saw, then scales and shifts it (Ioffe &
/// Szegedy 2015). Those two are loaded like weights, never learn, and do not follow what comes in.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[C]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<1>>,
    /// Mean in training, `[C]`.
    pub running_mean: Param<Tensor<1>>,
    /// Variance in training, `[C]`.
    pub running_var: Param<Tensor<1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    /// A layer that changes nothing, but for `epsilon`.
    pub fn new(init: &mut Init, num_channels: usize, epsilon: f64) -> Self {
        Self {
            weight: init.param([num_channels], Fill::Ones),
            bias: init.param([num_channels], Fill::Zeros),
            running_mean: init.param([num_channels], Fill::Zeros).set_require_grad(false),
            running_var: init.param([num_channels], Fill::Ones).set_require_grad(false),
            epsilon,
        }
    }

    /// [B, C, H, W] to the same, in the number format of `x`; computed in f32.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // Detached: a training that switches all parameters on must not reach the statistics.
        let mean = self.running_mean.val().detach();
        let variance = self.running_var.val().detach();
        let scale = self.weight.val() / (variance + self.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
        let channels = [1, scale.dims()[0], 1, 1];
        let wide = cast(x.clone(), FloatDType::F32);
        cast_like(wide * scale.reshape(channels) + shift.reshape(channels), &x)
    }
}
