//! How values are spread: percentiles without sorting an image.

/// Distinct values in rising order, each with how often it occurs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Levels(Vec<(f64, u64)>);

impl Levels {
    /// From distinct values in any order.
    pub(super) fn new(counts: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Self(counts)
    }

    /// Smallest and largest value; (0, 0) if there is none.
    pub(super) fn range(&self) -> (f64, f64) {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (0.0, 0.0),
        }
    }

    /// The value below which `percent` (0 to 100) of the values lie, linear between neighbours as numpy's default.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let total: u64 = self.0.iter().map(|&(_, count)| count).sum();
        let rank = percent / 100.0 * total.saturating_sub(1) as f64;
        let (below, above) = (self.at(rank.floor() as u64), self.at(rank.ceil() as u64));
        below + (above - below) * rank.fract()
    }

    /// The value at a place in the sorted list of all.
    fn at(&self, place: u64) -> f64 {
        let mut seen = 0;
        let reached = self.0.iter().find(|&&(_, count)| {
            seen += count;
            seen > place
        });
        reached.map_or(self.range().1, |&(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: `numpy.percentile([5, 5, 5, 7, 100, -3], [0, 0.5, 40, 50, 90, 99.5, 100])`, numpy 2.4.
    #[test]
    fn percentiles_match_numpy() {
        let levels = Levels::new([(5.0, 3), (100.0, 1), (-3.0, 1), (7.0, 1)]);
        let expected = [-3.0, -2.8, 5.0, 5.0, 53.5, 97.67499999999997, 100.0];
        for (percent, value) in [0.0, 0.5, 40.0, 50.0, 90.0, 99.5, 100.0].into_iter().zip(expected)
        {
            assert!((levels.percentile(percent) - value).abs() < 1e-9, "{percent}");
        }
        assert_eq!(levels.range(), (-3.0, 100.0));
    }

    #[test]
    fn nothing_has_a_range_of_zero() {
        let levels = Levels::new([]);
        assert_eq!((levels.range(), levels.percentile(50.0)), ((0.0, 0.0), 0.0));
    }
}
