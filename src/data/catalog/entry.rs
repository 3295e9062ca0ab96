//! One image of a catalog: where it is, whose it is, what is known about it.

use crate::data::file::Window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One image of a catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Row number in this catalog file. Another ingest of the same data may number rows differently.
    pub id: i64,
    /// Name of the dataset the image comes from.
    pub dataset: String,
    /// Where the pixels come from.
    pub location: Location,
    /// Whose image it is.
    pub patient: PatientKey,
    /// Projection, in the dataset's own words ("PA", "AP Supine").
    pub view: Option<String>,
    /// What is known about every label name of the catalog.
    pub labels: BTreeMap<String, Label>,
    /// Free text about the image.
    pub report: Option<String>,
    /// Mask of the lungs (or of whatever the dataset marks), relative to the data root.
    pub mask: Option<PathBuf>,
    /// How stored values become brightness.
    pub window: Window,
    /// BLAKE3 of width, height and decoded pixels (16 bits each); zeros where the file could not be decoded.
    pub hash: [u8; 32],
    /// The part of the data it belongs to, the same for all images of a patient.
    pub split: Split,
    /// Columns of the original; 0 where it could not be decoded.
    pub width: u32,
    /// Rows of the original; 0 where it could not be decoded.
    pub height: u32,
    /// Why the image is left out of everything, if it is: `<kind>: <reason>`, the kind one of [`super::Kind`]'s names.
    pub quarantine: Option<String>,
}

/// Where the pixels of an image come from.
///
/// Not to be shown: paths have patients in their names. Logs and errors name an image by its row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A file, relative to the data root.
    File(PathBuf),
    /// A phantom, rendered when it is asked for.
    Phantom {
        /// Seed of the phantom dataset.
        seed: u64,
        /// Number of the phantom.
        index: u64,
    },
}

/// Stands for a patient: 128 bits of a BLAKE3 keyed with the [`PatientSecret`](crate::data::secret).
///
/// The id itself is stored nowhere. This is a pseudonym: whoever has the ids *and* the secret can compute it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PatientKey(pub [u8; 16]);

impl PatientKey {
    /// The key of a patient who does not exist: no secret is needed.
    pub fn of_phantom(id: &str) -> Self {
        let dataset = "phantom";
        let mut hasher = blake3::Hasher::new_derive_key("umbra patient key v1");
        hasher.update(&(dataset.len() as u64).to_le_bytes());
        hasher.update(dataset.as_bytes());
        hasher.update(id.as_bytes());
        Self(hasher.finalize().as_bytes()[..16].try_into().expect("16 bytes of 32"))
    }
}

impl fmt::Display for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known about one finding in one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Label {
    /// Somebody saw it.
    Present,
    /// Somebody looked and did not see it.
    Absent,
    /// Nobody looked, or who looked could not tell (CheXpert's -1 and blank).
    Unknown,
}

impl Label {
    /// As the catalog stores it.
    pub fn name(self) -> &'static str {
        match self {
            Label::Present => "present",
            Label::Absent => "absent",
            Label::Unknown => "unknown",
        }
    }

    /// The label called `name` in the catalog.
    pub fn from_name(name: &str) -> Option<Self> {
        [Label::Present, Label::Absent, Label::Unknown].into_iter().find(|it| it.name() == name)
    }

    /// Reads the numbers of CheXpert and its relatives: 1 present, 0 absent, -1 and blank unknown.
    pub fn from_number(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Label::Unknown),
            number => match number.parse::<f64>().ok()? {
                1.0 => Some(Label::Present),
                0.0 => Some(Label::Absent),
                -1.0 => Some(Label::Unknown),
                _ => None,
            },
        }
    }
}

/// A part of the data, by patient. Test selects nothing, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Split {
    /// What networks learn from.
    Train,
    /// What choices are made on.
    Valid,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// All of them, in their usual order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Valid, Split::Test];

    /// As the catalog and tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }

    /// Reads the words that datasets use ("val", "validate", "Training" …).
    pub fn from_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validate" | "validation" | "dev" => Some(Split::Valid),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncertain_and_blank_are_unknown_not_absent() {
        let read: Vec<_> =
            ["1", "1.0", "0.0", "0", "-1.0", "-1", "", " "].map(Label::from_number).into();
        use Label::{Absent, Present, Unknown};
        let expected =
            [Present, Present, Absent, Absent, Unknown, Unknown, Unknown, Unknown].map(Some);
        assert_eq!(read, expected);
        assert_eq!(Label::from_number("yes"), None);
        assert_eq!(Label::from_number("2"), None);
    }

    #[test]
    fn names_are_read_back() {
        for split in Split::ALL {
            assert_eq!(Split::from_name(split.name()), Some(split));
        }
        for label in [Label::Present, Label::Absent, Label::Unknown] {
            assert_eq!(Label::from_name(label.name()), Some(label));
        }
    }
}
