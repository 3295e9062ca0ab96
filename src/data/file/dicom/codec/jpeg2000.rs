//! JPEG 2000, ITU-T T.800, through hayro-jpeg2000.
//!
//! Its component planes are f32, which hold every intermediate of the reversible wavelet exactly up to 16 bits.

use std::borrow::Cow;

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::{super::super::Refusal, Decoded, Header, Stream, agree};

const DAMAGED: Refusal = Refusal::Damaged("the JPEG 2000 frame cannot be decoded");

pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
    let codestream = codestream(frame)?;
    let stream = size(codestream, header)?;
    let settings =
        DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let codestream = with_lengths(codestream)?;
    let image = Image::new(&codestream, &settings).map_err(|_| DAMAGED)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|_| DAMAGED)?;
    let planes: Vec<&[f32]> = decoded.components().iter().map(|plane| plane.samples()).collect();
    if planes.len() != header.samples as usize || planes.iter().any(|p| p.len() != header.pixels())
    {
        return Err(DAMAGED);
    }
    // The decoder shifts signed components too.
    let shift = if stream.signed { 1 << (stream.precision - 1) } else { 0 };
    let highest = ((1_u32 << stream.precision) - 1) as f32;
    let sample = |value: f32| value.round().clamp(0.0, highest) as i32 - shift;
    let values =
        (0..header.pixels()).flat_map(|pixel| planes.iter().map(move |plane| plane[pixel]));
    Ok(Decoded { bytes: super::pack(values.map(sample), header), stream: Some(stream) })
}

/// The standard wants a bare codestream; some writers wrap it in a JP2 file.
fn codestream(frame: &[u8]) -> Result<&[u8], Refusal> {
    const START: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
    let start = if frame.starts_with(b"\0\0\0\x0cjP  ") {
        frame.windows(4).position(|bytes| bytes == START)
    } else {
        frame.starts_with(&START).then_some(0)
    };
    Ok(&frame[start.ok_or(DAMAGED)?..])
}

/// Writes out the length of a last tile-part that leaves it open (Psot of 0, T.800 A.4.2): it ends with the codestream,
/// before the end marker. The decoder would take the marker for part of it.
///
/// Where that marker is missing nobody knows what else is.
fn with_lengths(codestream: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    const SOT: [u8; 2] = [0xff, 0x90];
    const SOD: [u8; 2] = [0xff, 0x93];
    const END: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    // Segments of the main header, then from one tile-part to the next.
    while let Some(&[0xff, marker, high, low]) = codestream.get(at..).and_then(<[u8]>::first_chunk)
    {
        if [0xff, marker] == SOD || [0xff, marker] == END {
            break;
        }
        if [0xff, marker] != SOT {
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
            continue;
        }
        let Some(&length) = codestream.get(at + 6..).and_then(<[u8]>::first_chunk::<4>) else {
            break;
        };
        match u32::from_be_bytes(length) {
            0 => {
                // A frame of odd length is padded to an even one.
                let end = codestream.strip_suffix(b"\0").unwrap_or(codestream);
                let end = end.strip_suffix(&END).ok_or(DAMAGED)?.len();
                let mut filled = codestream[..end].to_vec();
                filled[at + 6..at + 10].copy_from_slice(&((end - at) as u32).to_be_bytes());
                filled.extend(END);
                return Ok(Cow::Owned(filled));
            }
            // Too short to hold its own header: the decoder will say so.
            1..14 => break,
            length => at += length as usize,
        }
    }
    Ok(Cow::Borrowed(codestream))
}

/// Reads the SIZ segment (T.800 A.5.1), and refuses what the decoder would get wrong or take forever with.
fn size(codestream: &[u8], header: &Header) -> Result<Stream, Refusal> {
    let segment = codestream.get(6..42).ok_or(DAMAGED)?;
    let short = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
    // Bit 14 of the capabilities announces part 15.
    if short(0) & 0x4000 != 0 {
        return Err(Refusal::Unsupported("High-Throughput JPEG 2000"));
    }
    let [right, bottom, left, top, tile_width, tile_height] = [2, 6, 10, 14, 18, 22].map(long);
    let samples = u32::from(short(34));
    let components: &[[u8; 3]] =
        codestream.get(42..42 + 3 * samples as usize).ok_or(DAMAGED)?.as_chunks().0;
    let &[first, ..] = components else { return Err(DAMAGED) };
    if components.iter().any(|&component| component != [first[0], 1, 1]) {
        return Err(Refusal::Unsupported("JPEG 2000 with components of different sizes or bits"));
    }
    let precision = u32::from(first[0] & 0x7f) + 1;
    if precision > 16 {
        return Err(Refusal::Unsupported("JPEG 2000 of more than 16 bits"));
    }
    let (columns, rows) = (right.saturating_sub(left), bottom.saturating_sub(top));
    agree(header, [columns, rows, samples, precision])?;
    let tiles = |side: u32, tile: u32| u64::from(side.div_ceil(tile.max(1)));
    if tiles(right, tile_width) * tiles(bottom, tile_height) > 65_535 {
        return Err(DAMAGED);
    }
    Ok(Stream { precision, signed: first[0] & 0x80 != 0 })
}
