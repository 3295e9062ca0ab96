//! Whether a thing finds its source among candidates.

use super::features::dot;
use super::{Features, unless_stopped};
use rayon::prelude::*;

/// Share of queries whose nearest candidate by cosine is the one at the same index, in [0, 1].
///
/// Chance is 1 / candidates. See [`nearest_by_cosine`].
pub fn top1(queries: Features, candidates: Features) -> f64 {
    assert_eq!(queries.len(), candidates.len(), "each query has one candidate");
    share_found(&nearest_by_cosine(queries, candidates), 0..queries.len())
}

/// For each query the candidate nearest by cosine, after subtracting the candidates' mean from both;
/// None where two candidates are equally near.
///
/// Without the mean, what all images have in common would decide.
pub fn nearest_by_cosine(queries: Features, candidates: Features) -> Vec<Option<usize>> {
    let mean = candidates.mean();
    let (queries, candidates) =
        (queries.directions(Some(&mean)), candidates.directions(Some(&mean)));
    nearest_by(queries.len(), candidates.len(), |query, candidate| {
        dot(&queries[query], &candidates[candidate])
    })
}

/// For each query the candidate with the greatest likeness; None where two share it, or where no
/// likeness is a number, and for all that are left once a signal came.
///
/// A tie is nobody's: an image that does not depend on its source is equally near to all of them, and
/// must not score by its place in the list.
pub fn nearest_by(
    num_queries: usize,
    num_candidates: usize,
    likeness: impl Fn(usize, usize) -> f64 + Sync,
) -> Vec<Option<usize>> {
    let nearest = |query: usize| {
        unless_stopped().ok()?;
        let (mut best, mut found) = (f64::NEG_INFINITY, None);
        for candidate in 0..num_candidates {
            let likeness = likeness(query, candidate);
            if likeness > best {
                (best, found) = (likeness, Some(candidate));
            } else if likeness == best {
                found = None;
            }
        }
        found
    };
    (0..num_queries).into_par_iter().map(nearest).collect()
}

/// Share of `found` that is what was `expected`, in [0, 1]; ties are misses. NaN for no queries.
pub fn share_found(found: &[Option<usize>], expected: impl IntoIterator<Item = usize>) -> f64 {
    let num_hits =
        found.iter().zip(expected).filter(|&(found, expected)| *found == Some(expected)).count();
    num_hits as f64 / found.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    #[test]
    fn each_finds_itself_and_a_shuffle_finds_nobody() {
        let rows = golden::features(4, 32, 8, 5.0);
        let candidates = Features::new(&rows, 8);
        assert_eq!(top1(candidates, candidates), 1.0);
        let rotated: Vec<f32> = [&rows[8..], &rows[..8]].concat();
        let found = nearest_by_cosine(Features::new(&rotated, 8), candidates);
        assert_eq!(share_found(&found, 0..32), 0.0);
        assert_eq!(share_found(&found, (1..32).chain([0])), 1.0);
    }

    #[test]
    fn the_candidates_mean_is_taken_off_both() {
        // By angle from the origin the first is nearer (42.0° and 47.7° to 42.5°); seen from their
        // mean (10, 10) the query lies on the side of the second.
        let candidates = Features::new(&[10.0, 9.0, 10.0, 11.0], 2);
        let query = Features::new(&[12.0, 11.0], 2);
        assert_eq!(nearest_by_cosine(query, candidates), [Some(1)]);
    }

    #[test]
    fn ties_are_misses() {
        let found = nearest_by(4, 3, |query, candidate| match query {
            0 => 0.5,
            1 => f64::NAN,
            2 => [0.1, 0.9, 0.9][candidate],
            _ => [0.1, 0.1, 0.9][candidate],
        });
        assert_eq!(found, [None, None, None, Some(2)]);
        let constant = [1.0; 64];
        let rows = golden::features(4, 32, 2, 0.0);
        assert!(top1(Features::new(&constant, 2), Features::new(&rows, 2)) <= 1.0 / 32.0);
        assert_eq!(top1(Features::new(&constant, 2), Features::new(&constant, 2)), 0.0);
    }
}
