//! PNG and JPEG files.

use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{
    Decoded, Format, Inspection, MAX_BYTES, MAX_SIDE, Refusal, Window, check_size, levels::Levels,
    samples::Samples, window::ramp,
};
use crate::data::image::Gray;

/// An image as it was decoded, its channels side by side.
struct Raster {
    width: u32,
    height: u32,
    channels: usize,
    values: Values,
}

enum Values {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

/// Grey values in [0, 1]. `Voi` and `Raw` show 0 to 255 or 65535 as they are, and so does `Auto` with 8 bits.
pub(super) fn read(bytes: &[u8], format: Format, window: &Window) -> Result<Decoded, Refusal> {
    let raster = decode(bytes, format)?;
    let (width, height) = (raster.width as usize, raster.height as usize);
    let full: u32 = if matches!(raster.values, Values::Bytes(_)) { 255 } else { 65_535 };
    let window = match window {
        Window::Auto if full == 255 => &Window::Raw,
        Window::Auto => &Window::AUTO,
        chosen => chosen,
    };
    let lumas = raster.lumas();
    let (low, high) = match *window {
        Window::MinMax => levels(&lumas, full).range(),
        Window::Percentile { low, high } => {
            let levels = levels(&lumas, full);
            (levels.percentile(low), levels.percentile(high))
        }
        Window::Auto | Window::Voi | Window::Raw => (0.0, f64::from(1000 * full)),
    };
    // One allocation after the other: the brightness takes the place of the luma.
    let shade = |luma: u32| ramp(f64::from(luma), low, high) as f32;
    let image = Gray { width, height, pixels: lumas.into_iter().map(shade).collect() };
    Ok(Decoded { image, patient: None, view: None })
}

/// Statistics of the samples as decoded, alpha included; the colours of a JPEG are RGB, whatever it stores.
pub(super) fn inspect(bytes: &[u8], format: Format) -> Result<Inspection, Refusal> {
    let Raster { width, height, channels, values } = decode(bytes, format)?;
    let samples = match values {
        Values::Bytes(bytes) => Samples { bytes, width: 1, signed: false },
        Values::Words(words) => {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Samples { bytes, width: 2, signed: false }
        }
    };
    let inspection = Inspection {
        format,
        transfer_syntax: None,
        rows: height,
        columns: width,
        frames: 1,
        samples: channels as u32,
        bits_stored: 8 * samples.width as u32,
        signed: false,
        photometric: if channels < 3 { "MONOCHROME2" } else { "RGB" }.to_owned(),
        window: None,
        modality: None,
        px_min: 0,
        px_max: 0,
        px_mean: 0.0,
        px_sha256: String::new(),
    };
    Ok(inspection.with_statistics(samples.statistics()))
}

fn decode(bytes: &[u8], format: Format) -> Result<Raster, Refusal> {
    match format {
        Format::Png => png(bytes),
        _ => jpeg(bytes),
    }
}

fn png(bytes: &[u8]) -> Result<Raster, Refusal> {
    const DAMAGED: Refusal = Refusal::Damaged("the PNG data cannot be decoded");
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|_| DAMAGED)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if decoder.total_bytes() > MAX_BYTES {
        return Err(Refusal::TooManyBytes(decoder.total_bytes()));
    }
    let channels = usize::from(decoder.color_type().channel_count());
    let is_wide = !matches!(
        decoder.color_type(),
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8
    );
    let image = DynamicImage::from_decoder(decoder).map_err(|_| DAMAGED)?;
    let words = |words: Vec<u16>| Values::Words(words);
    let values = match image {
        DynamicImage::ImageLuma16(image) => words(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => words(image.into_raw()),
        DynamicImage::ImageRgb16(image) => words(image.into_raw()),
        DynamicImage::ImageRgba16(image) => words(image.into_raw()),
        _ if is_wide => return Err(DAMAGED),
        image => Values::Bytes(image.into_bytes()),
    };
    Ok(Raster { width, height, channels, values })
}

fn jpeg(bytes: &[u8]) -> Result<Raster, Refusal> {
    const DAMAGED: Refusal = Refusal::Damaged("the JPEG data cannot be decoded");
    if !has_end(bytes) {
        return Err(Refusal::Damaged("the JPEG data ends before its end marker"));
    }
    // Strict: without a checksum, a code that cannot be is all that shows damage.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|_| DAMAGED)?;
    let (width, height) = decoder.dimensions().ok_or(DAMAGED)?;
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let values = decoder.decode().map_err(|_| DAMAGED)?;
    if values.len() as u64 != u64::from(width) * u64::from(height) * channels as u64 {
        return Err(DAMAGED);
    }
    Ok(Raster { width, height, channels, values: Values::Bytes(values) })
}

/// Does the image end with its end-of-image marker, after a scan?
///
/// The decoder fills what is missing of a truncated JPEG with grey; such an image must not be trained on. A pair of
/// bytes like the marker may stand inside a segment or behind the image, so the way to it goes from marker to marker.
fn has_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    let mut has_scan = false;
    loop {
        // In entropy-coded data, 0xff is followed by a zero or belongs to a restart marker.
        let is_data = |pair: &[u8]| has_scan && !matches!(pair, [0xff, 0x01..=0xcf | 0xd8..=0xfe]);
        let Some(found) = jpeg.get(at..).and_then(|rest| rest.windows(2).position(|p| !is_data(p)))
        else {
            return false;
        };
        at += found;
        match jpeg.get(at..at + 2) {
            Some([0xff, 0xd9]) => return has_scan,
            // A marker may be preceded by any number of fill bytes.
            Some([0xff, 0xff]) => at += 1,
            Some([0xff, marker]) => {
                has_scan |= *marker == 0xda;
                let Some(length) = jpeg.get(at + 2..).and_then(|rest| rest.first_chunk()) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes(*length));
            }
            _ => return false,
        }
    }
}

impl Raster {
    /// Brightness of every pixel in thousandths of a sample's unit, so that it stays an exact integer.
    fn lumas(self) -> Vec<u32> {
        fn of<T: Copy + Into<u32>>(values: &[T], channels: usize) -> Vec<u32> {
            let pixels = values.chunks_exact(channels);
            if channels < 3 {
                return pixels.map(|pixel| 1000 * pixel[0].into()).collect();
            }
            let luma =
                |pixel: &[T]| 299 * pixel[0].into() + 587 * pixel[1].into() + 114 * pixel[2].into();
            pixels.map(luma).collect()
        }
        match self.values {
            Values::Bytes(bytes) => of(&bytes, self.channels),
            Values::Words(words) => of(&words, self.channels),
        }
    }
}

/// How lumas are spread; those of 16-bit colour to a sample's unit, so that the table stays small.
fn levels(lumas: &[u32], full: u32) -> Levels {
    let unit = if full == 255 { 1 } else { 1000 };
    let mut counts = vec![0_u64; (1000 * full / unit) as usize + 1];
    lumas.iter().for_each(|luma| counts[(luma / unit) as usize] += 1);
    let levels = (0_u32..).zip(counts).filter(|&(_, count)| count > 0);
    Levels::new(levels.map(|(level, count)| (f64::from(level * unit), count)))
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
        let read =
            |bytes: &[u8], format, window: &Window| read(bytes, format, window).map(|it| it.image);
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
            let gray = read(&bytes, Format::Png, &window).unwrap().image;
            assert_eq!(gray.pixels[5], 105.0 / 255.0);
        }
    }

    #[test]
    fn colour_becomes_luma_and_alpha_is_ignored() {
        let grey = ImageBuffer::from_pixel(2, 2, Rgba([77_u8, 77, 77, 3]));
        let gray =
            read(&encoded(grey, ImageFormat::Png), Format::Png, &Window::Auto).unwrap().image;
        assert_eq!(gray.pixels, [77.0 / 255.0; 4]);
        let colour = ImageBuffer::from_pixel(2, 2, Rgb([200_u8, 100, 50]));
        let gray =
            read(&encoded(colour, ImageFormat::Png), Format::Png, &Window::Auto).unwrap().image;
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

    /// Two bytes that look like the marker, where no image ends.
    #[test]
    fn the_end_of_a_jpeg_is_its_own() {
        let image = ImageBuffer::from_fn(64, 48, |x, y| Luma([(x * y) as u8]));
        let whole = encoded(image, ImageFormat::Jpeg);
        assert!(has_end(&whole));
        let comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9";
        let noted = [&whole[..2], comment, &whole[2..]].concat();
        assert!(has_end(&noted));
        assert!(!has_end(&noted[..noted.len() - 2]), "a marker in a comment");
        let tail = [&whole[..whole.len() / 2], b"\xff\xfe\x00\x04\xff\xd9"].concat();
        assert!(!has_end(&tail), "a marker in a comment behind half a scan");
        assert!(has_end(&[&whole[..], b"trailing"].concat()));
        assert!(!has_end(b"\xff\xd8\xff\xd9"), "an end without a scan");
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
