//! The images of one split as squares, ready for a network.

use super::catalog::{Entry, Location};
use super::file::{self, FileError, Refusal, Window};
use super::image::{Gray, Rect, Square};
use super::loader::SampleError;
use super::mask::{Mask, Misfit};
use super::patience::patiently;
use super::phantom;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// The images of one split as squares of one size. Threads may share it.
#[derive(Debug)]
pub struct Radiographs {
    entries: Vec<Entry>,
    data_root: PathBuf,
    size: usize,
    /// One slot per entry, or none at all where the split does not fit into memory.
    cache: Vec<OnceLock<Half>>,
    cache_bytes: u64,
    most_unreadable: u64,
    /// Indices of the images that [`Self::get_or_skip`] has skipped.
    skipped: Mutex<BTreeSet<usize>>,
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
    /// The mask is of another image.
    #[error("{0}")]
    Misfit(Misfit),
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

impl From<RadiographError> for SampleError {
    fn from(error: RadiographError) -> Self {
        Self { image: Some(error.id), ..Self::new(error.source.to_string()) }
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
        Self {
            entries,
            data_root: data_root.to_owned(),
            size,
            cache,
            cache_bytes,
            most_unreadable: 0,
            skipped: Mutex::default(),
        }
    }

    /// The same, of which at most `most_unreadable` images may be skipped where they cannot be opened.
    pub fn with_most_unreadable(self, most_unreadable: u64) -> Self {
        Self { most_unreadable, ..self }
    }

    /// The images whose entry is kept, in the same order. What is cached here is not there.
    pub fn filtered(&self, is_kept: impl Fn(&Entry) -> bool) -> Self {
        let entries = self.entries.iter().filter(|entry| is_kept(entry)).cloned().collect();
        Self::open(entries, &self.data_root, self.size, self.cache_bytes)
            .with_most_unreadable(self.most_unreadable)
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

    /// Image number `index`, below [`Self::len`]. Where its file cannot be read, which may pass, tries again for half a
    /// second.
    pub fn get(&self, index: usize) -> Result<Arc<Sample>, RadiographError> {
        let sample = |half: &Half| Arc::new(half.to_sample(self.size, index));
        let Some(slot) = self.cache.get(index) else { return Ok(sample(&self.load(index)?)) };
        if let Some(half) = slot.get() {
            return Ok(sample(half));
        }
        let half = self.load(index)?;
        Ok(sample(slot.get_or_init(|| half)))
    }

    /// Whether image number `index` has a mask.
    pub fn has_mask(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.mask.is_some() || matches!(entry.location, Location::Phantom { .. })
    }

    /// Where the structure that is marked (the lungs, of phantoms) is on image number `index`; none where nothing is.
    /// As patient as [`Self::get`].
    pub fn mask(&self, index: usize) -> Result<Option<Mask>, RadiographError> {
        let entry = &self.entries[index];
        let gray = match (&entry.mask, &entry.location) {
            (Some(path), _) => self.read(entry, path, &Window::Raw)?,
            (None, Location::Phantom { seed, index }) => {
                phantom::render(*seed, *index, self.size).lungs
            }
            (None, Location::File(_)) => return Ok(None),
        };
        let image = match &entry.location {
            Location::Phantom { .. } => [gray.width, gray.height],
            Location::File(_) => [entry.width as usize, entry.height as usize],
        };
        Mask::on_square(&gray, image, self.size)
            .map(Some)
            .map_err(|misfit| RadiographError { id: entry.id, source: Cause::Misfit(misfit) })
    }

    /// Image number `index`, or none where it cannot be opened, which the log then says. An error once that is the
    /// case for more images than may be skipped.
    pub fn get_or_skip(&self, index: usize) -> Result<Option<Arc<Sample>>, RadiographError> {
        let error = match self.get(index) {
            Ok(sample) => return Ok(Some(sample)),
            Err(error) => error,
        };
        let mut skipped = self.skipped.lock().expect("nobody panics with this in hand");
        if skipped.insert(index) {
            let (image, reason) = (error.id, &error.source);
            tracing::warn!(image, %reason, "image skipped");
        }
        if skipped.len() as u64 > self.most_unreadable { Err(error) } else { Ok(None) }
    }

    /// Image number `index` for a contact sheet: black where it cannot be opened, as [`Self::get_or_skip`] bears it.
    pub fn tile(&self, index: usize) -> Result<Vec<f32>, RadiographError> {
        let sample = self.get_or_skip(index)?;
        Ok(sample.map_or_else(|| vec![0.0; self.size * self.size], |it| it.square.pixels.clone()))
    }

    /// Whether image number `index` can be opened now. One look, without patience.
    pub fn is_readable(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        match &entry.location {
            Location::Phantom { .. } => true,
            Location::File(path) => file::read(&self.data_root.join(path), &entry.window).is_ok(),
        }
    }

    fn load(&self, index: usize) -> Result<Half, RadiographError> {
        let entry = &self.entries[index];
        let image = match &entry.location {
            Location::Phantom { seed, index } => phantom::render(*seed, *index, self.size).image,
            Location::File(path) => self.read(entry, path, &entry.window)?,
        };
        Ok(Half::new(&image.to_square(self.size)))
    }

    fn read(&self, entry: &Entry, path: &Path, window: &Window) -> Result<Gray, RadiographError> {
        let path = self.data_root.join(path);
        patiently(|| file::read(&path, window), FileError::may_pass)
            .map_err(|error| RadiographError { id: entry.id, source: error.into() })
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
