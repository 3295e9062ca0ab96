//! RLE Lossless, PS3.5 annex G.
//!
//! Ours because dicom-rs refuses 32-bit samples and frames that compress well, and indexes past damaged headers.

use super::{super::super::Refusal, Decoded, Header};

/// A frame is a header of 16 words (the number of segments, then their offsets), and one segment for each byte plane:
/// the most significant byte of the first sample of every pixel comes first.
pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
    const DAMAGED: Refusal = Refusal::Damaged("the RLE segments do not lie within their frame");
    let words: &[[u8; 4]] = frame.get(..64).ok_or(DAMAGED)?.as_chunks().0;
    let word = |index: usize| u32::from_le_bytes(words[index]) as usize;
    let (samples, width) = (header.samples as usize, header.width());
    if word(0) != samples * width || word(0) > 15 {
        return Err(Refusal::Disagreement("samples per pixel"));
    }
    let plane_bytes = match header.bits_allocated {
        1 => header.pixels().div_ceil(8),
        _ => header.pixels(),
    };
    let stride = samples * width;
    let mut bytes = vec![0; plane_bytes * stride];
    for segment in 0..stride {
        let end = if segment + 1 < stride { word(segment + 2) } else { frame.len() };
        let packed = frame.get(word(segment + 1)..end).ok_or(DAMAGED)?;
        let plane = unpack(packed, plane_bytes)?;
        let (sample, byte) = (segment / width, width - 1 - segment % width);
        let first = sample * width + byte;
        for (to, from) in bytes[first..].iter_mut().step_by(stride).zip(plane) {
            *to = from;
        }
    }
    Ok(Decoded { bytes, stream: None })
}

/// PackBits: a count of 0 to 127 copies one byte more than that, -1 to -127 repeats the next, -128 is nothing.
fn unpack(packed: &[u8], needed: usize) -> Result<Vec<u8>, Refusal> {
    let mut plane = Vec::with_capacity(needed);
    let mut rest = packed;
    while plane.len() < needed {
        let Some((&count, tail)) = rest.split_first() else { break };
        rest = match count {
            0..=127 => {
                let (copied, tail) = tail.split_at(tail.len().min(usize::from(count) + 1));
                plane.extend_from_slice(copied);
                tail
            }
            128 => tail,
            129..=255 => {
                let Some((&byte, tail)) = tail.split_first() else { break };
                plane.resize(plane.len() + 257 - usize::from(count), byte);
                tail
            }
        };
    }
    if plane.len() < needed {
        return Err(Refusal::Truncated { found: plane.len() as u64, needed: needed as u64 });
    }
    plane.truncate(needed);
    Ok(plane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_copies() {
        assert_eq!(unpack(&[2, 7, 8, 9, 128, 254, 5, 0, 1], 7), Ok(vec![7, 8, 9, 5, 5, 5, 1]));
        assert_eq!(unpack(&[129, 5], 100), Ok(vec![5; 100]));
        assert_eq!(unpack(&[1, 5], 2), Err(Refusal::Truncated { found: 1, needed: 2 }));
    }
}
