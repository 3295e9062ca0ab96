//! Statistics of brightness, wherever it is.

use super::{Levels, entropy};

pub(super) const NAMES: [&str; 17] = [
    "10Percentile",
    "90Percentile",
    "Energy",
    "Entropy",
    "InterquartileRange",
    "Kurtosis",
    "Maximum",
    "MeanAbsoluteDeviation",
    "Mean",
    "Median",
    "Minimum",
    "Range",
    "RobustMeanAbsoluteDeviation",
    "RootMeanSquared",
    "Skewness",
    "Uniformity",
    "Variance",
];

/// Of `values`, whose `levels` decide entropy and uniformity.
pub(super) fn features(values: &[f64], levels: &Levels) -> [f64; NAMES.len()] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let percentile = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    let (tenth, ninetieth) = (percentile(0.1), percentile(0.9));
    let middle = mean(values);
    let moment =
        |power: i32| values.iter().map(|x| (x - middle).powi(power)).sum::<f64>() / count(values);
    let variance = moment(2);
    let shape = |moment: f64, scale: f64| if variance > 0.0 { moment / scale } else { 0.0 };
    let robust: Vec<f64> =
        values.iter().copied().filter(|x| (tenth..=ninetieth).contains(x)).collect();
    let energy: f64 = values.iter().map(|x| x * x).sum();
    let shares: Vec<f64> = levels.counts().iter().map(|it| it / levels.len() as f64).collect();
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    [
        tenth,
        ninetieth,
        energy,
        entropy(shares.iter().copied()),
        percentile(0.75) - percentile(0.25),
        shape(moment(4), variance * variance),
        most,
        deviation(values),
        // That of a subband is 0 but for rounding, which must not be a feature.
        (middle * 1e9).round() / 1e9,
        percentile(0.5),
        least,
        most - least,
        deviation(&robust),
        (energy / count(values)).sqrt(),
        shape(moment(3), variance.powf(1.5)),
        shares.iter().map(|share| share * share).sum(),
        variance,
    ]
}

fn count(values: &[f64]) -> f64 {
    values.len().max(1) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values)
}

/// The mean distance from the mean.
fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    values.iter().map(|x| (x - middle).abs()).sum::<f64>() / count(values)
}
