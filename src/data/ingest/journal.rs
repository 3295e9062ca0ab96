//! Which images are being opened, so that one that ends the process is known to the next.

use crate::artifact;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of an image's row id.
const WIDTH: usize = size_of::<i64>();

/// A file of row ids beside the catalog, eight bytes each: for each worker the image that it has open (0: none), then
/// the suspects of the process before.
///
/// It is written without being brought to the disk, which outlives the process but not the machine; and what cannot be
/// written is not missed: then there are no suspects.
#[derive(Debug)]
pub(super) struct Journal {
    file: Option<File>,
    path: PathBuf,
}

impl Journal {
    /// Begins the journal beside `catalog` for `num_workers`; gives the images that an earlier process had open when
    /// it ended, and those that were suspects then.
    pub(super) fn begin(catalog: &Path, num_workers: usize) -> (Self, BTreeSet<i64>) {
        let path = artifact::sibling(catalog, "opening");
        let before = fs::read(&path).unwrap_or_default();
        let suspects: BTreeSet<i64> = ids(&before).filter(|&id| id != 0).collect();
        let mut bytes = vec![0; num_workers * WIDTH];
        bytes.extend(suspects.iter().flat_map(|id| id.to_le_bytes()));
        let temporary = artifact::sibling(&path, "tmp");
        let file = fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::options().write(true).open(&path));
        (Self { file: file.ok(), path }, suspects)
    }

    /// `worker` is about to open the image `id`.
    pub(super) fn opening(&self, worker: usize, id: i64) {
        if let Some(file) = &self.file {
            let _ = file.write_all_at(&id.to_le_bytes(), (worker * WIDTH) as u64);
        }
    }

    /// `worker` is done with it.
    pub(super) fn opened(&self, worker: usize) {
        self.opening(worker, 0);
    }

    /// Nothing is open any more.
    pub(super) fn end(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn ids(bytes: &[u8]) -> impl Iterator<Item = i64> {
    let chunks = bytes.chunks_exact(WIDTH);
    chunks.map(|id| i64::from_le_bytes(id.try_into().expect("chunks of that many bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_stays_suspect_until_the_journal_ends() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = folder.path().join("catalog.sqlite");
        let (journal, suspects) = Journal::begin(&catalog, 3);
        assert_eq!(suspects, BTreeSet::new());
        journal.opening(0, 17);
        journal.opening(2, 5);
        journal.opened(0);
        journal.opening(0, 18);
        let (journal, suspects) = Journal::begin(&catalog, 1);
        assert_eq!(suspects, BTreeSet::from([5, 18]));
        journal.opening(0, 99);
        let (journal, suspects) = Journal::begin(&catalog, 2);
        assert_eq!(suspects, BTreeSet::from([5, 18, 99]));
        journal.end();
        assert_eq!(Journal::begin(&catalog, 2).1, BTreeSet::new());
        let nowhere = folder.path().join("no/such/folder");
        let (journal, suspects) = Journal::begin(&nowhere, 2);
        journal.opening(1, 3);
        assert_eq!(suspects, BTreeSet::new());
    }
}
