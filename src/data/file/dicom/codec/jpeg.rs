//! JPEG, ITU-T T.81, through dicom-pixeldata.
//!
//! Its decoder turns three components that look like YCbCr into RGB; stored samples must stay what they are. It also
//! trusts the frame's size. So the markers are read here first.

use dicom_core::{
    DataElement, PrimitiveValue, VR,
    value::{PixelFragmentSequence, Value},
};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::{super::super::Refusal, Decoded, Header, Stream, agree};

const DAMAGED: Refusal = Refusal::Damaged("the JPEG frame cannot be decoded");

pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
    let mut jpeg = frame.to_vec();
    let shape = prepare(&mut jpeg)?;
    agree(header, [shape.columns, shape.rows, shape.samples, shape.precision])?;
    // What the decoder gives for 8 bits is bytes; for anything else, native 16-bit words.
    let bits = if shape.precision == 8 { 8 } else { 16 };
    let decoded = decode_one(jpeg, header, bits, shape.is_lossless)?;
    let stream = Some(Stream { precision: shape.precision, signed: false });
    let count = header.frame_samples() as usize;
    if decoded.len() != count * bits as usize / 8 {
        return Err(DAMAGED);
    }
    let bytes = match bits {
        8 => super::pack(decoded.iter().map(|&byte| i32::from(byte)), header),
        _ => {
            let words = decoded.as_chunks::<2>().0.iter();
            super::pack(words.map(|&word| i32::from(u16::from_ne_bytes(word))), header)
        }
    };
    Ok(Decoded { bytes, stream })
}

/// What the frame header says.
struct Shape {
    columns: u32,
    rows: u32,
    samples: u32,
    precision: u32,
    is_lossless: bool,
}

/// Reads the frame header, and names three components R, G, B so that the decoder leaves them alone.
fn prepare(jpeg: &mut [u8]) -> Result<Shape, Refusal> {
    if !jpeg.starts_with(&[0xff, 0xd8]) {
        return Err(DAMAGED);
    }
    let mut shape = None;
    let mut names: Vec<u8> = Vec::new();
    let mut at = 2;
    while let Some(&[mark, marker]) = jpeg.get(at..).and_then(|rest| rest.first_chunk()) {
        if mark != 0xff || matches!(marker, 0x00 | 0x01 | 0xd0..=0xd7 | 0xff) {
            at += 1; // entropy-coded data, a restart, or fill
            continue;
        }
        if marker == 0xd9 {
            return shape.ok_or(DAMAGED);
        }
        let Some(&[high, low]) = jpeg.get(at + 2..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        let segment = jpeg.get_mut(at + 4..end).ok_or(DAMAGED)?;
        match marker {
            0xc0..=0xc3 => {
                let read = frame_header(segment, marker)?;
                if read.samples == 3 {
                    names = segment[6..].chunks_exact_mut(3).zip(b"RGB").map(rename).collect();
                }
                shape = Some(read);
            }
            0xc5..=0xc7 => return Err(Refusal::Unsupported("hierarchical JPEG")),
            0xc9..=0xcb | 0xcd..=0xcf => return Err(Refusal::Unsupported("arithmetic-coded JPEG")),
            0xda => {
                let [count, components @ ..] = segment else { return Err(DAMAGED) };
                for component in components.chunks_exact_mut(2).take(usize::from(*count)) {
                    if let Some(index) = names.iter().position(|name| *name == component[0]) {
                        component[0] = b"RGB"[index];
                    }
                }
            }
            _ => {}
        }
        at = end;
    }
    // Some writers leave the end marker away; the decoder says whether there is enough.
    shape.ok_or(DAMAGED)
}

fn rename((component, name): (&mut [u8], &u8)) -> u8 {
    std::mem::replace(&mut component[0], *name)
}

fn frame_header(segment: &[u8], marker: u8) -> Result<Shape, Refusal> {
    let &[precision, rows_high, rows_low, columns_high, columns_low, samples] =
        segment.first_chunk().ok_or(DAMAGED)?;
    let is_lossless = marker == 0xc3;
    if precision != 8 && !is_lossless {
        return Err(Refusal::Unsupported("lossy JPEG of 12 bits"));
    }
    if segment.len() < 6 + 3 * usize::from(samples) {
        return Err(DAMAGED);
    }
    Ok(Shape {
        columns: u32::from(u16::from_be_bytes([columns_high, columns_low])),
        rows: u32::from(u16::from_be_bytes([rows_high, rows_low])),
        samples: u32::from(samples),
        precision: u32::from(precision),
        is_lossless,
    })
}

/// Hands dicom-pixeldata an object of this one frame, with nothing in it that could mislead.
fn decode_one(
    jpeg: Vec<u8>,
    header: &Header,
    bits: u16,
    is_lossless: bool,
) -> Result<Vec<u8>, Refusal> {
    let word = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let photometric = if header.samples == 1 { "MONOCHROME2" } else { "RGB" };
    let pixels = PixelFragmentSequence::new_fragments(vec![jpeg]);
    let object = InMemDicomObject::from_element_iter([
        word(tags::SAMPLES_PER_PIXEL, header.samples as u16),
        DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric),
        word(tags::PLANAR_CONFIGURATION, 0),
        word(tags::ROWS, header.rows as u16),
        word(tags::COLUMNS, header.columns as u16),
        word(tags::BITS_ALLOCATED, bits),
        word(tags::BITS_STORED, bits),
        word(tags::HIGH_BIT, bits - 1),
        word(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(pixels)),
    ]);
    let syntax = if is_lossless { "1.2.840.10008.1.2.4.70" } else { "1.2.840.10008.1.2.4.50" };
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.1")
        .media_storage_sop_instance_uid("2.25.0");
    let file = object.with_meta(meta).expect("a meta group with a transfer syntax can be built");
    let decoded = file.decode_pixel_data_frame(0).map_err(|_| DAMAGED)?;
    Ok(decoded.into_data())
}
