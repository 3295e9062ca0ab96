//! One compressed frame to its samples.

mod deflate;
mod jpeg;
mod jpeg2000;
mod jpegls;
mod rle;

use super::{super::Refusal, header::Header};

/// A family of transfer syntaxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Uncompressed, all frames in one value.
    Native,
    /// Uncompressed, a fragment for each frame.
    Uncompressed,
    /// Run lengths of byte planes, PS3.5 annex G.
    Rle,
    /// Raw deflate of each frame.
    Deflate,
    /// ITU-T T.81: baseline, extended, progressive and lossless.
    Jpeg,
    /// ITU-T T.87, lossless and near-lossless.
    JpegLs,
    /// ITU-T T.800, both wavelets.
    Jpeg2000,
}

/// A decoded frame.
pub(super) struct Decoded {
    /// Little-endian, pixel by pixel, [`Header::width`] bytes a sample; packed bits if one bit is allocated and
    /// `stream` is absent.
    pub(super) bytes: Vec<u8>,
    /// What the codestream says of its own samples, if it says anything.
    pub(super) stream: Option<Stream>,
}

/// A codestream's word on its samples; it wins over the header's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    /// Bits a sample, at most 16.
    pub(super) precision: u32,
    /// Are samples two's complement?
    pub(super) signed: bool,
}

impl Codec {
    /// Decodes one frame. Never called for [`Codec::Native`].
    pub(super) fn decode(self, frame: &[u8], header: &Header) -> Result<Decoded, Refusal> {
        match self {
            Self::Native | Self::Uncompressed => {
                Ok(Decoded { bytes: frame.to_vec(), stream: None })
            }
            Self::Rle => rle::decode(frame, header),
            Self::Deflate => deflate::decode(frame, header),
            Self::Jpeg => jpeg::decode(frame, header),
            Self::JpegLs => jpegls::decode(frame, header),
            Self::Jpeg2000 => jpeg2000::decode(frame, header),
        }
    }

    /// Does this fragment begin a frame? `None` where a fragment does not show it.
    pub(super) fn begins_frame(self, fragment: &[u8]) -> Option<bool> {
        match self {
            Self::Jpeg | Self::JpegLs => Some(fragment.starts_with(&[0xff, 0xd8, 0xff])),
            Self::Jpeg2000 => Some(
                fragment.starts_with(&[0xff, 0x4f, 0xff, 0x51])
                    || fragment.starts_with(b"\0\0\0\x0cjP  "),
            ),
            _ => None,
        }
    }
}

/// Integers of a codestream, pixel by pixel, in the width that the header allocates.
fn pack(values: impl Iterator<Item = i32>, header: &Header) -> Vec<u8> {
    match header.width() {
        1 => values.map(|value| value as u8).collect(),
        2 => values.flat_map(|value| (value as u16).to_le_bytes()).collect(),
        _ => values.flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// What a codestream's own header says must be what the file's header says.
fn agree(header: &Header, [columns, rows, samples, precision]: [u32; 4]) -> Result<(), Refusal> {
    let claims = [
        (columns == header.columns, "columns"),
        (rows == header.rows, "rows"),
        (samples == header.samples, "samples per pixel"),
        ((1..=header.bits_allocated).contains(&precision), "bits"),
    ];
    match claims.iter().find(|(holds, _)| !holds) {
        Some(&(_, what)) => Err(Refusal::Disagreement(what)),
        None => Ok(()),
    }
}
