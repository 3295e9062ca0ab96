//! Grey pictures that say what they are: PNG files and contact sheets.

mod font;

use crate::artifact::{self, ArtifactError};
use crate::data::image::Gray;
use std::path::Path;

/// Bits per stored pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// 256 levels, for looking at.
    Eight,
    /// 65,536 levels, for working on.
    Sixteen,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Generated images only.
    Synthetic,
    /// Generated images beside the real ones they came from.
    SyntheticAndReal,
}

/// Where a generated picture comes from; written into its file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Provenance<'a> {
    /// What it shows.
    pub contents: Contents,
    /// The recipe's name.
    pub recipe: &'a str,
    /// The seed of the image or, for a sheet, of the recipe.
    pub seed: u64,
}

/// Why a picture was not written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The picture cannot be a PNG: it has no pixels, or a text keyword is empty or too long.
    #[error("cannot encode a PNG")]
    Encode(#[from] png::EncodingError),
    /// The file cannot be put in its place.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// The keyword by which umbra knows its own pictures.
const RECIPE: &str = "umbra:recipe";

impl Provenance<'_> {
    /// Keyword and text for [`gray_png`]: synthetic, by umbra, not for clinical use.
    pub fn text(&self) -> Vec<(String, String)> {
        let description = match self.contents {
            Contents::Synthetic => "Synthetic radiograph made by umbra",
            Contents::SyntheticAndReal => "Synthetic and real radiographs, arranged by umbra",
        };
        [
            ("Description", description),
            ("Disclaimer", "Contains synthetic images. Not for clinical use."),
            ("Software", concat!("umbra ", env!("CARGO_PKG_VERSION"))),
            (RECIPE, self.recipe),
            ("umbra:seed", &self.seed.to_string()),
        ]
        .map(|(keyword, text)| (keyword.to_owned(), text.to_owned()))
        .to_vec()
    }
}

/// True for a PNG with umbra's [`Provenance`] in it: `umbra:recipe` among the texts before its pixels.
pub(crate) fn is_drawn(png: &[u8]) -> bool {
    let Some(mut rest) = png.strip_prefix(b"\x89PNG\r\n\x1a\n") else { return false };
    // A chunk: length of its data, four letters, data, checksum.
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, kind @ ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let is_text = matches!(&kind, b"tEXt" | b"iTXt");
        if is_text && tail.starts_with(RECIPE.as_bytes()) {
            return true;
        }
        if &kind == b"IDAT" || tail.len() < length.saturating_add(4) {
            return false;
        }
        rest = &tail[length + 4..];
    }
    false
}

/// Writes `image` with 8 bits and its provenance; the file is whole or absent.
pub fn write(path: &Path, image: &Gray, from: &Provenance<'_>) -> Result<(), PictureError> {
    let png = gray_png(image, Depth::Eight, &from.text())?;
    Ok(artifact::write_file(path, &png)?)
}

/// `image` as the bytes of a grey PNG; values outside [0, 1] are clamped, NaN is black.
///
/// Each text becomes a `tEXt` chunk before the pixels, or an `iTXt` one if it goes beyond Latin-1.
pub fn gray_png(
    image: &Gray,
    depth: Depth,
    text: &[(String, String)],
) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(match depth {
        Depth::Eight => png::BitDepth::Eight,
        Depth::Sixteen => png::BitDepth::Sixteen,
    });
    for (keyword, text) in text {
        let text: String = text.chars().filter(|&letter| letter != '\0').collect();
        if text.chars().all(|letter| u32::from(letter) < 256) {
            encoder.add_text_chunk(keyword.clone(), text)?;
        } else {
            encoder.add_itxt_chunk(keyword.clone(), text)?;
        }
    }
    let level = |pixel: &f32, most: f32| (pixel.clamp(0.0, 1.0) * most).round();
    let data: Vec<u8> = match depth {
        Depth::Eight => image.pixels.iter().map(|pixel| level(pixel, 255.0) as u8).collect(),
        Depth::Sixteen => {
            let levels = image.pixels.iter().map(|pixel| level(pixel, 65535.0) as u16);
            levels.flat_map(u16::to_be_bytes).collect()
        }
    };
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&data)?;
    writer.finish()?;
    Ok(bytes)
}

/// Arranges square `tiles` of `size` pixels a side in rows of `columns`, `gap` pixels apart and around.
///
/// `headings` stand above the columns (none: no room is left for them); what is too wide for a tile
/// is cut off, at 5 pixels a letter. The last row may be short.
pub fn contact_sheet(
    tiles: &[impl AsRef<[f32]>],
    size: usize,
    columns: usize,
    gap: usize,
    headings: &[&str],
) -> Gray {
    assert!(columns > 0 && size > 0, "a contact sheet of no columns or empty tiles");
    assert!(headings.len() <= columns, "more headings than columns");
    let letter_scale = (size / 128).max(1);
    let top = match headings {
        [] => gap,
        _ => 2 * gap + font::HEIGHT * letter_scale,
    };
    let num_rows = tiles.len().div_ceil(columns);
    let (width, height) = (gap + columns * (size + gap), top + num_rows * (size + gap));
    let mut sheet = Gray { width, height, pixels: vec![BACKGROUND; width * height] };
    for (column, heading) in headings.iter().enumerate() {
        let left = gap + column * (size + gap);
        for (x, y) in font::dots(heading, letter_scale).into_iter().filter(|&(x, _)| x < size) {
            sheet.pixels[(gap + y) * width + left + x] = 1.0;
        }
    }
    for (index, tile) in tiles.iter().enumerate() {
        let tile = tile.as_ref();
        assert_eq!(tile.len(), size * size, "a tile of other than size · size pixels");
        let left = gap + index % columns * (size + gap);
        let first_row = top + index / columns * (size + gap);
        for (row, pixels) in tile.chunks_exact(size).enumerate() {
            sheet.pixels[(first_row + row) * width + left..][..size].copy_from_slice(pixels);
        }
    }
    sheet
}

/// Dark, as a light box is around the films; not black, so that padding shows.
const BACKGROUND: f32 = 0.16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn ramp() -> Gray {
        Gray { width: 3, height: 2, pixels: vec![-0.5, 0.0, 0.25, 0.5, 1.0, f32::NAN] }
    }

    fn decoded(bytes: &[u8]) -> (png::Info<'static>, Vec<u8>) {
        let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (reader.info().clone(), pixels)
    }

    #[test]
    fn pixels_come_back_at_both_depths() {
        let (_, pixels) = decoded(&gray_png(&ramp(), Depth::Eight, &[]).unwrap());
        assert_eq!(pixels, [0, 0, 64, 128, 255, 0]);
        let (info, pixels) = decoded(&gray_png(&ramp(), Depth::Sixteen, &[]).unwrap());
        assert_eq!(info.bit_depth, png::BitDepth::Sixteen);
        assert_eq!(pixels[4..10], [0x40, 0x00, 0x80, 0x00, 0xff, 0xff]);
    }

    #[test]
    fn a_synthetic_picture_says_so() {
        let provenance = Provenance { contents: Contents::Synthetic, recipe: "tiny", seed: 7 };
        let bytes = gray_png(&ramp(), Depth::Eight, &provenance.text()).unwrap();
        let (info, _) = decoded(&bytes);
        let texts: Vec<(&str, &str)> = info
            .uncompressed_latin1_text
            .iter()
            .map(|chunk| (chunk.keyword.as_str(), chunk.text.as_str()))
            .collect();
        assert!(texts.contains(&("Description", "Synthetic radiograph made by umbra")));
        assert!(texts.contains(&("umbra:recipe", "tiny")) && texts.contains(&("umbra:seed", "7")));
        assert!(texts.iter().any(|(_, text)| text.ends_with("Not for clinical use.")));
    }

    #[test]
    fn a_name_in_any_script_is_kept() {
        let provenance =
            Provenance { contents: Contents::SyntheticAndReal, recipe: "肺 \0", seed: 7 };
        let bytes = gray_png(&ramp(), Depth::Eight, &provenance.text()).unwrap();
        let (info, _) = decoded(&bytes);
        assert_eq!(info.utf8_text[0].get_text().unwrap(), "肺 ");
    }

    #[test]
    fn a_picture_that_cannot_be_is_an_error() {
        let nothing = Gray { width: 0, height: 0, pixels: vec![] };
        assert!(matches!(gray_png(&nothing, Depth::Eight, &[]), Err(PictureError::Encode(_))));
        let folder = tempfile::tempdir().unwrap();
        let from = Provenance { contents: Contents::Synthetic, recipe: "tiny", seed: 7 };
        let error = write(&folder.path().join("missing").join("a.png"), &ramp(), &from);
        assert!(matches!(error, Err(PictureError::Artifact(_))), "{error:?}");
        let path = folder.path().join("a.png");
        write(&path, &ramp(), &from).unwrap();
        assert_eq!(decoded(&std::fs::read(path).unwrap()).0.width, 3);
    }

    #[test]
    fn tiles_lie_where_they_should() {
        let tiles: Vec<Vec<f32>> = (1..=5).map(|tile| vec![tile as f32 / 10.0; 16]).collect();
        let plain = contact_sheet(&tiles, 4, 2, 1, &[]);
        assert_eq!((plain.width, plain.height), (11, 16));
        let at = |sheet: &Gray, x: usize, y: usize| sheet.pixels[y * sheet.width + x];
        let found = [at(&plain, 1, 1), at(&plain, 6, 1), at(&plain, 4, 9), at(&plain, 9, 14)];
        assert_eq!(found, [0.1, 0.2, 0.3, BACKGROUND]);
        assert_eq!([at(&plain, 0, 0), at(&plain, 5, 3)], [BACKGROUND; 2]);
        let headed = contact_sheet(&tiles, 4, 2, 1, &["source"]);
        assert_eq!(headed.height, plain.height + 1 + font::HEIGHT);
        assert!(headed.pixels[..headed.width * 8].contains(&1.0));
        let cut = |sheet: &Gray| (0..9).all(|y| at(sheet, 5, y) == BACKGROUND);
        assert!(cut(&headed), "a heading runs out of its column");
    }
}
