//! How long equal levels follow each other: the grey-level run-length matrix (Galloway 1975), each feature averaged
//! over the four directions.

use super::sizes::Sizes;
use super::{LATER, Levels};

pub(super) const NAMES: [&str; 16] = [
    "ShortRunEmphasis",
    "LongRunEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "RunLengthNonUniformity",
    "RunLengthNonUniformityNormalized",
    "RunPercentage",
    "GrayLevelVariance",
    "RunVariance",
    "RunEntropy",
    "LowGrayLevelRunEmphasis",
    "HighGrayLevelRunEmphasis",
    "ShortRunLowGrayLevelEmphasis",
    "ShortRunHighGrayLevelEmphasis",
    "LongRunLowGrayLevelEmphasis",
    "LongRunHighGrayLevelEmphasis",
];

pub(super) fn features(levels: &Levels) -> [f64; NAMES.len()] {
    let mut sums = [0.0; NAMES.len()];
    for by in LATER {
        let of_direction = runs(levels, by).features();
        sums.iter_mut().zip(of_direction).for_each(|(sum, value)| *sum += value);
    }
    sums.map(|sum| sum / LATER.len() as f64)
}

/// Those that begin where the pixel before is another or none.
fn runs(levels: &Levels, by: (isize, isize)) -> Sizes {
    let mut sizes = Sizes::default();
    for (at, place) in levels.places().enumerate() {
        let level = levels.values[at];
        let is_equal = |other: &usize| levels.values[*other] == level;
        if levels.beside(place, (-by.0, -by.1)).is_some_and(|before| is_equal(&before)) {
            continue;
        }
        let (mut length, mut last) = (1, place);
        while let Some(next) = levels.beside(last, by).filter(is_equal) {
            length += 1;
            last = [next % levels.width, next / levels.width];
        }
        sizes.add(level, length);
    }
    sizes
}
