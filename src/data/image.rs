//! The two shapes an image takes on its way to a network.

use fast_image_resize as fir;

/// A grey image, row by row, values in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Gray {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width · height` values.
    pub pixels: Vec<f32>,
}

/// The part of a padded square that shows the image, in pixels of the square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rect {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A square image: the whole radiograph, aspect kept, centred on black.
#[derive(Debug, Clone, PartialEq)]
pub struct Square {
    /// Columns and rows.
    pub size: usize,
    /// `size · size` values in [0, 1]; 0 outside `content`.
    pub pixels: Vec<f32>,
    /// What is image; the rest is padding.
    pub content: Rect,
}

impl Gray {
    /// Resizes with an antialiasing filter (Lanczos 3, as Pillow does when it shrinks) so that the longer side
    /// is `size`, and pads the shorter one with black on both sides. Never crops, never stretches.
    ///
    /// Values stay f32 all the way; the filter's overshoot is clamped to [0, 1].
    pub fn to_square(&self, size: usize) -> Square {
        let content = Rect::in_square(self.width, self.height, size);
        let Rect { width, height, .. } = content;
        let resized = self.resize(width, height);
        let mut pixels = vec![0.0; size * size];
        for row in 0..height {
            let to = (content.y + row) * size + content.x;
            pixels[to..to + width].copy_from_slice(&resized.pixels[row * width..(row + 1) * width]);
        }
        Square { size, pixels, content }
    }

    /// Resizes to `width` × `height`, antialiased, clamped to [0, 1].
    pub fn resize(&self, width: usize, height: usize) -> Gray {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let options = fir::ResizeOptions::new();
        let mut pixels =
            resample(&self.pixels, [self.width, self.height], [width, height], &options);
        pixels.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        Gray { width, height, pixels }
    }
}

impl Rect {
    /// Where [`Gray::to_square`] puts an image of `width` × `height` pixels in a square of `size`.
    pub fn in_square(width: usize, height: usize, size: usize) -> Self {
        let longest = width.max(height).max(1) as f64;
        let fit =
            |side: usize| ((side as f64 * size as f64 / longest).round() as usize).clamp(1, size);
        let (width, height) = (fit(width), fit(height));
        Self { x: (size - width) / 2, y: (size - height) / 2, width, height }
    }
}

impl Square {
    /// The image without its padding.
    pub fn image(&self) -> Gray {
        let Rect { x, y, width, height } = self.content;
        let rows = (y..y + height).flat_map(|row| {
            let start = row * self.size + x;
            self.pixels[start..start + width].iter().copied()
        });
        Gray { width, height, pixels: rows.collect() }
    }

    /// For every pixel, whether it shows image rather than padding.
    pub fn content_mask(&self) -> Vec<bool> {
        let size = self.size;
        (0..size * size).map(|at| self.is_content(at % size, at / size)).collect()
    }

    /// True where `content` covers the pixel.
    pub fn is_content(&self, x: usize, y: usize) -> bool {
        let Rect { x: left, y: top, width, height } = self.content;
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    }
}

/// `pixels` of an image `from` [width, height] at the size `to`, filter and part of the image as in `options`;
/// a part must lie inside the image. Values are as the filter leaves them, beyond [0, 1] where it overshoots.
pub(crate) fn resample(
    pixels: &[f32],
    from: [usize; 2],
    to: [usize; 2],
    options: &fir::ResizeOptions,
) -> Vec<f32> {
    let [[from_width, from_height], [width, height]] =
        [from, to].map(|size| size.map(|side| side as u32));
    let bytes = pixels.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let from = fir::images::Image::from_vec_u8(from_width, from_height, bytes, fir::PixelType::F32)
        .expect("an image has width · height values");
    let mut to = fir::images::Image::new(width, height, fir::PixelType::F32);
    fir::Resizer::new()
        .resize(&from, &mut to, options)
        .expect("both images hold f32 values, and the part lies inside");
    to.buffer()
        .chunks_exact(4)
        .map(|bytes| f32::from_ne_bytes(bytes.try_into().expect("4 bytes")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        width: usize,
        height: usize,
        pixels: Vec<f32>,
        #[serde(default)]
        resized: Vec<Golden>,
    }

    impl Golden {
        fn read() -> Self {
            serde_json::from_str(include_str!("../../tests/golden/pillow_resize.json")).unwrap()
        }

        fn gray(&self) -> Gray {
            Gray { width: self.width, height: self.height, pixels: self.pixels.clone() }
        }
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Reference: tests/golden/pillow_resize.py (versions in its header).
    #[test]
    fn resize_matches_pillow() {
        let golden = Golden::read();
        for expected in &golden.resized {
            let found = golden.gray().resize(expected.width, expected.height);
            let difference = largest_difference(&found.pixels, &expected.pixels);
            // Both weigh in f64; Pillow rounds to f32 between its two passes, and the golden to 7 digits.
            assert!(difference < 1e-6, "{} × {}: {difference}", expected.width, expected.height);
        }
    }

    #[test]
    fn a_square_holds_the_whole_image_in_its_middle() {
        let golden = Golden::read();
        let square = golden.gray().to_square(16);
        assert_eq!(square.content, Rect { x: 0, y: 3, width: 16, height: 10 });
        let middle = &square.pixels[3 * 16..13 * 16];
        assert!(largest_difference(middle, &golden.resized[0].pixels) < 1e-6);
        for y in 0..16 {
            for x in 0..16 {
                assert!(square.is_content(x, y) || square.pixels[y * 16 + x] == 0.0);
            }
        }
    }

    #[test]
    fn padding_is_shared_by_both_sides() {
        let content = |width, height, size| {
            Gray { width, height, pixels: vec![1.0; width * height] }.to_square(size).content
        };
        assert_eq!(content(30, 60, 20), Rect { x: 5, y: 0, width: 10, height: 20 });
        assert_eq!(content(60, 20, 20), Rect { x: 0, y: 6, width: 20, height: 7 });
        assert_eq!(content(7, 7, 20), Rect { x: 0, y: 0, width: 20, height: 20 });
        assert_eq!(content(1, 1000, 8), Rect { x: 3, y: 0, width: 1, height: 8 });
    }

    #[test]
    fn without_its_padding_a_square_is_the_image() {
        let golden = Golden::read();
        let square = golden.gray().to_square(16);
        assert_eq!(square.image(), golden.gray().resize(16, 10));
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let flat = Gray { width: 50, height: 31, pixels: vec![0.3; 50 * 31] };
        for size in [7, 31, 64] {
            let square = flat.to_square(size);
            for (index, value) in square.pixels.iter().enumerate() {
                let expected =
                    if square.is_content(index % size, index / size) { 0.3 } else { 0.0 };
                assert!((value - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let gray = Golden::read().gray();
        assert_eq!(gray.resize(37, 23), gray);
    }
}
