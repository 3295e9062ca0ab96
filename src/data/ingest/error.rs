//! Why an ingest fails.

use super::SplitError;
use crate::data::catalog::CatalogError;
use crate::data::source::SourceError;
use std::io;

/// Why an ingest failed. Patient ids and paths of images never appear here: images are named by their rows in the
/// catalog, which has their paths.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A source cannot be listed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The catalog cannot be read or written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An image is in two sources, or twice in one.
    #[error(
        "an image is listed twice, in {first} and in {second}; every image belongs to one source"
    )]
    Twice {
        /// Who lists it.
        first: String,
        /// Who else does.
        second: String,
    },
    /// The official splits divide a patient.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// More damage than the recipe allows.
    #[error(
        "{damaged} of {total} images are damaged, data.max_damaged allows {limit}; the first: {first}; their paths \
         are in the catalog"
    )]
    Damaged {
        /// Damaged images found so far.
        damaged: u64,
        /// Images listed.
        total: u64,
        /// The most that the recipe allows.
        limit: u64,
        /// Some of them, with reasons.
        first: String,
    },
    /// More files than the recipe allows for damage cannot be read.
    #[error(
        "{unreadable} of {total} files cannot be read, data.max_damaged allows {limit}; the first: {first}; their \
         paths are in the catalog; run ingest again when they can be read, it goes on from here"
    )]
    Unreadable {
        /// Files found unreadable so far.
        unreadable: u64,
        /// Images listed.
        total: u64,
        /// The most that the recipe allows.
        limit: u64,
        /// Some of them, with reasons.
        first: String,
    },
    /// Most of what an earlier ingest found is not there.
    #[error(
        "{vanished} of {usable} images of the catalog are not there any more; is their disk mounted, and is \
         --data-root right? the catalog is left as it was; if they are gone for good, take them out of the source"
    )]
    Vanished {
        /// Images whose files are missing.
        vanished: u64,
        /// Images in use.
        usable: u64,
    },
    /// No thread to be had.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The caller asked for an end. What was read is kept.
    #[error("ingest was stopped; run it again to go on")]
    Stopped,
}
