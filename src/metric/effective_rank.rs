//! Directions that embeddings use.

use super::frechet::eigen;
use super::{Features, Refusal, at_least};

/// How many directions the features really use: Roy & Vetterli (2007).
///
/// The exponential of the entropy of the singular values of the centred rows, scaled to a sum of 1.
/// From 1 (one direction) to the features' width (all directions alike); 0 when all rows are equal,
/// which is a collapsed encoder. Refuses a single row.
pub fn effective_rank(features: Features) -> Result<f64, Refusal> {
    at_least(2, features.len())?;
    features.finite()?;
    let centered = features.centered(&features.mean());
    let gram = if features.len() < features.width() {
        &centered * centered.transpose()
    } else {
        centered.transpose() * &centered
    };
    let eigenvalues = eigen(gram)?.eigenvalues;
    let largest = eigenvalues.max();
    let scale = features.rows().flatten().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    if largest <= scale * 1e-14 {
        return Ok(0.0);
    }
    // Below this an eigenvalue is the rounding of a larger one, and its root would look like signal.
    let floor = largest * gram_rounding(features);
    let singular: Vec<f64> =
        eigenvalues.iter().filter(|&&value| value > floor).map(|value| value.sqrt()).collect();
    let sum: f64 = singular.iter().sum();
    let entropy: f64 = singular.iter().map(|value| value / sum).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

/// Relative rounding of a Gram matrix' eigenvalues.
fn gram_rounding(features: Features) -> f64 {
    f64::EPSILON * features.len().max(features.width()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: numpy's singular values; more rows than columns, and fewer.
    #[test]
    fn matches_the_reference() {
        let (real, _) = golden::real_and_generated();
        let found = effective_rank(Features::new(&real, 12)).unwrap();
        golden::assert_close(found, "/effective_rank");
        let found = effective_rank(Features::new(&real[..8 * 12], 12)).unwrap();
        golden::assert_close(found, "/effective_rank_wide");
    }

    #[test]
    fn counts_directions() {
        let line: Vec<f32> =
            (0..50).flat_map(|step| [step as f32, 2.0 * step as f32, 1.0]).collect();
        let found = effective_rank(Features::new(&line, 3)).unwrap();
        assert!((found - 1.0).abs() < 1e-6, "{found}");
        let collapsed = [0.1, 0.7, -0.3].repeat(50);
        assert_eq!(effective_rank(Features::new(&collapsed, 3)), Ok(0.0));
        let cross: Vec<f32> = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].concat();
        let found = effective_rank(Features::new(&cross, 2)).unwrap();
        assert!((found - 2.0).abs() < 1e-12, "{found}");
    }
}
