//! Masks: where on an image a structure is, and samples of several channels.

use super::image::{Gray, Rect, resample};
use super::loader::{SampleError, Samples};
use super::radiographs::Radiographs;
use fast_image_resize::{ResizeAlg, ResizeOptions};
use std::sync::Arc;

/// A mask on the square that shows its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Columns and rows.
    pub size: usize,
    /// For each of `size · size` pixels, whether the structure is there. Padding is outside.
    pub inside: Vec<bool>,
    /// What is image; the rest is padding.
    pub content: Rect,
}

/// A mask that is not of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its mask is {mask_width} × {mask_height}, the image {width} × {height}; expected the same proportions"
)]
pub struct Misfit {
    mask_width: usize,
    mask_height: usize,
    width: usize,
    height: usize,
}

impl Mask {
    /// `mask` on the square of `size` that shows an image of `width` × `height` pixels: resized by nearest neighbour and
    /// placed as [`Gray::to_square`] places the image. What lies above half of its greatest value is inside.
    ///
    /// A mask may have fewer or more pixels than its image; its proportions must be the image's to one of its pixels.
    pub fn on_square(
        mask: &Gray,
        [width, height]: [usize; 2],
        size: usize,
    ) -> Result<Self, Misfit> {
        let (mask_width, mask_height) = (mask.width, mask.height);
        if (mask_width * height).abs_diff(mask_height * width) > width.max(height) {
            return Err(Misfit { mask_width, mask_height, width, height });
        }
        let content = Rect::in_square(width, height, size);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Nearest);
        let to = [content.width, content.height];
        let resized = resample(&mask.pixels, [mask_width, mask_height], to, &options);
        let half = mask.pixels.iter().copied().fold(0.0, f32::max) / 2.0;
        let mut inside = vec![false; size * size];
        for (row, values) in resized.chunks_exact(content.width).enumerate() {
            let start = (content.y + row) * size + content.x;
            for (inside, &value) in inside[start..].iter_mut().zip(values) {
                *inside = value > half;
            }
        }
        Ok(Self { size, inside, content })
    }
}

/// What a plane of a sample shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Grey values in [0, 1].
    Grey,
    /// 1 inside of the mask and 0 outside.
    Mask,
}

/// The images of a split as planes of several channels, for the loader. Where a mask is asked for, images without one
/// are left out.
#[derive(Debug)]
pub struct Planes {
    radiographs: Arc<Radiographs>,
    channels: Vec<Channel>,
    /// Which of the images.
    images: Vec<usize>,
}

/// One image: its planes one after the other, [C · S · S].
#[derive(Debug, Clone, PartialEq)]
pub struct Stacked {
    /// The values.
    pub values: Vec<f32>,
    /// What of each plane is image.
    pub content: Rect,
    /// Index of its entry in [`Radiographs::entries`].
    pub entry: usize,
}

impl Planes {
    /// The `channels` of `radiographs`, in this order.
    pub fn new(radiographs: Arc<Radiographs>, channels: &[Channel]) -> Self {
        let needs_mask = channels.contains(&Channel::Mask);
        let is_whole = |at: &usize| !needs_mask || radiographs.has_mask(*at);
        let images = (0..radiographs.len()).filter(is_whole).collect();
        Self { radiographs, channels: channels.to_vec(), images }
    }
}

impl Samples for Planes {
    type Item = Stacked;

    fn len(&self) -> u64 {
        self.images.len() as u64
    }

    fn get(&self, index: u64, _position: u64) -> Result<Stacked, SampleError> {
        let entry = self.images[index as usize];
        let sample = self.radiographs.get(entry)?;
        let mut values = Vec::with_capacity(self.channels.len() * sample.square.pixels.len());
        for channel in &self.channels {
            match channel {
                Channel::Grey => values.extend_from_slice(&sample.square.pixels),
                Channel::Mask => {
                    let mask = self.radiographs.mask(entry)?;
                    let mask = mask.ok_or_else(|| SampleError::new("it has no mask".to_owned()))?;
                    values.extend(mask.inside.iter().map(|&inside| f32::from(u8::from(inside))));
                }
            }
        }
        Ok(Stacked { values, content: sample.square.content, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        width: usize,
        height: usize,
        image: [usize; 2],
        size: usize,
        mask: String,
        square: String,
    }

    /// Reference: Pillow's nearest neighbour, tests/golden/mask.py (versions in its header).
    #[test]
    fn masks_lie_where_their_image_does() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/mask.json")).unwrap();
        assert!(cases.len() >= 6);
        for Golden { width, height, image, size, mask, square } in cases {
            let bits = |text: &str| text.bytes().map(|bit| bit == b'1').collect::<Vec<_>>();
            // Some masks are 0 and 255, some 0 and 1.
            for high in [1.0, 1.0 / 255.0] {
                let pixels = bits(&mask).into_iter().map(|bit| if bit { high } else { 0.0 });
                let gray = Gray { width, height, pixels: pixels.collect() };
                let found = Mask::on_square(&gray, image, size).unwrap();
                let content = Rect::in_square(image[0], image[1], size);
                assert_eq!(found.content, content);
                assert!(found.inside == bits(&square), "{width} × {height} to {size}");
            }
        }
    }

    #[test]
    fn a_mask_of_another_shape_is_refused() {
        let mask = |width, height| Gray { width, height, pixels: vec![1.0; width * height] };
        let placed = |gray: &Gray| Mask::on_square(gray, [1000, 800], 32);
        // Half the pixels, and a last row that was rounded away.
        assert!(placed(&mask(500, 400)).is_ok() && placed(&mask(250, 199)).is_ok());
        let error = placed(&mask(800, 1000)).unwrap_err().to_string();
        assert_eq!(
            error,
            "its mask is 800 × 1000, the image 1000 × 800; expected the same proportions"
        );
        let nothing = Gray { width: 500, height: 400, pixels: vec![0.0; 200_000] };
        assert!(placed(&nothing).unwrap().inside.iter().all(|inside| !inside));
    }
}
