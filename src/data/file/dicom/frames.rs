//! Pixel data to samples: frames cut out, decoded, and their stored bits brought to the bottom of each sample.

use std::{borrow::Cow, ops::Range};

use dicom_core::{PrimitiveValue, value::Value};
use dicom_dictionary_std::tags;

use super::{
    super::{Refusal, samples::Samples},
    codec::{Codec, Stream},
    container::Container,
    header::Header,
    walk::Pixels,
};

/// Whose word on the sign of the samples counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The header's: what is stored, as it is declared.
    Header,
    /// The codestream's, where it has one: what the values mean.
    Stream,
}

/// All frames: bits above those stored masked, signs extended, samples of a pixel side by side.
pub(super) fn samples(
    container: &Container<'_>,
    header: &Header,
    sign: Sign,
) -> Result<Samples, Refusal> {
    let codec = container.syntax.codec;
    let bytes = |range: &Range<usize>| &container.data_set[range.clone()];
    match container.pixels.as_ref().ok_or(Refusal::Attribute("PixelData"))? {
        Pixels::Native { .. } if codec != Codec::Native => {
            Err(Refusal::Damaged("the pixel data is not encapsulated"))
        }
        Pixels::Native { is_words, value } => {
            // A word of a big-endian file is turned round whole, whatever the samples in it.
            let unit = match container.syntax.encoding.is_big_endian {
                true => header.width().max(if *is_words { 2 } else { 1 }),
                false => 1,
            };
            native(bytes(value), unit, header)
        }
        Pixels::Encapsulated { .. } if codec == Codec::Native => {
            Err(Refusal::Damaged("the pixel data is encapsulated"))
        }
        Pixels::Encapsulated { offsets: table, fragments } => {
            let fragments: Vec<&[u8]> = fragments.iter().map(bytes).collect();
            let offsets = offsets(container, bytes(table));
            let frames = split(&fragments, &offsets, header.frames as usize, codec)?;
            encapsulated(&frames, header, codec, sign)
        }
    }
}

/// Uncompressed pixel data.
///
/// `unit`: bytes that are turned round together.
fn native(value: &[u8], unit: usize, header: &Header) -> Result<Samples, Refusal> {
    let is_subsampled = ["_422", "_420"].iter().any(|end| header.photometric.ends_with(end));
    if header.samples == 3 && is_subsampled {
        return Err(Refusal::Unsupported("uncompressed colour with fewer chroma samples"));
    }
    let count = header.frame_samples() * u64::from(header.frames);
    let needed = (count * u64::from(header.bits_allocated)).div_ceil(8);
    let whole = needed.next_multiple_of(unit as u64) as usize;
    let value = value.get(..whole).unwrap_or(value);
    let bytes: Cow<'_, [u8]> = match unit {
        1 => Cow::Borrowed(value),
        _ => value.chunks_exact(unit).flat_map(|word| word.iter().rev().copied()).collect(),
    };
    let Some(bytes) = bytes.get(..needed as usize) else {
        return Err(Refusal::Truncated { found: bytes.len() as u64, needed });
    };
    let mut bytes =
        if header.bits_allocated == 1 { unpack(bytes, count as usize) } else { bytes.to_vec() };
    if header.is_planar && header.samples > 1 {
        let frame_bytes = header.frame_samples() as usize * header.width();
        for frame in bytes.chunks_exact_mut(frame_bytes) {
            interleave(frame, header);
        }
    }
    let signed = extract(&mut bytes, header, None, Sign::Header);
    Ok(Samples { bytes, width: header.width(), signed })
}

/// Compressed pixel data, frame by frame.
fn encapsulated(
    frames: &[Cow<'_, [u8]>],
    header: &Header,
    codec: Codec,
    sign: Sign,
) -> Result<Samples, Refusal> {
    let count = header.frame_samples() as usize;
    let mut all = Samples { bytes: Vec::new(), width: header.width(), signed: header.signed };
    for frame in frames {
        let mut decoded = codec.decode(frame, header)?;
        if header.bits_allocated == 1 && decoded.stream.is_none() {
            decoded.bytes = unpack(&decoded.bytes, count);
        }
        let (needed, found) = (count * header.width(), decoded.bytes.len());
        if found < needed {
            return Err(Refusal::Truncated { found: found as u64, needed: needed as u64 });
        }
        decoded.bytes.truncate(needed);
        if codec == Codec::Uncompressed && header.is_planar && header.samples > 1 {
            interleave(&mut decoded.bytes, header);
        }
        all.signed = extract(&mut decoded.bytes, header, decoded.stream, sign);
        all.bytes.extend_from_slice(&decoded.bytes);
    }
    Ok(all)
}

/// One bit a sample, lowest bit first, to one byte each.
fn unpack(packed: &[u8], count: usize) -> Vec<u8> {
    packed.iter().flat_map(|&byte| (0..8).map(move |bit| byte >> bit & 1)).take(count).collect()
}

/// A frame of planes to one pixel after another.
fn interleave(frame: &mut [u8], header: &Header) {
    let (width, samples) = (header.width(), header.samples as usize);
    let planes = frame.to_vec();
    for (pixel, to) in frame.chunks_exact_mut(width * samples).enumerate() {
        for (sample, to) in to.chunks_exact_mut(width).enumerate() {
            let from = (sample * header.pixels() + pixel) * width;
            to.copy_from_slice(&planes[from..from + width]);
        }
    }
}

/// Brings the stored bits of every sample to the bottom, clears what is above, and extends the sign.
///
/// Returns whether samples are two's complement.
fn extract(bytes: &mut [u8], header: &Header, stream: Option<Stream>, sign: Sign) -> bool {
    let (shift, bits) = match stream {
        // The whole allocated word was compressed, so the header's layout holds within it.
        Some(stream) if stream.precision == header.bits_allocated => stored_bits(header),
        // Samples are at the bottom of the word already, in the codestream's own precision.
        Some(stream) => (0, stream.precision),
        None => stored_bits(header),
    };
    let signed =
        header.signed || (sign == Sign::Stream && stream.is_some_and(|stream| stream.signed));
    let whole = 8 * header.width() as u32;
    if shift == 0 && bits == whole {
        return signed;
    }
    let mask = u32::MAX >> (32 - bits);
    let place = |word: u32| {
        let value = word >> shift & mask;
        if signed {
            ((value << (32 - bits)).cast_signed() >> (32 - bits)).cast_unsigned()
        } else {
            value
        }
    };
    match header.width() {
        1 => bytes.iter_mut().for_each(|byte| *byte = place(u32::from(*byte)) as u8),
        2 => {
            for word in bytes.as_chunks_mut::<2>().0 {
                *word = (place(u32::from(u16::from_le_bytes(*word))) as u16).to_le_bytes();
            }
        }
        _ => {
            for word in bytes.as_chunks_mut::<4>().0 {
                *word = place(u32::from_le_bytes(*word)).to_le_bytes();
            }
        }
    }
    signed
}

/// How far the lowest stored bit is from the bottom, and how many there are.
fn stored_bits(header: &Header) -> (u32, u32) {
    (header.high_bit + 1 - header.bits_stored, header.bits_stored)
}

/// Where frames begin, in bytes from the first fragment's item: the basic table, or else the extended one.
fn offsets(container: &Container<'_>, basic: &[u8]) -> Vec<u64> {
    if !basic.is_empty() {
        let offsets = basic.as_chunks().0.iter();
        return offsets.map(|&offset| u64::from(u32::from_le_bytes(offset))).collect();
    }
    let extended = container.object.get(tags::EXTENDED_OFFSET_TABLE);
    match extended.map(|element| element.value()) {
        Some(Value::Primitive(PrimitiveValue::U64(offsets))) => offsets.to_vec(),
        Some(Value::Primitive(PrimitiveValue::U8(bytes))) => {
            bytes.as_chunks().0.iter().map(|&offset| u64::from_le_bytes(offset)).collect()
        }
        _ => Vec::new(),
    }
}

/// Groups fragments into frames: by count, by the offset table, or by what a fragment begins with.
fn split<'a>(
    fragments: &[&'a [u8]],
    offsets: &[u64],
    num_frames: usize,
    codec: Codec,
) -> Result<Vec<Cow<'a, [u8]>>, Refusal> {
    if fragments.is_empty() {
        return Err(Refusal::Truncated { found: 0, needed: 1 });
    }
    if fragments.len() == num_frames {
        return Ok(fragments.iter().map(|&fragment| Cow::Borrowed(fragment)).collect());
    }
    if num_frames == 1 {
        return Ok(vec![Cow::Owned(fragments.concat())]);
    }
    let is_start: Vec<bool> = if offsets.len() == num_frames {
        let places = fragments.iter().scan(0, |place, fragment| {
            let at = *place;
            *place += fragment.len() as u64 + 8;
            Some(at)
        });
        places.map(|place| offsets.binary_search(&place).is_ok()).collect()
    } else {
        fragments.iter().map(|fragment| codec.begins_frame(fragment).unwrap_or(false)).collect()
    };
    let starts: Vec<usize> = (0..fragments.len()).filter(|&index| is_start[index]).collect();
    if starts.len() != num_frames || starts[0] != 0 {
        return Err(Refusal::Damaged("the fragments cannot be told apart into frames"));
    }
    let ends = starts.iter().skip(1).copied().chain([fragments.len()]);
    Ok(starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| Cow::Owned(fragments[start..end].concat()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bits: [u32; 3], signed: bool) -> Header {
        let [bits_allocated, bits_stored, high_bit] = bits;
        Header {
            rows: 1,
            columns: 2,
            frames: 1,
            samples: 1,
            is_planar: false,
            bits_allocated,
            bits_stored,
            high_bit,
            signed,
            photometric: "MONOCHROME2",
            modality: None,
        }
    }

    #[test]
    fn stored_bits_come_down_and_signs_are_extended() {
        let extracted = |bits, signed, stream| {
            let mut bytes = vec![0x3f, 0xf8]; // 0xf83f
            extract(&mut bytes, &header(bits, signed), stream, Sign::Stream);
            u16::from_le_bytes([bytes[0], bytes[1]])
        };
        assert_eq!(extracted([16, 16, 15], false, None), 0xf83f);
        assert_eq!(extracted([16, 12, 11], false, None), 0x083f);
        assert_eq!(extracted([16, 12, 11], true, None), 0xf83f);
        assert_eq!(extracted([16, 12, 15], false, None), 0x0f83);
        assert_eq!(extracted([16, 12, 15], true, None), 0xff83);
        let stream = |precision, signed| Some(Stream { precision, signed });
        assert_eq!(extracted([16, 12, 15], false, stream(12, false)), 0x083f);
        assert_eq!(extracted([16, 12, 15], false, stream(12, true)), 0xf83f);
        assert_eq!(extracted([16, 12, 15], false, stream(16, false)), 0x0f83);
        assert_eq!(extracted([16, 16, 15], true, stream(10, false)), 0x003f);
    }

    #[test]
    fn planes_become_pixels() {
        let mut frame = [1, 2, 3, 4, 5, 6];
        interleave(&mut frame, &Header { samples: 3, ..header([8, 8, 7], false) });
        assert_eq!(frame, [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn fragments_become_frames() {
        let fragments: [&[u8]; 4] = [&[0xff, 0xd8, 0xff, 1], &[2, 2], &[0xff, 0xd8, 0xff, 3], &[4]];
        let frames = |offsets: &[u64], num_frames| {
            let frames = split(&fragments, offsets, num_frames, Codec::Jpeg);
            frames.map(|frames| frames.iter().map(|frame| frame.len()).collect::<Vec<_>>())
        };
        assert_eq!(frames(&[], 2), Ok(vec![6, 5]));
        assert_eq!(frames(&[0, 22], 2), Ok(vec![6, 5]));
        assert_eq!(frames(&[], 4), Ok(vec![4, 2, 4, 1]));
        assert_eq!(frames(&[], 1), Ok(vec![11]));
        assert!(frames(&[], 3).is_err());
        assert!(frames(&[0, 7], 2).is_err());
    }
}
