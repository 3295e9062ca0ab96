//! Which levels lie beside which: the grey-level co-occurrence matrix (Haralick et al. 1973), distance 1, symmetric,
//! each feature averaged over the four directions.

use super::{LATER, Levels, entropy};

pub(super) const NAMES: [&str; 22] = [
    "Autocorrelation",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Id",
    "Idm",
    "Idmn",
    "Idn",
    "Imc1",
    "Imc2",
    "InverseVariance",
    "JointAverage",
    "JointEnergy",
    "JointEntropy",
    "MaximumProbability",
    "SumEntropy",
    "SumSquares",
];

pub(super) fn features(levels: &Levels) -> [f64; NAMES.len()] {
    let mut sums = [0.0; NAMES.len()];
    for by in LATER {
        let of_direction = direction(levels, by);
        sums.iter_mut().zip(of_direction).for_each(|(sum, value)| *sum += value);
    }
    sums.map(|sum| sum / LATER.len() as f64)
}

/// Of pairs of pixels `by` apart.
fn direction(levels: &Levels, by: (isize, isize)) -> [f64; NAMES.len()] {
    let size = levels.most;
    let mut counts = vec![0u32; size * size];
    let step = levels.step(by);
    for at in levels.places() {
        let other = levels.beside(at, step);
        if other > 0 {
            let [i, j] = [levels.values[at], other].map(|level| level as usize - 1);
            counts[i * size + j] += 1;
            counts[j * size + i] += 1;
        }
    }
    let total = counts.iter().map(|&count| f64::from(count)).sum::<f64>().max(1.0);
    // Level, level, probability; only where there is any.
    let pairs: Vec<(usize, usize, f64)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(at, &count)| (at / size, at % size, f64::from(count) / total))
        .collect();
    // Symmetric: rows sum to what columns do.
    let mut marginal = vec![0.0; size];
    let (mut of_sum, mut of_difference) = (vec![0.0; 2 * size - 1], vec![0.0; size]);
    for &(i, j, p) in &pairs {
        marginal[i] += p;
        of_sum[i + j] += p;
        of_difference[i.abs_diff(j)] += p;
    }
    let level = |index: usize| index as f64 + 1.0;
    let over = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
        pairs.iter().map(|&(i, j, p)| p * term(level(i), level(j))).sum()
    };
    let by_difference = |term: &dyn Fn(f64) -> f64| -> f64 {
        of_difference.iter().enumerate().map(|(k, p)| p * term(k as f64)).sum()
    };
    let mean: f64 = marginal.iter().enumerate().map(|(i, p)| p * level(i)).sum();
    let variance = over(&|i, _| (i - mean).powi(2));
    let cluster = |power: i32| over(&|i, j| (i + j - 2.0 * mean).powi(power));
    let average_difference = by_difference(&|k| k);
    let num_levels = size as f64;
    let joint_entropy = entropy(pairs.iter().map(|pair| pair.2));
    let marginal_entropy = entropy(marginal.iter().copied());
    let expected = |i: usize, j: usize| marginal[i] * marginal[j];
    // Entropies of the marginals' product, with the joint probabilities and with its own.
    let first: f64 =
        -pairs.iter().map(|&(i, j, p)| p * (expected(i, j) + f64::EPSILON).log2()).sum::<f64>();
    let present: Vec<usize> = (0..size).filter(|&i| marginal[i] > 0.0).collect();
    let second = entropy(
        present
            .iter()
            .flat_map(|&i| present.iter().map(move |&j| (i, j)))
            .map(|(i, j)| expected(i, j)),
    );
    let information = match marginal_entropy {
        0.0 => 0.0,
        most => (joint_entropy - first) / most,
    };
    [
        over(&|i, j| i * j),
        cluster(4),
        cluster(3),
        cluster(2),
        over(&|i, j| (i - j).powi(2)),
        match variance {
            0.0 => 1.0,
            _ => over(&|i, j| (i - mean) * (j - mean)) / (variance + f64::EPSILON),
        },
        average_difference,
        entropy(of_difference.iter().copied()),
        by_difference(&|k| (k - average_difference).powi(2)),
        by_difference(&|k| 1.0 / (1.0 + k)),
        by_difference(&|k| 1.0 / (1.0 + k * k)),
        by_difference(&|k| 1.0 / (1.0 + k * k / (num_levels * num_levels))),
        by_difference(&|k| 1.0 / (1.0 + k / num_levels)),
        information,
        (1.0 - (-2.0 * (second - joint_entropy)).exp()).max(0.0).sqrt(),
        by_difference(&|k| if k > 0.0 { 1.0 / (k * k) } else { 0.0 }),
        mean,
        pairs.iter().map(|pair| pair.2 * pair.2).sum(),
        joint_entropy,
        pairs.iter().map(|pair| pair.2).fold(0.0, f64::max),
        entropy(of_sum.iter().copied()),
        variance,
    ]
}
