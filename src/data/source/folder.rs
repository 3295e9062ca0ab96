//! A folder of images, and nothing else known about them.

use super::{Listed, SourceError, below_root, last_name};
use crate::data::catalog::{Location, PatientKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All images below a folder, at any depth: PNG, JPEG and DICOM by extension, and files without any
/// extension (or with the end of a UID for one), which DICOM archives are full of. Other files and
/// hidden ones are passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Folder {
    /// The folder, relative to the data root.
    pub path: PathBuf,
    /// What tells patients apart.
    pub patient: PatientFrom,
}

/// What tells the patients of a folder apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatientFrom {
    /// Every file is a patient of its own.
    #[default]
    File,
    /// Every first-level folder is a patient, with all studies below it.
    Folder,
}

impl Folder {
    pub(super) fn check(&self, data_root: &Path, faults: &mut Vec<String>) {
        match below_root(data_root, Path::new(""), &self.path) {
            None => faults.push(SourceError::Outside { path: self.path.clone() }.to_string()),
            Some(below) if !data_root.join(&below).is_dir() => faults.push(format!(
                "data.source: there is no folder {} below {}",
                self.path.display(),
                data_root.display()
            )),
            Some(_) => {}
        }
    }

    pub(super) fn list(&self, data_root: &Path) -> Result<Vec<Listed>, SourceError> {
        let below = below_root(data_root, Path::new(""), &self.path)
            .ok_or_else(|| SourceError::Outside { path: self.path.clone() })?;
        let mut files = Vec::new();
        gather(data_root, &below, &mut files)?;
        if files.is_empty() {
            return Err(SourceError::Empty { path: below });
        }
        let dataset = last_name(&below);
        Ok(files.into_iter().map(|file| self.describe(&dataset, &below, file)).collect())
    }

    fn describe(&self, dataset: &str, below: &Path, file: PathBuf) -> Listed {
        let within = file.strip_prefix(below).unwrap_or(&file);
        let top_folder = within.parent().and_then(|parent| parent.components().next());
        let patient = match (self.patient, top_folder) {
            (PatientFrom::Folder, Some(folder)) => {
                format!("folder {}", folder.as_os_str().to_string_lossy())
            }
            _ => format!("file {}", within.to_string_lossy()),
        };
        Listed {
            dataset: dataset.to_owned(),
            patient: PatientKey::new(dataset, &patient),
            location: Location::File(file),
            view: None,
            labels: BTreeMap::new(),
            report: None,
            mask: None,
            split: None,
        }
    }
}

/// Adds the images below `folder` to `files`, sorted by name; follows links to files, not to folders.
fn gather(data_root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), SourceError> {
    let read = |source| SourceError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for item in std::fs::read_dir(data_root.join(folder)).map_err(read)? {
        let item = item.map_err(read)?;
        let is_folder = item.file_type().map_err(read)?.is_dir();
        let name = item
            .file_name()
            .into_string()
            .map_err(|_| SourceError::NotUtf8 { path: folder.to_owned() })?;
        names.push((name, is_folder));
    }
    names.sort();
    for (name, is_folder) in names.into_iter().filter(|(name, _)| !name.starts_with('.')) {
        let path = folder.join(&name);
        if is_folder {
            gather(data_root, &path, files)?;
        } else if looks_like_image(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn looks_like_image(path: &Path) -> bool {
    let Some(extension) = path.extension() else { return true };
    let is_end_of_uid = extension.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let known = ["png", "jpg", "jpeg", "dcm", "dicom"];
    is_end_of_uid || known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
