//! Why a file is no image to train on, in words that hold no text of the file.

use super::{MAX_BYTES, MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE, dicom::MAX_ELEMENTS};

/// What sort of reason a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A healthy file that is no radiograph: a report, a CT slice, a text.
    Other,
    /// An image that this build cannot decode, or that may not be trained on.
    Unsupported,
    /// Bytes that do not follow their format.
    Damaged,
}

impl Kind {
    /// As catalogs and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Unsupported => "unsupported",
            Self::Damaged => "damaged",
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
    #[error("{0}")]
    Damaged(&'static str),
    /// A required DICOM attribute is absent or not a number.
    #[error("attribute {0} is absent or unreadable")]
    Attribute(&'static str),
    /// An attribute contradicts another or the standard.
    #[error("{name} is {found}; expected {expected}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// Its value.
        found: i64,
        /// What it may be.
        expected: &'static str,
    },
    /// Less pixel data than rows, columns and frames need.
    #[error("the pixel data has {found} bytes, {needed} are needed")]
    Truncated {
        /// Bytes there are.
        found: u64,
        /// Bytes the header asks for.
        needed: u64,
    },
    /// The compressed frame is of another size or kind than the header says.
    #[error("the compressed frame disagrees with the header about {0}")]
    Disagreement(&'static str),
    /// A decoder failed on its own account.
    #[error("the decoder gave up in an unexpected place")]
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
    Photometric(&'static str),
    /// The file says what it is, and that is no radiograph.
    #[error("a DICOM file of {0}, not of computed or digital radiography")]
    SopClass(&'static str),
    /// The file does not say what it is.
    #[error("a DICOM file without a SOP class; only radiographs are trained on")]
    NoSopClass,
    /// A picture of umbra's own.
    #[error("an image that umbra drew")]
    Drawn,
    /// More elements and sequence items than are gone through.
    #[error("a data set of more than {MAX_ELEMENTS} elements")]
    TooManyElements,
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

impl Refusal {
    /// Is it no radiograph, one that cannot be used, or broken?
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownFormat | Self::SopClass(_) | Self::NoSopClass | Self::Drawn => Kind::Other,
            Self::FileTooLarge(_)
            | Self::Size { .. }
            | Self::TooManyBytes(_)
            | Self::TooManyElements
            | Self::TransferSyntax { .. }
            | Self::Unsupported(_)
            | Self::Photometric(_)
            | Self::MultiFrame(_)
            | Self::BurnedIn
            | Self::NoWindow
            | Self::Percentiles => Kind::Unsupported,
            Self::Damaged(_)
            | Self::Attribute(_)
            | Self::Value { .. }
            | Self::Truncated { .. }
            | Self::Disagreement(_)
            | Self::Panicked => Kind::Damaged,
        }
    }
}
