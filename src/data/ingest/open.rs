//! Opening one image, once: does it decode, how large is it, whose is it, what are its hashes?

use super::journal::Journal;
use super::probe::{Probe, Verdict};
use crate::data::catalog::{Digest, Kind, Label, Location, NEVER, Quarantine, Seen};
use crate::data::file::{self, FileError, Format, Opened, Window};
use crate::data::image::Gray;
use crate::data::patience::{may_pass, patiently};
use crate::data::phantom::{self, Finding};
use crate::data::secret::PatientSecret;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Side, in pixels, at which phantoms are rendered to be hashed. Their anatomy is the same at any size.
pub(super) const PHANTOM_SIZE: usize = 64;

/// Said of a DICOM file, where its patient is to be taken from it.
const NO_PATIENT: &str = "no patient id; say patient: File if every file is a patient of its own";

/// One image to open.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Its place in the listing.
    pub(super) at: usize,
    /// Its row.
    pub(super) id: i64,
    pub(super) stamp: [u8; 32],
    pub(super) location: Location,
    pub(super) mask: Option<PathBuf>,
    pub(super) is_patient_in_file: bool,
    /// True where a process ended while it had this image open.
    pub(super) is_suspect: bool,
}

/// What decides how a file is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Eyes {
    pub(super) window: Window,
    /// Makes the keys of patients.
    pub(super) secret: Option<PatientSecret>,
}

/// How images are opened. Owns all it needs: its threads may outlive the ingest.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) data_root: PathBuf,
    pub(super) eyes: Eyes,
    pub(super) probe: Option<Probe>,
    pub(super) journal: Journal,
}

impl Opener {
    /// Opens the image, as the worker of that number.
    pub(super) fn open(&self, worker: usize, job: &Job) -> Seen {
        match &job.location {
            Location::File(path) => {
                self.journal.opening(worker, job.id);
                let seen = self.open_file(&self.data_root.join(path), job);
                self.journal.opened(worker);
                seen
            }
            Location::Phantom { seed, index } => open_phantom(*seed, *index, job.stamp),
        }
    }

    fn open_file(&self, path: &Path, job: &Job) -> Seen {
        let apart = if job.is_suspect { self.open_apart(path, job) } else { None };
        let mut seen = apart.unwrap_or_else(|| self.eyes.see(path, job.is_patient_in_file));
        // What the weather has hidden is to be looked at again.
        let is_hidden = matches!(&seen.quarantine, Some(it) if it.kind == Kind::Unreadable);
        seen.stamp = if is_hidden { NEVER } else { job.stamp };
        if let Some(mask) = &job.mask {
            match patiently(|| hash_file(&self.data_root.join(mask)), may_pass) {
                Ok(hash) => seen.mask_hash = Some(hash),
                Err(error) => {
                    seen.lacks_mask = true;
                    if may_pass(&error) {
                        seen.stamp = NEVER;
                    }
                }
            }
        }
        seen
    }

    /// What another process sees, which may end of it; `None` where there is no other process to be had.
    fn open_apart(&self, path: &Path, job: &Job) -> Option<Seen> {
        match self.probe.as_ref()?.open(path, &self.eyes, job.is_patient_in_file) {
            Ok(Verdict::Seen(seen)) => Some(*seen),
            Ok(Verdict::Died) => {
                let reason = "reading it ended the process";
                Some(left_out(Kind::Damaged, reason))
            }
            Ok(Verdict::Nothing) => None,
            Err(error) => {
                tracing::warn!(image = job.id, %error, "cannot open a suspicious file in a process of its own");
                None
            }
        }
    }
}

impl Eyes {
    /// Opens the file `path` in this process. Says nothing of stamps and masks.
    pub(super) fn see(&self, path: &Path, is_patient_in_file: bool) -> Seen {
        match patiently(|| file::open(path, &self.window), FileError::may_pass) {
            Ok(opened) => self.look_at(opened, is_patient_in_file),
            Err(FileError::Refused { reason, hash, .. }) => {
                let seen = left_out(kind(reason.kind()), reason.to_string());
                Seen { file_hash: hash, ..seen }
            }
            Err(FileError::Read { source, .. }) => left_out(Kind::Unreadable, unreadable(&source)),
            Err(FileError::NotRegular { .. }) => left_out(Kind::Unreadable, "not a regular file"),
        }
    }

    fn look_at(&self, opened: Opened, is_patient_in_file: bool) -> Seen {
        let mut seen = Seen {
            width: opened.image.width as u32,
            height: opened.image.height as u32,
            hash: Some(hash_of_pixels(&opened.image)),
            file_hash: Some(opened.hash),
            view: opened.view,
            ..unseen()
        };
        if is_patient_in_file && opened.format == Format::Dicom {
            // The id itself goes no further than this.
            match (&opened.patient, &self.secret) {
                (Some(id), Some(secret)) => seen.patient = Some(secret.key_in_file(id)),
                _ => seen.quarantine = Some(Quarantine::new(Kind::Unsupported, NO_PATIENT)),
            }
        }
        seen
    }
}

fn left_out(kind: Kind, reason: impl Into<String>) -> Seen {
    Seen { quarantine: Some(Quarantine::new(kind, reason)), ..unseen() }
}

/// Nothing is known yet.
fn unseen() -> Seen {
    Seen {
        stamp: NEVER,
        width: 0,
        height: 0,
        hash: None,
        file_hash: None,
        mask_hash: None,
        lacks_mask: false,
        quarantine: None,
        patient: None,
        view: None,
        labels: None,
        report: None,
    }
}

fn unreadable(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "the file is missing".to_owned(),
        _ => cause.to_string(),
    }
}

fn kind(kind: file::Kind) -> Kind {
    match kind {
        file::Kind::Other => Kind::Other,
        file::Kind::Unsupported => Kind::Unsupported,
        file::Kind::Damaged => Kind::Damaged,
    }
}

fn open_phantom(seed: u64, index: u64, stamp: [u8; 32]) -> Seen {
    let phantom = phantom::render(seed, index, PHANTOM_SIZE);
    let label = |finding: Finding| match phantom.findings.contains_key(&finding) {
        true => Label::Present,
        false => Label::Absent,
    };
    let labels = Finding::ALL.into_iter().map(|it| (it.name().to_owned(), label(it))).collect();
    Seen {
        width: phantom.image.width as u32,
        height: phantom.image.height as u32,
        hash: Some(hash_of_phantom(&phantom)),
        labels: Some(labels),
        report: Some(phantom.report),
        stamp,
        ..unseen()
    }
}

pub(super) fn hash_of_phantom(phantom: &phantom::Phantom) -> [u8; 32] {
    let mut digest = Digest::new("umbra phantom v1");
    digest.bytes(&(phantom.image.width as u64).to_le_bytes());
    let masks = phantom.findings.iter().map(|(finding, mask)| (finding.name(), mask));
    for (name, image) in masks.chain([("image", &phantom.image), ("lungs", &phantom.lungs)]) {
        digest.text(name);
        let bytes: Vec<u8> = image.pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        digest.bytes(&bytes);
    }
    digest.text(&phantom.report);
    digest.finish()
}

/// BLAKE3 of width, height and pixels, these as 16 bits: what a network could tell from another image.
fn hash_of_pixels(image: &Gray) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("umbra decoded pixels v1");
    hasher.update(&(image.width as u64).to_le_bytes());
    hasher.update(&(image.height as u64).to_le_bytes());
    let mut bytes = Vec::with_capacity(2 * PIXELS_AT_ONCE);
    for pixels in image.pixels.chunks(PIXELS_AT_ONCE) {
        bytes.clear();
        #[allow(clippy::cast_possible_truncation)] // within 16 bits
        let level = |value: f32| (value.clamp(0.0, 1.0) * 65535.0).round() as u16;
        bytes.extend(pixels.iter().flat_map(|&value| level(value).to_le_bytes()));
        hasher.update(&bytes);
    }
    *hasher.finalize().as_bytes()
}

/// Pixels hashed at once: 128 KiB, from which on BLAKE3 is as fast as it gets.
const PIXELS_AT_ONCE: usize = 1 << 16;

/// BLAKE3 of a regular file; a pipe would wait for somebody to write.
fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_decide_their_hash_and_nothing_else_does() {
        let image = |width, height, value: f32| Gray { width, height, pixels: vec![value; 12] };
        let hash = hash_of_pixels(&image(4, 3, 0.5));
        assert_eq!(hash_of_pixels(&image(4, 3, 0.5 + 1e-6)), hash, "less than 16 bits can tell");
        assert_ne!(hash_of_pixels(&image(3, 4, 0.5)), hash);
        assert_ne!(hash_of_pixels(&image(4, 3, 0.5 + 2e-5)), hash);
        let mut large = Gray { width: 300, height: 300, pixels: vec![0.25; 90_000] };
        let before = hash_of_pixels(&large);
        large.pixels[89_999] = 0.75;
        assert_ne!(hash_of_pixels(&large), before, "to the last pixel");
    }
}
