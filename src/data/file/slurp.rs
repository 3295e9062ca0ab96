//! A file's bytes, from regular files only.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{FileError, MAX_FILE_BYTES};

/// Reads one byte more than [`MAX_FILE_BYTES`] at most, whatever the file's size claims to be.
pub(super) fn slurp(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.into(), source };
    let (file, size) = regular(path)
        .map_err(failed)?
        .ok_or_else(|| FileError::NotRegular { path: path.into() })?;
    // One allocation, without growing by doubling.
    let mut bytes = Vec::with_capacity(size.min(MAX_FILE_BYTES) as usize + 1);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Opens `path` without waiting for anybody (as a pipe would for a writer); `None` where it is no regular file. Asked
/// before, because opening a device may do something, and after, because it may have become one.
fn regular(path: &Path) -> io::Result<Option<(File, u64)>> {
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = match opened {
        // A socket cannot be opened at all.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, &socket, Path::new("/dev/zero"), folder.path()] {
            assert!(matches!(slurp(path), Err(FileError::NotRegular { .. })), "{}", path.display());
        }
        assert!(matches!(slurp(&folder.path().join("none")), Err(FileError::Read { .. })));
    }
}
