//! The operations on the CPU, in f32.
//!
//! burn-flex 0.22.1 computes the weight gradient of a convolution as another convolution whose matrix
//! products are nine columns wide, changes layouts and applies exponentials on one thread, and knows group
//! norm only as a chain of passes. Here each is one tiled kernel. Measured on 2 cores with AVX-512, forward
//! and backward: U-Net of [64, 128] channels at 16×16 latents, batch 16, 706 to 415 ms; autoencoder of
//! [16, 32, 64] channels at 64×64 pixels, batch 16, 1224 to 410 ms.
//!
//! Every sum is taken in an order that does not depend on the number of threads.

mod attention;
mod conv;
mod descent;
mod exponential;
mod matrix;
mod norm;
mod pixels;
mod tokens;

use super::backend::{ConvGeometry, Engine, GroupNormGradients, Groups};
use super::trace::{self, Noted};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
pub(super) use descent::{descend, follow};
use norm::GroupNormGeometry;

type Floats = FloatTensor<Flex>;

impl Engine for Flex {
    fn prepare_kernel(weight: &Floats, _x: &Floats) -> Floats {
        if trace::is_on() { weight.clone() } else { weight.to_contiguous() }
    }

    fn prepare_matrix(weight: &Floats, _x: &Floats) -> Floats {
        if trace::is_on() { weight.clone() } else { weight.to_contiguous() }
    }

    fn convolve(
        x: &Floats,
        kernel: &Floats,
        shape: [usize; 4],
        bias: Option<&Floats>,
        geometry: ConvGeometry,
    ) -> Floats {
        if trace::is_on() {
            return Noted::convolve(x, shape, bias.is_some(), geometry);
        }
        conv::forward(x, kernel, bias, geometry)
    }

    fn convolve_x_gradient(
        x: &Floats,
        kernel: &Floats,
        shape: [usize; 4],
        grad: &Floats,
        geometry: ConvGeometry,
    ) -> Floats {
        if trace::is_on() {
            return Noted::convolve_x_gradient(x, shape, geometry);
        }
        conv::x_gradient(x, kernel, grad, geometry)
    }

    fn convolve_weight_gradient(
        x: &Floats,
        shape: [usize; 4],
        grad: &Floats,
        geometry: ConvGeometry,
    ) -> Floats {
        if trace::is_on() {
            return Noted::convolve_weight_gradient(x, shape, geometry);
        }
        conv::weight_gradient(x, shape, grad, geometry)
    }

    fn sum_channels(grad: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::sum(grad, 1);
        }
        conv::bias_gradient(grad)
    }

    fn norm_groups(
        x: &Floats,
        shift: Option<&Floats>,
        weight: &Floats,
        bias: &Floats,
        groups: Groups,
    ) -> (Floats, Floats) {
        if trace::is_on() {
            return Noted::norm_groups(x, groups.count);
        }
        let shifted = shift.map(|shift| shifted(x, shift));
        let x = shifted.as_ref().unwrap_or(x);
        norm::forward(x, weight, bias, GroupNormGeometry::new(x, groups))
    }

    fn norm_groups_gradients(
        x: &Floats,
        shift: Option<&Floats>,
        weight: &Floats,
        bias: &Floats,
        grad: &Floats,
        groups: Groups,
        statistics: &Floats,
    ) -> GroupNormGradients<Self> {
        if trace::is_on() {
            return Noted::norm_groups_gradients(x, shift);
        }
        let sum = shift.map(|shift| shifted(x, shift));
        let x = sum.as_ref().unwrap_or(x);
        let geometry = GroupNormGeometry::new(x, groups);
        let [x, weight, bias] = norm::backward(x, weight, bias, grad, geometry, statistics);
        let shift = shift.map(|shift| {
            let sum = Self::float_sum_dim(Self::float_sum_dim(x.clone(), 2), 3);
            Self::float_reshape(sum, shift.layout().shape().clone())
        });
        GroupNormGradients { x, shift, weight, bias }
    }

    fn affine(x: &Floats, matrix: &Floats, bias: Option<&Floats>) -> Floats {
        if trace::is_on() {
            return Noted::affine(x, matrix, bias.is_some());
        }
        tokens::affine(x, matrix, bias)
    }

    fn affine_x_gradient(matrix: &Floats, grad: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::affine_x_gradient(matrix, grad);
        }
        tokens::affine_x_gradient(matrix, grad)
    }

    fn affine_weight_gradient(x: &Floats, grad: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::affine_weight_gradient(x, grad);
        }
        tokens::affine_weight_gradient(x, grad)
    }

    fn sum_rows(grad: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::sum(grad, 1);
        }
        tokens::sum_rows(grad)
    }

    fn norm_layers(x: &Floats, weight: &Floats, bias: &Floats, epsilon: f64) -> (Floats, Floats) {
        if trace::is_on() {
            return Noted::norm_layers(x);
        }
        tokens::norm_layers(x, weight, bias, epsilon)
    }

    fn norm_layers_gradients(
        x: &Floats,
        weight: &Floats,
        grad: &Floats,
        statistics: &Floats,
    ) -> [Floats; 3] {
        if trace::is_on() {
            return Noted::norm_layers_gradients(x);
        }
        tokens::norm_layers_gradients(x, weight, grad, statistics)
    }

    fn geglu(x: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::geglu(x);
        }
        tokens::geglu(x)
    }

    fn geglu_gradient(x: &Floats, grad: &Floats) -> Floats {
        if trace::is_on() {
            return x.clone();
        }
        tokens::geglu_gradient(x, grad)
    }

    fn attend(q: &Floats, k: &Floats, v: &Floats) -> (Floats, Floats) {
        if trace::is_on() {
            return Noted::attend(q, k);
        }
        attention::forward(q, k, v)
    }

    fn attend_gradients(
        inputs: [&Floats; 3],
        output: &Floats,
        log_sums: &Floats,
        grad: &Floats,
    ) -> [Floats; 3] {
        if trace::is_on() {
            return Noted::attend_gradients(inputs);
        }
        attention::backward(inputs, output, log_sums, grad)
    }

    fn join(a: &Floats, b: &Floats) -> Floats {
        if trace::is_on() {
            return Noted::join(a, b);
        }
        pixels::join(a, b)
    }

    fn part(x: &Floats, channels: usize) -> [Floats; 2] {
        if trace::is_on() {
            return Noted::part(x, channels);
        }
        pixels::part(x, channels)
    }

    fn repeat_pixels(x: &Floats, size: [usize; 2]) -> Floats {
        if trace::is_on() {
            return Noted::resize(x, size);
        }
        pixels::repeat(x, size)
    }

    fn sum_pixels(grad: &Floats, size: [usize; 2]) -> Floats {
        if trace::is_on() {
            return Noted::resize(grad, size);
        }
        pixels::sum(grad, size)
    }
}

/// `x` [B, C, H, W] with `shift` [B, C] added to every pixel.
fn shifted(x: &Floats, shift: &Floats) -> Floats {
    let [b, c] = shift.layout().shape().dims();
    let shift = Flex::float_reshape(shift.clone(), [b, c, 1, 1].into());
    Flex::float_add(x.clone(), shift)
}
