//! The kinds of datasets: what images each lists, and what it says about them.
//!
//! A new kind is one new file, a variant, and the arms that the compiler then asks for.

mod folder;
mod manifest;
mod phantom;

pub use folder::{Folder, PatientFrom};
pub use manifest::{Columns, Manifest};
pub use phantom::Phantoms;

use super::catalog::{Label, Location, PatientKey, Split};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where images come from.
// A recipe holds a handful: boxing the largest would only hide it.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// Synthetic chest radiographs, made on demand.
    Phantom(Phantoms),
    /// All images below a folder, without labels.
    Folder(Folder),
    /// A CSV with one row per image.
    Manifest(Manifest),
    /// Several sources together.
    Several(Vec<Source>),
}

/// One image as its source describes it, before anybody has opened it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) dataset: String,
    pub(crate) location: Location,
    pub(crate) patient: PatientKey,
    pub(crate) view: Option<String>,
    pub(crate) labels: BTreeMap<String, Label>,
    pub(crate) report: Option<String>,
    pub(crate) mask: Option<PathBuf>,
    pub(crate) split: Option<Split>,
}

/// Why a source cannot be listed. Patient ids never appear here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder or table is not there, or not ours to read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was to be read, relative to the data root.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The table's text is not CSV.
    #[error("{}, row {row}: {what}", path.display())]
    Row {
        /// The table, relative to the data root.
        path: PathBuf,
        /// Row as a spreadsheet counts: the header is row 1.
        row: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A column that the recipe relies on is not in the table.
    #[error(
        "{} has no column `{column}`; it has {known}; set columns.{field} in the recipe{hint}",
        path.display()
    )]
    Column {
        /// The table, relative to the data root.
        path: PathBuf,
        /// What was looked for.
        column: String,
        /// The recipe's name for it.
        field: &'static str,
        /// The columns that are there.
        known: String,
        /// What else can be done.
        hint: &'static str,
    },
    /// A path leaves the data root.
    #[error("{} is outside the data root; paths start at --data-root and stay below it", path.display())]
    Outside {
        /// As the recipe has it.
        path: PathBuf,
    },
    /// Nothing to ingest.
    #[error("{} lists no images", path.display())]
    Empty {
        /// The folder or table, relative to the data root.
        path: PathBuf,
    },
    /// A file name that a catalog cannot hold.
    #[error("{} holds a file whose name is not UTF-8; rename it", path.display())]
    NotUtf8 {
        /// The folder, relative to the data root.
        path: PathBuf,
    },
}

impl Source {
    /// Every image of the source, in the source's own order. `seed` is the phantoms'.
    pub(crate) fn list(&self, data_root: &Path, seed: u64) -> Result<Vec<Listed>, SourceError> {
        match self {
            Source::Phantom(phantoms) => Ok(phantoms.list(seed)),
            Source::Folder(folder) => folder.list(data_root),
            Source::Manifest(manifest) => manifest.list(data_root),
            Source::Several(sources) => {
                let lists: Result<Vec<_>, _> =
                    sources.iter().map(|source| source.list(data_root, seed)).collect();
                Ok(lists?.concat())
            }
        }
    }

    /// Images that the source makes itself; files are counted by ingest.
    pub fn expected_images(&self) -> u64 {
        match self {
            Source::Phantom(phantoms) => phantoms.images,
            Source::Folder(_) | Source::Manifest(_) => 0,
            Source::Several(sources) => sources.iter().map(Source::expected_images).sum(),
        }
    }

    /// Adds a sentence to `faults` for everything that keeps the source from being listed.
    pub(crate) fn check(&self, data_root: &Path, faults: &mut Vec<String>) {
        match self {
            Source::Phantom(phantoms) => phantoms.check(faults),
            Source::Folder(folder) => folder.check(data_root, faults),
            Source::Manifest(manifest) => manifest.check(data_root, faults),
            Source::Several(sources) => {
                if sources.is_empty() {
                    faults.push("data.source is Several([]); it needs at least one source".into());
                }
                sources.iter().for_each(|source| source.check(data_root, faults));
            }
        }
    }
}

/// `path`, starting at `base` (itself relative to the data root), as a path relative to the data root;
/// `None` where it leaves the root. A matter of the text alone: links are the owner's business.
pub(crate) fn below_root(data_root: &Path, base: &Path, path: &Path) -> Option<PathBuf> {
    let joined = if path.is_absolute() {
        path.strip_prefix(data_root).ok()?.to_owned()
    } else {
        base.join(path)
    };
    let mut below = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !below.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(below)
}

/// The last name of a path, as a dataset's name; "data" for the root itself.
fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let root = Path::new("/data");
        let below = |base: &str, path: &str| below_root(root, Path::new(base), Path::new(path));
        assert_eq!(below("cxr", "images/a.png"), Some("cxr/images/a.png".into()));
        assert_eq!(below("cxr", "../nih/./a.png"), Some("nih/a.png".into()));
        assert_eq!(below("cxr", "/data/nih/a.png"), Some("nih/a.png".into()));
        assert_eq!(below("", "."), Some("".into()));
        assert_eq!(below("cxr", "../../etc/passwd"), None);
        assert_eq!(below("cxr", "/data/../etc/passwd"), None);
        assert_eq!(below("cxr", "/etc/passwd"), None);
    }
}
