//! What training takes away from a forward pass.

use crate::models::cast_like;
use crate::random::Draws;
use burn::tensor::{Device, Tensor, TensorData};

/// What a vision transformer does not see of its images, and which of its branches they do not go through.
#[derive(Debug, Clone, Default)]
pub struct Dropped {
    /// 1 for each patch that the mask token stands for, 0 for the others, [B, N]. None: no image has any.
    pub patches: Option<Tensor<2>>,
    /// The factor of each residual branch for each image, [B, 2L]: attention and feed-forward part of the first block,
    /// then of the second. None: 1.
    pub branches: Option<Tensor<2>>,
}

impl Dropped {
    /// The factors of both branches of block `at` for each image, [B, 1, 1].
    pub(super) fn of_block(&self, at: usize) -> [Option<Tensor<3>>; 2] {
        [2 * at, 2 * at + 1].map(|column| {
            let branches = self.branches.clone()?;
            Some(branches.slice_dim(1, column..column + 1).unsqueeze_dim(2))
        })
    }
}

/// Stochastic depth (Huang et al. 2016): the factors of the 2L residual branches of one image. Those of the first block
/// are 1; in the last one each is left out with probability `rate` (below 1), between them the probability rises evenly.
/// What is kept is scaled up, so that its mean stays.
pub fn branch_factors(rate: f64, layers: usize, draws: &mut Draws) -> Vec<f32> {
    let mut factors = Vec::with_capacity(2 * layers);
    for layer in 0..layers {
        let rate = rate * layer as f64 / (layers - 1).max(1) as f64;
        for _ in 0..2 {
            factors.push(if draws.chance(rate) { 0.0 } else { (1.0 / (1.0 - rate)) as f32 });
        }
    }
    factors
}

/// Numbers of each image, as many of each, as a tensor [B, N]; none where there are no images.
pub(crate) fn of_images(rows: &[&[f32]], device: &Device) -> Option<Tensor<2>> {
    let shape = [rows.len(), rows.first()?.len()];
    Some(Tensor::from_data(TensorData::new(rows.concat(), shape), device))
}

/// `branch` [B, N, D] times the `factor` [B, 1, 1] of each image, in its own number format.
pub(super) fn times(branch: Tensor<3>, factor: Option<Tensor<3>>) -> Tensor<3> {
    match factor {
        Some(factor) => {
            let factor = cast_like(factor, &branch);
            branch * factor
        }
        None => branch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn branches_are_left_out_as_often_as_asked_and_keep_their_mean() {
        const DRAWS: u64 = 20_000;
        let (rate, layers) = (0.4, 3);
        let mut sums = vec![[0.0; 2]; 2 * layers];
        for position in 0..DRAWS {
            let draws = &mut Stream::new(1, "drop").at(position);
            for (sum, factor) in sums.iter_mut().zip(branch_factors(rate, layers, draws)) {
                sum[0] += f64::from(factor) / DRAWS as f64;
                sum[1] += if factor == 0.0 { 1.0 / DRAWS as f64 } else { 0.0 };
            }
        }
        for (at, [mean, dropped]) in sums.into_iter().enumerate() {
            let expected = [0.0, 0.2, 0.4][at / 2];
            // Four standard errors of a share of 20,000.
            assert!((dropped - expected).abs() < 0.014, "{at}: {dropped}");
            assert!((mean - 1.0).abs() < 0.025, "{at}: {mean}");
        }
        let one = branch_factors(0.9, 1, &mut Stream::new(1, "drop").at(0));
        assert_eq!(one, [1.0, 1.0], "a single block is the first");
    }
}
