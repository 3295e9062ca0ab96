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
        let longest = self.width.max(self.height).max(1) as f64;
        let fit =
            |side: usize| ((side as f64 * size as f64 / longest).round() as usize).clamp(1, size);
        let (width, height) = (fit(self.width), fit(self.height));
        let resized = self.resize(width, height);
        let content = Rect { x: (size - width) / 2, y: (size - height) / 2, width, height };
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
        let bytes = self.pixels.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let from = fir::images::Image::from_vec_u8(
            self.width as u32,
            self.height as u32,
            bytes,
            fir::PixelType::F32,
        )
        .expect("a grey image has width · height values");
        let mut to = fir::images::Image::new(width as u32, height as u32, fir::PixelType::F32);
        fir::Resizer::new()
            .resize(&from, &mut to, &fir::ResizeOptions::new())
            .expect("both images hold f32 values");
        let pixels = to
            .buffer()
            .chunks_exact(4)
            .map(|bytes| f32::from_ne_bytes(bytes.try_into().expect("4 bytes")).clamp(0.0, 1.0))
            .collect();
        Gray { width, height, pixels }
    }
}

impl Square {
    /// True where `content` covers the pixel.
    pub fn is_content(&self, x: usize, y: usize) -> bool {
        let Rect { x: left, y: top, width, height } = self.content;
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    }
}
