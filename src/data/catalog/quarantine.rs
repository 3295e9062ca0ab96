//! Why images are left out: a kind for counting, a reason for reading.

use super::counts;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of reason leaves an image out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something else than a radiograph, as archives hold: a report, a scout, an image that umbra drew.
    Other,
    /// A radiograph, perhaps, that cannot be decoded or that nobody can say whose it is.
    Unsupported,
    /// Not what its format says. Counted against `data.max_damaged`.
    Damaged,
    /// The same pixels as another image.
    Duplicate,
    /// The file system did not give the file; the next ingest tries again. Counted against `data.max_damaged`, apart
    /// from damage.
    Unreadable,
    /// The official splits divide its patient, and the recipe says to drop such patients.
    Conflict,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Other,
        Kind::Unsupported,
        Kind::Damaged,
        Kind::Duplicate,
        Kind::Unreadable,
        Kind::Conflict,
    ];

    /// As the catalog writes it before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Other => "other",
            Kind::Unsupported => "unsupported",
            Kind::Damaged => "damaged",
            Kind::Duplicate => "duplicate",
            Kind::Unreadable => "unreadable",
            Kind::Conflict => "conflict",
        }
    }
}

/// Why an image is left out. The reason holds no text of the file and no path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Quarantine {
    /// Its kind.
    pub kind: Kind,
    /// In a few words.
    pub reason: String,
}

impl Quarantine {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn read(text: &str) -> Option<Self> {
        let (name, reason) = text.split_once(": ")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some(Self::new(kind, reason))
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.reason)
    }
}

/// Every reason with the number of its images, the most frequent first.
pub(super) fn reasons(connection: &Connection) -> rusqlite::Result<Vec<(Quarantine, u64)>> {
    // Of whom an image is the duplicate is no part of the reason here.
    let groups = counts::groups(
        connection,
        "SELECT CASE WHEN quarantine LIKE 'duplicate: %' THEN 'duplicate: same pixels as another image' \
         ELSE quarantine END AS reason, count(*) AS images \
         FROM images WHERE quarantine IS NOT NULL GROUP BY reason ORDER BY images DESC, reason",
    )?;
    let read = |(text, images): (String, u64)| Some((Quarantine::read(&text)?, images));
    Ok(groups.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back() {
        for kind in Kind::ALL {
            let quarantine = Quarantine::new(kind, "for a reason: this one");
            assert_eq!(Quarantine::read(&quarantine.to_string()), Some(quarantine));
        }
        assert_eq!(Quarantine::read("broken: somehow"), None);
    }
}
