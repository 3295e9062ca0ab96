//! JPEG-LS, ITU-T T.87 (ISO/IEC 14495-1), lossless and near-lossless: there is no other decoder in Rust.
//!
//! Here are the markers; `parameters` has what a scan is coded with, `scan` the prediction and its contexts,
//! `bits` the entropy-coded bytes.

mod bits;
mod parameters;
mod scan;

use super::{super::super::Refusal, Decoded, Header, Stream, agree};
use bits::Bits;
use parameters::{Parameters, Presets};
use scan::{Interleave, Scan};

const DAMAGED: Refusal = Refusal::Damaged("the JPEG-LS frame cannot be decoded");

pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
    if !frame.starts_with(&[0xff, 0xd8]) {
        return Err(DAMAGED);
    }
    let (mut at, mut precision, mut presets) = (2, None, Presets::default());
    let mut components: Vec<u8> = Vec::new();
    let mut pixels = vec![0_u16; header.frame_samples() as usize];
    let mut num_decoded = 0;
    while num_decoded < header.samples {
        let &[mark, marker] = frame.get(at..).and_then(|rest| rest.first_chunk()).ok_or(DAMAGED)?;
        if mark != 0xff || marker == 0xff {
            at += 1; // between scans: rests of the last, and fill
            continue;
        }
        let length = frame.get(at + 2..).and_then(|rest| rest.first_chunk()).ok_or(DAMAGED)?;
        let end = at + 2 + usize::from(u16::from_be_bytes(*length));
        let segment = frame.get(at + 4..end).ok_or(DAMAGED)?;
        at = end;
        match marker {
            0xf7 => (precision, components) = frame_header(segment, header)?,
            0xf8 => presets = preset_segment(segment)?,
            0xdd if segment.iter().any(|&byte| byte != 0) => {
                return Err(Refusal::Unsupported("JPEG-LS with restart intervals"));
            }
            // HP's colour transform, which its writers announce here.
            0xe8 if segment.starts_with(b"mrfx") && segment.get(4) != Some(&0) => {
                return Err(Refusal::Unsupported("JPEG-LS with a colour transform"));
            }
            0xda => {
                let precision = precision.ok_or(DAMAGED)?;
                let (parameters, members, interleave) =
                    scan_header(segment, precision, &presets, &components)?;
                let mut bits = Bits::new(&frame[at..]);
                let columns = header.columns as usize;
                Scan::new(&parameters).decode(
                    &mut bits,
                    interleave,
                    &members,
                    components.len(),
                    columns,
                    &mut pixels,
                )?;
                num_decoded += members.len() as u32;
                at += bits.position();
            }
            0xc0..=0xcf | 0xd8 | 0xd9 => return Err(DAMAGED),
            _ => {}
        }
    }
    let precision = precision.ok_or(DAMAGED)?;
    let bytes = super::pack(pixels.iter().map(|&value| i32::from(value)), header);
    Ok(Decoded { bytes, stream: Some(Stream { precision, signed: false }) })
}

/// SOF55: precision and the components' identifiers.
fn frame_header(segment: &[u8], header: &Header) -> Result<(Option<u32>, Vec<u8>), Refusal> {
    let &[precision, rows_high, rows_low, columns_high, columns_low, count] =
        segment.first_chunk().ok_or(DAMAGED)?;
    let columns = u32::from(u16::from_be_bytes([columns_high, columns_low]));
    let rows = u32::from(u16::from_be_bytes([rows_high, rows_low]));
    let precision = u32::from(precision);
    agree(header, [columns, rows, u32::from(count), precision])?;
    if !(2..=16).contains(&precision) {
        return Err(Refusal::Disagreement("bits"));
    }
    let listed = segment.get(6..6 + 3 * usize::from(count)).ok_or(DAMAGED)?;
    if listed.chunks_exact(3).any(|component| component[1] != 0x11) {
        return Err(Refusal::Unsupported("JPEG-LS with components of different sizes"));
    }
    Ok((Some(precision), listed.chunks_exact(3).map(|component| component[0]).collect()))
}

/// LSE: coding parameters other than the defaults.
fn preset_segment(segment: &[u8]) -> Result<Presets, Refusal> {
    let &[1, ref numbers @ ..] = segment else {
        return Err(Refusal::Unsupported("JPEG-LS with a mapping table or an oversize image"));
    };
    let numbers: &[[u8; 2]] = numbers.get(..10).ok_or(DAMAGED)?.as_chunks().0;
    let number = |index: usize| i32::from(u16::from_be_bytes(numbers[index]));
    Ok(Presets { max_value: number(0), thresholds: [1, 2, 3].map(number), reset: number(4) })
}

/// SOS: parameters, the components of this scan by their place in the pixel, and how they are interleaved.
fn scan_header(
    segment: &[u8],
    precision: u32,
    presets: &Presets,
    components: &[u8],
) -> Result<(Parameters, Vec<usize>, Interleave), Refusal> {
    let (&count, rest) = segment.split_first().ok_or(DAMAGED)?;
    let listed = rest.get(..2 * usize::from(count)).ok_or(DAMAGED)?;
    let &[near, interleave, transform, ..] = &rest[listed.len()..] else { return Err(DAMAGED) };
    let mut members = Vec::new();
    for pair in listed.chunks_exact(2) {
        if pair[1] != 0 {
            return Err(Refusal::Unsupported("JPEG-LS with a mapping table or an oversize image"));
        }
        members.push(components.iter().position(|&name| name == pair[0]).ok_or(DAMAGED)?);
    }
    let interleave = match (interleave, members.len()) {
        (_, 0) => return Err(DAMAGED),
        (_, 1) => Interleave::Line,
        (1, _) => Interleave::Line,
        (2, _) => Interleave::Sample,
        _ => return Err(DAMAGED),
    };
    if transform != 0 {
        return Err(Refusal::Unsupported("JPEG-LS with a point transform"));
    }
    let parameters = Parameters::new(precision, i32::from(near), presets).ok_or(DAMAGED)?;
    Ok((parameters, members, interleave))
}
