//! Quantiles.

use super::{Refusal, at_least};

/// The number below which the share `at` (in [0, 1]) of `values` lies, interpolated between neighbours: type 7 of
/// Hyndman & Fan (1996), numpy's default.
///
/// Refuses fewer values than it takes for one of them to lie beyond: 100 for the 99th percentile, 20 for the 95th.
/// Refuses what is not a number.
pub fn quantile(values: &[f64], at: f64) -> Result<f64, Refusal> {
    assert!((0.0..=1.0).contains(&at), "a quantile at {at}");
    let beyond = at.max(1.0 - at);
    // A hair is taken off, or 1 / (1 - 0.99) would be a little above 100.
    let needed = if beyond < 1.0 { (1.0 / (1.0 - beyond) - 1e-9).ceil() as usize } else { 1 };
    at_least(needed, values.len())?;
    if values.iter().any(|value| value.is_nan()) {
        return Err(Refusal::NotFinite);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = at * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Ok(sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: numpy's `quantile`.
    #[test]
    fn matches_the_reference() {
        let (real, _) = golden::real_and_generated();
        let values: Vec<f64> = real.iter().map(|&value| f64::from(value)).collect();
        for (at, pointer) in [
            (0.5, "/quantiles/median"),
            (0.95, "/quantiles/p95"),
            (0.99, "/quantiles/p99"),
            (1.0, "/quantiles/max"),
        ] {
            golden::assert_close(quantile(&values, at).unwrap(), pointer);
        }
    }

    #[test]
    fn a_tail_of_nothing_is_refused() {
        let values: Vec<f64> = (0..99).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), Err(Refusal::TooFew { found: 99, needed: 100 }));
        assert_eq!(quantile(&values[..19], 0.95), Err(Refusal::TooFew { found: 19, needed: 20 }));
        assert_eq!(quantile(&values[..1], 0.5), Err(Refusal::TooFew { found: 1, needed: 2 }));
        assert_eq!(quantile(&values[..1], 1.0), Ok(0.0));
        assert_eq!(quantile(&[], 1.0), Err(Refusal::TooFew { found: 0, needed: 1 }));
        assert_eq!(quantile(&[f64::NAN, 1.0], 0.5), Err(Refusal::NotFinite));
    }
}
