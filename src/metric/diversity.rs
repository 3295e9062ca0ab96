//! How unlike the images of a set are.

use super::{Refusal, at_least, ms_ssim, unless_stopped};
use crate::random::Stream;
use rayon::prelude::*;

/// How unlike the images of one set are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diversity {
    /// Mean multi-scale structural similarity over pairs, in [0, 1]. Lower is more diverse; it says little without
    /// that of as many pairs of real images.
    pub ms_ssim: f64,
    /// Scales that fit the images.
    pub scales: usize,
    /// Pairs compared.
    pub pairs: usize,
}

/// Mean MS-SSIM over pairs of different images among `num_images`, square and of `size` pixels a side, as `image`
/// gives them; it is asked for both of a pair, from many threads.
///
/// All pairs when there are at most `most_pairs`, else so many drawn under `seed`. Refuses fewer than
/// two images and images smaller than the window; fails where `image` does.
pub fn diversity<I: AsRef<[f32]>, E: From<Refusal> + Send>(
    num_images: usize,
    image: impl Fn(usize) -> Result<I, E> + Sync,
    size: usize,
    most_pairs: usize,
    seed: u64,
) -> Result<Diversity, E> {
    at_least(2, num_images)?;
    let n = num_images;
    let pairs: Vec<(usize, usize)> = if n * (n - 1) / 2 <= most_pairs {
        (0..n).flat_map(|first| (first + 1..n).map(move |second| (first, second))).collect()
    } else {
        let stream = Stream::new(seed, "metric/diversity");
        (0..most_pairs as u64).map(|pair| drawn_pair(stream, pair, n as u64)).collect()
    };
    let values = pairs
        .par_iter()
        .map(|&(first, second)| {
            unless_stopped()?;
            Ok(ms_ssim(image(first)?.as_ref(), image(second)?.as_ref(), size, size)?)
        })
        .collect::<Result<Vec<_>, E>>()?;
    let scales = values.first().map_or(0, |found| found.scales);
    let sum: f64 = values.iter().map(|found| found.value).sum();
    Ok(Diversity { ms_ssim: sum / values.len() as f64, scales, pairs: values.len() })
}

/// Two different indices below `n`.
fn drawn_pair(stream: Stream, pair: u64, n: u64) -> (usize, usize) {
    let mut draws = stream.at(pair);
    let (first, second) = (draws.below(n), draws.below(n - 1));
    (first as usize, (second + u64::from(second >= first)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Of images of 64 × 64.
    fn of(images: &[Vec<f32>], most_pairs: usize) -> Result<Diversity, Refusal> {
        diversity(images.len(), |at| Ok::<_, Refusal>(&images[at]), 64, most_pairs, 1)
    }

    #[test]
    fn copies_are_not_diverse() {
        let copies = vec![golden::image(64, 1, 0.1); 5];
        let found = of(&copies, 100).unwrap();
        assert!((found.ms_ssim - 1.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.scales, found.pairs), (3, 10));
        let different: Vec<_> = (0..5).map(|seed| golden::image(64, seed, 0.5)).collect();
        assert!(of(&different, 100).unwrap().ms_ssim < 0.7);
        assert_eq!(of(&different, 7).unwrap().pairs, 7);
        assert!(of(&copies[..1], 100).is_err());
    }

    #[test]
    fn an_image_that_cannot_be_had_is_told() {
        let missing = |_| Err::<Vec<f32>, _>(Refusal::NotFinite);
        assert_eq!(diversity(3, missing, 64, 10, 1), Err(Refusal::NotFinite));
    }

    #[test]
    fn a_drawn_pair_is_of_two_images() {
        let stream = Stream::new(1, "pairs");
        let pairs: Vec<_> = (0..1000).map(|pair| drawn_pair(stream, pair, 3)).collect();
        assert!(pairs.iter().all(|&(first, second)| first != second && first < 3 && second < 3));
        let count = |wanted| pairs.iter().filter(|&&pair| pair == wanted).count();
        // 1000 / 6 and five standard deviations.
        assert!((108..226).contains(&count((0, 1))) && (108..226).contains(&count((2, 1))));
    }
}
