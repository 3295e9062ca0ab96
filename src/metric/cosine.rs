//! Mean cosine of embeddings.

use super::features::dot;
use super::{Features, Refusal, at_least};

/// Mean cosine over all pairs of different rows, in [-1, 1]; near 1 is a collapsed encoder.
///
/// Refuses a single row.
pub fn mean_cosine(features: Features) -> Result<f64, Refusal> {
    at_least(2, features.len())?;
    features.finite()?;
    let directions = features.directions(None);
    // ‖Σu‖² counts every ordered pair, and each row with itself.
    let mut sum = vec![0.0; features.width()];
    let mut with_itself = 0.0;
    for direction in &directions {
        sum.iter_mut().zip(direction).for_each(|(sum, value)| *sum += value);
        with_itself += dot(direction, direction);
    }
    let num_rows = directions.len() as f64;
    Ok((dot(&sum, &sum) - with_itself) / (num_rows * (num_rows - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: numpy.
    #[test]
    fn matches_the_reference() {
        let (real, _) = golden::real_and_generated();
        let found = mean_cosine(Features::new(&real, 12)).unwrap();
        golden::assert_close(found, "/mean_cosine");
    }

    #[test]
    fn equal_rows_have_a_cosine_of_one() {
        let rows = [0.3, 0.4].repeat(10);
        let found = mean_cosine(Features::new(&rows, 2)).unwrap();
        assert!((found - 1.0).abs() < 1e-12, "{found}");
        assert!(mean_cosine(Features::new(&rows[..2], 2)).is_err());
    }
}
