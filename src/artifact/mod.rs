//! What a stage leaves behind: complete or absent, hashed, locked while written, stamped with its inputs.
//!
//! A file or folder is written under a temporary name beside its place, brought to the disk and only
//! then renamed, so that a crash at any moment leaves the old one, or the new one, or none, never a part.

mod folder;
mod lock;
mod stamp;

pub use folder::{create_folder, current, file_hash, replace, verify, write_file, write_folder};
pub(crate) use folder::{remove_any, sibling};
pub use lock::Lock;
pub use stamp::{Hasher, Stamp};

use std::io;
use std::path::{Path, PathBuf};

/// What can be wrong with an artifact or the place for one.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The operating system said no: disk full, no permission, not there.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb: what was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that the manifest lists is gone.
    #[error("{} is missing: the folder is not complete", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something is where a new folder should go.
    #[error("{} is already there; name another folder, or remove that one first", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
    },
    /// The content is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// Written by a newer version of this program.
    #[error("{} has schema {found}; this build reads up to {known}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that is understood.
        known: u32,
    },
    /// Somebody else works in the folder.
    #[error("{} is in use by another umbra process{holder}; wait for it or stop it", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (process 123)`, or nothing where it is not known.
        holder: String,
    },
}

/// For `map_err`: names what was tried and with what.
pub(crate) fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> ArtifactError + 'a {
    move |source| ArtifactError::Io { doing, path: path.to_owned(), source }
}
