//! What ingest writes, and the digests of what it wrote.

use super::{Catalog, CatalogError, Label, Location, Split};
use crate::data::file::Window;
use crate::data::source::Listed;
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a row of an earlier or interrupted ingest remembers.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: i64,
    pub(crate) stamp: [u8; 32],
    pub(crate) described: [u8; 32],
    pub(crate) damage: Option<String>,
}

/// What opening an image showed.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) stamp: [u8; 32],
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) hash: Option<[u8; 32]>,
    pub(crate) mask_hash: Option<[u8; 32]>,
    /// Why the image cannot be used, if so.
    pub(crate) damage: Option<String>,
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
    pub(crate) splits: Vec<(&'a Location, Split)>,
    /// Digest of the whole plan: an ingest that plans the same has nothing to do.
    pub(crate) digest: String,
}

impl Catalog {
    /// Digest of the plan that the last complete ingest carried out.
    pub(crate) fn finished_plan(&self) -> Result<Option<String>, CatalogError> {
        self.meta("finished")
    }

    /// Marks the catalog as being worked on: nobody reads it until [`Self::finish`].
    pub(crate) fn begin(&mut self) -> Result<(), CatalogError> {
        self.transact(|transaction| {
            transaction.execute("DELETE FROM meta WHERE key = 'finished'", [])?;
            Ok(())
        })
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
                    damage: quarantine.filter(|reason| reason.starts_with("damaged: ")),
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

    /// Writes `rows`, replacing those of the same locations, all or nothing.
    pub(crate) fn put(
        &mut self,
        rows: &[(&Listed, Seen)],
        window: &Window,
    ) -> Result<(), CatalogError> {
        let window = serde_json::to_string(window).expect("a window is plain data");
        self.transact(|transaction| {
            for (listed, seen) in rows {
                put(transaction, listed, seen, &window)?;
            }
            Ok(())
        })
    }

    /// Settles splits and duplicates and declares the catalog finished, all or nothing.
    pub(crate) fn finish(&mut self, finish: &Finish<'_>) -> Result<(), CatalogError> {
        self.transact(|transaction| {
            for id in &finish.gone {
                transaction.execute("DELETE FROM images WHERE id = ?1", [id])?;
            }
            for (id, listed) in &finish.redescribed {
                describe(transaction, *id, listed)?;
            }
            for (location, split) in &finish.splits {
                let (path, phantom) = location_columns(location);
                let column = if path.is_some() { "path" } else { "phantom" };
                transaction
                    .prepare_cached(&format!("UPDATE images SET split = ?1 WHERE {column} = ?2"))?
                    .execute(params![split.name(), path.or(phantom)])?;
            }
            mark_duplicates(transaction)?;
            transaction.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('finished', ?1)",
                [&finish.digest],
            )?;
            Ok(())
        })
    }

    fn transact(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), CatalogError> {
        let written = self.connection.transaction().and_then(|transaction| {
            write(&transaction)?;
            transaction.commit()
        });
        written.map_err(|source| CatalogError::Sqlite { path: self.path.clone(), source })
    }
}

impl Listed {
    /// Hash of everything that the source says beside the location.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Digest::new("umbra listed image v1");
        digest.text(&self.dataset);
        digest.bytes(&self.patient.0);
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

/// A BLAKE3 whose fields cannot run into each other.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn option(&mut self, text: Option<&str>) {
        self.bytes(&[u8::from(text.is_some())]);
        self.text(text.unwrap_or_default());
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// One digest per image in use.
pub(super) fn digests(connection: &Connection) -> rusqlite::Result<Vec<[u8; 32]>> {
    let (_, mut labels) = labels(connection)?;
    let mut statement = connection.prepare(
        "SELECT id, dataset, phantom, patient, view, hash, window, report, mask_hash, split \
         FROM images WHERE quarantine IS NULL",
    )?;
    let rows = statement.query_map([], |row| {
        let id: i64 = row.get("id")?;
        digest_of(row, &labels.remove(&id).unwrap_or_default())
    })?;
    rows.collect()
}

fn digest_of(row: &Row<'_>, labels: &BTreeMap<String, Label>) -> rusqlite::Result<[u8; 32]> {
    let mut digest = Digest::new("umbra catalog row v1");
    for column in ["dataset", "window"] {
        digest.text(&row.get::<_, String>(column)?);
    }
    for column in ["phantom", "view", "report", "split"] {
        digest.option(row.get::<_, Option<String>>(column)?.as_deref());
    }
    for column in ["patient", "hash", "mask_hash"] {
        digest.bytes(&row.get::<_, Option<Vec<u8>>>(column)?.unwrap_or_default());
    }
    for (name, label) in labels.iter().filter(|(_, label)| **label != Label::Unknown) {
        digest.text(name);
        digest.text(label.name());
    }
    Ok(digest.finish())
}

/// Every label name there is, and each image's own labels.
#[allow(clippy::type_complexity)]
pub(super) fn labels(
    connection: &Connection,
) -> rusqlite::Result<(BTreeSet<String>, BTreeMap<i64, BTreeMap<String, Label>>)> {
    let mut names = BTreeSet::new();
    let mut of_image: BTreeMap<i64, BTreeMap<String, Label>> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT image, name, value FROM labels")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (image, name, value): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let label = Label::from_name(&value).unwrap_or(Label::Unknown);
        if !names.contains(&name) {
            names.insert(name.clone());
        }
        of_image.entry(image).or_default().insert(name, label);
    }
    Ok((names, of_image))
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

fn location_columns(location: &Location) -> (Option<String>, Option<String>) {
    match location {
        Location::File(path) => (Some(path_text(path)), None),
        Location::Phantom { seed, index } => (None, Some(format!("{seed}/{index}"))),
    }
}

fn path_text(path: &std::path::Path) -> String {
    path.to_str().expect("sources list only UTF-8 names").to_owned()
}

fn put(
    transaction: &Transaction<'_>,
    listed: &Listed,
    seen: &Seen,
    window: &str,
) -> rusqlite::Result<()> {
    let (path, phantom) = location_columns(&listed.location);
    transaction
        .prepare_cached("DELETE FROM images WHERE path = ?1 OR phantom = ?2")?
        .execute(params![path, phantom])?;
    transaction
        .prepare_cached(
            "INSERT INTO images (dataset, path, phantom, patient, width, height, hash, window, mask_hash, \
             quarantine, stamp, described) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            listed.dataset,
            path,
            phantom,
            listed.patient.0,
            seen.width,
            seen.height,
            seen.hash,
            window,
            seen.mask_hash,
            seen.damage.as_ref().map(|damage| format!("damaged: {damage}")),
            seen.stamp,
            listed.digest(),
        ])?;
    let id = transaction.last_insert_rowid();
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

/// Writes what the source says about an image.
fn describe(transaction: &Transaction<'_>, id: i64, listed: &Listed) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE images SET dataset = ?1, patient = ?2, view = ?3, report = ?4, mask = ?5, \
             described = ?6 WHERE id = ?7",
        )?
        .execute(params![
            listed.dataset,
            listed.patient.0,
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

/// Of images with equal bytes the first by dataset and location stays, the others are quarantined.
fn mark_duplicates(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction
        .execute("UPDATE images SET quarantine = NULL WHERE quarantine LIKE 'duplicate: %'", [])?;
    transaction.execute(
        "WITH ranked AS (
             SELECT id, first_value(id) OVER (
                 PARTITION BY hash ORDER BY dataset, path, phantom
             ) AS first
             FROM images WHERE quarantine IS NULL AND hash IS NOT NULL
         )
         UPDATE images SET quarantine = 'duplicate: same bytes as image ' || ranked.first
         FROM ranked WHERE ranked.id = images.id AND ranked.first <> images.id",
        [],
    )?;
    Ok(())
}
