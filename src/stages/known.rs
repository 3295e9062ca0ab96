//! What results turned out to be: a memory by which `umbra check` tells what follows from results that are still to be
//! made.
//!
//! One file for all runs below a checkpoints folder, a line for each result: the hash of what it followed from, the
//! hash of what it was. It decides nothing: where it is gone, or cannot be written, `check` only knows less.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Beside the stores, where no run can be.
const FILE: &str = "stores/known.txt";

/// The memory below one checkpoints folder.
pub(super) struct Known {
    path: PathBuf,
}

impl Known {
    pub(super) fn below(checkpoints: &Path) -> Self {
        Self { path: checkpoints.join(FILE) }
    }

    /// What the result was that followed from `origin`, the last time.
    pub(super) fn get(&self, origin: &str) -> Option<String> {
        let text = fs::read_to_string(&self.path).ok()?;
        let is_hash = |text: &&str| text.len() == 64;
        text.lines().rev().find_map(|line| {
            let (from, output) = line.split_once(' ')?;
            (from == origin).then_some(output).filter(is_hash).map(str::to_owned)
        })
    }

    /// Remembers that `output` followed from `origin`.
    pub(super) fn put(&self, origin: &str, output: &str) {
        if self.get(origin).as_deref() == Some(output) {
            return;
        }
        // A line of this length is written whole or not at all, whoever else writes.
        let written =
            fs::create_dir_all(self.path.parent().unwrap_or(Path::new(""))).and_then(|()| {
                let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                file.write_all(format!("{origin} {output}\n").as_bytes())
            });
        if let Err(error) = written {
            tracing::debug!(%error, "what was made is not remembered for umbra check");
        }
    }

    /// Is this a file of the memory?
    pub(super) fn is_file(path: &Path) -> bool {
        path.ends_with(FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_what_is_cut_off_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::below(folder.path());
        assert_eq!(known.get("a"), None);
        let [first, second] = ["1", "2"].map(|digit| digit.repeat(64));
        known.put("a", &first);
        known.put("b", &first);
        known.put("a", &second);
        known.put("a", &second);
        assert_eq!(known.get("a"), Some(second));
        let path = folder.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"c 123").unwrap();
        assert_eq!(known.get("c"), None);
        assert!(Known::is_file(&path));
    }
}
