//! Deflated image frames, PS3.5 section 10.20.

use std::io::Read;

use flate2::read::DeflateDecoder;

use super::{super::super::Refusal, Decoded, Header};

/// Inflates one frame, and no more of it than the header asks for.
pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
    let needed = (header.frame_samples() * u64::from(header.bits_allocated)).div_ceil(8);
    let mut bytes = Vec::new();
    DeflateDecoder::new(frame)
        .take(needed)
        .read_to_end(&mut bytes)
        .map_err(|_| Refusal::Damaged("the deflated frame cannot be inflated"))?;
    match bytes.len() as u64 {
        found if found < needed => Err(Refusal::Truncated { found, needed }),
        _ => Ok(Decoded { bytes, stream: None }),
    }
}
