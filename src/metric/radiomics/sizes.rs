//! How often a level comes in which size: what runs, zones and dependences have in common.

use std::collections::BTreeMap;

/// How often each level comes in each size.
#[derive(Default)]
pub(super) struct Sizes(BTreeMap<(u32, u32), f64>);

impl Sizes {
    pub(super) fn add(&mut self, level: u32, size: u32) {
        *self.0.entry((level, size)).or_insert(0.0) += 1.0;
    }

    /// Emphasis of the small and of the large, non-uniformity of levels and of sizes, each also normalised, pieces per
    /// pixel, variance of levels and of sizes, entropy, emphasis of the dark and of the bright, and of the small and
    /// dark, small and bright, large and dark, large and bright.
    pub(super) fn features(&self) -> [f64; 16] {
        let count: f64 = self.0.values().sum();
        let (mut by_level, mut by_size) = (BTreeMap::new(), BTreeMap::new());
        for (&(level, size), &times) in &self.0 {
            *by_level.entry(level).or_insert(0.0) += times;
            *by_size.entry(size).or_insert(0.0) += times;
        }
        let over = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
            let terms = self.0.iter();
            let sum: f64 = terms
                .map(|(&(level, size), times)| times * term(f64::from(level), f64::from(size)))
                .sum();
            sum / count
        };
        let squares = |by: &BTreeMap<u32, f64>| by.values().map(|it| it * it).sum::<f64>();
        let (of_levels, of_sizes) = (squares(&by_level), squares(&by_size));
        let (mean_level, mean_size) = (over(&|i, _| i), over(&|_, j| j));
        [
            over(&|_, j| 1.0 / (j * j)),
            over(&|_, j| j * j),
            of_levels / count,
            of_levels / (count * count),
            of_sizes / count,
            of_sizes / (count * count),
            1.0 / mean_size,
            over(&|i, _| (i - mean_level).powi(2)),
            over(&|_, j| (j - mean_size).powi(2)),
            super::entropy(self.0.values().map(|times| times / count)),
            over(&|i, _| 1.0 / (i * i)),
            over(&|i, _| i * i),
            over(&|i, j| 1.0 / (i * i * j * j)),
            over(&|i, j| i * i / (j * j)),
            over(&|i, j| j * j / (i * i)),
            over(&|i, j| i * i * j * j),
        ]
    }
}
