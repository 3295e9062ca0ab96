//! The images of one split as squares, ready for a network.

use super::catalog::{Entry, Location};
use super::file::{self, FileError, Refusal};
use super::image::{Rect, Square};
use super::phantom;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The images of one split as squares of one size. Threads may share it.
#[derive(Debug)]
pub struct Radiographs {
    entries: Vec<Entry>,
    data_root: PathBuf,
    size: usize,
    /// One slot per entry, or none at all where the split does not fit into memory.
    cache: Vec<OnceLock<Half>>,
}

/// One image, ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The pixels, each rounded to half precision: the same bits whether they were cached or not.
    pub square: Square,
    /// Index of its entry in [`Radiographs::entries`].
    pub entry: usize,
}

/// An image that was fine when it was ingested cannot be opened any more. Says which row of the catalog, and no path.
#[derive(Debug, thiserror::Error)]
#[error("cannot open image {id} of the catalog")]
pub struct RadiographError {
    /// The row's id.
    pub id: i64,
    /// Why not.
    pub source: Cause,
}

/// Why an image cannot be opened, without its path.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The file system did not give the file; it may yet.
    #[error("{0}")]
    Read(io::Error),
    /// The content is not what it was.
    #[error("{0}")]
    Refused(Refusal),
}

impl From<FileError> for Cause {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Read { source, .. } => Self::Read(source),
            FileError::NotRegular { .. } => Self::Read(io::Error::other("not a regular file")),
            FileError::Refused { reason, .. } => Self::Refused(reason),
        }
    }
}

/// A square in half precision.
#[derive(Debug)]
struct Half {
    pixels: Box<[f16]>,
    content: Rect,
}

impl Radiographs {
    /// The images of `entries` as squares of `size` × `size` pixels, whose files start at `data_root`.
    ///
    /// If all of them fit into `cache_bytes`, each is opened once and kept in half precision; otherwise
    /// nothing is kept.
    pub fn open(entries: Vec<Entry>, data_root: &Path, size: usize, cache_bytes: u64) -> Self {
        let bytes = (entries.len() * size * size * size_of::<f16>()) as u64;
        let slots = if bytes <= cache_bytes { entries.len() } else { 0 };
        let cache = (0..slots).map(|_| OnceLock::new()).collect();
        Self { entries, data_root: data_root.to_owned(), size, cache }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True where the split has no images.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known about the images, in the order of their indices.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Columns and rows of every square.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Image number `index`, below [`Self::len`].
    pub fn get(&self, index: usize) -> Result<Arc<Sample>, RadiographError> {
        let sample = |half: &Half| Arc::new(half.to_sample(self.size, index));
        let Some(slot) = self.cache.get(index) else { return Ok(sample(&self.load(index)?)) };
        if let Some(half) = slot.get() {
            return Ok(sample(half));
        }
        let half = self.load(index)?;
        Ok(sample(slot.get_or_init(|| half)))
    }

    fn load(&self, index: usize) -> Result<Half, RadiographError> {
        let entry = &self.entries[index];
        let image = match &entry.location {
            Location::Phantom { seed, index } => phantom::render(*seed, *index, self.size).image,
            Location::File(path) => file::read(&self.data_root.join(path), &entry.window)
                .map_err(|error| RadiographError { id: entry.id, source: error.into() })?,
        };
        Ok(Half::new(&image.to_square(self.size)))
    }
}

impl Half {
    fn new(square: &Square) -> Self {
        let pixels = square.pixels.iter().map(|&value| f16::from_f32(value)).collect();
        Self { pixels, content: square.content }
    }

    fn to_sample(&self, size: usize, entry: usize) -> Sample {
        let mut pixels = vec![0.0; self.pixels.len()];
        self.pixels.convert_to_f32_slice(&mut pixels);
        Sample { square: Square { size, pixels, content: self.content }, entry }
    }
}
