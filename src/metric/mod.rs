//! What images and embeddings are worth: functions on slices, computed in f64.
//!
//! Everything here is deterministic: pairs are compared in parallel, but collected in order before
//! they are summed. Where all are compared with all, single precision decides which pairs are close, and f64 decides
//! between those. A figure that the data cannot support is a [`Refusal`], never a number; nor is one that a signal
//! cut short.

pub mod auc;
pub mod bootstrap;
pub mod copying;
pub mod cosine;
pub mod dice;
pub mod diversity;
pub mod effective_rank;
pub mod features;
pub mod frechet;
pub mod kernel_distance;
pub mod knn;
pub mod nearest;
pub mod pearson;
mod points;
pub mod prdc;
mod products;
pub mod psnr;
pub mod quantile;
pub mod radiomics;
pub mod retrieval;
pub mod spectrum;
pub mod ssim;
pub mod standard;

pub use auc::auc;
pub use cosine::mean_cosine;
pub use dice::dice;
pub use diversity::{Diversity, diversity};
pub use effective_rank::effective_rank;
pub use features::Features;
pub use frechet::frechet_distance;
pub use kernel_distance::{KernelDistance, Subsets, kernel_distance};
pub use knn::{KnnAccuracy, Labels};
pub use nearest::{Area, Nearest, Padded, nearest_by_pearson};
pub use pearson::pearson;
pub use prdc::{Prdc, prdc, prdc_each};
pub use psnr::psnr;
pub use quantile::quantile;
pub use spectrum::{Spectrum, spectrum};
pub use ssim::{MsSsim, ms_ssim, ssim};
pub use standard::Standard;

use crate::interrupt;

/// Why a figure cannot be computed honestly.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Too few images for the figure to mean anything.
    #[error("{found} images are too few: this figure needs at least {needed}")]
    TooFew {
        /// Images there are.
        found: usize,
        /// Images the figure needs.
        needed: usize,
    },
    /// An infinity or NaN among the features or pixels.
    #[error("a feature or pixel is not a finite number")]
    NotFinite,
    /// The image is smaller than the window of structural similarity.
    #[error("an image of {width} × {height} pixels is smaller than the window of 11 × 11")]
    TooSmall {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// No part of the features holds images of all sets that are compared.
    #[error("no cell holds generated, held-out and training images enough")]
    NoCell,
    /// No label has both an image where it is present and one where it is absent.
    #[error("no label is known to be present in one image and absent in another")]
    NoLabel,
    /// The eigenvalues were not found.
    #[error("the eigenvalues of a covariance did not converge")]
    NoConvergence,
    /// The process was asked to end: whatever is made of this is not to be kept.
    #[error("a signal came before the figure was computed")]
    Stopped,
}

/// Refuses to go on once the process was asked to end; for loops that take longer than whoever asks should wait.
pub fn unless_stopped() -> Result<(), Refusal> {
    if interrupt::requested() { Err(Refusal::Stopped) } else { Ok(()) }
}

/// Refuses fewer than `needed` images.
fn at_least(needed: usize, found: usize) -> Result<(), Refusal> {
    if found < needed { Err(Refusal::TooFew { found, needed }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod golden {
    //! Inputs and reference values of `tests/golden/metric.py`.

    /// The reference value at a JSON pointer such as `/prdc/recall`.
    pub(crate) fn value(pointer: &str) -> f64 {
        let text = include_str!("../../tests/golden/metric.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        golden.pointer(pointer).unwrap().as_f64().unwrap()
    }

    /// Knuth's 64-bit linear congruential generator, as the script has it.
    struct Uniforms(u64);

    impl Uniforms {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 11) as f64 * (-53f64).exp2()
        }
    }

    pub(crate) fn features(seed: u64, rows: usize, width: usize, shift: f64) -> Vec<f32> {
        let mut draws = Uniforms(seed);
        let mut out = Vec::new();
        for _ in 0..rows {
            let mut left = 0.0;
            for column in 0..width {
                let bell = draws.next() + draws.next() + draws.next() + draws.next() - 2.0;
                let value = bell * (1.0 + column as f64 / width as f64) + 0.5 * left + shift;
                out.push(value as f32);
                left = value;
            }
        }
        out
    }

    pub(crate) fn image(size: usize, seed: u64, noise: f64) -> Vec<f32> {
        let mut draws = Uniforms(seed);
        let mut out = Vec::new();
        for y in 0..size {
            for x in 0..size {
                let (x, y) = (x as f64, y as f64);
                let smooth = 0.5 + 0.2 * (x / 7.0).sin() + 0.2 * ((y + 0.3 * x) / 11.0).cos();
                let value = smooth + noise * (2.0 * draws.next() - 1.0);
                out.push(value.clamp(0.0, 1.0) as f32);
            }
        }
        out
    }

    /// The script's two sets of features: 96 rows of 12.
    pub(crate) fn real_and_generated() -> (Vec<f32>, Vec<f32>) {
        (features(1, 96, 12, 0.1), features(2, 96, 12, 0.3))
    }

    /// f64 on both sides; what differs is the order of sums and the eigenvalue solver.
    pub(crate) fn assert_close(found: f64, pointer: &str) {
        let expected = value(pointer);
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-9, "{pointer}: {found}, the reference has {expected}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every distance or likeness between two sets promises: at its best on a set against
    /// itself, and worse the more noise one of them carries.
    #[test]
    fn best_against_itself_and_worse_with_noise() {
        let clean = golden::features(5, 128, 6, 0.0);
        let noise = golden::features(6, 128, 6, 0.0);
        let noisy = |level: f32| -> Vec<f32> {
            clean.iter().zip(&noise).map(|(value, noise)| value + level * noise).collect()
        };
        let subsets = Subsets { count: 4, size: 64, seed: 1 };
        // Each figure as a loss: smaller is better.
        type Loss<'a> = (&'a str, Box<dyn Fn(Features, Features) -> f64>);
        let losses: [Loss; 7] = [
            ("frechet", Box::new(|a, b| frechet_distance(a, b).unwrap())),
            ("kernel", Box::new(move |a, b| kernel_distance(a, b, &subsets).unwrap().mean)),
            ("precision", Box::new(|a, b| -prdc(a, b, 5).unwrap().precision)),
            ("recall", Box::new(|a, b| -prdc(b, a, 5).unwrap().recall)),
            ("density", Box::new(|a, b| -prdc(a, b, 5).unwrap().density)),
            ("coverage", Box::new(|a, b| -prdc(a, b, 5).unwrap().coverage)),
            ("top1", Box::new(|a, b| -retrieval::top1(b, a))),
        ];
        for (name, loss) in losses {
            let at = |level: f32| loss(Features::new(&clean, 6), Features::new(&noisy(level), 6));
            let (same, some, much) = (at(0.0), at(1.5), at(6.0));
            assert!(same <= some && some < much, "{name}: {same}, {some}, {much}");
        }
    }

    #[test]
    fn image_likeness_is_best_against_itself_and_worse_with_noise() {
        let clean = golden::image(64, 1, 0.0);
        type Likeness<'a> = (&'a str, Box<dyn Fn(&[f32], &[f32]) -> f64>);
        let likenesses: [Likeness; 4] = [
            ("psnr", Box::new(|a, b| psnr(a, b, None))),
            ("ssim", Box::new(|a, b| ssim(a, b, 64, 64).unwrap())),
            ("ms_ssim", Box::new(|a, b| ms_ssim(a, b, 64, 64).unwrap().value)),
            ("pearson", Box::new(|a, b| pearson(a, b, &[]).unwrap())),
        ];
        for (name, likeness) in likenesses {
            let at = |noise: f64| likeness(&clean, &golden::image(64, 9, noise));
            let (same, some, much) = (likeness(&clean, &clean), at(0.1), at(0.3));
            assert!(same > some && some > much, "{name}: {same}, {some}, {much}");
        }
    }
}
