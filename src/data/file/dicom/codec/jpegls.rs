//! JPEG-LS, ITU-T T.87.

use super::{super::super::Refusal, Decoded, Header};

pub(super) fn decode(_frame: &[u8], _header: &Header) -> Result<Decoded, Refusal> {
    Err(Refusal::Unsupported("JPEG-LS"))
}
