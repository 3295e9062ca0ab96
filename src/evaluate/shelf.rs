//! What networks have made of images, on disk: once per image and network, whoever asks and however often.
//!
//! A shelf is a folder per network: of its weights, of what images go through before, of their size. It grows by files
//! of whole rows, named by the hash of their content, so that processes need not take turns. What is damaged, or is of
//! another version, is as good as not there.

use crate::artifact::{self, Hasher};
use anyhow::{Context, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Raised when the same network would make other features of the same image, or files are laid out otherwise.
const VERSION: u32 = 1;

/// Of an image's content.
pub(super) type Key = [u8; 32];

/// Where shelves are.
#[derive(Debug, Clone)]
pub struct Shelves {
    folder: PathBuf,
    /// The file in which a run says which shelves it uses.
    note: PathBuf,
}

impl Shelves {
    /// Where they are below the folder of all runs.
    pub const FOLDER: &str = "stores/features";

    /// The file of a run's folder that names the shelves it uses, one a line.
    pub const NOTE: &str = "features.txt";

    /// Those of all runs in `checkpoints`, for the run in the folder `run`.
    pub fn new(checkpoints: &Path, run: &Path) -> Self {
        Self { folder: checkpoints.join(Self::FOLDER), note: run.join(Self::NOTE) }
    }

    /// The shelf of what `maker` (a network by its hash, and what goes before it) makes: rows of `width` numbers.
    pub(super) fn shelf(&self, maker: &str, width: usize) -> Result<Shelf> {
        let hasher = Hasher::new("features", VERSION).section(maker).section(&width.to_string());
        let name = hasher.finish()[..16].to_owned();
        let folder = self.folder.join(&name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let noted = fs::read_to_string(&self.note).unwrap_or_default();
        let mut names: BTreeSet<&str> = noted.lines().collect();
        if names.insert(&name) {
            let lines: String = names.iter().flat_map(|name| [name, "\n"]).collect();
            artifact::write_file(&self.note, lines.as_bytes())?;
        }
        Ok(Shelf { folder, width })
    }
}

/// The rows of one network.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    width: usize,
}

impl Shelf {
    /// Numbers in a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The rows of those of `wanted` that are there.
    pub(super) fn rows(&self, wanted: &BTreeSet<Key>) -> Result<BTreeMap<Key, Vec<f32>>> {
        let mut found = BTreeMap::new();
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            crate::metric::unless_stopped()?;
            let Some(rows) = self.read(&path) else {
                tracing::warn!("features in {} are damaged and made anew", path.display());
                let _ = fs::remove_file(&path);
                continue;
            };
            found.extend(rows.into_iter().filter(|(key, _)| wanted.contains(key)));
        }
        Ok(found)
    }

    /// Puts a row for each of `keys`, one after the other.
    pub(super) fn put(&self, keys: &[Key], rows: &[f32]) -> Result<()> {
        assert_eq!(rows.len(), keys.len() * self.width, "a row for each key");
        let values: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = |dtype, width, bytes| TensorView::new(dtype, vec![keys.len(), width], bytes);
        let fits = "as many bytes as the shape says";
        let views = [
            ("features", view(Dtype::F32, self.width, &values).expect(fits)),
            ("key", view(Dtype::U8, size_of::<Key>(), keys.as_flattened()).expect(fits)),
        ];
        let bytes = safetensors::serialize(views, None).expect("the views were checked");
        let path = self.folder.join(name_of(&bytes));
        // Another process may be writing the very same.
        if path.exists() { Ok(()) } else { Ok(artifact::write_file(&path, &bytes)?) }
    }

    /// What a file holds; none where it is not what its name says, or no file of this shelf.
    fn read(&self, path: &Path) -> Option<Vec<(Key, Vec<f32>)>> {
        let bytes = fs::read(path).ok()?;
        if path.file_name()?.to_str()? != name_of(&bytes) {
            return None;
        }
        let file = SafeTensors::deserialize(&bytes).ok()?;
        let (keys, features) = (file.tensor("key").ok()?, file.tensor("features").ok()?);
        let count = *keys.shape().first()?;
        let is_ours = keys.dtype() == Dtype::U8
            && keys.shape() == [count, size_of::<Key>()]
            && features.dtype() == Dtype::F32
            && features.shape() == [count, self.width];
        let (keys, _) = keys.data().as_chunks::<{ size_of::<Key>() }>();
        let (values, _) = features.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let rows = values.chunks_exact(self.width).map(<[f32]>::to_vec);
        is_ours.then(|| keys.iter().copied().zip(rows).collect())
    }
}

fn name_of(bytes: &[u8]) -> String {
    format!("{}.safetensors", &blake3::hash(bytes).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: u8, count: u8) -> Vec<Key> {
        (from..from + count).map(|it| [it; 32]).collect()
    }

    fn row(key: Key) -> Vec<f32> {
        (0..3).map(|at| f32::from(key[0]) + at as f32 / 10.0).collect()
    }

    fn filled(shelves: &Shelves) -> Shelf {
        let shelf = shelves.shelf("a network", 3).unwrap();
        for (from, count) in [(0, 4), (4, 3), (7, 1)] {
            let keys = keys(from, count);
            let rows: Vec<f32> = keys.iter().flat_map(|&key| row(key)).collect();
            shelf.put(&keys, &rows).unwrap();
        }
        shelf
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::new(folder.path(), folder.path());
        filled(&shelves);
        let shelf = shelves.shelf("a network", 3).unwrap();
        let wanted: BTreeSet<Key> = keys(2, 20).into_iter().collect();
        let found = shelf.rows(&wanted).unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), keys(2, 6));
        assert!(found.iter().all(|(&key, found)| *found == row(key)));
        // Another network, or another width, is another shelf.
        for other in [shelves.shelf("another", 3).unwrap(), shelves.shelf("a network", 4).unwrap()]
        {
            assert!(other.rows(&wanted).unwrap().is_empty());
        }
        let noted = fs::read_to_string(folder.path().join(Shelves::NOTE)).unwrap();
        let on_disk = fs::read_dir(folder.path().join(Shelves::FOLDER)).unwrap().count();
        assert_eq!((noted.lines().count(), on_disk), (3, 3));
    }

    /// A flipped bit anywhere, a cut anywhere, another's file under a name of this one: nothing of it comes back, the
    /// other files' rows do.
    #[test]
    fn the_damaged_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = filled(&Shelves::new(folder.path(), folder.path()));
        let wanted: BTreeSet<Key> = keys(0, 8).into_iter().collect();
        let path = shelf.folder.join({
            let rows: Vec<f32> = keys(4, 3).iter().flat_map(|&key| row(key)).collect();
            let before: BTreeSet<PathBuf> =
                fs::read_dir(&shelf.folder).unwrap().map(|it| it.unwrap().path()).collect();
            shelf.put(&keys(4, 3), &rows).unwrap();
            let after = fs::read_dir(&shelf.folder).unwrap().count();
            assert_eq!(before.len(), after, "what is put again lies where it lay");
            before.into_iter().find(|path| shelf.read(path).unwrap().len() == 3).unwrap()
        });
        let whole = fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..whole.len())
            .step_by(7)
            .map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                bytes
            })
            .collect();
        damaged.extend([0, 5, whole.len() - 1].map(|length| whole[..length].to_vec()));
        for bytes in damaged {
            fs::write(&path, bytes).unwrap();
            let found = shelf.rows(&wanted).unwrap();
            assert_eq!(found.len(), 5);
            assert!(found.iter().all(|(&key, found)| *found == row(key)));
            assert!(!path.exists());
        }
    }
}
