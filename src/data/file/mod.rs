//! One image file to one grey image: PNG, JPEG and DICOM, told apart by content.
//!
//! [`open`] gives what a network is fed, [`inspect`] says what is stored in the file. Neither lets a patient's
//! tags out: an error carries the path, sizes and names of formats, never text found in the file.

mod dicom;
mod inspect;
mod levels;
mod quiet;
mod raster;
mod refusal;
mod samples;
mod slurp;
mod window;

pub use dicom::PatientId;
pub use inspect::{Format, Inspection, WindowLevel};
pub use refusal::{Kind, Refusal};
pub use window::{Function, Window};

use std::{
    io,
    path::{Path, PathBuf},
};

use super::picture;
use super::{image::Gray, patience};

/// Version of the decoders: raised when an image is read as other values, or is refused where it was not.
pub const VERSION: u32 = 3;

/// Rows or columns of an image: at most this many.
pub const MAX_SIDE: u32 = 16_384;
/// Rows · columns of one frame: at most this many.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Bytes of all decoded samples of a file: at most this many.
pub const MAX_BYTES: u64 = 256 << 20;
/// Bytes of a file, compressed or not: at most this many. What is larger decodes to more than [`MAX_BYTES`].
pub const MAX_FILE_BYTES: u64 = MAX_BYTES + (16 << 20);

/// An image to train on, and what its file says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Grey values in [0, 1], dense tissue bright.
    pub image: Gray,
    /// BLAKE3 of the file's bytes, those that were decoded.
    pub hash: [u8; 32],
    /// How they are stored.
    pub format: Format,
    /// Whose image it is, where a DICOM file says so.
    pub patient: Option<PatientId>,
    /// Projection, where a DICOM file names one of the standard's terms.
    pub view: Option<String>,
}

/// What a decoder makes of a file's bytes.
struct Decoded {
    image: Gray,
    patient: Option<PatientId>,
    view: Option<String>,
}

/// Reads one image as grey values in [0, 1], dense tissue bright, going through the file once.
///
/// PNG and JPEG: colour becomes luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), unless its channels are equal;
/// alpha is ignored. DICOM: stored value, modality transform, `window`, and inversion of MONOCHROME1, all in
/// floating point; padding becomes 0. Refuses what is no projection radiograph by its SOP class, colour, multi-frame
/// and floating-point DICOM, and what umbra drew.
pub fn open(path: &Path, window: &Window) -> Result<Opened, FileError> {
    let ((Decoded { image, patient, view }, format), hash) = decode(path, |bytes, format| {
        if picture::is_drawn(bytes) {
            return Err(Refusal::Drawn);
        }
        Ok((decode_image(bytes, format, window)?, format))
    })?;
    Ok(Opened { image, hash, format, patient, view })
}

/// The image of [`open`] alone, and of what umbra drew as well.
pub fn read(path: &Path, window: &Window) -> Result<Gray, FileError> {
    let (decoded, _) = decode(path, |bytes, format| decode_image(bytes, format, window))?;
    Ok(decoded.image)
}

fn decode_image(bytes: &[u8], format: Format, window: &Window) -> Result<Decoded, Refusal> {
    window.check()?;
    match format {
        Format::Dicom => dicom::read(bytes, window),
        Format::Png | Format::Jpeg => raster::read(bytes, format, window),
    }
}

/// Says what is stored in a file: sizes, encoding, and statistics of the samples before any look-up table.
pub fn inspect(path: &Path) -> Result<Inspection, FileError> {
    let (found, _) = decode(path, |bytes, format| match format {
        Format::Dicom => dicom::inspect(bytes),
        Format::Png | Format::Jpeg => raster::inspect(bytes, format),
    })?;
    Ok(found)
}

/// Why a file gave no image.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no; it may say yes another time.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A folder, pipe, socket or device: nothing was read from it.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// What stands in the place of a file.
        path: PathBuf,
    },
    /// The file was read, but its content is damaged, not supported, or no radiograph.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Refusal,
        /// BLAKE3 of the file's bytes; absent where it was too large to read.
        hash: Option<[u8; 32]>,
    },
}

impl FileError {
    /// Is it worth another try? What was read and refused is not, nor a file that is not there.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Read { source, .. } if patience::may_pass(source))
    }

    /// The reason alone, for where the file is already named.
    pub fn reason(&self) -> String {
        match self {
            Self::Read { source, .. } => format!("cannot be read: {source}"),
            Self::NotRegular { .. } => "not a regular file".to_owned(),
            Self::Refused { reason, .. } => format!("{}: {reason}", reason.kind().name()),
        }
    }
}

/// Declared sizes must fit the limits before anything is allocated for them.
fn check_size(columns: u32, rows: u32) -> Result<(), Refusal> {
    let fits = (1..=MAX_SIDE).contains(&columns)
        && (1..=MAX_SIDE).contains(&rows)
        && u64::from(columns) * u64::from(rows) <= MAX_PIXELS;
    if fits { Ok(()) } else { Err(Refusal::Size { columns, rows }) }
}

/// What a file is that begins as none of the formats does.
fn stranger(bytes: &[u8]) -> Refusal {
    match bytes.iter().all(|byte| *byte == 0) {
        // What a copy that was cut short leaves behind, or a disk that lost it.
        true if bytes.is_empty() => Refusal::Damaged("the file is empty"),
        true => Refusal::Damaged("the file holds zeros only"),
        false => Refusal::UnknownFormat,
    }
}

/// Reads the file once; what `decode` makes of its bytes, and their BLAKE3.
fn decode<T>(
    path: &Path,
    decode: impl FnOnce(&[u8], Format) -> Result<T, Refusal>,
) -> Result<(T, [u8; 32]), FileError> {
    let refused = |reason, hash| FileError::Refused { path: path.into(), reason, hash };
    let bytes = slurp::slurp(path)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let size = path.metadata().map_or(bytes.len() as u64, |metadata| metadata.len());
        return Err(refused(Refusal::FileTooLarge(size), None));
    }
    let hash = *blake3::hash(&bytes).as_bytes();
    let format = Format::of(&bytes).ok_or_else(|| refused(stranger(&bytes), Some(hash)))?;
    let decoded = quiet::catch(|| decode(&bytes, format));
    Ok((decoded.map_err(|reason| refused(reason, Some(hash)))?, hash))
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
        assert_eq!(refusal(b""), Refusal::Damaged("the file is empty"));
        assert_eq!(refusal(&[0; 4096]), Refusal::Damaged("the file holds zeros only"));
        assert_eq!(refusal(b"GIF89a"), Refusal::UnknownFormat);
        assert_eq!(
            refusal(b"\x89PNG\r\n\x1a\n"),
            Refusal::Damaged("the PNG data cannot be decoded")
        );
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
