//! Texture, in words and as a curve: the power of one set of images over that of another, octave by octave.

use crate::evaluate::finding::{Figure, Finding};
use crate::evaluate::report::{Curve, Series};
use crate::evaluate::words::number;
use crate::metric::Refusal;
use crate::metric::spectrum::{self, Spectrum};

/// Octaves told, from the finest; what they are called, in JSON and on the page.
const OCTAVES: [(&str, &str); 4] = [
    ("power_ratio.waves_2_4_px", "Power left, waves of 2 to 4 pixels"),
    ("power_ratio.waves_4_8_px", "Power left, waves of 4 to 8 pixels"),
    ("power_ratio.waves_8_16_px", "Power left, waves of 8 to 16 pixels"),
    ("power_ratio.waves_16_32_px", "Power left, waves of 16 to 32 pixels"),
];

/// Adds what became of the power of the `real` images' middles, of `side` pixels, in what was `restored` of them; the
/// ratio of the finest octave.
pub(super) fn describe(
    finding: &mut Finding,
    real: Result<Vec<Spectrum>, Refusal>,
    restored: Result<Vec<Spectrum>, Refusal>,
    side: usize,
) -> Figure {
    let medians = [real, restored].map(|spectra| spectrum::median(&spectra?));
    let [real, restored] = &medians;
    let ratio = |octave: usize| match (real, restored) {
        (Ok(real), Ok(restored)) => {
            match (real.octaves.get(octave), restored.octaves.get(octave)) {
                (Some(real), Some(restored)) => Figure::from(restored / real),
                _ => Figure::missing(format!(
                    "the middle of an image, {side} pixels, has no such waves"
                )),
            }
        }
        (Err(refusal), _) | (_, Err(refusal)) => Figure::missing(refusal.to_string()),
    };
    for (octave, (key, name)) in OCTAVES.into_iter().enumerate() {
        let definition = match octave {
            0 => {
                "Of the middle half of the same pairs, less its mean, under a Hann window: the mean power of these \
                 waves after the autoencoder, over that before it; medians over images. 1 is all, more is texture \
                 that was not there."
            }
            _ => "The same of longer waves.",
        };
        finding.figure(key, &ratio(octave), number, name, definition);
    }
    if let [Ok(real), Ok(restored)] = &medians {
        // Up to the longest wave that the window lets see.
        let series = |name: &str, spectrum: &Spectrum| Series {
            name: name.to_owned(),
            points: spectrum
                .radial
                .iter()
                .enumerate()
                .skip(2)
                .map(|(cycles, power)| ((cycles as f64 + 0.5) / spectrum.side as f64, *power))
                .collect(),
        };
        finding.curves.push(Curve {
            title: "Autoencoder: power of validation images".to_owned(),
            x_label: "cycles per pixel".to_owned(),
            y_label: "power, median".to_owned(),
            log: true,
            series: vec![series("images", real), series("restored", restored)],
        });
    }
    ratio(0)
}
