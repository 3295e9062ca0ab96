//! The most similar image.

use super::features::dot;
use rayon::prelude::*;

/// The reference image most like a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Its index among the references.
    pub index: usize,
    /// Pearson's correlation with it, in [-1, 1]; 1 is a copy up to brightness and contrast.
    pub pearson: f64,
}

/// For each query the reference image with the greatest Pearson correlation over all pixels; None
/// when there is no reference or the query is constant.
///
/// Images of equal size, usually 64 × 64. A first look at memorisation: generated images should be no
/// nearer to the training images than held-out real ones are.
pub fn nearest_by_pearson(
    queries: &[impl AsRef<[f32]> + Sync],
    references: &[impl AsRef<[f32]> + Sync],
) -> Vec<Option<Nearest>> {
    let references: Vec<_> =
        references.par_iter().map(|reference| standardised(reference.as_ref())).collect();
    let nearest = |query: &[f32]| {
        let query = standardised(query)?;
        let mut best: Option<Nearest> = None;
        for (index, reference) in references.iter().enumerate() {
            let Some(reference) = reference else { continue };
            let pearson = dot(&query, reference).clamp(-1.0, 1.0);
            if best.is_none_or(|best| pearson > best.pearson) {
                best = Some(Nearest { index, pearson });
            }
        }
        best
    };
    queries.par_iter().map(|query| nearest(query.as_ref())).collect()
}

/// Mean 0 and length 1; None for a constant image. f32, to hold many.
fn standardised(image: &[f32]) -> Option<Vec<f32>> {
    let num_pixels = image.len() as f64;
    let mean = image.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / num_pixels;
    let square: f64 = image.iter().map(|&pixel| (f64::from(pixel) - mean).powi(2)).sum();
    let is_contrast = square > num_pixels * f64::EPSILON;
    is_contrast.then(|| {
        image.iter().map(|&pixel| ((f64::from(pixel) - mean) / square.sqrt()) as f32).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{golden, pearson};

    #[test]
    fn finds_a_copy_whatever_its_brightness() {
        let references: Vec<_> = (0..8).map(|seed| golden::image(32, seed, 0.4)).collect();
        let copy: Vec<f32> = references[5].iter().map(|pixel| 0.2 + 0.5 * pixel).collect();
        let other = golden::image(32, 99, 0.4);
        let found = nearest_by_pearson(&[copy, other.clone(), vec![0.5; 1024]], &references);
        let [Some(copy), Some(stranger), None] = found[..] else { panic!("{found:?}") };
        assert!(copy.index == 5 && copy.pearson > 1.0 - 1e-5, "{copy:?}");
        let direct = pearson(&other, &references[stranger.index], &[]).unwrap();
        // Standardised pixels are kept in f32.
        assert!((stranger.pearson - direct).abs() < 1e-6, "{stranger:?}, {direct}");
        let direct = |index: usize| pearson(&other, &references[index], &[]).unwrap();
        assert!((0..8).all(|index| direct(index) <= stranger.pearson + 1e-6));
    }

    #[test]
    fn nothing_is_near_when_there_is_nothing() {
        let none: [Vec<f32>; 0] = [];
        assert_eq!(nearest_by_pearson(&[golden::image(16, 1, 0.1)], &none), [None]);
    }
}
