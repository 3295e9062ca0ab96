//! What a radiomics program measures of an image: brightness and texture, as it is and through a wavelet.
//!
//! The definitions are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2020) as pyradiomics
//! (van Griethuysen et al. 2017) computes them in two dimensions over a whole image. The Fréchet distance of these
//! features, each at mean 0 and deviation 1 over the real images, is the Fréchet radiomic distance (Konz et al. 2026);
//! its authors take the logarithm.

mod cooccurrence;
mod dependence;
mod first_order;
mod neighbourhood;
mod runs;
mod sizes;
mod wavelet;
mod zones;

/// Grey values that are one level, of 256: that of Konz et al.
const BIN_WIDTH: f64 = 5.0;

/// Numbers of one of the five images.
const PER_IMAGE: usize = first_order::NAMES.len()
    + cooccurrence::NAMES.len()
    + runs::NAMES.len()
    + zones::NAMES.len()
    + dependence::NAMES.len()
    + neighbourhood::NAMES.len();

/// Numbers of an image: the same of it and of its four subbands.
pub const NUM_FEATURES: usize = (1 + wavelet::NAMES.len()) * PER_IMAGE;

/// What [`features`] gives, by pyradiomics' names.
pub fn names() -> Vec<String> {
    let classes: [(&str, &[&str]); 6] = [
        ("firstorder", &first_order::NAMES),
        ("glcm", &cooccurrence::NAMES),
        ("glrlm", &runs::NAMES),
        ("glszm", &zones::NAMES),
        ("gldm", &dependence::NAMES),
        ("ngtdm", &neighbourhood::NAMES),
    ];
    let images = std::iter::once("original").chain(wavelet::NAMES);
    let mut names = Vec::new();
    for image in images {
        for (class, features) in classes {
            names.extend(features.iter().map(|name| format!("{image}_{class}_{name}")));
        }
    }
    names
}

/// All numbers of an image of `width` columns (above 1, as the rows) with values in [0, 1], which count as 8 bits.
pub fn features(pixels: &[f32], width: usize) -> Vec<f64> {
    assert!(width > 1 && pixels.len().is_multiple_of(width), "rows of {width} pixels");
    assert!(pixels.len() > width, "more than one row");
    let gray: Vec<f64> =
        pixels.iter().map(|&pixel| (f64::from(pixel).clamp(0.0, 1.0) * 255.0).round()).collect();
    let mut all = Vec::with_capacity(NUM_FEATURES);
    let subbands = wavelet::subbands(&gray, width);
    for values in std::iter::once(&gray).chain(&subbands) {
        let levels = Levels::new(values, width);
        all.extend(first_order::features(values, &levels));
        all.extend(cooccurrence::features(&levels));
        all.extend(runs::features(&levels));
        all.extend(zones::features(&levels));
        all.extend(dependence::features(&levels));
        all.extend(neighbourhood::features(&levels));
    }
    all
}

/// An image in whole levels, the least of which is 1, with a frame of 0 around it.
struct Levels {
    values: Vec<u32>,
    width: usize,
    height: usize,
    /// The greatest.
    most: usize,
}

/// Neighbours that come later in reading order, as columns and rows: right, and the three below.
const LATER: [(isize, isize); 4] = [(1, 0), (-1, 1), (0, 1), (1, 1)];

impl Levels {
    fn new(pixels: &[f64], width: usize) -> Self {
        let level = |value: f64| (value / BIN_WIDTH).floor();
        let least = level(pixels.iter().copied().fold(f64::INFINITY, f64::min));
        let height = pixels.len() / width;
        let mut levels = Self { values: Vec::new(), width, height, most: 0 };
        levels.values = vec![0; levels.stride() * (height + 2)];
        for (at, &pixel) in levels.places().zip(pixels) {
            let level = (level(pixel) - least) as u32 + 1;
            levels.values[at] = level;
            levels.most = levels.most.max(level as usize);
        }
        levels
    }

    /// Pixels, without the frame.
    fn len(&self) -> usize {
        self.width * self.height
    }

    fn stride(&self) -> usize {
        self.width + 2
    }

    /// The indices of all pixels, in reading order.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let (stride, width) = (self.stride(), self.width);
        (1..=self.height).flat_map(move |row| row * stride + 1..=row * stride + width)
    }

    /// How far the pixel `by` columns and rows away is in `values`.
    fn step(&self, (columns, rows): (isize, isize)) -> isize {
        rows * self.stride() as isize + columns
    }

    /// How far the eight neighbours are.
    fn around(&self) -> [isize; 8] {
        let [a, b, c, d] = LATER.map(|by| self.step(by));
        [a, -a, b, -b, c, -c, d, -d]
    }

    /// The level `step` away from a pixel; 0 outside.
    fn beside(&self, at: usize, step: isize) -> u32 {
        self.values[at.wrapping_add_signed(step)]
    }

    /// How often each level is there, from level 1.
    fn counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.most];
        self.places().for_each(|at| counts[self.values[at] as usize - 1] += 1.0);
        counts
    }
}

/// The entropy of probabilities, in bits, as pyradiomics guards it against the logarithm of 0.
fn entropy(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    -probabilities.into_iter().map(|p| p * (p + f64::EPSILON).log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;
    use std::collections::BTreeMap;

    /// Reference: pyradiomics on the same 8-bit images; of one with an odd number of rows, statistics of brightness.
    #[test]
    fn matches_the_reference() {
        let text = include_str!("../../../tests/golden/radiomic_features.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        let large = golden::image(48, 3, 0.1);
        for (case, pixels) in [("square", &large[..]), ("odd", &large[..48 * 31])] {
            let expected = golden[case].as_object().unwrap();
            let found = features(pixels, 48);
            assert_eq!((found.len(), names().len()), (NUM_FEATURES, NUM_FEATURES));
            let by_name: BTreeMap<String, f64> = names().into_iter().zip(found).collect();
            assert_eq!(expected.len(), if case == "square" { NUM_FEATURES } else { 5 * 17 });
            for (name, expected) in expected {
                let (found, expected) = (by_name[name], expected.as_f64().unwrap());
                // Sums of thousands of terms in another order, differences of nearly equal entropies.
                let error = (found - expected).abs() / expected.abs().max(1e-3);
                assert!(error < 1e-8, "{case}, {name}: {found}, the reference has {expected}");
            }
        }
    }

    #[test]
    fn a_flat_image_has_finite_features() {
        for value in [0.0, 0.3, 1.0] {
            let found = features(&vec![value; 16 * 12], 16);
            assert!(found.iter().all(|value| value.is_finite()), "{value}");
        }
        assert!(features(&[0.0, 1.0, 0.5, 0.25], 2).iter().all(|value| value.is_finite()));
    }

    /// What the sums of a wavelet are off by where nothing varies must not become texture.
    #[test]
    fn flat_parts_have_one_level() {
        let mut pixels = golden::image(32, 1, 0.2);
        pixels[16 * 32..].fill(0.7);
        let gray: Vec<f64> = pixels.iter().map(|&it| (f64::from(it) * 255.0).round()).collect();
        for subband in wavelet::subbands(&gray, 32) {
            let levels = Levels::new(&subband, 32);
            let flat: Vec<u32> =
                levels.places().skip(20 * 32).take(8 * 32).map(|at| levels.values[at]).collect();
            assert!(flat.iter().all(|level| *level == flat[0]));
        }
    }
}
