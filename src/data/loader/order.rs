//! Which sample stands at which position.

use crate::random::{Permutation, Stream};

/// The endless sequence of samples: one keyed permutation of 0..`len` per epoch. O(1) at any position.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    len: u64,
    epochs: Stream,
    redraws: Stream,
}

impl Order {
    /// The order called `stream` under `seed`, over `len` > 0 samples.
    pub fn new(seed: u64, stream: &str, len: u64) -> Self {
        assert!(len > 0, "an order needs samples");
        let redraws = Stream::new(seed, &format!("{stream}/redraw"));
        Self { len, epochs: Stream::new(seed, stream), redraws }
    }

    /// The pass over the data that `position` belongs to, from 0.
    pub fn epoch(&self, position: u64) -> u64 {
        position / self.len
    }

    /// The sample at `position`.
    pub fn index(&self, position: u64) -> u64 {
        Permutation::new(self.len, self.epochs, self.epoch(position)).apply(position % self.len)
    }

    /// The samples to try at `position`, one after the other: its own, then replacements in a keyed order of
    /// all samples, each once.
    pub fn candidates(&self, position: u64) -> impl Iterator<Item = u64> + use<> {
        let own = self.index(position);
        let redraw = Permutation::new(self.len, self.redraws, position);
        let others = (0..self.len).map(move |attempt| redraw.apply(attempt));
        std::iter::once(own).chain(others.filter(move |&index| index != own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_epoch_has_every_sample_once() {
        let epoch_is_whole = |n: u64, seed| {
            let order = Order::new(seed, "order", n);
            for epoch in 1..3 {
                let mut seen = vec![false; n as usize];
                for position in epoch * n..(epoch + 1) * n {
                    let index = order.index(position) as usize;
                    assert!(!std::mem::replace(&mut seen[index], true), "n {n}, seed {seed}");
                }
            }
        };
        for seed in 0..50 {
            [1, 2, 3, 997].into_iter().for_each(|n| epoch_is_whole(n, seed));
        }
        // As many as the public chest sets have together.
        epoch_is_whole(868_394, 1);
    }

    /// How far the shuffle moves a sample is uniform. χ² over 50 bins; 74.919 is the 99th percentile of χ² with
    /// 49 degrees of freedom (scipy.stats.chi2.ppf), so about 1 of 100 seeds goes above it; 5 would by
    /// chance in 0.3 % of cases.
    #[test]
    fn displacements_are_uniform() {
        let (n, num_bins) = (10_000u64, 50);
        let chi_square = |seed| {
            let order = Order::new(seed, "order", n);
            let mut bins = vec![0.0; num_bins];
            for position in 0..n {
                let displacement = (order.index(position) + n - position) % n;
                bins[displacement as usize * num_bins / n as usize] += 1.0;
            }
            let expected = n as f64 / num_bins as f64;
            bins.iter().map(|count: &f64| (count - expected).powi(2) / expected).sum::<f64>()
        };
        let above = (0..100).filter(|&seed| chi_square(seed) > 74.919).count();
        assert!(above < 5, "{above} of 100 seeds");
    }

    /// Neighbours in the sequence have nothing to do with each other: |ρ| within 4 standard errors (1/√n),
    /// which 100 seeds pass by chance in 99.4 % of cases.
    #[test]
    fn neighbours_are_uncorrelated() {
        let n = 10_000u64;
        for seed in 0..100 {
            let order = Order::new(seed, "order", n);
            let centre = (n - 1) as f64 / 2.0;
            let x: Vec<f64> = (0..n).map(|at| order.index(at) as f64 - centre).collect();
            let product: f64 = x.windows(2).map(|pair| pair[0] * pair[1]).sum();
            let power: f64 = x.iter().map(|x| x * x).sum();
            let rho = product / power;
            assert!(rho.abs() < 4.0 / (n as f64).sqrt(), "seed {seed}: {rho}");
        }
    }

    /// Two datasets, 30 % and 70 %: every batch has its share of both, within 4.5 standard deviations of the
    /// hypergeometric distribution (1000 batches pass by chance in 99.3 % of cases).
    #[test]
    fn batches_mix_their_origins() {
        let (n, batch) = (10_000u64, 100u64);
        let (n_f, batch_f, share) = (n as f64, batch as f64, 0.3);
        let variance = batch_f * share * (1.0 - share) * (n_f - batch_f) / (n_f - 1.0);
        for seed in 0..10 {
            let order = Order::new(seed, "order", n);
            for first in (0..n).step_by(batch as usize) {
                let from_first = (first..first + batch)
                    .filter(|&position| (order.index(position) as f64) < share * n_f)
                    .count();
                let deviation = (from_first as f64 - share * batch_f) / variance.sqrt();
                assert!(deviation.abs() < 4.5, "seed {seed}, batch at {first}: {from_first}");
            }
        }
    }

    #[test]
    fn replacements_are_keyed_and_each_tried_once() {
        let order = Order::new(1, "order", 37);
        for position in 0..100 {
            let all: Vec<u64> = order.candidates(position).collect();
            assert_eq!(all[0], order.index(position));
            assert_eq!(all.len(), 37);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 37);
        }
        let first_redraw = |position| order.candidates(position).nth(1);
        let redraws: BTreeSet<_> = (0..100).map(first_redraw).collect();
        assert!(redraws.len() > 25, "replacements come from everywhere: {redraws:?}");
    }
}
