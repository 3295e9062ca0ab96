//! One process at a time in a run folder.

use super::{ArtifactError, io_error};
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// The right to write in a folder, until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    // The system releases the lock when the file is closed.
    _file: File,
}

impl Lock {
    /// Takes the folder, which is made if it is not there. Does not wait: if another process has it, this is
    /// [`ArtifactError::Locked`].
    pub fn acquire(folder: &Path) -> Result<Self, ArtifactError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let path = folder.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim().parse::<u32>();
                let holder = holder.map_or_else(|_| String::new(), |id| format!(" (process {id})"));
                return Err(ArtifactError::Locked { path: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io_error("write", &path))?;
        Ok(Self { _file: file })
    }
}
