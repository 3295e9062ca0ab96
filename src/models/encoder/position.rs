//! Position embeddings learned on one grid, used on another.

use crate::models::layers::affine;
use burn::tensor::{Device, Tensor, TensorData};

/// How a grid of position embeddings is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resampling {
    /// Bicubic with a = -0.75: transformers' ViT and DINOv2.
    Bicubic,
    /// Bicubic with a = -0.5 over a support that widens when shrinking: transformers' DINOv2 with registers.
    BicubicAntialiased,
}

/// `grid` [from · from, D], row by row, resampled to [rows · columns, D].
///
/// A product with constant matrices, so gradients reach the embeddings.
pub(super) fn resample(
    grid: Tensor<2>,
    from: usize,
    [rows, columns]: [usize; 2],
    resampling: Resampling,
) -> Tensor<2> {
    let [_, width] = grid.dims();
    let device = grid.device();
    let across = matrix(from, columns, resampling, &device); // [columns, from]
    let grid = grid.reshape([from, from, width]).permute([0, 2, 1]); // [from, D, from]
    let grid = affine(grid, across, None).permute([1, 2, 0]); // [D, columns, from]
    let grid = affine(grid, matrix(from, rows, resampling, &device), None); // [D, columns, rows]
    grid.permute([2, 1, 0]).reshape([rows * columns, width])
}

fn matrix(from: usize, to: usize, resampling: Resampling, device: &Device) -> Tensor<2> {
    let weights = weights(from, to, resampling);
    let weights = weights.into_iter().map(|weight| weight as f32).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}

/// Row by row, the weight of each of `from` samples in each of `to`: PyTorch's `interpolate` with
/// `align_corners=False`.
fn weights(from: usize, to: usize, resampling: Resampling) -> Vec<f64> {
    let scale = from as f64 / to as f64;
    let mut weights = vec![0.0; to * from];
    for (at, row) in weights.chunks_exact_mut(from).enumerate() {
        match resampling {
            Resampling::Bicubic => {
                let centre = (at as f64 + 0.5) * scale - 0.5;
                let first = centre.floor() as isize - 1;
                for tap in first..first + 4 {
                    let inside = tap.clamp(0, from as isize - 1) as usize;
                    row[inside] += cubic(centre - tap as f64, -0.75);
                }
            }
            Resampling::BicubicAntialiased => {
                let widening = scale.max(1.0);
                let centre = (at as f64 + 0.5) * scale;
                let first = (centre - 2.0 * widening + 0.5).max(0.0) as usize;
                let end = ((centre + 2.0 * widening + 0.5) as usize).min(from);
                for (tap, weight) in row.iter_mut().enumerate().take(end).skip(first) {
                    *weight = cubic((tap as f64 + 0.5 - centre) / widening, -0.5);
                }
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|weight| *weight /= sum);
            }
        }
    }
    weights
}

/// Keys (1981), "Cubic convolution interpolation for digital image processing", eq. 4 with free a.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_grid_stays_constant() {
        for resampling in [Resampling::Bicubic, Resampling::BicubicAntialiased] {
            for (from, to) in [(1, 3), (4, 4), (4, 7), (14, 5), (16, 37)] {
                for row in weights(from, to, resampling).chunks_exact(from) {
                    let sum: f64 = row.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{resampling:?} {from} to {to}: {sum}");
                }
            }
        }
    }

    #[test]
    fn the_same_grid_is_left_alone() {
        for resampling in [Resampling::Bicubic, Resampling::BicubicAntialiased] {
            for (at, weight) in weights(6, 6, resampling).into_iter().enumerate() {
                let identity = if at / 6 == at % 6 { 1.0 } else { 0.0 };
                assert!((weight - identity).abs() < 1e-12, "{resampling:?}: {weight} at {at}");
            }
        }
    }
}
