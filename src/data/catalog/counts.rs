//! How many of what a catalog holds.

use super::Split;
use rusqlite::Connection;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many of what a catalog holds. Quarantined images count only as quarantined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Images of each split, in the order train, valid, test.
    pub images: BTreeMap<Split, u64>,
    /// Patients of each split.
    pub patients: BTreeMap<Split, u64>,
    /// Images of each dataset.
    pub datasets: BTreeMap<String, u64>,
    /// Images left out, by the name of the [kind](super::Kind) of reason.
    pub quarantined: BTreeMap<String, u64>,
    /// What is known about each label.
    pub labels: BTreeMap<String, LabelCounts>,
}

/// How many images have a finding, lack it, or leave it open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Images that show it.
    pub present: u64,
    /// Images that do not.
    pub absent: u64,
    /// Images about which nobody can tell, among them all of the datasets that do not know the label.
    pub unknown: u64,
}

impl Counts {
    /// Images in use.
    pub fn total(&self) -> u64 {
        self.images.values().sum()
    }
}

/// The rows of a query for a text and a number.
pub(super) fn groups(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut statement = connection.prepare(sql)?;
    let groups = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
    groups?.collect()
}

pub(super) fn count(connection: &Connection) -> rusqlite::Result<Counts> {
    let groups = |sql: &str| groups(connection, sql);
    let by_split = |what: &str| -> rusqlite::Result<BTreeMap<Split, u64>> {
        let found = groups(&format!(
            "SELECT split, {what} FROM images WHERE quarantine IS NULL GROUP BY split"
        ))?;
        let mut counts: BTreeMap<Split, u64> = Split::ALL.map(|split| (split, 0)).into();
        let named = |(name, n): (String, u64)| Some((Split::from_name(&name)?, n));
        counts.extend(found.into_iter().filter_map(named));
        Ok(counts)
    };
    let images = by_split("count(*)")?;
    let total: u64 = images.values().sum();
    let mut labels: BTreeMap<String, LabelCounts> = BTreeMap::new();
    for (name, _) in groups("SELECT name, 0 FROM labels GROUP BY name")? {
        labels.insert(name, LabelCounts::default());
    }
    for value in ["present", "absent"] {
        let found = groups(&format!(
            "SELECT name, count(*) FROM labels JOIN images ON images.id = labels.image \
             WHERE quarantine IS NULL AND value = '{value}' GROUP BY name"
        ))?;
        for (name, n) in found {
            let counts = labels.entry(name).or_default();
            *(if value == "present" { &mut counts.present } else { &mut counts.absent }) = n;
        }
    }
    for counts in labels.values_mut() {
        counts.unknown = total - counts.present - counts.absent;
    }
    Ok(Counts {
        images,
        patients: by_split("count(DISTINCT patient)")?,
        datasets: groups(
            "SELECT dataset, count(*) FROM images WHERE quarantine IS NULL GROUP BY dataset",
        )?
        .into_iter()
        .collect(),
        quarantined: groups(
            "SELECT substr(quarantine, 1, instr(quarantine, ':') - 1) AS kind, count(*) \
             FROM images WHERE quarantine IS NOT NULL GROUP BY kind",
        )?
        .into_iter()
        .collect(),
        labels,
    })
}
