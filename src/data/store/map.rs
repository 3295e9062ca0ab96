//! A file as a slice of memory: the one place with unsafe code in the store.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Maps a file for reading. The system brings pages in as they are touched and drops them when memory is short.
#[allow(unsafe_code)]
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: a map is unsound if the file changes under it. Shards never do: they are written under another
    // name and renamed when complete, nothing in this program opens one for writing, and removing one (as
    // `clean` does) leaves its pages to whoever has it mapped. Another program that truncates a shard in use
    // ends this process with SIGBUS; one that writes to it changes values, which are plain numbers here:
    // no reference, index or length is taken from a map after it was checked on opening.
    unsafe { Mmap::map(&file) }
}
