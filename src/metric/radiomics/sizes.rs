//! How often a level comes in which size: what runs, zones and dependences have in common.

use std::collections::BTreeMap;

/// Sizes below this are most of them.
const SMALL: usize = 33;

/// How often each level comes in each size.
pub(super) struct Sizes {
    /// Of each level from 1, how often it comes in each small size from 0.
    small: Vec<u32>,
    large: BTreeMap<(u32, u32), u32>,
}

impl Sizes {
    /// None yet of `most` levels.
    pub(super) fn new(most: usize) -> Self {
        Self { small: vec![0; most * SMALL], large: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, level: u32, size: u32) {
        if (size as usize) < SMALL {
            self.small[(level as usize - 1) * SMALL + size as usize] += 1;
        } else {
            *self.large.entry((level, size)).or_insert(0) += 1;
        }
    }

    /// Level, size and how often, where ever.
    fn all(&self) -> Vec<(f64, f64, f64)> {
        let small = self
            .small
            .iter()
            .enumerate()
            .map(|(at, &times)| ((at / SMALL + 1) as u32, (at % SMALL) as u32, times));
        let large = self.large.iter().map(|(&(level, size), &times)| (level, size, times));
        let all = small.filter(|(.., times)| *times > 0).chain(large);
        all.map(|(level, size, times)| (level.into(), size.into(), times.into())).collect()
    }

    /// Emphasis of the small and of the large, non-uniformity of levels and of sizes, each also normalised, pieces per
    /// pixel, variance of levels and of sizes, entropy, emphasis of the dark and of the bright, and of the small and
    /// dark, small and bright, large and dark, large and bright.
    pub(super) fn features(&self) -> [f64; 16] {
        let all = self.all();
        let count: f64 = all.iter().map(|it| it.2).sum();
        let (mut by_level, mut by_size) = (BTreeMap::new(), BTreeMap::new());
        for &(level, size, times) in &all {
            *by_level.entry(level as u32).or_insert(0.0) += times;
            *by_size.entry(size as u32).or_insert(0.0) += times;
        }
        let over = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
            all.iter().map(|&(level, size, times)| times * term(level, size)).sum::<f64>() / count
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
            super::entropy(all.iter().map(|it| it.2 / count)),
            over(&|i, _| 1.0 / (i * i)),
            over(&|i, _| i * i),
            over(&|i, j| 1.0 / (i * i * j * j)),
            over(&|i, j| i * i / (j * j)),
            over(&|i, j| j * j / (i * i)),
            over(&|i, j| i * i * j * j),
        ]
    }
}
