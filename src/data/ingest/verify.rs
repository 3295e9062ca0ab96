//! Opens images, each once, in parallel: does it decode, how large is it, what is its hash?

use super::{IngestError, VERSION};
use crate::data::catalog::{Digest, Label, Location, Seen};
use crate::data::file::{self, Window};
use crate::data::phantom::{self, Finding};
use crate::data::section::Data;
use crate::data::source::Listed;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Side, in pixels, at which phantoms are rendered to be hashed. Their anatomy is the same at any size.
const PHANTOM_SIZE: usize = 64;

/// How images are opened.
pub(super) struct Verify<'a> {
    pub(super) data_root: &'a Path,
    pub(super) window: &'a Window,
}

impl Verify<'_> {
    /// Opens the images at the positions `to_open` of `listed` and hands what was seen to `take`, on this
    /// thread, in any order, until `take` fails.
    pub(super) fn each(
        &self,
        listed: &[Listed],
        stamps: &[[u8; 32]],
        to_open: &[usize],
        mut take: impl FnMut(usize, Seen) -> Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let num_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (give_job, jobs) = crossbeam_channel::bounded::<usize>(4 * num_threads);
        let (give_seen, all_seen) = crossbeam_channel::bounded(4 * num_threads);
        std::thread::scope(|scope| {
            for _ in 0..num_threads {
                let (jobs, give_seen) = (jobs.clone(), give_seen.clone());
                scope.spawn(move || {
                    for at in jobs {
                        let seen = self.open(&listed[at], stamps[at]);
                        if give_seen.send((at, seen)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop((jobs, give_seen));
            scope.spawn(move || to_open.iter().all(|&at| give_job.send(at).is_ok()));
            // When `take` fails, dropping the receiver ends the workers, and they end the sender of jobs.
            all_seen.into_iter().try_for_each(|(at, seen)| take(at, seen))
        })
    }

    fn open(&self, listed: &Listed, stamp: [u8; 32]) -> Seen {
        match &listed.location {
            Location::File(path) => self.open_file(path, listed, stamp),
            Location::Phantom { seed, index } => open_phantom(*seed, *index, stamp),
        }
    }

    fn open_file(&self, relative: &Path, listed: &Listed, stamp: [u8; 32]) -> Seen {
        let path = self.data_root.join(relative);
        let image = match path.is_file() {
            true => file::read(&path, self.window).map_err(|error| reason(&error, &path, relative)),
            false => Err("the file is missing".to_owned()),
        };
        let (hash, read_error) = match hash_file(&path) {
            Ok(hash) => (Some(hash), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mask_hash = listed.mask.as_ref().and_then(|mask| {
            let mask_hash = hash_file(&self.data_root.join(mask));
            if let Err(error) = &mask_hash {
                tracing::warn!(mask = %mask.display(), %error, "cannot read mask");
            }
            mask_hash.ok()
        });
        let (width, height) = image.as_ref().map_or((0, 0), |image| (image.width, image.height));
        Seen {
            stamp,
            width: width as u32,
            height: height as u32,
            hash,
            mask_hash,
            damage: image.err().or(read_error),
            labels: None,
            report: None,
        }
    }
}

/// The size, time and window of every listed file, hashed: a file whose stamp is as it was is not opened
/// again. For phantoms the stamp covers what the renderer draws.
pub(super) fn stamps(listed: &[Listed], data_root: &Path, window: &Window) -> Vec<[u8; 32]> {
    let window = serde_json::to_string(window).expect("a window is plain data");
    let has_phantoms =
        listed.iter().any(|listed| matches!(listed.location, Location::Phantom { .. }));
    let renderer = if has_phantoms { hash_of_renderer() } else { [0; 32] };
    let file = |digest: &mut Digest, path: &Path| match std::fs::metadata(data_root.join(path)) {
        Ok(metadata) => {
            let modified =
                metadata.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
            digest.bytes(&metadata.len().to_le_bytes());
            digest.bytes(&modified.unwrap_or_default().as_nanos().to_le_bytes());
        }
        Err(_) => digest.bytes(&[]),
    };
    let stamp = |listed: &Listed| {
        let mut digest = Digest::new("umbra ingest stamp v1");
        digest.bytes(&VERSION.to_le_bytes());
        match &listed.location {
            Location::File(path) => {
                digest.text(&window);
                file(&mut digest, path);
                if let Some(mask) = &listed.mask {
                    digest.text(&mask.to_string_lossy());
                    file(&mut digest, mask);
                }
            }
            // All that is known of a phantom comes with its pixels: a new description opens it anew.
            Location::Phantom { .. } => {
                digest.bytes(&renderer);
                digest.bytes(&listed.digest());
            }
        }
        digest.finish()
    };
    listed.iter().map(stamp).collect()
}

/// Hash of all that an ingest of `section` is about to do, in hex. Two equal plans leave equal catalogs.
pub(super) fn plan_digest(section: &Data, listed: &[Listed], stamps: &[[u8; 32]]) -> String {
    let mut digest = Digest::new("umbra ingest plan v1");
    digest.bytes(&VERSION.to_le_bytes());
    digest.bytes(&section.seed.to_le_bytes());
    for number in section.split.in_order().into_iter().chain([section.max_damaged]) {
        digest.bytes(&number.to_le_bytes());
    }
    for (listed, stamp) in listed.iter().zip(stamps) {
        digest.text(&format!("{:?}", listed.location));
        digest.bytes(&listed.digest());
        digest.bytes(stamp);
    }
    blake3::Hash::from(digest.finish()).to_hex().to_string()
}

/// A hash that changes when the phantoms' renderer draws something else, by its version and, in case that
/// was forgotten, by a few samples of its work.
fn hash_of_renderer() -> [u8; 32] {
    let mut digest = Digest::new("umbra phantom renderer v1");
    digest.bytes(&phantom::VERSION.to_le_bytes());
    (0..8)
        .for_each(|index| digest.bytes(&hash_of_phantom(&phantom::render(0, index, PHANTOM_SIZE))));
    digest.finish()
}

fn open_phantom(seed: u64, index: u64, stamp: [u8; 32]) -> Seen {
    let phantom = phantom::render(seed, index, PHANTOM_SIZE);
    let label = |finding: Finding| match phantom.findings.contains_key(&finding) {
        true => Label::Present,
        false => Label::Absent,
    };
    Seen {
        stamp,
        width: phantom.image.width as u32,
        height: phantom.image.height as u32,
        hash: Some(hash_of_phantom(&phantom)),
        mask_hash: None,
        damage: None,
        labels: Some(
            Finding::ALL.into_iter().map(|it| (it.name().to_owned(), label(it))).collect(),
        ),
        report: Some(phantom.report),
    }
}

fn hash_of_phantom(phantom: &phantom::Phantom) -> [u8; 32] {
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

fn hash_file(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(*hasher.finalize().as_bytes())
}

/// An error and its causes in one line, naming the file as the catalog does.
fn reason(error: &dyn std::error::Error, path: &Path, relative: &Path) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let path = path.display().to_string();
    let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text);
    text.replace(&path, &relative.display().to_string())
}
