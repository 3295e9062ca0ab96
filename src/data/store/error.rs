//! What can be wrong with a store.

use crate::artifact::ArtifactError;
use std::io;
use std::path::PathBuf;

/// What can be wrong with a store or a row for one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store could not be written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A file of the store could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{} is damaged: {what}; remove the store and encode again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// Written by another version of this program.
    #[error("{} has schema {found}; this build reads {known}", path.display())]
    Schema {
        /// The index.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The one that is understood.
        known: u32,
    },
    /// The store lacks what was asked for.
    #[error("{} has no column {name}; it has {}", path.display(), known.join(", "))]
    NoColumn {
        /// The store.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The columns as declared make no store.
    #[error("a store cannot have {0}")]
    Spec(String),
    /// A row does not fit its columns.
    #[error("row for the column {column}: {what}")]
    Row {
        /// The column.
        column: String,
        /// Why not.
        what: String,
    },
    /// Two rows have the same key.
    #[error("two rows have the key {0}")]
    SameKey(i64),
}
