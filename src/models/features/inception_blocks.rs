//! The blocks of Inception-v3, with the pools of the network that TensorFlow published in 2015.
//!
//! Every block computes branches of its input and stacks their channels. The fields carry the state dict's
//! names.

use super::max_pool;
use crate::models::layers::BatchNorm;
use crate::models::{Fill, Init, cast_like};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions};

const EPSILON: f64 = 1e-3;

/// A convolution, batch norm and ReLU.
#[derive(Module, Debug)]
pub(super) struct Basic {
    conv: Kernel,
    bn: BatchNorm,
}

/// A convolution without bias whose kernel may be wider than high.
#[derive(Module, Debug)]
struct Kernel {
    /// [out, in, height, width].
    weight: Param<Tensor<4>>,
    stride: usize,
    /// Zeros above and below, and left and right.
    #[module(skip)]
    padding: [usize; 2],
}

impl Basic {
    /// A kernel [height, width], padded so that the size stays.
    pub(super) fn new(init: &mut Init, num_in: usize, num_out: usize, kernel: [usize; 2]) -> Self {
        let [height, width] = kernel;
        let fill = Fill::torch_default(num_in * height * width);
        let weight = init.param([num_out, num_in, height, width], fill);
        let conv = Kernel { weight, stride: 1, padding: kernel.map(|side| side / 2) };
        Self { conv, bn: BatchNorm::new(init, num_out, EPSILON) }
    }

    /// The same without padding, `stride` pixels per step.
    pub(super) fn valid(mut self, stride: usize) -> Self {
        self.conv.stride = stride;
        self.conv.padding = [0, 0];
        self
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Kernel { weight, stride, padding } = &self.conv;
        let options = ConvOptions::new([*stride; 2], *padding, [1; 2], 1);
        let weight = cast_like(weight.val(), &x);
        relu(self.bn.forward(conv2d(x, weight, None, options)))
    }
}

/// `x` through one layer after another.
fn chain<const N: usize>(x: &Tensor<4>, layers: [&Basic; N]) -> Tensor<4> {
    layers.into_iter().fold(x.clone(), |x, layer| layer.forward(x))
}

fn stacked<const N: usize>(branches: [Tensor<4>; N]) -> Tensor<4> {
    Tensor::cat(branches.into(), 1)
}

/// The mean of a 3×3 window over what is image in it: TensorFlow leaves padding out, torchvision counts it.
fn average_pool(x: &Tensor<4>) -> Tensor<4> {
    let options = AvgPoolOptions::new([3, 3])
        .with_stride([1, 1])
        .with_padding([1, 1])
        .with_count_include_pad(false);
    avg_pool2d(x.clone(), options)
}

/// 5×5 and 3×3 kernels, size kept.
#[derive(Module, Debug)]
pub(super) struct MixedA {
    branch1x1: Basic,
    branch5x5_1: Basic,
    branch5x5_2: Basic,
    branch3x3dbl_1: Basic,
    branch3x3dbl_2: Basic,
    branch3x3dbl_3: Basic,
    branch_pool: Basic,
}

impl MixedA {
    pub(super) fn new(init: &mut Init, num_in: usize, num_pooled: usize) -> Self {
        Self {
            branch1x1: Basic::new(init, num_in, 64, [1, 1]),
            branch5x5_1: Basic::new(init, num_in, 48, [1, 1]),
            branch5x5_2: Basic::new(init, 48, 64, [5, 5]),
            branch3x3dbl_1: Basic::new(init, num_in, 64, [1, 1]),
            branch3x3dbl_2: Basic::new(init, 64, 96, [3, 3]),
            branch3x3dbl_3: Basic::new(init, 96, 96, [3, 3]),
            branch_pool: Basic::new(init, num_in, num_pooled, [1, 1]),
        }
    }

    pub(super) fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        stacked([
            self.branch1x1.forward(x.clone()),
            chain(x, [&self.branch5x5_1, &self.branch5x5_2]),
            chain(x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3]),
            self.branch_pool.forward(average_pool(x)),
        ])
    }
}

/// Halves the size with 3×3 kernels.
#[derive(Module, Debug)]
pub(super) struct MixedB {
    branch3x3: Basic,
    branch3x3dbl_1: Basic,
    branch3x3dbl_2: Basic,
    branch3x3dbl_3: Basic,
}

impl MixedB {
    pub(super) fn new(init: &mut Init, num_in: usize) -> Self {
        Self {
            branch3x3: Basic::new(init, num_in, 384, [3, 3]).valid(2),
            branch3x3dbl_1: Basic::new(init, num_in, 64, [1, 1]),
            branch3x3dbl_2: Basic::new(init, 64, 96, [3, 3]),
            branch3x3dbl_3: Basic::new(init, 96, 96, [3, 3]).valid(2),
        }
    }

    pub(super) fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        stacked([
            self.branch3x3.forward(x.clone()),
            chain(x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3]),
            max_pool(x.clone(), 2, 0),
        ])
    }
}

/// 7×7 kernels, each as a row and a column; size kept.
#[derive(Module, Debug)]
pub(super) struct MixedC {
    branch1x1: Basic,
    branch7x7_1: Basic,
    branch7x7_2: Basic,
    branch7x7_3: Basic,
    branch7x7dbl_1: Basic,
    branch7x7dbl_2: Basic,
    branch7x7dbl_3: Basic,
    branch7x7dbl_4: Basic,
    branch7x7dbl_5: Basic,
    branch_pool: Basic,
}

impl MixedC {
    pub(super) fn new(init: &mut Init, num_in: usize, inner: usize) -> Self {
        let (row, column) = ([1, 7], [7, 1]);
        Self {
            branch1x1: Basic::new(init, num_in, 192, [1, 1]),
            branch7x7_1: Basic::new(init, num_in, inner, [1, 1]),
            branch7x7_2: Basic::new(init, inner, inner, row),
            branch7x7_3: Basic::new(init, inner, 192, column),
            branch7x7dbl_1: Basic::new(init, num_in, inner, [1, 1]),
            branch7x7dbl_2: Basic::new(init, inner, inner, column),
            branch7x7dbl_3: Basic::new(init, inner, inner, row),
            branch7x7dbl_4: Basic::new(init, inner, inner, column),
            branch7x7dbl_5: Basic::new(init, inner, 192, row),
            branch_pool: Basic::new(init, num_in, 192, [1, 1]),
        }
    }

    pub(super) fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch7x7dbl_1,
            &self.branch7x7dbl_2,
            &self.branch7x7dbl_3,
            &self.branch7x7dbl_4,
            &self.branch7x7dbl_5,
        ];
        stacked([
            self.branch1x1.forward(x.clone()),
            chain(x, [&self.branch7x7_1, &self.branch7x7_2, &self.branch7x7_3]),
            chain(x, double),
            self.branch_pool.forward(average_pool(x)),
        ])
    }
}

/// Halves the size after 7×7 kernels.
#[derive(Module, Debug)]
pub(super) struct MixedD {
    branch3x3_1: Basic,
    branch3x3_2: Basic,
    branch7x7x3_1: Basic,
    branch7x7x3_2: Basic,
    branch7x7x3_3: Basic,
    branch7x7x3_4: Basic,
}

impl MixedD {
    pub(super) fn new(init: &mut Init, num_in: usize) -> Self {
        Self {
            branch3x3_1: Basic::new(init, num_in, 192, [1, 1]),
            branch3x3_2: Basic::new(init, 192, 320, [3, 3]).valid(2),
            branch7x7x3_1: Basic::new(init, num_in, 192, [1, 1]),
            branch7x7x3_2: Basic::new(init, 192, 192, [1, 7]),
            branch7x7x3_3: Basic::new(init, 192, 192, [7, 1]),
            branch7x7x3_4: Basic::new(init, 192, 192, [3, 3]).valid(2),
        }
    }

    pub(super) fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        let long =
            [&self.branch7x7x3_1, &self.branch7x7x3_2, &self.branch7x7x3_3, &self.branch7x7x3_4];
        stacked([
            chain(x, [&self.branch3x3_1, &self.branch3x3_2]),
            chain(x, long),
            max_pool(x.clone(), 2, 0),
        ])
    }
}

/// How a [`MixedE`] pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// As blocks before it.
    Average,
    /// As the last block of the published network does, whatever was meant.
    Max,
}

/// 3×3 kernels that end as a row beside a column; size kept.
#[derive(Module, Debug)]
pub(super) struct MixedE {
    branch1x1: Basic,
    branch3x3_1: Basic,
    branch3x3_2a: Basic,
    branch3x3_2b: Basic,
    branch3x3dbl_1: Basic,
    branch3x3dbl_2: Basic,
    branch3x3dbl_3a: Basic,
    branch3x3dbl_3b: Basic,
    branch_pool: Basic,
    #[module(skip)]
    pool: Pool,
}

impl MixedE {
    pub(super) fn new(init: &mut Init, num_in: usize, pool: Pool) -> Self {
        let (row, column) = ([1, 3], [3, 1]);
        Self {
            branch1x1: Basic::new(init, num_in, 320, [1, 1]),
            branch3x3_1: Basic::new(init, num_in, 384, [1, 1]),
            branch3x3_2a: Basic::new(init, 384, 384, row),
            branch3x3_2b: Basic::new(init, 384, 384, column),
            branch3x3dbl_1: Basic::new(init, num_in, 448, [1, 1]),
            branch3x3dbl_2: Basic::new(init, 448, 384, [3, 3]),
            branch3x3dbl_3a: Basic::new(init, 384, 384, row),
            branch3x3dbl_3b: Basic::new(init, 384, 384, column),
            branch_pool: Basic::new(init, num_in, 192, [1, 1]),
            pool,
        }
    }

    pub(super) fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        let single = self.branch3x3_1.forward(x.clone());
        let double = chain(x, [&self.branch3x3dbl_1, &self.branch3x3dbl_2]);
        let pooled = match self.pool {
            Pool::Average => average_pool(x),
            Pool::Max => max_pool(x.clone(), 1, 1),
        };
        stacked([
            self.branch1x1.forward(x.clone()),
            self.branch3x3_2a.forward(single.clone()),
            self.branch3x3_2b.forward(single),
            self.branch3x3dbl_3a.forward(double.clone()),
            self.branch3x3dbl_3b.forward(double),
            self.branch_pool.forward(pooled),
        ])
    }
}
