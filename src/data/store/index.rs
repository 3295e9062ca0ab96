//! `index.json`: what a store is and what its shards must be.

use super::{ColumnSpec, Dtype, StoreError};
use crate::artifact;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The format of the store.
const SCHEMA: u32 = 1;

const INDEX: &str = "index.json";

/// The column every store has: one whole number per row, e.g. the image's number in the catalog.
pub(super) const KEY: &str = "key";

/// What a store is to hold, and what it is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpec {
    /// Hash of everything that decides the content.
    pub inputs_hash: String,
    /// Rows per shard; the last may have fewer. Each shard is put together in memory.
    pub shard_rows: usize,
    /// In the order in which rows give them.
    pub columns: Vec<ColumnSpec>,
    /// For people and later stages, e.g. the scale of the latents.
    pub notes: BTreeMap<String, String>,
}

impl StoreSpec {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let mut names = BTreeSet::from([KEY]);
        if self.shard_rows == 0 {
            return Err(StoreError::Spec("shards of 0 rows".into()));
        }
        for column in &self.columns {
            if !names.insert(&column.name) {
                return Err(StoreError::Spec(format!("two columns called {}", column.name)));
            }
            if column.num_values() == 0 {
                return Err(StoreError::Spec(format!("the empty column {}", column.name)));
            }
        }
        Ok(())
    }

    /// All columns of a shard, the key first.
    pub(super) fn all_columns(&self) -> Vec<ColumnSpec> {
        let key = ColumnSpec::new(KEY, Dtype::I64, &[]);
        std::iter::once(key).chain(self.columns.iter().cloned()).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) schema: u32,
    pub(super) spec: StoreSpec,
    /// Rows in all shards; what is missing is not counted.
    pub(super) rows: u64,
    pub(super) shards: Vec<ShardEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardEntry {
    pub(super) file: String,
    pub(super) rows: usize,
    pub(super) bytes: u64,
    pub(super) blake3: String,
    /// Keys of rows that belong here and could not be made. With them, every shard but the last is full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<i64>,
}

impl ShardEntry {
    /// Rows that belong here, missing ones included.
    pub(super) fn places(&self) -> usize {
        self.rows.saturating_add(self.missing.len())
    }
}

impl Index {
    pub(super) fn new(spec: StoreSpec) -> Self {
        Self { schema: SCHEMA, spec, rows: 0, shards: Vec::new() }
    }

    pub(super) fn read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(INDEX);
        let text =
            fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        let damaged = |what: String| StoreError::Damaged { path: path.clone(), what };
        let json = |error: serde_json::Error| damaged(error.to_string());
        // The schema first: another one may have other fields.
        let any: serde_json::Value = serde_json::from_slice(&text).map_err(json)?;
        match any.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => {
                let found = u32::try_from(schema).unwrap_or(u32::MAX);
                return Err(StoreError::Schema { path, found, known: SCHEMA });
            }
            None => return Err(damaged("it has no schema".into())),
        }
        let index: Self = serde_json::from_value(any).map_err(json)?;
        index.spec.check().map_err(|error| damaged(error.to_string()))?;
        let counted = index.shards.iter().map(|shard| shard.rows as u64).sum::<u64>();
        let last = index.shards.len().saturating_sub(1);
        let is_full = |(at, shard): (usize, &ShardEntry)| {
            let (places, full) = (shard.places(), index.spec.shard_rows);
            places == full || at == last && places < full
        };
        if counted != index.rows || !index.shards.iter().enumerate().all(is_full) {
            return Err(damaged("its counts of rows do not agree".into()));
        }
        Ok(index)
    }

    /// Rows of all shards, missing ones included.
    pub(super) fn places(&self) -> u64 {
        self.shards.iter().map(|shard| shard.places() as u64).sum()
    }

    /// The keys of all missing rows, in order.
    pub(super) fn missing(&self) -> impl Iterator<Item = i64> {
        self.shards.iter().flat_map(|shard| shard.missing.iter().copied())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(self).expect("an index is plain JSON");
        Ok(artifact::write_file(&folder.join(INDEX), &text)?)
    }
}
