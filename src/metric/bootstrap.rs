//! How far a figure may be off for the patients it happens to look at.

use super::{Refusal, quantile, unless_stopped};
use crate::random::Stream;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Times that patients are drawn again. The ends of an interval are off by a tenth of its figure's standard error.
const DRAWS: u64 = 1000;

/// Fewer groups than this tell little of how groups differ.
const LEAST_GROUPS: usize = 10;

/// Between which values `figure` lies with 95 % confidence: the percentile bootstrap (Efron 1979) over whole groups
/// (patients), whose images are not independent of each other.
///
/// `groups` has the group of each image. `figure` is told how often each image is there, and gives none where so many
/// of them cannot be measured; such draws are left out. None for fewer than ten groups, or where most draws were left
/// out. Draws follow from `seed` alone. Only for figures that are sums over images: where pairs of images decide, a
/// copy is an image's own nearest neighbour, and the interval is of another figure.
pub fn interval<G: Ord>(
    groups: &[G],
    seed: u64,
    figure: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Result<Option<[f64; 2]>, Refusal> {
    // Numbered as they come: what a group is called decides nothing.
    let mut numbers: BTreeMap<&G, usize> = BTreeMap::new();
    let mut number_of = Vec::with_capacity(groups.len());
    for group in groups {
        let next = numbers.len();
        number_of.push(*numbers.entry(group).or_insert(next));
    }
    let num_groups = numbers.len();
    if num_groups < LEAST_GROUPS {
        return Ok(None);
    }
    let stream = Stream::new(seed, "metric/bootstrap");
    let draw = |at: u64| {
        unless_stopped()?;
        let mut draws = stream.at(at);
        let mut of_group = vec![0; num_groups];
        for _ in 0..num_groups {
            of_group[draws.below(num_groups as u64) as usize] += 1;
        }
        let counts: Vec<u32> = number_of.iter().map(|&number| of_group[number]).collect();
        Ok(figure(&counts))
    };
    let drawn: Vec<Option<f64>> = (0..DRAWS).into_par_iter().map(draw).collect::<Result<_, _>>()?;
    let found: Vec<f64> = drawn.into_iter().flatten().collect();
    if 2 * found.len() < DRAWS as usize {
        return Ok(None);
    }
    Ok(Some([quantile(&found, 0.025)?, quantile(&found, 0.975)?]))
}

/// The same for a mean of `values`, one for each image.
pub fn interval_of_mean<G: Ord>(
    values: &[f64],
    groups: &[G],
    seed: u64,
) -> Result<Option<[f64; 2]>, Refusal> {
    assert_eq!(values.len(), groups.len(), "each value has one group");
    interval(groups, seed, |counts| {
        let (mut sum, mut count) = (0.0, 0.0);
        for (value, &times) in values.iter().zip(counts) {
            sum += value * f64::from(times);
            count += f64::from(times);
        }
        (count > 0.0).then(|| sum / count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// What images of one group have in common is most of what they are.
    fn values() -> (Vec<f64>, Vec<usize>) {
        let (rows, _) = golden::real_and_generated();
        let first = |image: usize| f64::from(rows[image * 12]);
        let values = (0..96).map(|image| first(image / 3 * 3) + 0.2 * first(image)).collect();
        (values, (0..96).map(|image| image / 3).collect())
    }

    /// Reference: numpy's quantiles of 100,000 means over groups drawn with its own generator.
    #[test]
    fn the_interval_is_that_of_many_draws() {
        let (values, groups) = values();
        let found = interval_of_mean(&values, &groups, 1).unwrap().unwrap();
        let off = golden::value("/bootstrap/deviation");
        for (found, pointer) in found.iter().zip(["/bootstrap/low", "/bootstrap/high"]) {
            let expected = golden::value(pointer);
            // Four standard errors of that quantile of a thousand draws from a normal distribution.
            assert!((found - expected).abs() < 0.34 * off, "{found}, {expected}");
        }
        // Images as their own groups: narrower by far more than that.
        let each_its_own: Vec<usize> = (0..96).collect();
        let narrow = interval_of_mean(&values, &each_its_own, 1).unwrap().unwrap();
        assert!(narrow[1] - narrow[0] < 0.75 * (found[1] - found[0]));
    }

    #[test]
    fn a_seed_decides_and_names_do_not() {
        let (values, groups) = values();
        let found = interval_of_mean(&values, &groups, 1).unwrap();
        let renamed: Vec<usize> = groups.iter().map(|group| 1000 - group).collect();
        assert_eq!(interval_of_mean(&values, &renamed, 1).unwrap(), found);
        assert_ne!(interval_of_mean(&values, &groups, 2).unwrap(), found);
    }

    #[test]
    fn few_patients_have_no_interval() {
        let values = vec![1.0; 100];
        let groups: Vec<usize> = (0..100).map(|image| image % 9).collect();
        assert_eq!(interval_of_mean(&values, &groups, 1), Ok(None));
        let groups: Vec<usize> = (0..100).map(|image| image % 10).collect();
        assert_eq!(interval_of_mean(&values, &groups, 1), Ok(Some([1.0, 1.0])));
        assert_eq!(interval(&groups, 1, |_| None), Ok(None));
        assert_eq!(interval_of_mean::<u8>(&[], &[], 1), Ok(None));
    }
}
