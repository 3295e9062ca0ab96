//! The secret without which a patient's key says nothing about the patient.
//!
//! It lies in a file of its own, outside of runs and data: who has a catalog and guesses patient ids cannot
//! check a guess. See docs/decisions/0009-patient-secret.md.

use super::catalog::{Digest, PatientKey};
use super::file::PatientId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a secret.
const LENGTH: usize = 32;

/// What the keys of patients are made with: 32 random bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientSecret([u8; LENGTH]);

/// Why there is no patient secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither named nor in a place of its own.
    #[error(
        "there is no place for the patient secret: HOME is not set; name a file with --patient-secret or \
         UMBRA_PATIENT_SECRET"
    )]
    NoPlace,
    /// Others than its owner may read or write the file.
    #[error(
        "the patient secret {} has mode {mode:03o}, so others can read it; run chmod 600 on it", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is something else.
    #[error(
        "the patient secret {} has {found} bytes, expected {LENGTH}; name another file with --patient-secret",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
    },
    /// A folder, a pipe, a device.
    #[error(
        "the patient secret {} is not a regular file; name another one with --patient-secret", path.display()
    )]
    NoFile {
        /// What was named.
        path: PathBuf,
    },
    /// Who is given the folder would be given the secret too.
    #[error(
        "the patient secret {} lies inside of {}, and whoever is given that folder would have it; name a file \
         elsewhere with --patient-secret, or a narrower --data-root", path.display(), folder.display()
    )]
    Inside {
        /// The file.
        path: PathBuf,
        /// The data root or the folder of runs.
        folder: PathBuf,
    },
    /// The system said no.
    #[error("cannot {doing} the patient secret {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl PatientSecret {
    /// The secret in the file `path`, which is made where there is none (mode 600, complete or absent; of two
    /// processes that make it at once both get the same).
    ///
    /// Refuses a file that others may read, one of another length, and one inside of `shared` folders.
    pub fn open_or_create(path: &Path, shared: &[&Path]) -> Result<Self, SecretError> {
        for folder in shared {
            if resolved(path).starts_with(resolved(folder)) {
                let (path, folder) = (path.to_owned(), (*folder).to_owned());
                return Err(SecretError::Inside { path, folder });
            }
        }
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            _ => {}
        }
        read(path)
    }

    /// The same, where there is one already; makes none.
    pub fn open(path: &Path, shared: &[&Path]) -> Result<Option<Self>, SecretError> {
        if path.exists() { Self::open_or_create(path, shared).map(Some) } else { Ok(None) }
    }

    /// Made of `bytes`, which nobody else may know.
    pub fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Tells secrets apart and says nothing else about them: 16 hexadecimal digits of a BLAKE3 under a context of
    /// its own.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("umbra patient secret fingerprint v1", &self.0);
        blake3::Hash::from(hash).to_hex()[..16].to_owned()
    }

    /// The key of patient `id` of `dataset`: 128 bits of a BLAKE3 keyed with the secret.
    pub fn key(&self, dataset: &str, id: &str) -> PatientKey {
        self.key_of(&[b"dataset", dataset.as_bytes(), id.as_bytes()])
    }

    /// The key of a patient whom a DICOM file names, by PatientID and IssuerOfPatientID.
    ///
    /// The dataset has no part in it: a patient who is in two folders is one patient.
    pub fn key_in_file(&self, patient: &PatientId) -> PatientKey {
        self.key_of(&[b"dicom", &patient.bytes()])
    }

    fn key_of(&self, parts: &[&[u8]]) -> PatientKey {
        let mut digest = Digest::keyed(&self.0);
        parts.iter().for_each(|part| digest.bytes(part));
        let hash = digest.finish();
        PatientKey(hash[..16].try_into().expect("16 bytes of 32"))
    }
}

/// Never shows the secret.
impl fmt::Debug for PatientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PatientSecret({})", self.fingerprint())
    }
}

fn read(path: &Path) -> Result<PatientSecret, SecretError> {
    let io = |source| SecretError::Io { doing: "read", path: path.to_owned(), source };
    // Before it is opened: a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(SecretError::NoFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    if metadata.len() != LENGTH as u64 {
        return Err(SecretError::Length { path: path.to_owned(), found: metadata.len() });
    }
    let mut bytes = [0; LENGTH];
    file.read_exact(&mut bytes).map_err(io)?;
    Ok(PatientSecret(bytes))
}

/// Writes a new secret beside `path` and links it into its place, unless somebody was faster.
fn create(path: &Path) -> Result<(), SecretError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let io = |source| SecretError::Io { doing: "make", path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let mut bytes = [0; LENGTH];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(io)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".patient-secret.{}.{number}", std::process::id()));
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io(error)),
        _ => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io),
    }
}

/// `path` without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_secret_is_made_once_whoever_comes_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config/umbra/patient-secret");
        let secrets: Vec<PatientSecret> = std::thread::scope(|scope| {
            let open = || PatientSecret::open_or_create(&path, &[]).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
        let other = PatientSecret::open_or_create(&home.path().join("other"), &[]).unwrap();
        assert_ne!(other, secrets[0]);
        assert_ne!(other.fingerprint(), secrets[0].fingerprint());
        assert!(!format!("{other:?}").contains(&format!("{:?}", other.0)));
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        let said = |path: &Path| PatientSecret::open_or_create(path, &[]).unwrap_err().to_string();
        let write = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write(&[7; 32], 0o640);
        assert!(said(&path).ends_with("has mode 640, so others can read it; run chmod 600 on it"));
        write(&[7; 31], 0o600);
        assert!(said(&path).contains("has 31 bytes, expected 32"), "{}", said(&path));
        assert!(said(home.path()).contains("is not a regular file"));
        write(&[7; 32], 0o600);
        assert_eq!(PatientSecret::open_or_create(&path, &[]).unwrap(), PatientSecret::new([7; 32]));
    }

    #[test]
    fn a_secret_inside_of_what_is_shared_is_refused_and_not_made() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, home.path().join("link")).unwrap();
        for path in ["data/secret", "link/deep/secret", "data/../data/secret"] {
            let path = home.path().join(path);
            let error = PatientSecret::open_or_create(&path, &[&data]).unwrap_err();
            assert!(matches!(error, SecretError::Inside { .. }), "{error}");
            assert!(!path.exists());
        }
        PatientSecret::open_or_create(&home.path().join("data-secret"), &[&data]).unwrap();
    }

    #[test]
    fn patients_of_two_datasets_are_two_patients() {
        let secret = PatientSecret::new([1; 32]);
        let keys = BTreeSet::from([
            secret.key("a", "bc"),
            secret.key("ab", "c"),
            secret.key("a", "b"),
            secret.key("b", "bc"),
            secret.key_of(&[b"dicom", b"abc"]),
            secret.key_of(&[b"dicom", b"", b"abc"]),
            PatientSecret::new([2; 32]).key("a", "bc"),
        ]);
        assert_eq!(keys.len(), 7);
        assert_eq!(secret.key("a", "bc"), secret.key("a", "bc"));
    }

    /// Whoever has a catalog, the source text and every id there can be, but not the secret.
    #[test]
    fn guessed_ids_find_nobody_without_the_secret_and_everybody_with_it() {
        let secret = PatientSecret::new(*blake3::hash(b"a secret").as_bytes());
        let patients: BTreeSet<PatientKey> =
            (0..1000).map(|id| secret.key("cxr", &(id * 977).to_string())).collect();
        let found = |guess: &dyn Fn(&str) -> PatientKey| {
            (0..1_000_000).filter(|id: &u32| patients.contains(&guess(&id.to_string()))).count()
        };
        assert_eq!(found(&|id| secret.key("cxr", id)), 1000, "the attack itself works");
        let without = PatientSecret::new([0; 32]);
        assert_eq!(found(&|id| without.key("cxr", id)), 0);
        assert_eq!(found(&|id| PatientKey::of_phantom(&format!("cxr{id}"))), 0);
        let fingerprint = *blake3::hash(secret.fingerprint().as_bytes()).as_bytes();
        let from_fingerprint = PatientSecret::new(fingerprint);
        assert_eq!(found(&|id| from_fingerprint.key("cxr", id)), 0);
    }
}
