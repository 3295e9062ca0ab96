//! Two-dimensional convolution.

use crate::engine::{self, ConvGeometry};
use crate::models::{Fill, Init, cast_like};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

/// A convolution with a square kernel.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// [out, in, kernel, kernel], as PyTorch keeps it.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel, in pixels.
    pub stride: usize,
    /// Zeros before and after each axis.
    #[module(skip)]
    pub padding: (usize, usize),
}

impl Conv2d {
    /// A layer with PyTorch's default start, stride 1 and the padding that keeps the size.
    pub fn new(init: &mut Init, num_in: usize, num_out: usize, kernel: usize) -> Self {
        Self::filled(init, num_in, num_out, kernel, Fill::torch_default(num_in * kernel * kernel))
    }

    /// The same, with weight and bias both starting as `fill`.
    pub fn filled(
        init: &mut Init,
        num_in: usize,
        num_out: usize,
        kernel: usize,
        fill: Fill,
    ) -> Self {
        Self {
            weight: init.param([num_out, num_in, kernel, kernel], fill),
            bias: Some(init.param([num_out], fill)),
            stride: 1,
            padding: (kernel / 2, kernel / 2),
        }
    }

    /// A layer with PyTorch's default start and no bias.
    pub fn without_bias(init: &mut Init, num_in: usize, num_out: usize, kernel: usize) -> Self {
        let fill = Fill::torch_default(num_in * kernel * kernel);
        Self {
            weight: init.param([num_out, num_in, kernel, kernel], fill),
            bias: None,
            stride: 1,
            padding: (kernel / 2, kernel / 2),
        }
    }

    /// The same layer with another stride and padding (before, after).
    pub fn with_stride(mut self, stride: usize, padding: (usize, usize)) -> Self {
        self.stride = stride;
        self.padding = padding;
        self
    }

    /// [B, in, H, W] to [B, out, H', W'], in the number format of `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        if engine::takes(&x) {
            let geometry = ConvGeometry { stride: self.stride, padding: self.padding };
            return engine::conv2d(x, self.weight.val(), bias, geometry);
        }
        let weight = cast_like(self.weight.val(), &x);
        let bias = bias.map(|bias| cast_like(bias, &x));
        let options = ConvOptions::new_with_padding([self.stride; 2], [self.padding; 2], [1; 2], 1);
        conv2d(x, weight, bias, options)
    }

    /// Forward cost for an output of `height` by `width`, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        2 * (height * width * self.weight.lazy_shape().num_elements()) as u64
    }
}
