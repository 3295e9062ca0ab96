//! A radiograph's samples to brightness in [0, 1].

use std::ops::RangeInclusive;

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{
    super::{
        Decoded, MAX_PIXELS, MAX_SIDE, Refusal, Window, levels::Levels, samples::Samples,
        window::ramp,
    },
    container::{Container, Purpose},
    frames::{self, Sign},
    header::{Header, code, optional},
    patient::{self, PatientId},
    transform::{Modality, Voi, find},
};
use crate::data::image::Gray;

/// Reads a single-frame grey image. Dense tissue is bright: MONOCHROME1 is inverted, after the window, whatever
/// the window; PresentationLUTShape says the same once more and is not applied on top.
pub(in super::super) fn read(bytes: &[u8], window: &Window) -> Result<Decoded, Refusal> {
    let container = Container::open(bytes, Purpose::Training)?;
    let header = Header::read(&container)?;
    let is_inverted = match header.photometric {
        "MONOCHROME1" => true,
        "MONOCHROME2" => false,
        other => return Err(Refusal::Photometric(other)),
    };
    if header.samples != 1 {
        return Err(Refusal::Value {
            name: "SamplesPerPixel",
            found: i64::from(header.samples),
            expected: "1 with a grey image",
        });
    }
    if header.frames != 1 {
        return Err(Refusal::MultiFrame(header.frames));
    }
    if header.bits_allocated == 32 {
        return Err(Refusal::Unsupported("a radiograph of 32 bits a sample"));
    }
    let object = &container.object;
    if code(object, tags::BURNED_IN_ANNOTATION).as_deref() == Some("YES") {
        return Err(Refusal::BurnedIn);
    }
    let samples = frames::samples(&container, &header, Sign::Stream)?;
    let padding = padding(object, samples.signed)?;
    let tone = Tone::choose(object, &header, &samples, &padding, window)?;
    let shade = |stored: i64| {
        let brightness = tone.brightness(stored as f64);
        match padding.contains(&stored) {
            true => 0.0,
            false if is_inverted => (1.0 - brightness) as f32,
            false => brightness as f32,
        }
    };
    // Far fewer values than pixels: shade each value once.
    let (lowest, highest) = samples.range();
    let table: Vec<f32> = (lowest..=highest).map(shade).collect();
    let pixels = samples.map(|stored| table[(stored - lowest) as usize]);
    let gray = Gray { width: header.columns as usize, height: header.rows as usize, pixels };
    let image = square_pixels(gray, object)?;
    Ok(Decoded { image, patient: PatientId::read(object), view: patient::view(object) })
}

/// What turns a stored value into brightness.
enum Tone {
    Voi(Modality, Voi),
    Ramp { modality: Modality, low: f64, high: f64 },
}

impl Tone {
    fn choose(
        object: &InMemDicomObject,
        header: &Header,
        samples: &Samples,
        padding: &RangeInclusive<i64>,
        window: &Window,
    ) -> Result<Self, Refusal> {
        let bits = header.bits_stored;
        let stored = match samples.signed {
            true => (-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1),
            false => (0, (1_i64 << bits) - 1),
        };
        let raw = Self::Ramp {
            modality: Modality::IDENTITY,
            low: stored.0 as f64,
            high: stored.1 as f64,
        };
        if *window == Window::Raw {
            return Ok(raw);
        }
        let modality = Modality::read(object, header, samples.signed)?;
        let window = match window {
            Window::Auto | Window::Voi => {
                let ends = [stored.0, stored.1].map(|end| modality.value(end as f64));
                let voi = Voi::read(object, ends.iter().any(|&end| end < 0.0))?;
                match voi {
                    Some(voi) => return Ok(Self::Voi(modality, voi)),
                    None if *window == Window::Voi => return Err(Refusal::NoWindow),
                    None if bits <= 8 && modality == Modality::IDENTITY => return Ok(raw),
                    None => &Window::AUTO,
                }
            }
            chosen => chosen,
        };
        let histogram = samples.histogram(|stored| !padding.contains(&stored));
        let levels = Levels::new(
            histogram.into_iter().map(|(stored, count)| (modality.value(stored as f64), count)),
        );
        let (low, high) = match *window {
            Window::Percentile { low, high } => (levels.percentile(low), levels.percentile(high)),
            _ => levels.range(),
        };
        Ok(Self::Ramp { modality, low, high })
    }

    fn brightness(&self, stored: f64) -> f64 {
        match self {
            Self::Voi(modality, voi) => voi.brightness(modality.value(stored)),
            Self::Ramp { modality, low, high } => ramp(modality.value(stored), *low, *high),
        }
    }
}

/// Stored values that are no image: PixelPaddingValue, up to PixelPaddingRangeLimit if there is one, in either order.
/// Their sign follows the samples', not their value representation. Empty without padding.
fn padding(object: &InMemDicomObject, signed: bool) -> Result<RangeInclusive<i64>, Refusal> {
    let with_sign = |value: i64| match signed {
        true if (1 << 15..1 << 16).contains(&value) => value - (1 << 16),
        false if (-(1 << 15)..0).contains(&value) => value + (1 << 16),
        _ => value,
    };
    let Some(value) = optional(object, tags::PIXEL_PADDING_VALUE, "PixelPaddingValue")? else {
        return Ok(RangeInclusive::new(1, 0));
    };
    let limit = optional(object, tags::PIXEL_PADDING_RANGE_LIMIT, "PixelPaddingRangeLimit")?;
    let (value, limit) = (with_sign(value), with_sign(limit.unwrap_or(value)));
    Ok(value.min(limit)..=value.max(limit))
}

/// Where the file says that pixels are not square (by over 1 %), enlarges the image along their longer side.
fn square_pixels(gray: Gray, object: &InMemDicomObject) -> Result<Gray, Refusal> {
    let ratio = [tags::IMAGER_PIXEL_SPACING, tags::PIXEL_SPACING, tags::PIXEL_ASPECT_RATIO]
        .into_iter()
        .filter_map(|tag| find(object, tags::PIXEL_MEASURES_SEQUENCE, tag)?.to_multi_float64().ok())
        .find_map(|numbers| match numbers[..] {
            // Vertical first, in all three.
            [vertical, horizontal] if vertical > 0.0 && horizontal > 0.0 => {
                Some(vertical / horizontal)
            }
            _ => None,
        })
        .unwrap_or(1.0);
    if !ratio.is_finite() || (0.99..=1.01).contains(&ratio) {
        return Ok(gray);
    }
    let scaled = |side: usize, factor: f64| (side as f64 * factor.max(1.0)).round();
    let (width, height) = (scaled(gray.width, 1.0 / ratio), scaled(gray.height, ratio));
    if width.max(height) > f64::from(MAX_SIDE) || width * height > MAX_PIXELS as f64 {
        return Err(Refusal::Size { columns: width as u32, rows: height as u32 });
    }
    Ok(gray.resize(width as usize, height as usize))
}
