//! How much of an image there is at which scale: radially averaged power spectra.

use super::{Refusal, at_least, quantile};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::ops::{Add, Mul};

/// The mean power of a square by the length of its waves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Pixels a side.
    pub side: usize,
    /// By whole cycles a side: entry r is the mean over all frequencies from r to below r + 1, up to half the side.
    pub radial: Vec<f64>,
    /// By octaves from the finest: waves of 2 to 4 pixels, of 4 to 8, and so on, the longest with at least two cycles a
    /// side.
    pub octaves: Vec<f64>,
}

/// The power spectrum of a square of `side` pixels a side, of which the mean is taken away first; a Hann window (0 at
/// the edge) along both axes keeps the edges from counting as texture. Refuses what is not finite.
pub fn spectrum(pixels: &[f32], side: usize) -> Result<Spectrum, Refusal> {
    assert_eq!(pixels.len(), side * side, "a square of other than side · side pixels");
    if !pixels.iter().all(|pixel| pixel.is_finite()) {
        return Err(Refusal::NotFinite);
    }
    let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64;
    let window: Vec<f64> = (0..side).map(|at| hann(at, side)).collect();
    let mut plane: Vec<Complex> = pixels
        .iter()
        .enumerate()
        .map(|(at, &pixel)| {
            Complex((f64::from(pixel) - mean) * window[at / side] * window[at % side], 0.0)
        })
        .collect();
    let mut transform = Transform::new(side);
    plane.chunks_exact_mut(side).for_each(|row| transform.run(row));
    let mut column = vec![Complex(0.0, 0.0); side];
    for x in 0..side {
        column.iter_mut().enumerate().for_each(|(y, value)| *value = plane[y * side + x]);
        transform.run(&mut column);
        column.iter().enumerate().for_each(|(y, value)| plane[y * side + x] = *value);
    }

    let (mut radial, mut octaves) =
        (vec![Mean::default(); side / 2], vec![Mean::default(); num_octaves(side)]);
    let cycles = |at: usize| if at < side.div_ceil(2) { at } else { side - at };
    for (at, value) in plane.iter().enumerate() {
        let (y, x) = (cycles(at / side), cycles(at % side));
        let (square, power) = (y * y + x * x, value.0 * value.0 + value.1 * value.1);
        if let Some(mean) = radial.get_mut(square.isqrt()) {
            mean.add(power);
        }
        // Of side / 4 to below side / 2 cycles, of side / 8 to below side / 4, …
        let reaches = |octave: usize| (square << (2 * (octave + 2))) >= side * side;
        if 4 * square < side * side
            && let Some(octave) = (0..octaves.len()).find(|&octave| reaches(octave))
        {
            octaves[octave].add(power);
        }
    }
    let means = |bins: Vec<Mean>| bins.iter().map(Mean::value).collect();
    Ok(Spectrum { side, radial: means(radial), octaves: means(octaves) })
}

/// How many octaves the spectrum of such a square has.
pub fn num_octaves(side: usize) -> usize {
    (0..16).take_while(|octave| side >> (octave + 2) >= 2).count()
}

/// The medians of many spectra of squares of one size, each frequency and octave for itself. Refuses fewer than two.
pub fn median(spectra: &[Spectrum]) -> Result<Spectrum, Refusal> {
    at_least(2, spectra.len())?;
    let side = spectra[0].side;
    assert!(spectra.iter().all(|spectrum| spectrum.side == side), "squares of different sizes");
    let medians = |of: fn(&Spectrum) -> &[f64]| -> Result<Vec<f64>, Refusal> {
        let at = |at: usize| spectra.iter().map(|spectrum| of(spectrum)[at]).collect::<Vec<_>>();
        (0..of(&spectra[0]).len()).map(|place| quantile(&at(place), 0.5)).collect()
    };
    let (radial, octaves) = (medians(|it| &it.radial)?, medians(|it| &it.octaves)?);
    Ok(Spectrum { side, radial, octaves })
}

/// The middle of a square of `size` pixels a side, half as wide: where images seldom have padding or borders, whose
/// edges are no texture. With its side.
pub fn middle(pixels: &[f32], size: usize) -> (Vec<f32>, usize) {
    let (side, first) = (size / 2, size / 4);
    let row = |y: usize| &pixels[y * size + first..][..side];
    ((first..first + side).flat_map(row).copied().collect(), side)
}

/// The symmetric Hann window.
fn hann(at: usize, side: usize) -> f64 {
    match side {
        1 => 1.0,
        _ => 0.5 - 0.5 * (TAU * at as f64 / (side - 1) as f64).cos(),
    }
}

#[derive(Clone, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> f64 {
        self.sum / self.count as f64
    }
}

#[derive(Debug, Clone, Copy)]
struct Complex(f64, f64);

impl Add for Complex {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0, self.1 + other.1)
    }
}

impl Mul for Complex {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0 - self.1 * other.1, self.0 * other.1 + self.1 * other.0)
    }
}

/// The discrete Fourier transform of any length, factor by factor (Cooley & Tukey 1965).
struct Transform {
    /// The roots of one, in order.
    roots: Vec<Complex>,
    out: Vec<Complex>,
    /// One value of each part that is put together.
    parts: Vec<Complex>,
}

impl Transform {
    fn new(length: usize) -> Self {
        let root = |at: usize| {
            let angle = -TAU * at as f64 / length as f64;
            Complex(angle.cos(), angle.sin())
        };
        let roots = (0..length).map(root).collect();
        Self { roots, out: vec![Complex(0.0, 0.0); length], parts: Vec::new() }
    }

    fn run(&mut self, values: &mut [Complex]) {
        step(values, 1, &mut self.out, &self.roots, &mut self.parts);
        values.copy_from_slice(&self.out);
    }
}

/// The transform of every `stride`th of `values` from the first, as many as `out` has room for.
fn step(
    values: &[Complex],
    stride: usize,
    out: &mut [Complex],
    roots: &[Complex],
    parts: &mut Vec<Complex>,
) {
    let length = out.len();
    if length == 1 {
        out[0] = values[0];
        return;
    }
    let factor = (2..=length).find(|factor| length.is_multiple_of(*factor)).unwrap_or(length);
    let short = length / factor;
    for (first, out) in out.chunks_exact_mut(short).enumerate() {
        step(&values[first * stride..], stride * factor, out, roots, parts);
    }
    let turn = roots.len() / length;
    for at in 0..short {
        parts.clear();
        parts.extend((0..factor).map(|part| out[part * short + at] * roots[part * at * turn]));
        for block in 0..factor {
            let to = block * short + at;
            let turned = |(part, value): (usize, &Complex)| {
                *value * roots[part * block % factor * (roots.len() / factor)]
            };
            out[to] = parts.iter().enumerate().map(turned).fold(Complex(0.0, 0.0), Complex::add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    #[derive(Deserialize)]
    struct Case {
        radial: Vec<f64>,
        octaves: Vec<f64>,
    }

    fn assert_near(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            // f64 on both sides; sums of up to some thousand terms, in another order.
            assert!((found / expected - 1.0).abs() < 1e-9, "{what} {at}: {found}, not {expected}");
        }
    }

    /// Reference: tests/golden/spectrum.py (versions in its header).
    #[test]
    fn matches_numpy_at_sizes_of_all_kinds() {
        let text = include_str!("../../tests/golden/spectrum.json");
        let golden: std::collections::BTreeMap<String, Case> = serde_json::from_str(text).unwrap();
        let of = |size, seed| spectrum(&golden::image(size, seed, 0.2), size).unwrap();
        for size in [64, 45, 22, 13] {
            let (found, expected) = (of(size, 3), &golden[&size.to_string()]);
            assert_near(&found.radial, &expected.radial, &format!("{size}, radial"));
            assert_near(&found.octaves, &expected.octaves, &format!("{size}, octave"));
        }
        let (found, expected) = (median(&[3, 4, 5, 6].map(|seed| of(32, seed))), &golden["median"]);
        let found = found.unwrap();
        assert_near(&found.radial, &expected.radial, "median, radial");
        assert_near(&found.octaves, &expected.octaves, "median, octave");
        let (half, side) = middle(&golden::image(64, 3, 0.2), 64);
        let found = spectrum(&half, side).unwrap();
        assert_near(&found.octaves, &golden["middle"].octaves, "middle");
    }

    #[test]
    fn a_wave_is_in_its_octave() {
        let side = 64;
        for (length, octave) in [(2.9f64, 0), (5.8, 1), (11.0, 2), (23.0, 3)] {
            let wave = |at: usize| (0.5 + 0.4 * (TAU * (at % side) as f64 / length).sin()) as f32;
            let found = spectrum(&(0..side * side).map(wave).collect::<Vec<_>>(), side).unwrap();
            let sum: f64 = found.octaves.iter().sum();
            assert!(found.octaves[octave] > 0.7 * sum, "{length}: {:?}", found.octaves);
        }
    }

    #[test]
    fn small_squares_have_fewer_octaves_and_none_is_not_a_number() {
        assert_eq!([7, 8, 15, 16, 32, 64, 256].map(num_octaves), [0, 1, 1, 2, 3, 4, 6]);
        for side in 1..40 {
            let found = spectrum(&golden::image(side, 3, 0.2), side).unwrap();
            let all = found.octaves.iter().chain(&found.radial);
            assert!(all.copied().all(f64::is_finite), "{side}: {found:?}");
            assert_eq!(found.octaves.len(), num_octaves(side));
        }
        assert_eq!(spectrum(&[f32::NAN; 4], 2), Err(Refusal::NotFinite));
        let one = spectrum(&[0.5; 4], 2).unwrap();
        assert_eq!(median(&[one]), Err(Refusal::TooFew { found: 1, needed: 2 }));
    }
}
