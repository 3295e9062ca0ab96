//! How many neighbours have a pixel's own level: the grey-level dependence matrix (Sun & Wee 1983).

use super::Levels;
use super::sizes::Sizes;

pub(super) const NAMES: [&str; 14] = [
    "SmallDependenceEmphasis",
    "LargeDependenceEmphasis",
    "GrayLevelNonUniformity",
    "DependenceNonUniformity",
    "DependenceNonUniformityNormalized",
    "GrayLevelVariance",
    "DependenceVariance",
    "DependenceEntropy",
    "LowGrayLevelEmphasis",
    "HighGrayLevelEmphasis",
    "SmallDependenceLowGrayLevelEmphasis",
    "SmallDependenceHighGrayLevelEmphasis",
    "LargeDependenceLowGrayLevelEmphasis",
    "LargeDependenceHighGrayLevelEmphasis",
];

pub(super) fn features(levels: &Levels) -> [f64; NAMES.len()] {
    let mut sizes = Sizes::new(levels.most);
    let around = levels.around();
    for at in levels.places() {
        let level = levels.values[at];
        let equal = around.iter().filter(|&&step| levels.beside(at, step) == level);
        sizes.add(level, 1 + equal.count() as u32);
    }
    // Of every pixel one: the share of pixels is 1, and normalised non-uniformity of levels is the uniformity of first
    // order.
    let [a, b, c, _, d, e, _, f, g, h, i, j, k, l, m, n] = sizes.features();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n]
}
