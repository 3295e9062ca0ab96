//! One image file to one grey image: PNG, JPEG and DICOM, told apart by content.
//!
//! [`read`] gives what a network is fed, [`inspect`] says what is stored in the file. Neither lets a patient's
//! tags out: an error carries the path, sizes and names of formats, never text found in the file.

mod dicom;
mod inspect;
mod levels;
mod quiet;
mod raster;
mod samples;
mod window;

pub use inspect::{Format, Inspection, WindowLevel};
pub use window::{Function, Window};

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::image::Gray;

/// Rows or columns of an image: at most this many.
pub const MAX_SIDE: u32 = 16_384;
/// Rows · columns of one frame: at most this many.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Bytes of all decoded samples of a file: at most this many.
pub const MAX_BYTES: u64 = 256 << 20;
/// Bytes of a file, compressed or not: at most this many.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// Reads one image as grey values in [0, 1], dense tissue bright.
///
/// PNG and JPEG: colour becomes luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), unless its channels are equal;
/// alpha is ignored. DICOM: stored value, modality transform, `window`, and inversion of MONOCHROME1, all in
/// floating point; padding becomes 0. Refuses colour, multi-frame and floating-point DICOM.
pub fn read(path: &Path, window: &Window) -> Result<Gray, FileError> {
    open(path, |bytes, format| {
        window.check()?;
        match format {
            Format::Dicom => dicom::read(bytes, window),
            Format::Png | Format::Jpeg => raster::read(bytes, format, window),
        }
    })
}

/// Says what is stored in a file: sizes, encoding, and statistics of the samples before any look-up table.
pub fn inspect(path: &Path) -> Result<Inspection, FileError> {
    open(path, |bytes, format| match format {
        Format::Dicom => dicom::inspect(bytes),
        Format::Png | Format::Jpeg => raster::inspect(bytes, format),
    })
}

/// Why a file gave no image.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file was read, but its content is damaged or not supported.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Refusal,
    },
}

impl FileError {
    /// The reason alone, for where the file is already named.
    pub fn reason(&self) -> String {
        match self {
            Self::Read { source, .. } => format!("cannot be read: {source}"),
            Self::Refused { reason, .. } => reason.to_string(),
        }
    }
}

/// What is wrong with a file's content. Its text never holds text of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither of the three formats.
    #[error("not a PNG, JPEG or DICOM file")]
    UnknownFormat,
    /// The file is larger than [`MAX_FILE_BYTES`].
    #[error("the file has {0} bytes; at most {MAX_FILE_BYTES} are read")]
    FileTooLarge(u64),
    /// No image, or larger than [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error(
        "an image of {columns} × {rows} is outside of 1 to {MAX_SIDE} a side and {MAX_PIXELS} in all"
    )]
    Size {
        /// Declared columns.
        columns: u32,
        /// Declared rows.
        rows: u32,
    },
    /// All frames together are larger than [`MAX_BYTES`].
    #[error("the decoded samples need {0} bytes; at most {MAX_BYTES} are decoded")]
    TooManyBytes(u64),
    /// The bytes do not follow the format.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// A required DICOM attribute is absent or not a number.
    #[error("damaged: attribute {0} is absent or unreadable")]
    Attribute(&'static str),
    /// An attribute contradicts another or the standard.
    #[error("damaged: {name} is {found}; expected {expected}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// Its value.
        found: i64,
        /// What it may be.
        expected: &'static str,
    },
    /// Less pixel data than rows, columns and frames need.
    #[error("damaged: the pixel data has {found} bytes, {needed} are needed")]
    Truncated {
        /// Bytes there are.
        found: u64,
        /// Bytes the header asks for.
        needed: u64,
    },
    /// The compressed frame is of another size or kind than the header says.
    #[error("damaged: the compressed frame disagrees with the header about {0}")]
    Disagreement(&'static str),
    /// A decoder failed on its own account.
    #[error("damaged: the decoder gave up in an unexpected place")]
    Panicked,
    /// A transfer syntax that this build cannot decode.
    #[error("transfer syntax {uid} ({name}) is not supported")]
    TransferSyntax {
        /// Its UID.
        uid: String,
        /// Its name.
        name: &'static str,
    },
    /// A feature of a format that is not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A photometric interpretation that is not a radiograph's.
    #[error(
        "photometric interpretation {0} is not a radiograph's; expected MONOCHROME1 or MONOCHROME2"
    )]
    Photometric(String),
    /// More than one frame.
    #[error("{0} frames; a radiograph to train on has one")]
    MultiFrame(u32),
    /// The file says that there is text in the picture.
    #[error("the file says that text is burned into the image (BurnedInAnnotation is YES)")]
    BurnedIn,
    /// The recipe asks for the file's own window and it has none.
    #[error("the file has no usable VOI window or table, and the window policy asks for one")]
    NoWindow,
    /// A percentile window that is empty or outside of 0 to 100.
    #[error("a percentile window needs 0 ≤ low < high ≤ 100")]
    Percentiles,
}

/// Declared sizes must fit the limits before anything is allocated for them.
fn check_size(columns: u32, rows: u32) -> Result<(), Refusal> {
    let fits = (1..=MAX_SIDE).contains(&columns)
        && (1..=MAX_SIDE).contains(&rows)
        && u64::from(columns) * u64::from(rows) <= MAX_PIXELS;
    if fits { Ok(()) } else { Err(Refusal::Size { columns, rows }) }
}

fn open<T>(
    path: &Path,
    decode: impl FnOnce(&[u8], Format) -> Result<T, Refusal>,
) -> Result<T, FileError> {
    let bytes = slurp(path).map_err(|source| FileError::Read { path: path.into(), source })?;
    let refused = |reason| FileError::Refused { path: path.into(), reason };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let size = path.metadata().map_or(bytes.len() as u64, |metadata| metadata.len());
        return Err(refused(Refusal::FileTooLarge(size)));
    }
    let format = Format::of(&bytes).ok_or_else(|| refused(Refusal::UnknownFormat))?;
    quiet::catch(|| decode(&bytes, format)).map_err(refused)
}

/// Reads one byte more than the limit at most, whatever the file's size claims to be.
fn slurp(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> Refusal {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        match read(&path, &Window::Auto) {
            Err(FileError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert_eq!(refusal(b""), Refusal::UnknownFormat);
        assert_eq!(refusal(b"GIF89a"), Refusal::UnknownFormat);
        assert_eq!(refusal(b"\x89PNG\r\n\x1a\n"), Refusal::Damaged("the PNG data"));
        let missing = read(Path::new("no such file"), &Window::Auto).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read no such file");
    }

    #[test]
    fn sizes_are_checked_without_overflow() {
        assert!(check_size(8_000, 8_000).is_ok());
        assert!(check_size(8_000, 8_001).is_err());
        assert!(check_size(16_385, 1).is_err());
        assert!(check_size(0, 5).is_err());
        assert!(check_size(u32::MAX, u32::MAX).is_err());
    }
}
