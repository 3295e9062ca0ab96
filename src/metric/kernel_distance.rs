//! Kernel distance.

use super::features::dot;
use super::{Features, Refusal, at_least, unless_stopped};
use crate::random::{Permutation, Stream};
use rayon::prelude::*;

/// How [`kernel_distance`] looks at the features: in subsets of `size` images, `count` times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subsets {
    /// Subsets.
    pub count: usize,
    /// Images in a subset, from each side. Half the images or fewer make the subsets differ enough
    /// for the standard deviation to mean something.
    pub size: usize,
    /// Decides which images a subset holds.
    pub seed: u64,
}

/// Kernel distance over subsets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// Mean over the subsets; 0 is best. Unbiased, so that it may fall a little below 0.
    pub mean: f64,
    /// Standard deviation over the subsets.
    pub std: f64,
}

/// Kernel distance (KID): Bińkowski et al. (2018).
///
/// The unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³, d the features'
/// width. Unlike the Fréchet distance it is unbiased at any number of images. Refuses subsets larger
/// than either set or below two images.
pub fn kernel_distance(
    real: Features,
    generated: Features,
    subsets: &Subsets,
) -> Result<KernelDistance, Refusal> {
    assert_eq!(real.width(), generated.width(), "features of different widths");
    assert!(subsets.count > 0, "no subsets to take a mean over");
    at_least(subsets.size.max(2), real.len().min(generated.len()))?;
    at_least(2, subsets.size)?;
    real.finite()?;
    generated.finite()?;
    let discrepancies = (0..subsets.count as u64)
        .into_par_iter()
        .map(|subset| {
            let chosen = |features: Features, side: &str| {
                let stream = Stream::new(subsets.seed, side);
                let order = Permutation::new(features.len() as u64, stream, subset);
                (0..subsets.size as u64).map(|at| order.apply(at) as usize).collect::<Vec<_>>()
            };
            discrepancy(
                (real, &chosen(real, "metric/kernel_distance/real")),
                (generated, &chosen(generated, "metric/kernel_distance/generated")),
            )
        })
        .collect::<Result<Vec<f64>, _>>()?;
    let count = discrepancies.len() as f64;
    let mean = discrepancies.iter().sum::<f64>() / count;
    let variance = discrepancies.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    Ok(KernelDistance { mean, std: variance.sqrt() })
}

/// The unbiased squared maximum mean discrepancy of two subsets of equal size.
fn discrepancy(a: (Features, &[usize]), b: (Features, &[usize])) -> Result<f64, Refusal> {
    let size = a.1.len() as f64;
    let sum = |row: &[f32], (features, chosen): (Features, &[usize])| -> f64 {
        chosen.iter().map(|&other| kernel(row, features.row(other))).sum()
    };
    let (mut within, mut between) = (0.0, 0.0);
    for at in 0..a.1.len() {
        unless_stopped()?;
        for (features, chosen) in [a, b] {
            within += 2.0 * sum(features.row(chosen[at]), (features, &chosen[at + 1..]));
        }
        between += sum(a.0.row(a.1[at]), b);
    }
    Ok(within / (size * (size - 1.0)) - 2.0 * between / (size * size))
}

fn kernel(x: &[f32], y: &[f32]) -> f64 {
    (dot(x, y) / x.len() as f64 + 1.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: torchmetrics' formula in numpy. A subset of everything is everything.
    #[test]
    fn matches_the_reference() {
        let (real, generated) = golden::real_and_generated();
        let (real, generated) = (Features::new(&real, 12), Features::new(&generated, 12));
        let whole = Subsets { count: 3, size: 96, seed: 1 };
        let found = kernel_distance(real, generated, &whole).unwrap();
        golden::assert_close(found.mean, "/mmd");
        assert!(found.std < 1e-12, "{found:?}");
    }

    #[test]
    fn subsets_scatter_around_the_whole() {
        let (real, generated) = golden::real_and_generated();
        let (real, generated) = (Features::new(&real, 12), Features::new(&generated, 12));
        let subsets = Subsets { count: 200, size: 48, seed: 1 };
        let found = kernel_distance(real, generated, &subsets).unwrap();
        let error = (found.mean - golden::value("/mmd")).abs();
        // Four standard errors of a mean of 200.
        assert!(error < 4.0 * found.std / 200f64.sqrt(), "{found:?}");
        assert_eq!(kernel_distance(real, generated, &subsets), Ok(found));
        let other = Subsets { seed: 2, ..subsets };
        assert_ne!(kernel_distance(real, generated, &other), Ok(found));
    }

    #[test]
    fn refuses_subsets_larger_than_the_sets() {
        let (real, generated) = golden::real_and_generated();
        let (real, generated) = (Features::new(&real, 12), Features::new(&generated, 12));
        let large = Subsets { count: 1, size: 97, seed: 1 };
        let refusal = Refusal::TooFew { found: 96, needed: 97 };
        assert_eq!(kernel_distance(real, generated, &large), Err(refusal));
    }
}
