//! Files and folders that are complete or absent.

use super::{ArtifactError, io_error};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The manifest's own format.
const SCHEMA: u32 = 1;

/// The file that lists all others of a folder.
const MANIFEST: &str = "manifest.json";

/// Writes the folder `path` through `fill`, which gets an empty folder to fill; `path` is complete or absent.
///
/// Every file is synced and listed in `manifest.json` with its size and BLAKE3 before the folder takes its
/// name. A folder that is already there is replaced: until then readers find the old one (see [`current`]).
/// What an interrupted write left behind is removed first; a failing `fill` leaves nothing. One writer at a
/// time: hold the [`super::Lock`] of the run.
pub fn write_folder<E: From<ArtifactError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = sibling(path, "tmp");
    remove_any(&temporary)?;
    fs::create_dir_all(&temporary).map_err(io_error("create", &temporary))?;
    let written = fill(&temporary)
        .and_then(|()| seal(&temporary).map_err(E::from))
        .and_then(|()| replace(&temporary, path).map_err(E::from));
    if written.is_err() {
        // The first error is the one to tell; what stays here is removed by the next write.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// Writes the new folder `path` as [`write_folder`] does, but never in the place of anything.
///
/// For a folder that a person names, with others of theirs beside it: only `path` and `path.umbra.tmp` are
/// touched. Fails with [`ArtifactError::Taken`], before `fill` is asked, if there is anything at `path`.
pub fn create_folder<E: From<ArtifactError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    must_be_free(path)?;
    let temporary = sibling(path, "umbra.tmp");
    remove_any(&temporary)?;
    fs::create_dir_all(&temporary).map_err(io_error("create", &temporary))?;
    let written = fill(&temporary).and_then(|()| {
        seal(&temporary)?;
        must_be_free(path)?;
        fs::rename(&temporary, path).map_err(io_error("write", path))?;
        Ok(sync_folder(parent(path))?)
    });
    if written.is_err() {
        // The first error is the one to tell; what stays here is removed by the next write.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// Fails if there is anything at `path`, be it a link to nowhere.
fn must_be_free(path: &Path) -> Result<(), ArtifactError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(ArtifactError::Taken { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Checks every file that the manifest of the folder `path` lists: present, size, BLAKE3.
///
/// Files that the manifest does not list are ignored.
pub fn verify(path: &Path) -> Result<(), ArtifactError> {
    let folder = current(path).ok_or_else(|| ArtifactError::Missing { path: path.to_owned() })?;
    let manifest = Manifest::read(&folder)?;
    for entry in &manifest.files {
        let file = folder.join(&entry.name);
        let bytes = match fs::metadata(&file) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { path: file });
            }
            Err(error) => return Err(io_error("read", &file)(error)),
        };
        if bytes != entry.bytes {
            let what = format!("{bytes} bytes, expected {}", entry.bytes);
            return Err(ArtifactError::Damaged { path: file, what });
        }
        if file_hash(&file)? != entry.blake3 {
            let what = "its content does not match its hash".to_owned();
            return Err(ArtifactError::Damaged { path: file, what });
        }
    }
    Ok(())
}

/// Where the folder `path` is now: its own place, or, if a replacement was cut off between two renames, aside.
///
/// `None` when there is no such folder. The order of the looks makes it right beside a running writer too.
pub fn current(path: &Path) -> Option<PathBuf> {
    let aside = sibling(path, "old");
    [path, &aside, path].into_iter().find(|place| place.exists()).map(Path::to_owned)
}

/// Writes the file `path` with `bytes`; it is the old one or the new one at any moment.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    let temporary = sibling(path, "tmp");
    remove_any(&temporary)?;
    write_synced(&temporary, bytes).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    fs::rename(&temporary, path).map_err(io_error("write", path))?;
    sync_folder(parent(path))
}

/// Puts the folder `from` in the place of `path`, if need be in three steps that [`current`] sees through:
/// old aside, new in, old away. Brings the renames to the disk.
pub fn replace(from: &Path, path: &Path) -> Result<(), ArtifactError> {
    let aside = sibling(path, "old");
    match (path.exists(), aside.exists()) {
        (true, true) => remove_any(&aside)?,
        // A replacement was cut off here: the old folder is the whole one.
        (false, true) => fs::rename(&aside, path).map_err(io_error("restore", path))?,
        (_, false) => {}
    }
    if path.exists() {
        fs::rename(path, &aside).map_err(io_error("move aside", path))?;
        sync_folder(parent(path))?;
    }
    fs::rename(from, path).map_err(io_error("write", path))?;
    sync_folder(parent(path))?;
    remove_any(&aside)
}

/// The BLAKE3 of a file's content, in hexadecimal.
pub fn file_hash(path: &Path) -> Result<String, ArtifactError> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(io_error("read", path))?;
    hasher.update_reader(file).map_err(io_error("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Brings a folder's list of names to the disk.
fn sync_folder(path: &Path) -> Result<(), ArtifactError> {
    // Only Unix opens a folder as a file; elsewhere the file system's own order has to do.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error("sync", path))?;
    }
    Ok(())
}

/// `name.suffix` beside `name`.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(crate) fn remove_any(path: &Path) -> Result<(), ArtifactError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
    .map_err(io_error("remove", path))
}

/// The files of a folder and what they must hold.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: u32,
    files: Vec<ManifestEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    /// Relative to the folder, `/` between parts.
    name: String,
    bytes: u64,
    blake3: String,
}

impl Manifest {
    fn read(folder: &Path) -> Result<Self, ArtifactError> {
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing { path });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| {
            ArtifactError::Damaged { path: path.clone(), what: error.to_string() }
        })?;
        if manifest.schema != SCHEMA {
            return Err(ArtifactError::Schema { path, found: manifest.schema, known: SCHEMA });
        }
        Ok(manifest)
    }
}

/// Syncs all that is in the folder and writes its manifest.
fn seal(folder: &Path) -> Result<(), ArtifactError> {
    let mut files = Vec::new();
    seal_into(folder, "", &mut files)?;
    let manifest = Manifest { schema: SCHEMA, files };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain JSON");
    write_synced(&folder.join(MANIFEST), &text)?;
    sync_folder(folder)
}

fn seal_into(
    folder: &Path,
    prefix: &str,
    files: &mut Vec<ManifestEntry>,
) -> Result<(), ArtifactError> {
    let mut inside = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io_error("read", folder))?;
    inside.sort_by_key(fs::DirEntry::file_name);
    for entry in inside {
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            seal_into(&path, &format!("{name}/"), files)?;
            sync_folder(&path)?;
        } else {
            let file = File::open(&path).map_err(io_error("read", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
            let bytes = file.metadata().map_err(io_error("read", &path))?.len();
            files.push(ManifestEntry { name, bytes, blake3: file_hash(&path)? });
        }
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    let mut file = File::create(path).map_err(io_error("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` takes no byte: the disk that is full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_its_path() {
        let error = write_synced(Path::new("/dev/full"), b"weights").unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full");
        let ArtifactError::Io { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_bare_name_lies_in_the_working_folder() {
        assert_eq!(parent(Path::new("report.json")), Path::new("."));
        assert_eq!(parent(Path::new("runs/a")), Path::new("runs"));
        assert_eq!(sibling(Path::new("runs/a.b"), "tmp"), Path::new("runs/a.b.tmp"));
    }
}
