//! What is computed row by row: affine maps, layer norm, GEGLU.

use super::exponential::{erf, exp};
use super::matrix::{Matrix, add_product, sum, tensor};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

/// Sums over rows taken beside each other, whatever the number of threads.
const NUM_PARTIAL_SUMS: usize = 16;

type Floats = FloatTensor<Flex>;

/// [R, in], [out, in] and [out] to [R, out].
pub(super) fn affine(x: &Floats, weight: &Floats, bias: Option<&Floats>) -> Floats {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let [rows, num_in] = x.layout().shape().dims();
    let num_out = weight.layout().shape()[0];
    let mut out = vec![0.0; rows * num_out];
    if let Some(bias) = bias {
        let bias = bias.to_contiguous();
        let bias: &[f32] = bias.storage();
        out.par_chunks_mut(num_out).for_each(|row| row.copy_from_slice(bias));
    }
    let x = Matrix::dense(x.storage(), rows, num_in);
    let weight = Matrix::dense(weight.storage(), num_out, num_in);
    add_product(&mut out, num_out, x, weight.transposed(), true);
    tensor(out, vec![rows, num_out])
}

/// [out, in] and [R, out] to [R, in].
pub(super) fn affine_x_gradient(weight: &Floats, grad: &Floats) -> Floats {
    let (weight, grad) = (weight.to_contiguous(), grad.to_contiguous());
    let [num_out, num_in] = weight.layout().shape().dims();
    let rows = grad.layout().shape()[0];
    let mut out = vec![0.0; rows * num_in];
    let grad = Matrix::dense(grad.storage(), rows, num_out);
    add_product(&mut out, num_in, grad, Matrix::dense(weight.storage(), num_out, num_in), true);
    tensor(out, vec![rows, num_in])
}

/// [R, in] and [R, out] to [out, in].
pub(super) fn affine_weight_gradient(x: &Floats, grad: &Floats) -> Floats {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let [rows, num_in] = x.layout().shape().dims();
    let num_out = grad.layout().shape()[1];
    let mut out = vec![0.0; num_out * num_in];
    let grad = Matrix::dense(grad.storage(), rows, num_out);
    let x = Matrix::dense(x.storage(), rows, num_in);
    add_product(&mut out, num_in, grad.transposed(), x, true);
    tensor(out, vec![num_out, num_in])
}

/// [R, C] to [C].
pub(super) fn sum_rows(grad: &Floats) -> Floats {
    let grad = grad.to_contiguous();
    let [rows, width] = grad.layout().shape().dims();
    let values: &[f32] = grad.storage();
    let rows_per_sum = rows.div_ceil(NUM_PARTIAL_SUMS).max(1);
    let partial = values.par_chunks(rows_per_sum * width).map(|part| {
        let mut total = vec![0.0; width];
        for row in part.chunks_exact(width) {
            total.iter_mut().zip(row).for_each(|(total, value)| *total += value);
        }
        total
    });
    tensor(add_up(partial.collect(), width), vec![width])
}

/// Output [R, D] and statistics [R, 2]: mean and one over the standard deviation.
pub(super) fn norm_layers(
    x: &Floats,
    weight: &Floats,
    bias: &Floats,
    epsilon: f64,
) -> (Floats, Floats) {
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
    let [rows, width] = x.layout().shape().dims();
    let (x, weight, bias): (&[f32], &[f32], &[f32]) =
        (x.storage(), weight.storage(), bias.storage());
    let mut out = vec![0.0; x.len()];
    let mut statistics = vec![[0.0; 2]; rows];
    out.par_chunks_mut(width).zip(x.par_chunks(width)).zip(&mut statistics).for_each(
        |((out, x), statistics)| {
            let mean = sum(x) / width as f32;
            out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - mean) * (x - mean));
            let variance = sum(out) / width as f32;
            let scale = (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32;
            let lines = out.iter_mut().zip(x).zip(weight.iter().zip(bias));
            for ((out, x), (weight, bias)) in lines {
                *out = (x - mean) * scale * weight + bias;
            }
            *statistics = [mean, scale];
        },
    );
    (tensor(out, vec![rows, width]), tensor(statistics.into_flattened(), vec![rows, 2]))
}

/// The gradients of input, scale and shift.
pub(super) fn norm_layers_gradients(
    x: &Floats,
    weight: &Floats,
    grad: &Floats,
    statistics: &Floats,
) -> [Floats; 3] {
    let (x, weight, grad) = (x.to_contiguous(), weight.to_contiguous(), grad.to_contiguous());
    let [rows, width] = x.layout().shape().dims();
    let (x, weight, grad): (&[f32], &[f32], &[f32]) =
        (x.storage(), weight.storage(), grad.storage());
    let (statistics, _) = statistics.storage::<f32>().as_chunks::<2>();
    let rows_per_sum = rows.div_ceil(NUM_PARTIAL_SUMS).max(1);
    let len = rows_per_sum * width;
    let mut out = vec![0.0; x.len()];
    let parts = out.par_chunks_mut(len).zip(x.par_chunks(len)).zip(grad.par_chunks(len));
    let sums =
        parts.zip(statistics.par_chunks(rows_per_sum)).map(|(((out, x), grad), statistics)| {
            let mut sums = vec![0.0; 2 * width];
            let mut normal = vec![0.0; width];
            let lines = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for (((out, x), grad), [mean, scale]) in
                lines.zip(grad.chunks_exact(width)).zip(statistics)
            {
                let (of_weight, of_bias) = sums.split_at_mut(width);
                normal.iter_mut().zip(x).for_each(|(normal, x)| *normal = (x - mean) * scale);
                for ((sum, grad), normal) in of_weight.iter_mut().zip(grad).zip(&normal) {
                    *sum += grad * normal;
                }
                of_bias.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
                out.iter_mut().zip(grad.iter().zip(weight)).for_each(|(out, (g, w))| *out = g * w);
                let mean_u = sum(out) / width as f32;
                let mean_ux = out.iter().zip(&normal).map(|(u, normal)| u * normal).sum::<f32>()
                    / width as f32;
                for (out, normal) in out.iter_mut().zip(&normal) {
                    *out = scale * (*out - mean_u - normal * mean_ux);
                }
            }
            sums
        });
    let mut of_weight = add_up(sums.collect(), 2 * width);
    let of_bias = of_weight.split_off(width);
    [tensor(out, vec![rows, width]), tensor(of_weight, vec![width]), tensor(of_bias, vec![width])]
}

/// [R, 2 D] to [R, D].
pub(super) fn geglu(x: &Floats) -> Floats {
    let x = x.to_contiguous();
    let [rows, both] = x.layout().shape().dims();
    let half = both / 2;
    let values: &[f32] = x.storage();
    let mut out = vec![0.0; rows * half];
    out.par_chunks_mut(half).zip(values.par_chunks(both)).for_each(|(out, row)| {
        let (value, gate) = row.split_at(half);
        for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
            *out = value * gate * share(*gate);
        }
    });
    tensor(out, vec![rows, half])
}

/// Its gradient: [R, 2 D] and [R, D] to [R, 2 D].
pub(super) fn geglu_gradient(x: &Floats, grad: &Floats) -> Floats {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let [rows, both] = x.layout().shape().dims();
    let half = both / 2;
    let (x, grad): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let mut out = vec![0.0; rows * both];
    let lines = out.par_chunks_mut(both).zip(x.par_chunks(both)).zip(grad.par_chunks(half));
    lines.for_each(|((out, row), grad)| {
        let (value, gate) = row.split_at(half);
        let (to_value, to_gate) = out.split_at_mut(half);
        for ((to, gate), grad) in to_value.iter_mut().zip(gate).zip(grad) {
            *to = grad * gate * share(*gate);
        }
        for (((to, value), gate), grad) in to_gate.iter_mut().zip(value).zip(gate).zip(grad) {
            const ROOT: f32 = 0.398_942_3; // 1 / √(2 π)
            *to = grad * value * (share(*gate) + gate * ROOT * exp(-0.5 * gate * gate));
        }
    });
    tensor(out, vec![rows, both])
}

/// The share of the normal distribution below `x`.
fn share(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn add_up(partial: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let total = partial.into_iter().reduce(|mut total, part| {
        total.iter_mut().zip(&part).for_each(|(total, part)| *total += part);
        total
    });
    total.unwrap_or_else(|| vec![0.0; len])
}
