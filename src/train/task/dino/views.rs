//! The views of one image that self-distillation compares: large crops and small ones.

use crate::data::image::Square;
use crate::random::Draws;
use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

/// How views are drawn. No flips (laterality is clinical) and no colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Share of the image's area that a global view shows, lowest and highest.
    pub global_area: (f64, f64),
    /// Share of the image's area that a local view shows, lowest and highest.
    pub local_area: (f64, f64),
    /// Local views per image. Global ones are always two.
    pub num_local: usize,
    /// Side of a local view in pixels; a multiple of the patch size.
    pub local_size: usize,
    /// Largest change of aspect: a view's width over height lies in [1 / this, this].
    pub aspect: f64,
    /// Strength of the intensity changes (gamma, contrast, brightness), 0 for none.
    pub intensity: f64,
    /// Probability of a Gaussian blur with a standard deviation of up to 1.5 pixels.
    pub blur: f64,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            global_area: (0.4, 1.0),
            local_area: (0.08, 0.4),
            num_local: 4,
            local_size: 32,
            aspect: 1.1,
            intensity: 0.3,
            blur: 0.3,
        }
    }
}

/// Two global views, then the local ones, each row by row with values in [0, 1].
pub struct Drawn {
    /// `[2][size · size]`.
    pub globals: Vec<Vec<f32>>,
    /// `[num_local][local_size · local_size]`.
    pub locals: Vec<Vec<f32>>,
}

impl Views {
    /// Faults, each what follows the section's name; `patch` is the encoder's.
    pub fn faults(&self, patch: usize) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, (low, high)) in [("global_area", self.global_area), ("local_area", self.local_area)] {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                faults.push(format!("views.{name} is ({low}, {high}); expected 0 < low <= high <= 1"));
            }
        }
        if self.num_local > 0 && (self.local_size == 0 || !self.local_size.is_multiple_of(patch.max(1))) {
            let size = self.local_size;
            faults.push(format!("views.local_size is {size}; expected a multiple of the patch ({patch})"));
        }
        if !(1.0..=4.0).contains(&self.aspect) {
            faults.push(format!("views.aspect is {}; expected 1 to 4", self.aspect));
        }
        if !(0.0..=1.0).contains(&self.intensity) || !(0.0..=1.0).contains(&self.blur) {
            faults.push("views.intensity and views.blur are expected from 0 to 1".into());
        }
        faults
    }

    /// The views of `square` under `draws`.
    pub fn draw(&self, square: &Square, draws: &mut Draws) -> Drawn {
        let mut view = |area, size| {
            let pixels = crop(square, area, self.aspect, size, draws);
            self.retouch(pixels, size, draws)
        };
        Drawn {
            globals: (0..2).map(|_| view(self.global_area, square.size)).collect(),
            locals: (0..self.num_local).map(|_| view(self.local_area, self.local_size)).collect(),
        }
    }

    fn retouch(&self, mut pixels: Vec<f32>, size: usize, draws: &mut Draws) -> Vec<f32> {
        // All draws are made, whatever is used of them, so that one setting does not shift the others.
        let gamma = (self.intensity * draws.range(-1.0, 1.0)).exp();
        let contrast = 1.0 + self.intensity * draws.range(-0.5, 0.5);
        let brightness = self.intensity * draws.range(-0.25, 0.25);
        let (blurred, sigma) = (draws.chance(self.blur), draws.range(0.3, 1.5));
        if self.intensity > 0.0 {
            for pixel in &mut pixels {
                let curved = f64::from(*pixel).powf(gamma);
                *pixel = ((curved - 0.5) * contrast + 0.5 + brightness).clamp(0.0, 1.0) as f32;
            }
        }
        if blurred { blur(&pixels, size, sigma) } else { pixels }
    }
}

fn crop(
    square: &Square,
    (low, high): (f64, f64),
    aspect: f64,
    size: usize,
    draws: &mut Draws,
) -> Vec<f32> {
    let side = square.size as f64;
    let area = draws.range(low, high);
    let stretch = (aspect.ln() * draws.range(-1.0, 1.0)).exp().sqrt();
    let width = (side * area.sqrt() * stretch).min(side);
    let height = (side * area.sqrt() / stretch).min(side);
    let (left, top) = (draws.range(0.0, side - width), draws.range(0.0, side - height));
    let bytes: Vec<u8> = square.pixels.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let from = fir::images::Image::from_vec_u8(
        square.size as u32,
        square.size as u32,
        bytes,
        fir::PixelType::F32,
    )
    .expect("a square has size · size values");
    let mut to = fir::images::Image::new(size as u32, size as u32, fir::PixelType::F32);
    let options = fir::ResizeOptions::new()
        .crop(left, top, width, height)
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new()
        .resize(&from, &mut to, &options)
        .expect("the crop lies inside the square");
    to.buffer()
        .chunks_exact(4)
        .map(|bytes| f32::from_ne_bytes(bytes.try_into().expect("4 bytes")))
        .collect()
}

/// A separable Gaussian blur with the borders repeated.
fn blur(pixels: &[f32], size: usize, sigma: f64) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as isize;
    let kernel: Vec<f64> =
        (-radius..=radius).map(|at| (-(at as f64).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    let pass = |from: &[f32], step: usize, across: usize| {
        let mut out = vec![0.0; from.len()];
        for line in 0..size {
            for at in 0..size {
                let value: f64 = kernel
                    .iter()
                    .zip(-radius..)
                    .map(|(weight, offset)| {
                        let at = at.saturating_add_signed(offset).min(size - 1);
                        weight * f64::from(from[line * across + at * step])
                    })
                    .sum();
                out[line * across + at * step] = (value / sum) as f32;
            }
        }
        out
    };
    pass(&pass(pixels, 1, size), size, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::Rect;
    use crate::random::Stream;

    fn ramp(size: usize) -> Square {
        let pixels = (0..size * size).map(|at| (at % size) as f32 / size as f32).collect();
        Square { size, pixels, content: Rect { x: 0, y: 0, width: size, height: size } }
    }

    #[test]
    fn views_have_their_sizes_and_stay_in_range() {
        let views = Views::default();
        let drawn = views.draw(&ramp(64), &mut Stream::new(1, "views").at(0));
        assert_eq!(drawn.globals.iter().map(Vec::len).collect::<Vec<_>>(), [64 * 64; 2]);
        assert_eq!(drawn.locals.iter().map(Vec::len).collect::<Vec<_>>(), [32 * 32; 4]);
        let mut values = drawn.globals.iter().chain(&drawn.locals).flatten();
        assert!(values.all(|value| (0.0..=1.0).contains(value)));
    }

    /// A ramp cropped anywhere rises to the right: a mirrored crop would fall.
    #[test]
    fn no_view_is_mirrored() {
        let views = Views { intensity: 0.0, blur: 0.0, ..Views::default() };
        for position in 0..200 {
            let drawn = views.draw(&ramp(64), &mut Stream::new(2, "views").at(position));
            for view in drawn.globals {
                assert!(view[32 * 64 + 63] > view[32 * 64], "position {position}");
            }
        }
    }

    #[test]
    fn blur_keeps_the_mean_and_flattens_noise() {
        let noise: Vec<f32> = Stream::new(3, "blur").at(0).normals(32 * 32);
        let smooth = blur(&noise, 32, 1.5);
        let power = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(power(&smooth) < 0.2 * power(&noise));
        let flat = blur(&vec![0.25; 32 * 32], 32, 1.0);
        assert!(flat.iter().all(|value| (value - 0.25).abs() < 1e-6));
    }
}
