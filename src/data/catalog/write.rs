//! What ingest writes.

use super::{Catalog, CatalogError, Digest, Kind, Label, Location, PatientKey, Quarantine, Split};
use crate::data::file::Window;
use crate::data::source::Listed;
use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The stamp of an image that the next ingest opens again, whatever its files look like.
pub(crate) const NEVER: [u8; 32] = [0; 32];

/// Rows between two looks at whether to go on.
const ROWS_PER_LOOK: usize = 1024;

/// What a row of an earlier or interrupted ingest remembers.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: i64,
    pub(crate) stamp: [u8; 32],
    pub(crate) described: [u8; 32],
    pub(crate) quarantine: Option<Quarantine>,
}

/// What opening an image showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) stamp: [u8; 32],
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Of the decoded pixels.
    pub(crate) hash: Option<[u8; 32]>,
    /// Of the file's bytes.
    pub(crate) file_hash: Option<[u8; 32]>,
    pub(crate) mask_hash: Option<[u8; 32]>,
    /// True where the source names a mask that cannot be read.
    pub(crate) lacks_mask: bool,
    /// Why the image cannot be used, if so.
    pub(crate) quarantine: Option<Quarantine>,
    /// Whom the file shows, where the source leaves that to the file and the file says it.
    pub(crate) patient: Option<PatientKey>,
    /// What the file says of its view.
    pub(crate) view: Option<String>,
    /// Labels and report that come with the pixels (a phantom's).
    pub(crate) labels: Option<BTreeMap<String, Label>>,
    pub(crate) report: Option<String>,
}

/// What is settled only when every image has been seen.
pub(crate) struct Finish<'a> {
    /// Rows that no source lists any more.
    pub(crate) gone: Vec<i64>,
    /// Rows whose files are as they were but whose source says something new.
    pub(crate) redescribed: Vec<(i64, &'a Listed)>,
    /// The split of every listed image.
    pub(crate) splits: Vec<(i64, Split)>,
    /// Images of patients whom the official splits divide, to be left out.
    pub(crate) divided: Vec<i64>,
    /// Digest of the whole plan: an ingest that plans the same has nothing to do.
    pub(crate) digest: String,
}

/// Asked now and then, by whoever does something long.
pub(crate) type KeepOn<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

impl Catalog {
    /// Digest of the plan that the last complete ingest carried out.
    pub(crate) fn finished_plan(&self) -> Result<Option<String>, CatalogError> {
        self.meta("finished")
    }

    /// True where some image is to be opened again, whatever its files look like.
    pub(crate) fn is_unsettled(&self) -> Result<bool, CatalogError> {
        self.sql(|connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM images WHERE stamp = ?1)",
                [NEVER],
                |row| row.get(0),
            )
        })
    }

    /// Fails where keys of patients are there that were made with another secret than the one of this `fingerprint`.
    pub(crate) fn check_secret(&self, fingerprint: &str) -> Result<(), CatalogError> {
        match self.meta("patient_secret")? {
            Some(found) if found != fingerprint => Err(CatalogError::OtherSecret {
                path: self.path.clone(),
                found,
                given: fingerprint.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Every row there is, by location.
    pub(crate) fn known(&self) -> Result<BTreeMap<Location, Known>, CatalogError> {
        self.sql(|connection| {
            let mut statement = connection
                .prepare("SELECT id, path, phantom, stamp, described, quarantine FROM images")?;
            let rows = statement.query_map([], |row| {
                let quarantine: Option<String> = row.get("quarantine")?;
                let known = Known {
                    id: row.get("id")?,
                    stamp: row.get("stamp")?,
                    described: row.get("described")?,
                    quarantine: quarantine.and_then(|text| Quarantine::read(&text)),
                };
                Ok((read_location(row.get("path")?, row.get("phantom")?), known))
            })?;
            rows.filter_map(|row| match row {
                Ok((location, known)) => Some(Ok((location?, known))),
                Err(error) => Some(Err(error)),
            })
            .collect()
        })
    }

    /// The patient of every row.
    pub(crate) fn patients(&self) -> Result<BTreeMap<i64, PatientKey>, CatalogError> {
        self.sql(|connection| {
            let mut statement = connection.prepare("SELECT id, patient FROM images")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, PatientKey(row.get(1)?))))?;
            rows.collect()
        })
    }

    /// Marks the catalog as being worked on (nobody reads it until [`Self::finish`]) and gives every listed image
    /// its row, so that ids follow from the listing and not from who was opened first. The ids in order; `None` where
    /// `keep_on` broke off.
    pub(crate) fn begin(
        &mut self,
        listed: &[Listed],
        known: &BTreeMap<Location, Known>,
        secret: Option<&str>,
        keep_on: KeepOn<'_>,
    ) -> Result<Option<Vec<i64>>, CatalogError> {
        self.transact(keep_on, |transaction, keep_on| {
            transaction.execute("DELETE FROM meta WHERE key = 'finished'", [])?;
            if let Some(secret) = secret {
                transaction.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('patient_secret', ?1)",
                    [secret],
                )?;
            }
            let mut ids = Vec::with_capacity(listed.len());
            for (at, listed) in listed.iter().enumerate() {
                if at.is_multiple_of(ROWS_PER_LOOK) && keep_on().is_break() {
                    return Ok(None);
                }
                ids.push(match known.get(&listed.location) {
                    Some(known) => known.id,
                    None => reserve(transaction, listed)?,
                });
            }
            Ok(Some(ids))
        })
    }

    /// Writes what was seen of images that have their rows, all or nothing.
    pub(crate) fn put(
        &mut self,
        rows: &[(i64, &Listed, Seen)],
        window: &Window,
    ) -> Result<(), CatalogError> {
        let window = serde_json::to_string(window).expect("a window is plain data");
        let to_the_end = &mut || ControlFlow::Continue(());
        self.transact(to_the_end, |transaction, _| {
            for (id, listed, seen) in rows {
                put(transaction, *id, listed, seen, &window)?;
            }
            Ok(Some(()))
        })?;
        Ok(())
    }

    /// Settles splits and duplicates and declares the catalog finished, all or nothing; `None` where `keep_on` broke
    /// off.
    pub(crate) fn finish(
        &mut self,
        finish: &Finish<'_>,
        keep_on: KeepOn<'_>,
    ) -> Result<Option<()>, CatalogError> {
        self.transact(keep_on, |transaction, keep_on| {
            for id in &finish.gone {
                transaction.prepare_cached("DELETE FROM images WHERE id = ?1")?.execute([id])?;
            }
            for (id, listed) in &finish.redescribed {
                describe(transaction, *id, listed)?;
            }
            for (at, (id, split)) in finish.splits.iter().enumerate() {
                if at.is_multiple_of(ROWS_PER_LOOK) && keep_on().is_break() {
                    return Ok(None);
                }
                transaction
                    .prepare_cached("UPDATE images SET split = ?1 WHERE id = ?2")?
                    .execute(params![split.name(), id])?;
            }
            // What was settled before is settled anew.
            transaction.execute(
                "UPDATE images SET quarantine = NULL \
                 WHERE quarantine LIKE 'conflict: %' OR quarantine LIKE 'duplicate: %'",
                [],
            )?;
            mark_divided(transaction, &finish.divided)?;
            mark_duplicates(transaction)?;
            transaction.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('finished', ?1)",
                [&finish.digest],
            )?;
            Ok(Some(()))
        })
    }

    /// What `write` gives, committed; or nothing done at all where it gives `None`.
    fn transact<T>(
        &mut self,
        keep_on: KeepOn<'_>,
        write: impl FnOnce(&Transaction<'_>, KeepOn<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Option<T>, CatalogError> {
        let written = self.connection.transaction().and_then(|transaction| {
            let written = write(&transaction, keep_on)?;
            match written {
                Some(_) => transaction.commit()?,
                None => transaction.rollback()?,
            }
            Ok(written)
        });
        written.map_err(|source| CatalogError::Sqlite { path: self.path.clone(), source })
    }
}

impl Listed {
    /// Hash of everything that the source says beside the location.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Digest::new("umbra listed image v2");
        digest.text(&self.dataset);
        digest.bytes(&self.patient.0);
        digest.bytes(&[u8::from(self.is_patient_in_file)]);
        digest.option(self.view.as_deref());
        digest.option(self.report.as_deref());
        digest.option(self.mask.as_ref().map(|path| path.to_string_lossy()).as_deref());
        digest.option(self.split.map(Split::name));
        for (name, label) in &self.labels {
            digest.text(name);
            digest.text(label.name());
        }
        digest.finish()
    }
}

pub(super) fn read_location(path: Option<String>, phantom: Option<String>) -> Option<Location> {
    match (path, phantom) {
        (Some(path), None) => Some(Location::File(PathBuf::from(path))),
        (None, Some(phantom)) => {
            let (seed, index) = phantom.split_once('/')?;
            Some(Location::Phantom { seed: seed.parse().ok()?, index: index.parse().ok()? })
        }
        _ => None,
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("sources list only UTF-8 names").to_owned()
}

/// A row for an image that nobody has opened yet.
fn reserve(transaction: &Transaction<'_>, listed: &Listed) -> rusqlite::Result<i64> {
    let (path, phantom) = match &listed.location {
        Location::File(path) => (Some(path_text(path)), None),
        Location::Phantom { seed, index } => (None, Some(format!("{seed}/{index}"))),
    };
    transaction
        .prepare_cached(
            "INSERT INTO images (dataset, path, phantom, patient, width, height, window, stamp, described) \
             VALUES (?1, ?2, ?3, ?4, 0, 0, 'null', ?5, ?5)",
        )?
        .execute(params![listed.dataset, path, phantom, listed.patient.0, NEVER])?;
    Ok(transaction.last_insert_rowid())
}

fn put(
    transaction: &Transaction<'_>,
    id: i64,
    listed: &Listed,
    seen: &Seen,
    window: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE images SET patient = ?1, file_view = ?2, width = ?3, height = ?4, hash = ?5, file_hash = ?6, \
             window = ?7, mask_hash = ?8, quarantine = ?9, stamp = ?10 WHERE id = ?11",
        )?
        .execute(params![
            seen.patient.unwrap_or(listed.patient).0,
            seen.view,
            seen.width,
            seen.height,
            seen.hash,
            seen.file_hash,
            window,
            seen.mask_hash,
            seen.quarantine.as_ref().map(Quarantine::to_string),
            seen.stamp,
            id,
        ])?;
    describe(transaction, id, listed)?;
    if let Some(report) = &seen.report {
        transaction
            .prepare_cached("UPDATE images SET report = ?1 WHERE id = ?2")?
            .execute(params![report, id])?;
    }
    match &seen.labels {
        Some(labels) => put_labels(transaction, id, labels),
        None => Ok(()),
    }
}

/// Writes what the source says about an image; what only the file says stays.
fn describe(transaction: &Transaction<'_>, id: i64, listed: &Listed) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE images SET dataset = ?1, patient = coalesce(?2, patient), view = coalesce(?3, file_view), \
             report = ?4, mask = ?5, described = ?6 WHERE id = ?7",
        )?
        .execute(params![
            listed.dataset,
            (!listed.is_patient_in_file).then_some(listed.patient.0),
            listed.view,
            listed.report,
            listed.mask.as_deref().map(path_text),
            listed.digest(),
            id,
        ])?;
    put_labels(transaction, id, &listed.labels)
}

fn put_labels(
    transaction: &Transaction<'_>,
    id: i64,
    labels: &BTreeMap<String, Label>,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM labels WHERE image = ?1")?.execute([id])?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO labels (image, name, value) VALUES (?1, ?2, ?3)")?;
    for (name, label) in labels {
        insert.execute(params![id, name, label.name()])?;
    }
    Ok(())
}

/// Leaves out the images of patients whom the official splits divide.
fn mark_divided(transaction: &Transaction<'_>, divided: &[i64]) -> rusqlite::Result<()> {
    let reason = Quarantine::new(Kind::Conflict, "the official splits divide its patient");
    for id in divided {
        transaction
            .prepare_cached(
                "UPDATE images SET quarantine = ?1 WHERE id = ?2 AND quarantine IS NULL",
            )?
            .execute(params![reason.to_string(), id])?;
    }
    Ok(())
}

/// Of images with equal pixels the first by dataset and location stays, the others are quarantined.
fn mark_duplicates(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute(
        "WITH ranked AS (
             SELECT id, first_value(id) OVER (
                 PARTITION BY hash ORDER BY dataset, path, phantom
             ) AS first
             FROM images WHERE quarantine IS NULL AND hash IS NOT NULL
         )
         UPDATE images SET quarantine = 'duplicate: same pixels as image ' || ranked.first
         FROM ranked WHERE ranked.id = images.id AND ranked.first <> images.id",
        [],
    )?;
    Ok(())
}
