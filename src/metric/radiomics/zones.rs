//! How large connected parts of one level are: the grey-level size-zone matrix (Thibault et al. 2014), eight
//! neighbours.

use super::Levels;
use super::sizes::Sizes;

pub(super) const NAMES: [&str; 16] = [
    "SmallAreaEmphasis",
    "LargeAreaEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "SizeZoneNonUniformity",
    "SizeZoneNonUniformityNormalized",
    "ZonePercentage",
    "GrayLevelVariance",
    "ZoneVariance",
    "ZoneEntropy",
    "LowGrayLevelZoneEmphasis",
    "HighGrayLevelZoneEmphasis",
    "SmallAreaLowGrayLevelEmphasis",
    "SmallAreaHighGrayLevelEmphasis",
    "LargeAreaLowGrayLevelEmphasis",
    "LargeAreaHighGrayLevelEmphasis",
];

pub(super) fn features(levels: &Levels) -> [f64; NAMES.len()] {
    let mut sizes = Sizes::new(levels.most);
    let mut is_seen = vec![false; levels.values.len()];
    let (around, mut open) = (levels.around(), Vec::new());
    for start in levels.places() {
        if is_seen[start] {
            continue;
        }
        let (level, mut size) = (levels.values[start], 0);
        is_seen[start] = true;
        open.push(start);
        while let Some(at) = open.pop() {
            size += 1;
            for step in around {
                let other = usize::wrapping_add_signed(at, step);
                if !is_seen[other] && levels.values[other] == level {
                    is_seen[other] = true;
                    open.push(other);
                }
            }
        }
        sizes.add(level, size);
    }
    sizes.features()
}
