//! The catalog: one SQLite file, one row per image.
//!
//! Python's standard library opens it. Every change is a transaction under SQLite's rollback journal, so
//! a process killed at any moment leaves either the old rows or the new ones. [`super::ingest`] writes
//! it; everybody else only reads.

mod counts;
mod digest;
mod entry;
mod quarantine;
mod write;

pub use counts::{Counts, LabelCounts};
pub(crate) use digest::Digest;
pub use entry::{Entry, Label, Location, PatientKey, Split};
pub use quarantine::{Kind, Quarantine};
pub(crate) use write::{Finish, Known, NEVER, Seen};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the tables below, in `PRAGMA user_version`.
pub const VERSION: i32 = 2;

/// "umbr", in `PRAGMA application_id`: what `file` and we know a catalog by.
const APPLICATION: i32 = 0x756d_6272;

const TABLES: &str = "
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    CREATE TABLE images (
        id INTEGER PRIMARY KEY,
        dataset TEXT NOT NULL,
        path TEXT UNIQUE,       -- relative to the data root
        phantom TEXT UNIQUE,    -- seed/index
        patient BLOB NOT NULL CHECK (length(patient) = 16),
        view TEXT,
        file_view TEXT,         -- what the file says of its view
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        hash BLOB CHECK (length(hash) = 32),            -- of width, height and decoded pixels
        file_hash BLOB CHECK (length(file_hash) = 32),  -- of the file's bytes
        window TEXT NOT NULL,   -- JSON
        report TEXT,
        mask TEXT,              -- relative to the data root
        mask_hash BLOB CHECK (length(mask_hash) = 32),
        split TEXT CHECK (split IN ('train', 'valid', 'test')),
        quarantine TEXT,        -- why it is left out, as '<kind>: <reason>'
        stamp BLOB NOT NULL,    -- hash of the files' sizes and times when they were read; zeros: open again
        described BLOB NOT NULL,-- hash of what the source said about the image
        CHECK ((path IS NULL) <> (phantom IS NULL))
    ) STRICT;
    CREATE INDEX images_by_hash ON images (hash);
    CREATE TABLE labels (
        image INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL CHECK (value IN ('present', 'absent', 'unknown')),
        PRIMARY KEY (image, name)
    ) STRICT, WITHOUT ROWID;
";

/// An open catalog.
#[derive(Debug)]
pub struct Catalog {
    connection: Connection,
    path: PathBuf,
}

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is no such file.
    #[error("there is no catalog {}; `umbra ingest` makes it", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not an umbra catalog", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later umbra.
    #[error("{} has catalog version {found}, this umbra knows {VERSION}; use a newer umbra", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// Written by an earlier umbra, whose catalogs this one cannot migrate.
    #[error("{} has catalog version {found}, this umbra needs {VERSION}; remove the file and ingest again", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// Its ingest was interrupted.
    #[error("{} is not finished; run ingest again, it goes on from where it stopped", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// A row holds what no ingest writes.
    #[error("{}, image {id}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row's id.
        id: i64,
        /// What is wrong with it.
        what: String,
    },
    /// The folder for it cannot be made.
    #[error("cannot make a folder for {}", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The keys of its patients were made with another secret.
    #[error(
        "{} was made with the patient secret {found}, and this one is {given}; name that secret with \
         --patient-secret, or remove the catalog and ingest again (patients will fall into other splits)",
        path.display()
    )]
    OtherSecret {
        /// The file.
        path: PathBuf,
        /// Fingerprint of the secret it was made with.
        found: String,
        /// Fingerprint of the one that was given.
        given: String,
    },
    /// SQLite says no: disk full, locked, damaged.
    #[error("catalog {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: rusqlite::Error,
    },
}

impl Catalog {
    /// Opens the catalog at `path`, or makes an empty one.
    pub fn create(path: &Path) -> Result<Self, CatalogError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(folder)
            .map_err(|source| CatalogError::Folder { path: path.to_owned(), source })?;
        Self::connect(path, OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens the catalog at `path`, which must be there.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        if !path.is_file() {
            return Err(CatalogError::Missing { path: path.to_owned() });
        }
        Self::connect(path, OpenFlags::empty())
    }

    fn connect(path: &Path, create: OpenFlags) -> Result<Self, CatalogError> {
        let path = path.to_owned();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let opened = Connection::open_with_flags(&path, flags).and_then(|mut connection| {
            let version = version_of(&mut connection, !create.is_empty())?;
            Ok((connection, version))
        });
        match opened {
            Ok((connection, Version::Known)) => Ok(Self { connection, path }),
            Ok((_, Version::Newer(found))) => Err(CatalogError::Newer { path, found }),
            Ok((_, Version::Older(found))) => Err(CatalogError::Older { path, found }),
            Ok((_, Version::Stranger)) => Err(CatalogError::Stranger { path }),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
                Err(CatalogError::Stranger { path })
            }
            Err(source) => Err(CatalogError::Sqlite { path, source }),
        }
    }

    /// The usable images of `split`: quarantined ones are left out.
    ///
    /// The order depends on the images' pixels alone, not on when or from where they were ingested.
    pub fn entries(&self, split: Split) -> Result<Vec<Entry>, CatalogError> {
        self.finished()?;
        let filter = "split = ?1 AND quarantine IS NULL ORDER BY hash, dataset, path, phantom";
        self.select(filter, [split.name()])
    }

    /// The images that are left out of everything, with the reason for each, by location.
    pub fn quarantined(&self) -> Result<Vec<Entry>, CatalogError> {
        self.finished()?;
        self.select("quarantine IS NOT NULL ORDER BY dataset, path, phantom", [])
    }

    /// Hash, in hex, of everything in the catalog that decides a training: pixels, labels, reports, masks,
    /// views, patients and splits of the images in use.
    ///
    /// It is the same wherever the files are and in whatever order they were ingested.
    pub fn fingerprint(&self) -> Result<String, CatalogError> {
        self.finished()?;
        let mut digests = self.sql(digest::digests)?;
        digests.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key("umbra catalog fingerprint v2");
        digests.iter().for_each(|digest| {
            hasher.update(digest);
        });
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// How many of what there are.
    pub fn counts(&self) -> Result<Counts, CatalogError> {
        self.finished()?;
        self.sql(counts::count)
    }

    /// Every reason for which images are left out with the number of those images, the most frequent first.
    pub fn reasons(&self) -> Result<Vec<(Quarantine, u64)>, CatalogError> {
        self.finished()?;
        self.sql(quarantine::reasons)
    }

    /// Fails where its ingest did not come to its end.
    pub(crate) fn finished(&self) -> Result<(), CatalogError> {
        match self.meta("finished")? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Unfinished { path: self.path.clone() }),
        }
    }

    fn meta(&self, key: &str) -> Result<Option<String>, CatalogError> {
        self.sql(|connection| {
            connection
                .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
                .optional()
        })
    }

    fn select(
        &self,
        filter: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<Entry>, CatalogError> {
        let (vocabulary, mut labels) = self.sql(digest::labels)?;
        let rows = self.sql(|connection| {
            let mut statement = connection.prepare(&format!(
                "SELECT id, dataset, path, phantom, patient, view, width, height, hash, window, report, \
                 mask, split, quarantine FROM images WHERE {filter}"
            ))?;
            let rows = statement.query_map(params, |row| Ok((row.get("id")?, read_entry(row))))?;
            rows.collect::<Result<Vec<(i64, Result<Entry, ReadError>)>, _>>()
        })?;
        rows.into_iter()
            .map(|(id, entry)| {
                let mut entry = entry.map_err(|error| CatalogError::Row {
                    path: self.path.clone(),
                    id,
                    what: error.to_string(),
                })?;
                entry.labels =
                    vocabulary.iter().map(|name| (name.clone(), Label::Unknown)).collect();
                entry.labels.extend(labels.remove(&id).unwrap_or_default());
                Ok(entry)
            })
            .collect()
    }

    fn sql<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        query(&self.connection)
            .map_err(|source| CatalogError::Sqlite { path: self.path.clone(), source })
    }
}

/// What kind of file this is.
enum Version {
    Known,
    Newer(i32),
    Older(i32),
    Stranger,
}

/// Looks at the version and, if it may `create`, gives an empty file its tables.
fn version_of(connection: &mut Connection, create: bool) -> rusqlite::Result<Version> {
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let pragma = |connection: &Connection, name| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0))
    };
    let application = pragma(connection, "application_id")?;
    let found = pragma(connection, "user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && found == 0 && tables == 0 && create {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
        return Ok(Version::Known);
    }
    Ok(match found {
        _ if application != APPLICATION => Version::Stranger,
        VERSION => Version::Known,
        _ if found > VERSION => Version::Newer(found),
        _ => Version::Older(found),
    })
}

/// Why a row is no entry.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Column(#[from] rusqlite::Error),
    #[error("its {0} cannot be understood")]
    Value(&'static str),
}

/// A row without its labels.
fn read_entry(row: &Row<'_>) -> Result<Entry, ReadError> {
    let path: Option<String> = row.get("path")?;
    let phantom: Option<String> = row.get("phantom")?;
    let location = write::read_location(path, phantom).ok_or(ReadError::Value("location"))?;
    let window: String = row.get("window")?;
    let split: Option<String> = row.get("split")?;
    let mask: Option<String> = row.get("mask")?;
    let hash: Option<[u8; 32]> = row.get("hash")?;
    Ok(Entry {
        id: row.get("id")?,
        dataset: row.get("dataset")?,
        location,
        patient: PatientKey(row.get("patient")?),
        view: row.get("view")?,
        labels: BTreeMap::new(),
        report: row.get("report")?,
        mask: mask.map(PathBuf::from),
        window: serde_json::from_str(&window).map_err(|_| ReadError::Value("window"))?,
        hash: hash.unwrap_or_default(),
        split: split.and_then(|name| Split::from_name(&name)).ok_or(ReadError::Value("split"))?,
        width: row.get("width")?,
        height: row.get("height")?,
        quarantine: row.get("quarantine")?,
    })
}
