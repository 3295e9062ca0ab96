//! Hashes of what a catalog holds.

use super::Label;
use rusqlite::{Connection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// A BLAKE3 whose fields cannot run into each other.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context))
    }

    pub(crate) fn keyed(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
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
        "SELECT id, dataset, phantom, patient, view, hash, report, mask_hash, split \
         FROM images WHERE quarantine IS NULL",
    )?;
    let rows = statement.query_map([], |row| {
        let id: i64 = row.get("id")?;
        digest_of(row, &labels.remove(&id).unwrap_or_default())
    })?;
    rows.collect()
}

/// Pixels go in as they were decoded: neither a file written anew nor a window that changes nothing is a change.
fn digest_of(row: &Row<'_>, labels: &BTreeMap<String, Label>) -> rusqlite::Result<[u8; 32]> {
    let mut digest = Digest::new("umbra catalog row v2");
    digest.text(&row.get::<_, String>("dataset")?);
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
