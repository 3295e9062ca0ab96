//! Precision, recall, density and coverage.

use super::features::distance;
use super::{Features, Refusal, at_least};
use rayon::prelude::*;

/// How two sets of images overlap, seen through balls around each image that reach to its k-th
/// neighbour within its own set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prdc {
    /// Share of the generated images that lie in a ball of a real one, in [0, 1]: are they plausible?
    pub precision: f64,
    /// Share of the real images that lie in a ball of a generated one, in [0, 1]: are they reachable?
    pub recall: f64,
    /// How many real balls hold a generated image, over k; at least 0, about 1 for equal
    /// distributions. Steadier than precision when a real image is an outlier.
    pub density: f64,
    /// Share of the real images whose ball holds a generated one, in [0, 1]. Steadier than recall.
    pub coverage: f64,
}

/// Precision and recall of Kynkäänniemi et al. (2019), density and coverage of Naeem et al. (2020).
///
/// `k` is the number of neighbours (5 in the latter). Euclidean distances. Refuses sets of `k` images
/// or fewer.
pub fn prdc(real: Features, generated: Features, k: usize) -> Result<Prdc, Refusal> {
    assert_eq!(real.width(), generated.width(), "features of different widths");
    assert!(k > 0, "a ball that reaches to the 0th neighbour is empty");
    at_least(k + 1, real.len().min(generated.len()))?;
    real.finite()?;
    generated.finite()?;
    let (real_radii, generated_radii) = (radii(real, k), radii(generated, k));
    // For each real image: is it in a generated ball, which generated ones are in its ball?
    let rows: Vec<(bool, Vec<bool>)> = (0..real.len())
        .into_par_iter()
        .map(|index| {
            let distances: Vec<f64> =
                generated.rows().map(|other| distance(real.row(index), other)).collect();
            let is_reached =
                distances.iter().zip(&generated_radii).any(|(distance, radius)| distance < radius);
            let holds = distances.iter().map(|&distance| distance < real_radii[index]).collect();
            (is_reached, holds)
        })
        .collect();
    let mut num_balls = vec![0u64; generated.len()];
    for (_, holds) in &rows {
        num_balls.iter_mut().zip(holds).for_each(|(count, &holds)| *count += u64::from(holds));
    }
    let share = |count: usize, of: usize| count as f64 / of as f64;
    let num_held: u64 = num_balls.iter().sum();
    Ok(Prdc {
        precision: share(num_balls.iter().filter(|&&count| count > 0).count(), generated.len()),
        recall: share(rows.iter().filter(|(is_reached, _)| *is_reached).count(), real.len()),
        density: num_held as f64 / (k * generated.len()) as f64,
        coverage: share(rows.iter().filter(|(_, holds)| holds.contains(&true)).count(), real.len()),
    })
}

/// Each row's distance to its k-th nearest other row.
fn radii(features: Features, k: usize) -> Vec<f64> {
    (0..features.len())
        .into_par_iter()
        .map(|index| {
            let mut distances: Vec<f64> =
                features.rows().map(|other| distance(features.row(index), other)).collect();
            // The row itself is at distance 0, in front of its neighbours.
            *distances.select_nth_unstable_by(k, f64::total_cmp).1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: the formula of the package `prdc` in numpy.
    #[test]
    fn matches_the_reference() {
        let (real, generated) = golden::real_and_generated();
        let found = prdc(Features::new(&real, 12), Features::new(&generated, 12), 5).unwrap();
        golden::assert_close(found.precision, "/prdc/precision");
        golden::assert_close(found.recall, "/prdc/recall");
        golden::assert_close(found.density, "/prdc/density");
        golden::assert_close(found.coverage, "/prdc/coverage");
    }

    #[test]
    fn one_image_over_and_over_is_precise_and_covers_little() {
        let real = golden::features(1, 60, 4, 0.0);
        let copies: Vec<f32> = real[..4].repeat(60);
        let found = prdc(Features::new(&real, 4), Features::new(&copies, 4), 5).unwrap();
        assert_eq!(found.precision, 1.0);
        assert!(found.recall == 0.0 && found.coverage < 0.3, "{found:?}");
    }

    #[test]
    fn refuses_fewer_images_than_neighbours() {
        let (real, generated) = golden::real_and_generated();
        let few = Features::new(&real[..5 * 12], 12);
        let refusal = Refusal::TooFew { found: 5, needed: 6 };
        assert_eq!(prdc(few, Features::new(&generated, 12), 5), Err(refusal));
    }
}
