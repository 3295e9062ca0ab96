//! Rotary position embeddings over a grid of patches, as DINOv3 has them.

use crate::models::Compute;
use burn::tensor::{Device, Tensor, TensorData};
use std::f64::consts::TAU;

/// How far queries and keys are turned: by nothing for what has no place in the image, by angles that grow
/// with the place for patches (Su et al. 2021).
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    /// [1, 1, prefix + N, d / 2].
    cos: Tensor<4>,
    /// The same shape.
    sin: Tensor<4>,
}

impl Rotary {
    /// For `num_prefix` tokens without a place, then `rows` · `columns` patches row by row, and heads
    /// `head_width` wide, a multiple of 4.
    pub(super) fn new(
        [rows, columns]: [usize; 2],
        num_prefix: usize,
        head_width: usize,
        theta: f64,
        device: &Device,
    ) -> Self {
        let half = head_width / 2;
        let mut turns = vec![0.0; num_prefix * half];
        turns.extend(angles([rows, columns], head_width / 4, theta));
        let shape = [1, 1, num_prefix + rows * columns, half];
        let tensor = |of: fn(f64) -> f64| {
            let values: Vec<f32> = turns.iter().map(|&angle| of(angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cos: tensor(f64::cos), sin: tensor(f64::sin) }
    }

    /// The same in the number format of the queries and keys.
    pub(super) fn with_compute(self, compute: Compute) -> Self {
        Self { cos: compute.enter(self.cos), sin: compute.enter(self.sin) }
    }

    /// Queries or keys [B, heads, prefix + N, d] to the same. Channel i turns together
    /// with channel i + d / 2.
    pub(super) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned_first, second * cos + first * sin], 3)
    }
}

/// For each patch, `num_frequencies` angles of its height, then as many of its column, in radians.
///
/// A place is the patch's centre, from -1 (top, left) to 1 (bottom, right) over the image, whatever its size or
/// shape. Angle i is 2π · place / theta^(i / `num_frequencies`).
fn angles([rows, columns]: [usize; 2], num_frequencies: usize, theta: f64) -> Vec<f64> {
    let place = |at: usize, of: usize| 2.0 * (at as f64 + 0.5) / of as f64 - 1.0;
    let frequencies: Vec<f64> =
        (0..num_frequencies).map(|i| theta.powf(-(i as f64) / num_frequencies as f64)).collect();
    let mut angles = Vec::with_capacity(rows * columns * 2 * num_frequencies);
    for row in 0..rows {
        for column in 0..columns {
            for place in [place(row, rows), place(column, columns)] {
                angles.extend(frequencies.iter().map(|frequency| TAU * place * frequency));
            }
        }
    }
    angles
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn angles_follow_the_centres_of_patches() {
        assert_eq!(angles([1, 1], 3, 100.0), [0.0; 6]);
        // Centres at -1/2 and 1/2; frequencies 1 and 1/10.
        let found = angles([2, 1], 2, 100.0);
        let expected = [-PI, -PI / 10.0, 0.0, 0.0, PI, PI / 10.0, 0.0, 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert_eq!(angles([3, 5], 4, 100.0).len(), 3 * 5 * 8);
    }

    #[test]
    fn a_turn_keeps_lengths_and_leaves_the_prefix() {
        let device = Device::flex();
        let values: Vec<f32> = (0..2 * 7 * 8).map(|at| (at as f32 * 0.7).sin()).collect();
        let x = Tensor::<4>::from_data(TensorData::new(values, [1, 2, 7, 8]), &device);
        let turned = Rotary::new([2, 3], 1, 8, 100.0, &device).turn(x.clone());
        let prefix = |x: &Tensor<4>| x.clone().narrow(2, 0, 1).into_data();
        assert_eq!(prefix(&turned), prefix(&x));
        let (before, after) = (x.clone().square().sum_dim(3), turned.clone().square().sum_dim(3));
        let change = (after - before).abs().max().into_scalar::<f32>();
        assert!(change < 1e-5, "{change}");
        let moved = (turned - x).abs().max().into_scalar::<f32>();
        assert!(moved > 0.1, "{moved}");
    }
}
