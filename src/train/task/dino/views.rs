//! The views of one image that self-distillation compares: large crops and small ones.
//!
//! A view shows the image and nothing of the padding around it: bars that every view of an image shares would
//! tell images apart better than anything in them.

use crate::data::image::{Gray, Square, resample};
use crate::faults::demand;
use crate::random::Draws;
use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

/// How views are drawn. No flips (laterality is clinical) and no colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Share of the image's area that a global view shows, lowest and highest. Padding is no image.
    pub global_area: (f64, f64),
    /// Share of the image's area that a local view shows, lowest and highest.
    pub local_area: (f64, f64),
    /// Local views per image. Global ones are always two.
    pub num_local: usize,
    /// Side of a global view in pixels; a multiple of the patch size. None: the images' own size.
    pub global_size: Option<usize>,
    /// Side of a local view in pixels; a multiple of the patch size.
    pub local_size: usize,
    /// Largest change of aspect: a view's width over height lies in [1 / this, this].
    pub aspect: f64,
    /// Strength k of the intensity changes, 0 for none: gamma e^U(−k, k), contrast 1 + U(−k, k) about the
    /// mean, mean times 1 + 0.7 U(−k, k).
    pub intensity: f64,
    /// Probability of a Gaussian blur, its standard deviation U(0.1, 1.3) pixels: of a global view, of a
    /// local one.
    pub blur: (f64, f64),
    /// Other sizes towards the end, as DINOv2 ends at a higher resolution. None: the same throughout.
    pub late: Option<Late>,
}

/// Sizes of views from some image of the training on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// Images seen before; whole batches of them.
    pub from: u64,
    /// Side of a global view in pixels; a multiple of the patch size.
    pub global_size: usize,
    /// Side of a local view in pixels; a multiple of the patch size.
    pub local_size: usize,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            global_area: (0.5, 1.0),
            local_area: (0.15, 0.4),
            num_local: 4,
            global_size: None,
            local_size: 32,
            aspect: 4.0 / 3.0,
            intensity: 0.3,
            blur: (0.5, 0.3),
            late: None,
        }
    }
}

/// Two global views, then the local ones, each row by row with values in [0, 1].
pub struct Drawn {
    /// `[2][size · size]`.
    pub globals: Vec<Vec<f32>>,
    /// `[num_local][local_size · local_size]`.
    pub locals: Vec<Vec<f32>>,
    /// Sides of global and of local views, in pixels.
    pub sizes: [usize; 2],
}

impl Views {
    /// Every fault of the numbers a recipe gave, a sentence each; `patch` is the encoder's.
    pub fn check(&self, patch: usize) -> Vec<String> {
        let area = |name, (low, high): (f64, f64)| {
            let is_range = low > 0.0 && low <= high && high <= 1.0;
            demand(is_range, name, format!("({low}, {high})"), "0 < low <= high <= 1")
        };
        let side = |name, side: usize| {
            let is_whole = side > 0 && side.is_multiple_of(patch.max(1));
            demand(is_whole, name, side, format!("a multiple of the patch ({patch})"))
        };
        let share = |name, share: f64| demand((0.0..=1.0).contains(&share), name, share, "0 to 1");
        [
            area("global_area", self.global_area),
            area("local_area", self.local_area),
            if self.num_local > 0 { side("local_size", self.local_size) } else { None },
            demand((1.0..=4.0).contains(&self.aspect), "aspect", self.aspect, "1 to 4"),
            self.global_size.and_then(|size| side("global_size", size)),
            share("intensity", self.intensity),
            share("blur[0]", self.blur.0),
            share("blur[1]", self.blur.1),
            self.late.and_then(|late| side("late.global_size", late.global_size)),
            self.late
                .filter(|_| self.num_local > 0)
                .and_then(|late| side("late.local_size", late.local_size)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Sides of global and of local views, towards the end or before; `side` where the recipe does not say.
    pub fn sizes(&self, side: usize, is_late: bool) -> [usize; 2] {
        match self.late.filter(|_| is_late) {
            Some(late) => [late.global_size, late.local_size],
            None => [self.global_size.unwrap_or(side), self.local_size],
        }
    }

    /// The views of `square` under `draws`, of these `sizes`.
    pub fn draw(&self, square: &Square, sizes: [usize; 2], draws: &mut Draws) -> Drawn {
        let image = square.image();
        let mut view = |area, size, blur| {
            let pixels = crop(&image, area, self.aspect, size, draws);
            self.retouch(pixels, size, blur, draws)
        };
        let [global, local] = sizes;
        Drawn {
            sizes,
            globals: (0..2).map(|_| view(self.global_area, global, self.blur.0)).collect(),
            locals: (0..self.num_local)
                .map(|_| view(self.local_area, local, self.blur.1))
                .collect(),
        }
    }

    fn retouch(&self, mut pixels: Vec<f32>, size: usize, blur: f64, draws: &mut Draws) -> Vec<f32> {
        // All draws are made, whatever is used of them, so that one setting does not shift the others.
        let mut change = || self.intensity * draws.range(-1.0, 1.0);
        let (gamma, contrast, brightness) = (change().exp(), 1.0 + change(), 1.0 + 0.7 * change());
        let (is_blurred, sigma) = (draws.chance(blur), draws.range(0.1, 1.3));
        if self.intensity > 0.0 {
            for pixel in &mut pixels {
                *pixel = f64::from(pixel.clamp(0.0, 1.0)).powf(gamma) as f32;
            }
            let mean =
                pixels.iter().map(|&value| f64::from(value)).sum::<f64>() / pixels.len() as f64;
            for pixel in &mut pixels {
                let value = (f64::from(*pixel) - mean) * contrast + mean * brightness;
                *pixel = value.clamp(0.0, 1.0) as f32;
            }
        }
        if is_blurred { gaussian_blur(&pixels, size, sigma) } else { pixels }
    }
}

fn crop(image: &Gray, area: (f64, f64), aspect: f64, size: usize, draws: &mut Draws) -> Vec<f32> {
    let whole = [image.width, image.height];
    let [left, top, width, height] = place(whole.map(|side| side as f64), area, aspect, draws);
    let options = fir::ResizeOptions::new()
        .crop(left, top, width, height)
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    resample(&image.pixels, whole, [size; 2], &options)
}

/// Left, top, width and height of a part of an image of `[width, height]`, by torchvision's `RandomResizedCrop`
/// (ten tries to fit area and aspect, then as much as the aspect allows), but at fractions of a pixel.
///
/// The last resort lies anywhere, not in the middle: the views of a narrow image would all be one.
fn place(whole: [f64; 2], area: (f64, f64), aspect: f64, draws: &mut Draws) -> [f64; 4] {
    // All tries are drawn, whichever is used, so that one setting does not shift the draws of others.
    let tries: [[f64; 2]; 10] = std::array::from_fn(|_| {
        let area = whole[0] * whole[1] * draws.range(area.0, area.1);
        let ratio = (aspect.ln() * draws.range(-1.0, 1.0)).exp();
        [(area * ratio).sqrt(), (area / ratio).sqrt()]
    });
    let [width, height] = tries
        .into_iter()
        .find(|[width, height]| *width <= whole[0] && *height <= whole[1])
        .unwrap_or([whole[0].min(whole[1] * aspect), whole[1].min(whole[0] * aspect)]);
    let mut first = |room: f64| draws.range(0.0, room);
    [first(whole[0] - width), first(whole[1] - height), width, height]
}

/// A separable Gaussian blur with the borders repeated.
fn gaussian_blur(pixels: &[f32], size: usize, sigma: f64) -> Vec<f32> {
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
    use super::super::golden::Golden;
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
        let drawn =
            views.draw(&ramp(64), views.sizes(64, false), &mut Stream::new(1, "views").at(0));
        assert_eq!(drawn.globals.iter().map(Vec::len).collect::<Vec<_>>(), [64 * 64; 2]);
        assert_eq!(drawn.locals.iter().map(Vec::len).collect::<Vec<_>>(), [32 * 32; 4]);
        let mut values = drawn.globals.iter().chain(&drawn.locals).flatten();
        assert!(values.all(|value| (0.0..=1.0).contains(value)));
    }

    /// Bars of padding are 0, the image is 1 everywhere.
    #[test]
    fn views_show_the_image_and_no_padding_whatever_its_shape() {
        let views = Views { intensity: 0.0, blur: (0.0, 0.0), ..Views::default() };
        let shapes = [(64, 64), (64, 50), (50, 64), (64, 21), (21, 64), (64, 3), (1, 64), (1, 1)];
        for (width, height) in shapes {
            let image = Gray { width, height, pixels: vec![1.0; width * height] };
            let square = image.to_square(64);
            for position in 0..50 {
                let drawn = views.draw(
                    &square,
                    views.sizes(64, false),
                    &mut Stream::new(4, "views").at(position),
                );
                for value in drawn.globals.iter().chain(&drawn.locals).flatten() {
                    assert!((value - 1.0).abs() < 1e-5, "{width} × {height}: {value}");
                }
            }
        }
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn crops_follow_the_law_of_the_reference() {
        const DRAWS: usize = 20_000;
        let golden = Golden::read();
        for row in golden.values("crops").chunks_exact(8) {
            let (whole, area) = ([row[0], row[1]], (row[2], row[3]));
            let sizes = (0..DRAWS).map(|position| {
                let draws = &mut Stream::new(5, "crops").at(position as u64);
                let [left, top, width, height] = place(whole, area, 4.0 / 3.0, draws);
                assert!(left >= 0.0 && left + width <= whole[0], "{left} {width}");
                assert!(top >= 0.0 && top + height <= whole[1], "{top} {height}");
                [width * height / (whole[0] * whole[1]), (width / height).ln()]
            });
            let sizes: Vec<[f64; 2]> = sizes.collect();
            for (at, expected) in row[4..].chunks_exact(2).enumerate() {
                let mean = sizes.iter().map(|size| size[at]).sum::<f64>() / DRAWS as f64;
                // Four standard errors of either side, and that the reference rounds to pixels.
                let tolerance = 4.0 * expected[1] * (2.0 / DRAWS as f64).sqrt() + 3e-4;
                assert!((mean - expected[0]).abs() < tolerance, "{row:?}: {mean}");
                let squares = sizes.iter().map(|size| (size[at] - mean).powi(2)).sum::<f64>();
                let std = (squares / DRAWS as f64).sqrt();
                assert!((std - expected[1]).abs() < tolerance, "{row:?}: {std}");
            }
        }
    }

    /// A ramp cropped anywhere rises to the right: a mirrored crop would fall.
    #[test]
    fn no_view_is_mirrored() {
        let views = Views { intensity: 0.0, blur: (0.0, 0.0), ..Views::default() };
        for position in 0..200 {
            let drawn = views.draw(
                &ramp(64),
                views.sizes(64, false),
                &mut Stream::new(2, "views").at(position),
            );
            for view in drawn.globals {
                assert!(view[32 * 64 + 63] > view[32 * 64], "position {position}");
            }
        }
    }

    #[test]
    fn blur_keeps_the_mean_and_flattens_noise() {
        let noise: Vec<f32> = Stream::new(3, "blur").at(0).normals(32 * 32);
        let smooth = gaussian_blur(&noise, 32, 1.5);
        let power =
            |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(power(&smooth) < 0.2 * power(&noise));
        let flat = gaussian_blur(&vec![0.25; 32 * 32], 32, 1.0);
        assert!(flat.iter().all(|value| (value - 0.25).abs() < 1e-6));
    }
}
