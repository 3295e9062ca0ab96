//! What umbra sees in an image file.

use serde::Serialize;

use super::{Function, samples::Statistics};

/// A kind of image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Format {
    /// Portable Network Graphics.
    #[serde(rename = "PNG")]
    Png,
    /// JPEG, in a file of its own.
    #[serde(rename = "JPEG")]
    Jpeg,
    /// DICOM Part 10, or its file meta group without the preamble.
    #[serde(rename = "DICOM")]
    Dicom,
}

/// A file's content, without anything that tells whose it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Kind of file.
    pub format: Format,
    /// UID of the DICOM transfer syntax.
    pub transfer_syntax: Option<String>,
    /// Rows of one frame.
    pub rows: u32,
    /// Columns of one frame.
    pub columns: u32,
    /// Frames.
    pub frames: u32,
    /// Samples a pixel: 1 grey, 3 colour, with alpha 2 or 4.
    pub samples: u32,
    /// Bits of a sample that carry the image.
    pub bits_stored: u32,
    /// Are samples two's complement?
    pub signed: bool,
    /// DICOM's photometric interpretation, "unknown" where it is no term of the standard; for PNG and JPEG the
    /// colours as decoded.
    pub photometric: String,
    /// The file's first VOI window.
    pub window: Option<WindowLevel>,
    /// DICOM's modality, "unknown" where it is no term of the standard.
    pub modality: Option<String>,
    /// Smallest stored sample.
    pub px_min: i64,
    /// Largest stored sample.
    pub px_max: i64,
    /// Mean of the stored samples.
    pub px_mean: f64,
    /// SHA-256 of the stored samples as a C-order little-endian array (frames, rows, columns, samples) of the
    /// smallest of u8, i8, u16, i16, u32, i32 that holds the allocated bits.
    pub px_sha256: String,
}

/// A window as the file states it, in units after the modality transform.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WindowLevel {
    /// Value shown at half brightness.
    pub center: f64,
    /// Range of values from black to white.
    pub width: f64,
    /// Curve between them.
    pub function: Function,
}

impl Format {
    /// Tells a file's kind by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else if super::dicom::is_dicom(bytes) {
            Some(Self::Dicom)
        } else {
            None
        }
    }
}

impl Inspection {
    pub(super) fn with_statistics(self, found: Statistics) -> Self {
        let Statistics { min, max, mean, sha256 } = found;
        Self { px_min: min, px_max: max, px_mean: mean, px_sha256: sha256, ..self }
    }
}
