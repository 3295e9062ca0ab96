//! Which stores and checkpoints nobody refers to.

use super::known::Known;
use super::reference;
use crate::evaluate::Shelves;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Something under the checkpoints folder that no run refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where.
    pub path: PathBuf,
    /// How much.
    pub bytes: u64,
    /// Why nobody needs it.
    pub reason: &'static str,
}

/// Stores that no run names, checkpoints that newer inputs have superseded, and what was cut off while being
/// written.
pub fn leftovers(checkpoints: &Path) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    let mut used = BTreeSet::new();
    for run in folders(checkpoints)? {
        if run.file_name().is_some_and(|name| name == "stores") {
            continue;
        }
        if let Ok(text) = fs::read_to_string(run.join(reference::FILE)) {
            named.insert(text.lines().next().unwrap_or_default().trim().to_owned());
        }
        if let Ok(text) = fs::read_to_string(run.join(Shelves::NOTE)) {
            used.extend(text.lines().map(str::to_owned));
        }
        for stage in folders(&run)? {
            let name = stage.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.contains("-superseded-") {
                found.push((stage.clone(), "trained from inputs that have changed since"));
            }
            for inner in folders(&stage)? {
                if inner.extension().is_some_and(|extension| extension == "tmp") {
                    found.push((inner, "cut off while being written"));
                }
            }
        }
    }
    // Each with the file that is locked while it is made.
    let shelves = checkpoints.join(Shelves::FOLDER);
    for shelf in entries(&shelves)? {
        let name = shelf.file_name().unwrap_or_default().to_string_lossy();
        if !used.contains(&*name) {
            found.push((shelf.clone(), "no run refers to these features"));
        }
    }
    for store in entries(&checkpoints.join("stores"))? {
        if Known::is_file(&store) || store == shelves {
            continue;
        }
        let name = store.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let whole = name.strip_suffix(".partial").or(name.strip_suffix(".lock")).unwrap_or(&name);
        if !named.contains(whole) {
            found.push((store, "no run refers to this store"));
        }
    }
    found
        .into_iter()
        .map(|(path, reason)| Ok(Leftover { bytes: size(&path)?, path, reason }))
        .collect()
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(path)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

/// Bytes of a file, or of all files in a folder.
fn size(path: &Path) -> Result<u64> {
    let cannot_read = || format!("cannot read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(cannot_read)?;
    if !metadata.is_dir() {
        return Ok(if metadata.is_file() { metadata.len() } else { 0 });
    }
    let mut sum = 0;
    for entry in fs::read_dir(path).with_context(cannot_read)? {
        sum += size(&entry?.path())?;
    }
    Ok(sum)
}
