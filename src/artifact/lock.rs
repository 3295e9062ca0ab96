//! One process at a time: in a run folder, or over a store that several runs share.

use super::{ArtifactError, io_error};
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often a process that waits asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// The right to write in a place, until dropped or until the process ends, however it ends.
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
        match take(&folder.join("lock"))? {
            Taken::Here(lock) => Ok(lock),
            Taken::Elsewhere { holder } => {
                Err(ArtifactError::Locked { path: folder.to_owned(), holder })
            }
        }
    }

    /// Takes the file `path`, made if need be in a folder that is there. Waits for a process that has it, until that
    /// process lets go or dies; `waits` is told once who it is: ` (process 123)`, or nothing where it is not known.
    ///
    /// `None` as soon as `stops` says so. The file stays when the lock is dropped: were it removed, two processes
    /// could hold two files of one name.
    pub fn wait(
        path: &Path,
        waits: impl FnOnce(&str),
        stops: impl Fn() -> bool,
    ) -> Result<Option<Self>, ArtifactError> {
        let mut waits = Some(waits);
        loop {
            match take(path)? {
                Taken::Here(lock) => return Ok(Some(lock)),
                Taken::Elsewhere { holder } => {
                    if let Some(waits) = waits.take() {
                        waits(&holder);
                    }
                }
            }
            if stops() {
                return Ok(None);
            }
            thread::sleep(PAUSE);
        }
    }
}

enum Taken {
    Here(Lock),
    Elsewhere { holder: String },
}

fn take(path: &Path) -> Result<Taken, ArtifactError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim().parse::<u32>();
            let holder = holder.map_or_else(|_| String::new(), |id| format!(" (process {id})"));
            return Ok(Taken::Elsewhere { holder });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", path))?;
    Ok(Taken::Here(Lock { _file: file }))
}
