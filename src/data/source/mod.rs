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
use super::secret::PatientSecret;
use crate::faults::{demand, within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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

/// What listing needs to know beside the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// Where relative paths start.
    pub(crate) data_root: &'a Path,
    /// A folder that is never looked into: where umbra writes.
    pub(crate) own_output: Option<&'a Path>,
    /// Makes the keys of patients; phantoms need none.
    pub(crate) secret: Option<&'a PatientSecret>,
    /// The phantoms' seed.
    pub(crate) seed: u64,
}

/// What a source lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Listing {
    pub(crate) images: Vec<Listed>,
    /// Names below folders that are no files to read, by what they are instead.
    pub(crate) passed_over: BTreeMap<&'static str, u64>,
}

/// One image as its source describes it, before anybody has opened it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) dataset: String,
    pub(crate) location: Location,
    /// Who says so.
    pub(crate) origin: ListedAt,
    /// Whose image it is, as far as the source knows.
    pub(crate) patient: PatientKey,
    /// True where a DICOM file itself says whose it is; then `patient` is for files of other formats.
    pub(crate) is_patient_in_file: bool,
    pub(crate) view: Option<String>,
    pub(crate) labels: BTreeMap<String, Label>,
    pub(crate) report: Option<String>,
    pub(crate) mask: Option<PathBuf>,
    pub(crate) split: Option<Split>,
}

/// Where an image is listed. May be shown: it has the recipe's words and a number, and no path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedAt {
    source: Arc<str>,
    row: Option<u64>,
}

impl ListedAt {
    /// Something in `source`, and nothing closer is known.
    fn whole(source: &str) -> Self {
        Self { source: source.into(), row: None }
    }

    /// The same source's row `row`, as a spreadsheet counts.
    fn row(&self, row: u64) -> Self {
        Self { source: Arc::clone(&self.source), row: Some(row) }
    }
}

impl fmt::Display for ListedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "row {row} of {}", self.source),
            None => write!(f, "{}", self.source),
        }
    }
}

/// Why a source cannot be listed. Neither patient ids nor paths of images appear here: paths are the recipe's own.
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
    /// A folder below the one that the recipe names is not ours to read.
    #[error(
        "cannot read a folder {depth} levels below {}; find {0} -type d ! -readable shows which",
        path.display()
    )]
    Below {
        /// The folder that the recipe names, relative to the data root.
        path: PathBuf,
        /// How far below.
        depth: usize,
        /// Why not.
        source: io::Error,
    },
    /// The table is a pipe, a device, compressed, or something else that is no text with commas.
    #[error("{} {what}", path.display())]
    Table {
        /// The table, relative to the data root.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The table's text is not CSV, or says what cannot be.
    #[error("{}, row {row}: {what}", path.display())]
    Row {
        /// The table, relative to the data root.
        path: PathBuf,
        /// Row as a spreadsheet counts: the header is row 1.
        row: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A column that the recipe relies on is not in the table, or there twice.
    #[error(
        "{} has {} `{column}`; it has {known}; set columns.{field} in the recipe{hint}",
        path.display(), columns(*found)
    )]
    Column {
        /// The table, relative to the data root.
        path: PathBuf,
        /// How many columns of that name there are.
        found: usize,
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
    /// Real patients, and nothing to make keys of them with.
    #[error("files need a patient secret, and none was given")]
    NoSecret,
}

fn columns(count: usize) -> String {
    match count {
        0 => "no column".to_owned(),
        count => format!("{count} columns called"),
    }
}

impl Source {
    /// Every image of the source, in the source's own order.
    pub(crate) fn list(&self, ground: &Ground<'_>) -> Result<Listing, SourceError> {
        match self {
            Source::Phantom(phantoms) => {
                Ok(Listing { images: phantoms.list(ground.seed), ..Listing::default() })
            }
            Source::Folder(folder) => folder.list(ground),
            Source::Manifest(manifest) => manifest.list(ground),
            Source::Several(sources) => {
                let mut all = Listing::default();
                for source in sources {
                    let mut listing = source.list(ground)?;
                    all.images.append(&mut listing.images);
                    for (what, names) in listing.passed_over {
                        *all.passed_over.entry(what).or_default() += names;
                    }
                }
                Ok(all)
            }
        }
    }

    /// True where there are real patients, whose keys need a secret.
    pub fn has_patients(&self) -> bool {
        match self {
            Source::Phantom(_) => false,
            Source::Folder(_) | Source::Manifest(_) => true,
            Source::Several(sources) => sources.iter().any(Source::has_patients),
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

    /// A sentence for everything that keeps the source, which the recipe has at `place`, from being listed.
    pub(crate) fn check(&self, data_root: &Path, place: &str) -> Vec<String> {
        let told = |fault: Option<String>| fault.map(|what| format!("{place}.path: {what}"));
        match self {
            Source::Phantom(phantoms) => within(place, phantoms.check()).collect(),
            Source::Folder(folder) => told(folder.check(data_root)).into_iter().collect(),
            Source::Manifest(manifest) => told(manifest.check(data_root)).into_iter().collect(),
            Source::Several(sources) if sources.is_empty() => {
                demand(false, place, "Several([])", "at least one source").into_iter().collect()
            }
            Source::Several(sources) => {
                let at = |(at, source): (usize, &Source)| {
                    source.check(data_root, &format!("{place}[{at}]"))
                };
                sources.iter().enumerate().flat_map(at).collect()
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
