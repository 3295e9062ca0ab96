//! What tells whether an image must be opened again, and whether there is anything to do at all.

use super::VERSION;
use super::open::{PHANTOM_SIZE, hash_of_phantom};
use crate::data::catalog::{Digest, Location};
use crate::data::file::{self, Window};
use crate::data::phantom;
use crate::data::section::Data;
use crate::data::source::Listed;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The state of an image's files, before they are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// An image whose stamp is as it was is not opened again.
    pub(super) hash: [u8; 32],
    /// True where there is no file of that name.
    pub(super) is_missing: bool,
}

/// The size and time of every listed file, hashed with the window and the version of the decoders. For phantoms the
/// stamp covers what the renderer draws.
pub(super) fn stamps(listed: &[Listed], data_root: &Path, window: &Window) -> Vec<Stamp> {
    let window = serde_json::to_string(window).expect("a window is plain data");
    let has_phantoms =
        listed.iter().any(|listed| matches!(listed.location, Location::Phantom { .. }));
    let renderer = if has_phantoms { hash_of_renderer() } else { [0; 32] };
    let stamp = |listed: &Listed| {
        let mut digest = Digest::new("umbra ingest stamp v2");
        digest.bytes(&VERSION.to_le_bytes());
        let mut is_missing = false;
        match &listed.location {
            Location::File(path) => {
                digest.bytes(&file::VERSION.to_le_bytes());
                digest.text(&window);
                digest.bytes(&[u8::from(listed.is_patient_in_file)]);
                is_missing = look(&mut digest, &data_root.join(path));
                if let Some(mask) = &listed.mask {
                    digest.text(&mask.to_string_lossy());
                    look(&mut digest, &data_root.join(mask));
                }
            }
            // All that is known of a phantom comes with its pixels: a new description opens it anew.
            Location::Phantom { .. } => {
                digest.bytes(&renderer);
                digest.bytes(&listed.digest());
            }
        }
        Stamp { hash: digest.finish(), is_missing }
    };
    listed.iter().map(stamp).collect()
}

/// Adds size and time of a file to `digest`; true where there is none.
fn look(digest: &mut Digest, path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let modified =
                metadata.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
            digest.bytes(&metadata.len().to_le_bytes());
            digest.bytes(&modified.unwrap_or_default().as_nanos().to_le_bytes());
            false
        }
        Err(error) => {
            digest.bytes(&[]);
            error.kind() == io::ErrorKind::NotFound
        }
    }
}

/// Hash of all that an ingest of `section` is about to do, in hex. Two equal plans leave equal catalogs.
pub(super) fn plan_digest(section: &Data, listed: &[Listed], stamps: &[Stamp]) -> String {
    let mut digest = Digest::new("umbra ingest plan v2");
    digest.bytes(&VERSION.to_le_bytes());
    digest.bytes(&section.seed.to_le_bytes());
    for number in section.split.in_order().into_iter().chain([section.max_damaged]) {
        digest.bytes(&number.to_le_bytes());
    }
    digest.text(&format!("{:?}", section.split_conflict));
    for (listed, stamp) in listed.iter().zip(stamps) {
        digest.text(&format!("{:?}", listed.location));
        digest.bytes(&listed.digest());
        digest.bytes(&stamp.hash);
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
