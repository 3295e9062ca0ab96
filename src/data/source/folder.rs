//! A folder of images, and nothing else known about them.

use super::{Ground, Listed, ListedAt, Listing, SourceError, below_root, last_name};
use crate::data::catalog::Location;
use crate::data::secret::PatientSecret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// All images below a folder, at any depth: PNG, JPEG and DICOM by extension, and files without any
/// extension (or with the end of a UID for one), which DICOM archives are full of. Other files and
/// hidden ones are passed over, as are the folder of runs, links that lead nowhere, and pipes and devices. A link to a
/// folder is followed if nothing else has led there.
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
    /// A DICOM file says whose it is, by PatientID and IssuerOfPatientID; one that does not is left out. Every file of
    /// another format is a patient of its own.
    #[default]
    Dicom,
    /// Every file is a patient of its own.
    File,
    /// Every first-level folder is a patient, with all studies below it.
    Folder,
}

impl Folder {
    pub(super) fn check(&self, data_root: &Path) -> Option<String> {
        match below_root(data_root, Path::new(""), &self.path) {
            None => Some(SourceError::Outside { path: self.path.clone() }.to_string()),
            Some(below) => (!data_root.join(&below).is_dir()).then(|| {
                format!("there is no folder {} below {}", self.path.display(), data_root.display())
            }),
        }
    }

    pub(super) fn list(&self, ground: &Ground<'_>) -> Result<Listing, SourceError> {
        let below = below_root(ground.data_root, Path::new(""), &self.path)
            .ok_or_else(|| SourceError::Outside { path: self.path.clone() })?;
        let secret = ground.secret.ok_or(SourceError::NoSecret)?;
        let walk = Walk::through(ground, &below)?;
        if walk.files.is_empty() {
            return Err(SourceError::Empty { path: below });
        }
        let dataset = last_name(&below);
        let origin = ListedAt::whole(&format!("the folder {}", below.display()));
        let describe = |file| self.describe(&dataset, &below, file, &origin, secret);
        let images = walk.files.into_iter().map(describe).collect();
        Ok(Listing { images, passed_over: walk.passed_over })
    }

    fn describe(
        &self,
        dataset: &str,
        below: &Path,
        file: PathBuf,
        origin: &ListedAt,
        secret: &PatientSecret,
    ) -> Listed {
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
            patient: secret.key(dataset, &patient),
            is_patient_in_file: self.patient == PatientFrom::Dicom,
            location: Location::File(file),
            origin: origin.clone(),
            view: None,
            labels: BTreeMap::new(),
            report: None,
            mask: None,
            split: None,
        }
    }
}

/// A walk through a folder.
struct Walk<'a> {
    data_root: &'a Path,
    top: &'a Path,
    own_output: Option<(u64, u64)>,
    /// Folders that were looked into, by device and inode: no link leads there again.
    seen: BTreeSet<(u64, u64)>,
    /// Links to folders that have yet to be followed: real folders come first, whatever their names.
    links: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    passed_over: BTreeMap<&'static str, u64>,
}

impl<'a> Walk<'a> {
    fn through(ground: &Ground<'a>, top: &'a Path) -> Result<Self, SourceError> {
        let mut walk = Self {
            data_root: ground.data_root,
            top,
            own_output: ground
                .own_output
                .and_then(|path| Some(identity(&fs::metadata(path).ok()?))),
            seen: BTreeSet::new(),
            links: BTreeSet::new(),
            files: Vec::new(),
            passed_over: BTreeMap::new(),
        };
        walk.gather(top)?;
        while let Some(link) = walk.links.pop_first() {
            walk.gather(&link)?;
        }
        Ok(walk)
    }

    /// Adds the images below `folder` to `files`, sorted by name within each folder.
    fn gather(&mut self, folder: &Path) -> Result<(), SourceError> {
        let path = self.data_root.join(folder);
        let read = |source| self.cannot_read(folder, source);
        let identity = identity(&fs::metadata(&path).map_err(read)?);
        let is_ours = folder != self.top && Some(identity) == self.own_output;
        if is_ours || !self.seen.insert(identity) {
            return Ok(());
        }
        let read = |source| self.cannot_read(folder, source);
        let items = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut names = Vec::new();
        let mut num_nameless = 0;
        for item in items.map_err(read)? {
            let kind = item.file_type().map_err(read)?;
            match item.file_name().into_string() {
                Ok(name) if name.starts_with('.') => {}
                Ok(name) => names.push((name, kind)),
                Err(_) => num_nameless += 1,
            }
        }
        if num_nameless > 0 {
            *self.passed_over.entry("a name that is not UTF-8").or_default() += num_nameless;
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, kind) in names {
            let path = folder.join(name);
            if kind.is_dir() {
                self.gather(&path)?;
            } else if kind.is_symlink() {
                self.look_behind(path);
            } else if !looks_like_image(&path) {
                // Passed over in silence, as documented.
            } else if kind.is_file() {
                self.files.push(path);
            } else {
                self.pass_over("a pipe, socket or device");
            }
        }
        Ok(())
    }

    fn look_behind(&mut self, link: PathBuf) {
        match fs::metadata(self.data_root.join(&link)) {
            Ok(target) if target.is_dir() => {
                self.links.insert(link);
            }
            _ if !looks_like_image(&link) => {}
            Ok(target) if target.is_file() => self.files.push(link),
            Ok(_) => self.pass_over("a pipe, socket or device"),
            Err(_) => self.pass_over("a link that leads nowhere"),
        }
    }

    fn pass_over(&mut self, what: &'static str) {
        *self.passed_over.entry(what).or_default() += 1;
    }

    /// Names the recipe's folder only: those below it may be called by patients' names.
    fn cannot_read(&self, folder: &Path, source: io::Error) -> SourceError {
        let path = self.top.to_owned();
        match folder.strip_prefix(self.top).map_or(0, |within| within.components().count()) {
            0 => SourceError::Read { path, source },
            depth => SourceError::Below { path, depth, source },
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn looks_like_image(path: &Path) -> bool {
    let Some(extension) = path.extension() else { return true };
    let is_end_of_uid = extension.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let known = ["png", "jpg", "jpeg", "dcm", "dicom"];
    is_end_of_uid || known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
