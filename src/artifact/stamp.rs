//! What a stage was made from, to know whether it must be made again.

use super::{ArtifactError, io_error, write_file};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// The file a stage leaves in its folder.
const STAMP: &str = "stamp.json";

/// A stage and the hash of everything that decides its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The stage's name.
    pub stage: String,
    /// The stage's `VERSION`: raised when its meaning changes.
    pub version: u32,
    /// From [`Hasher`].
    pub inputs_hash: String,
}

impl Stamp {
    /// Leaves the stamp in `folder`. The last thing a stage does.
    pub fn write(&self, folder: &Path) -> Result<(), ArtifactError> {
        let text = serde_json::to_vec_pretty(self).expect("a stamp is plain JSON");
        write_file(&folder.join(STAMP), &text)
    }

    /// The stamp in `folder`; `None` where no stage has finished.
    pub fn read(folder: &Path) -> Result<Option<Self>, ArtifactError> {
        let path = folder.join(STAMP);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| ArtifactError::Damaged { path, what: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// True when `folder` holds exactly this stamp: the stage need not run.
    pub fn is_left_in(&self, folder: &Path) -> Result<bool, ArtifactError> {
        Ok(Self::read(folder)?.as_ref() == Some(self))
    }
}

/// Hashes a stage's inputs: its section of the recipe, its version, the hashes of what is upstream.
///
/// Every part goes in with its length and its kind, so that no two lists of parts run together.
#[derive(Debug, Clone)]
pub struct Hasher {
    inner: blake3::Hasher,
}

impl Hasher {
    /// For the stage called `stage` at `version`.
    pub fn new(stage: &str, version: u32) -> Self {
        let hasher = Self { inner: blake3::Hasher::new_derive_key("umbra stage inputs v1") };
        hasher.part(0, stage.as_bytes()).part(1, &version.to_le_bytes())
    }

    /// Adds a section of the recipe, as its resolved text.
    pub fn section(self, text: &str) -> Self {
        self.part(2, text.as_bytes())
    }

    /// Adds what an upstream stage was made from, or the hash of a file.
    pub fn upstream(self, hash: &str) -> Self {
        self.part(3, hash.as_bytes())
    }

    /// The hash in hexadecimal, 64 letters.
    pub fn finish(&self) -> String {
        self.inner.finalize().to_hex().to_string()
    }

    fn part(mut self, kind: u8, bytes: &[u8]) -> Self {
        self.inner.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_none_run_together() {
        let hash = |stage: &str, version, section: &str, upstream: &[&str]| {
            let hasher = Hasher::new(stage, version).section(section);
            upstream.iter().fold(hasher, |hasher, hash| hasher.upstream(hash)).finish()
        };
        let all = [
            hash("train", 1, "a", &["b"]),
            hash("train", 2, "a", &["b"]),
            hash("encode", 1, "a", &["b"]),
            hash("train", 1, "ab", &[]),
            hash("train", 1, "", &["ab"]),
            hash("train", 1, "a", &["b", ""]),
            hash("train", 1, "a", &["", "b"]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], hash("train", 1, "a", &["b"]));
    }
}
