//! The affine map.

use crate::engine;
use crate::models::{Fill, Init, cast_like};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::linear;

/// y = x Wᵀ + b over the last axis.
#[derive(Module, Debug)]
pub struct Linear {
    /// [out, in], as PyTorch keeps it.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with PyTorch's default start.
    pub fn new(init: &mut Init, num_in: usize, num_out: usize, with_bias: bool) -> Self {
        let fill = Fill::torch_default(num_in);
        Self::filled(init, num_in, num_out, fill, with_bias.then_some(fill))
    }

    /// A layer whose weight starts as `weight` and whose bias, if any, as `bias`.
    pub fn filled(
        init: &mut Init,
        num_in: usize,
        num_out: usize,
        weight: Fill,
        bias: Option<Fill>,
    ) -> Self {
        Self {
            weight: init.param([num_out, num_in], weight),
            bias: bias.map(|fill| init.param([num_out], fill)),
        }
    }

    /// [.., in] to [.., out], in the number format of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        affine(x, self.weight.val(), self.bias.as_ref().map(|bias| bias.val()))
    }

    /// Forward cost for `rows` vectors, in floating-point operations.
    pub fn flops(&self, rows: usize) -> u64 {
        2 * (rows * self.weight.lazy_shape().num_elements()) as u64
    }
}

/// `x` [.., in] times the transpose of `weight` [out, in], plus `bias` [out], in the number format of `x`.
pub(crate) fn affine<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    if engine::takes(&x) {
        return engine::affine(x, weight, bias);
    }
    let weight = cast_like(weight, &x).swap_dims(0, 1);
    let bias = bias.map(|bias| cast_like(bias, &x));
    linear(x, weight, bias)
}
