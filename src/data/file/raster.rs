//! PNG and JPEG files.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{
    Format, Inspection, MAX_BYTES, MAX_SIDE, Refusal, Window, check_size, levels::Levels,
    samples::Samples, window::ramp,
};
use crate::data::image::Gray;

/// Grey values in [0, 1]. `Voi` and `Raw` show 0 to 255 or 65535 as they are, and so does `Auto` with 8 bits.
pub(super) fn read(bytes: &[u8], format: Format, window: &Window) -> Result<Gray, Refusal> {
    let image = decode(bytes, format)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let samples = samples(&image);
    let full = if samples.width == 1 { 255.0 } else { 65_535.0 };
    let window = match window {
        Window::Auto if samples.width == 1 => &Window::Raw,
        Window::Auto => &Window::AUTO,
        chosen => chosen,
    };
    let lumas = lumas(&samples, usize::from(image.color().channel_count()));
    let (low, high) = match *window {
        Window::MinMax => levels(&lumas).range(),
        Window::Percentile { low, high } => {
            let levels = levels(&lumas);
            (levels.percentile(low), levels.percentile(high))
        }
        Window::Auto | Window::Voi | Window::Raw => (0.0, 1000.0 * full),
    };
    let shade = |&luma: &u32| ramp(f64::from(luma), low, high) as f32;
    Ok(Gray { width, height, pixels: lumas.iter().map(shade).collect() })
}

/// Statistics of the samples as decoded, alpha included; the colours of a JPEG are RGB, whatever it stores.
pub(super) fn inspect(bytes: &[u8], format: Format) -> Result<Inspection, Refusal> {
    let image = decode(bytes, format)?;
    let samples = samples(&image);
    let photometric = if image.color().has_color() { "RGB" } else { "MONOCHROME2" };
    let inspection = Inspection {
        format,
        transfer_syntax: None,
        rows: image.height(),
        columns: image.width(),
        frames: 1,
        samples: u32::from(image.color().channel_count()),
        bits_stored: 8 * samples.width as u32,
        signed: false,
        photometric: photometric.to_owned(),
        window: None,
        modality: None,
        px_min: 0,
        px_max: 0,
        px_mean: 0.0,
        px_sha256: String::new(),
    };
    Ok(inspection.with_statistics(samples.statistics()))
}

fn decode(bytes: &[u8], format: Format) -> Result<DynamicImage, Refusal> {
    let (format, damaged) = match format {
        Format::Png => (ImageFormat::Png, Refusal::Damaged("the PNG data")),
        _ => (ImageFormat::Jpeg, Refusal::Damaged("the JPEG data")),
    };
    if format == ImageFormat::Jpeg && !has_end(bytes) {
        return Err(Refusal::Damaged("the JPEG data ends before its end marker"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|_| damaged.clone())?;
    let (columns, rows) = decoder.dimensions();
    check_size(columns, rows)?;
    if decoder.total_bytes() > MAX_BYTES {
        return Err(Refusal::TooManyBytes(decoder.total_bytes()));
    }
    DynamicImage::from_decoder(decoder).map_err(|_| damaged)
}

/// Does an end-of-image marker follow the first start of scan?
///
/// The decoder fills what is missing of a truncated JPEG with grey; such an image must not be trained on.
fn has_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..).and_then(|rest| rest.first_chunk())
    {
        if marker == 0xda {
            return jpeg[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        // A marker may be preceded by any number of fill bytes.
        let length = usize::from(u16::from_be_bytes([high, low]));
        at += if marker == 0xff { 1 } else { 2 + length };
    }
    false
}

fn samples(image: &DynamicImage) -> Samples {
    match image.as_flat_samples_u16() {
        Some(flat) => {
            let bytes = flat.samples.iter().flat_map(|value| value.to_le_bytes()).collect();
            Samples { bytes, width: 2, signed: false }
        }
        None => Samples { bytes: image.as_bytes().to_vec(), width: 1, signed: false },
    }
}

/// Brightness of every pixel in thousandths of a sample's unit, so that it stays an exact integer.
fn lumas(samples: &Samples, channels: usize) -> Vec<u32> {
    let values = samples.map(|value| value as u32);
    let pixels = values.chunks_exact(channels);
    if channels < 3 {
        return pixels.map(|pixel| 1000 * pixel[0]).collect();
    }
    pixels.map(|pixel| 299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]).collect()
}

fn levels(lumas: &[u32]) -> Levels {
    let mut sorted = lumas.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a == b);
    Levels::new(runs.map(|run| (f64::from(run[0]), run.len() as u64)))
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, Rgb, Rgba};

    use super::*;

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png_16() -> Vec<u8> {
        let image = ImageBuffer::from_fn(20, 10, |x, y| Luma([(x + 20 * y) as u16 * 300]));
        encoded(image, ImageFormat::Png)
    }

    #[test]
    fn sixteen_bits_stay_sixteen_bits() {
        let raw = read(&png_16(), Format::Png, &Window::Raw).unwrap();
        assert_eq!((raw.width, raw.height), (20, 10));
        assert_eq!(raw.pixels[1], (300.0_f64 / 65535.0) as f32);
        let full = read(&png_16(), Format::Png, &Window::MinMax).unwrap();
        assert_eq!((full.pixels[0], full.pixels[199]), (0.0, 1.0));
        let auto = read(&png_16(), Format::Png, &Window::Auto).unwrap();
        assert_eq!(auto, read(&png_16(), Format::Png, &Window::AUTO).unwrap());
        assert_eq!((auto.pixels[0], auto.pixels[199]), (0.0, 1.0));
        assert!(auto.pixels.is_sorted());
    }

    #[test]
    fn eight_bits_are_shown_as_they_are() {
        let image = ImageBuffer::from_fn(4, 4, |x, y| Luma([100_u8 + (x + 4 * y) as u8]));
        let bytes = encoded(image, ImageFormat::Png);
        for window in [Window::Auto, Window::Voi, Window::Raw] {
            let gray = read(&bytes, Format::Png, &window).unwrap();
            assert_eq!(gray.pixels[5], 105.0 / 255.0);
        }
    }

    #[test]
    fn colour_becomes_luma_and_alpha_is_ignored() {
        let grey = ImageBuffer::from_pixel(2, 2, Rgba([77_u8, 77, 77, 3]));
        let gray = read(&encoded(grey, ImageFormat::Png), Format::Png, &Window::Auto).unwrap();
        assert_eq!(gray.pixels, [77.0 / 255.0; 4]);
        let colour = ImageBuffer::from_pixel(2, 2, Rgb([200_u8, 100, 50]));
        let gray = read(&encoded(colour, ImageFormat::Png), Format::Png, &Window::Auto).unwrap();
        let luma = (0.299 * 200.0 + 0.587 * 100.0 + 0.114 * 50.0) / 255.0;
        assert!((f64::from(gray.pixels[0]) - luma).abs() < 1e-7);
    }

    #[test]
    fn inspection_describes_the_samples() {
        let found = inspect(&png_16(), Format::Png).unwrap();
        assert_eq!((found.rows, found.columns, found.bits_stored), (10, 20, 16));
        assert_eq!((found.px_min, found.px_max, found.px_mean), (0, 199 * 300, 29_850.0));
        assert_eq!((found.samples, found.photometric.as_str()), (1, "MONOCHROME2"));
    }

    #[test]
    fn a_cut_file_is_refused_and_never_panics() {
        let image = ImageBuffer::from_fn(64, 48, |x, y| Luma([(x * y) as u8]));
        for (format, kind) in [(Format::Png, ImageFormat::Png), (Format::Jpeg, ImageFormat::Jpeg)] {
            let bytes = encoded(image.clone(), kind);
            read(&bytes, format, &Window::Auto).unwrap();
            for length in 0..bytes.len() - 2 {
                let found =
                    super::super::quiet::catch(|| read(&bytes[..length], format, &Window::Auto));
                // Of a PNG the last chunks carry no pixels.
                let is_whole = kind == ImageFormat::Png && length + 16 > bytes.len();
                assert!(
                    found.is_err() || is_whole,
                    "{format:?} cut to {length} of {}",
                    bytes.len()
                );
            }
        }
    }
}
