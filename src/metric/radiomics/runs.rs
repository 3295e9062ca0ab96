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
    let mut sizes = Sizes::new(levels.most);
    let step = levels.step(by);
    for at in levels.places() {
        let level = levels.values[at];
        if levels.beside(at, -step) == level {
            continue;
        }
        let (mut length, mut last) = (1, at);
        while levels.beside(last, step) == level {
            length += 1;
            last = last.wrapping_add_signed(step);
        }
        sizes.add(level, length);
    }
    sizes
}
