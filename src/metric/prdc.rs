//! Precision, recall, density and coverage.

use super::points::Points;
use super::{Features, Refusal, at_least};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The same, image by image.
#[derive(Debug, Clone, PartialEq)]
pub struct PrdcEach {
    /// How many real balls each generated image lies in.
    pub num_balls: Vec<u64>,
    /// Whether each real image lies in a generated ball.
    pub is_reached: Vec<bool>,
    /// Whether each real image's own ball holds a generated one.
    pub is_covered: Vec<bool>,
    k: usize,
}

impl PrdcEach {
    /// Over all images.
    pub fn shares(&self) -> Prdc {
        let share = |hits: usize, of: usize| hits as f64 / of as f64;
        let (num_generated, num_real) = (self.num_balls.len(), self.is_reached.len());
        let hits = |flags: &[bool]| flags.iter().filter(|&&flag| flag).count();
        let num_precise = self.num_balls.iter().filter(|&&count| count > 0).count();
        Prdc {
            precision: share(num_precise, num_generated),
            recall: share(hits(&self.is_reached), num_real),
            density: self.num_balls.iter().sum::<u64>() as f64 / (self.k * num_generated) as f64,
            coverage: share(hits(&self.is_covered), num_real),
        }
    }

    /// Of each generated image what its share of the density is.
    pub fn densities(&self) -> Vec<f64> {
        self.num_balls.iter().map(|&count| count as f64 / self.k as f64).collect()
    }
}

/// [`prdc_each`], over all images.
pub fn prdc(real: Features, generated: Features, k: usize) -> Result<Prdc, Refusal> {
    Ok(prdc_each(real, generated, k)?.shares())
}

/// Precision and recall of Kynkäänniemi et al. (2019), density and coverage of Naeem et al. (2020).
///
/// `k` is the number of neighbours (5 in the latter). Euclidean distances. The more real images there are for each
/// generated one, the smaller their balls and with them recall and coverage: the papers compare sets of equal size.
/// Refuses sets of `k` images or fewer.
pub fn prdc_each(real: Features, generated: Features, k: usize) -> Result<PrdcEach, Refusal> {
    assert_eq!(real.width(), generated.width(), "features of different widths");
    assert!(k > 0, "a ball that reaches to the 0th neighbour is empty");
    at_least(k + 1, real.len().min(generated.len()))?;
    real.finite()?;
    generated.finite()?;
    let center = real.mean();
    let (real, generated) = (Points::new(real, &center), Points::new(generated, &center));
    let (real_radii, generated_radii) = (real.radii(k)?, generated.radii(k)?);
    let num_balls: Vec<AtomicU64> = generated.lengths.iter().map(|_| AtomicU64::new(0)).collect();
    // For each real image: is it in a generated ball, does its own hold a generated one?
    let found: Vec<(bool, bool)> = real.map_distances(&generated, |index, distances| {
        let (mut is_reached, mut is_covered) = (false, false);
        for (other, num_balls) in num_balls.iter().enumerate() {
            is_reached |= distances.is_below(other, generated_radii[other]);
            if distances.is_below(other, real_radii[index]) {
                is_covered = true;
                // A sum of whole numbers is the same in any order.
                num_balls.fetch_add(1, Ordering::Relaxed);
            }
        }
        (is_reached, is_covered)
    })?;
    let (is_reached, is_covered) = found.into_iter().unzip();
    let num_balls = num_balls.into_iter().map(AtomicU64::into_inner).collect();
    Ok(PrdcEach { num_balls, is_reached, is_covered, k })
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

    /// Reference: the same; sets of different sizes, far from the origin, where squares in single precision alone
    /// would be off by more than the points are apart.
    #[test]
    fn points_far_from_the_origin_are_told_apart() {
        let (real, generated) =
            (golden::features(1, 200, 12, 3e3), golden::features(2, 96, 12, 3e3));
        let found = prdc(Features::new(&real, 12), Features::new(&generated, 12), 5).unwrap();
        golden::assert_close(found.precision, "/prdc_far/precision");
        golden::assert_close(found.recall, "/prdc_far/recall");
        golden::assert_close(found.density, "/prdc_far/density");
        golden::assert_close(found.coverage, "/prdc_far/coverage");
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
