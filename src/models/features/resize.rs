//! The ways in which other people's programs resize before they measure, on the host.

use crate::data::image::resample;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions};

/// Side that clean-fid and Inception-v3 resize to.
pub(super) const CLEAN: usize = 299;

/// Values in [0, 1] as the levels 0 to 255 of an 8-bit file, which is what the references read.
pub(super) fn levels(image: &[f32]) -> Vec<f32> {
    image.iter().map(|value| (255.0 * value.clamp(0.0, 1.0)).round()).collect()
}

/// Levels of a square of side `size` to 299 × 299: Pillow's bicubic filter on floats, antialiased, clipped to
/// [0, 255] (Parmar et al. 2022).
pub(super) fn clean(levels: &[f32], size: usize) -> Vec<f32> {
    let mut resized = convolve(levels, size, CLEAN, FilterType::CatmullRom);
    resized.iter_mut().for_each(|value| *value = value.clamp(0.0, 255.0));
    resized
}

/// A square of side `from` to side `to`: torchvision's `Resize` with its default filter, antialiased.
pub(super) fn bilinear(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    convolve(values, from, to, FilterType::Bilinear)
}

/// Levels of a square of side `size` to 299 × 299 as TensorFlow 1 did: corners of pixels (not centres) are
/// aligned at the origin, and two neighbours per axis weigh in however much the image shrinks.
pub(super) fn tensorflow1(levels: &[f32], size: usize) -> Vec<f32> {
    // f32, as it was computed there.
    let scale = (size as f64 / CLEAN as f64) as f32;
    let places: Vec<(usize, usize, f32)> = (0..CLEAN)
        .map(|at| {
            let place = at as f32 * scale;
            let low = (place as usize).min(size - 1);
            (low, (low + 1).min(size - 1), place - low as f32)
        })
        .collect();
    let mut resized = Vec::with_capacity(CLEAN * CLEAN);
    for &(top, bottom, down) in &places {
        let (top, bottom) = (&levels[top * size..][..size], &levels[bottom * size..][..size]);
        for &(left, right, across) in &places {
            let above = top[left] + (top[right] - top[left]) * across;
            let below = bottom[left] + (bottom[right] - bottom[left]) * across;
            resized.push(above + (below - above) * down);
        }
    }
    resized
}

fn convolve(values: &[f32], from: usize, to: usize, filter: FilterType) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    resample(values, [from; 2], [to; 2], &options)
}
