//! Writing a store, shard by shard.

use super::index::{Index, ShardEntry};
use super::reader::Shard;
use super::{Check, ColumnSpec, Store, StoreError, StoreSpec, Values};
use crate::artifact;
use safetensors::tensor::TensorView;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes a store. Until [`StoreWriter::finish`] it lies beside its place, in `<name>.partial`, and grows by whole
/// shards; a writer that is cut off is taken up again at the last of them.
///
/// Every row has its place, also one that cannot be made ([`StoreWriter::push_unmade`]): which rows share a shard does
/// not depend on which of them are missing. So a store that lacks rows is completed by making the shards that lack
/// them anew and keeping the others ([`StoreWriter::keep_shard`]), and ends with the bytes it would have had at once.
///
/// One writer at a time: hold a [`Lock`](crate::artifact::Lock).
#[derive(Debug)]
pub struct StoreWriter {
    path: PathBuf,
    partial: PathBuf,
    index: Index,
    columns: Vec<ColumnSpec>,
    keys: BTreeSet<i64>,
    /// What the next shard has so far, one buffer per column.
    pending: Vec<Vec<u8>>,
    pending_rows: usize,
    pending_missing: Vec<i64>,
    /// The store of the same spec that this one is to replace.
    before: Option<Store>,
}

impl StoreWriter {
    /// Begins the store at `path`, or takes up the one that was begun there from the same inputs.
    ///
    /// A part that was made from other inputs, or is damaged, is removed.
    pub fn open(path: &Path, spec: StoreSpec) -> Result<Self, StoreError> {
        spec.check()?;
        let partial = artifact::sibling(path, "partial");
        let (index, keys) = match resumable(&partial, &spec) {
            Some(begun) => begun,
            None => {
                artifact::remove_any(&partial)?;
                fs::create_dir_all(&partial).map_err(artifact::io_error("create", &partial))?;
                (Index::new(spec), BTreeSet::new())
            }
        };
        let columns = index.spec.all_columns();
        let pending = vec![Vec::new(); columns.len()];
        let before = Store::open(path, Check::Sizes).ok().filter(|it| *it.spec() == index.spec);
        Ok(Self {
            path: path.to_owned(),
            partial,
            index,
            columns,
            keys,
            pending,
            pending_rows: 0,
            pending_missing: Vec::new(),
            before,
        })
    }

    /// Rows so far, those left out included: the number of the row to push next. After taking up a store, a multiple
    /// of `shard_rows`.
    pub fn rows(&self) -> u64 {
        self.index.places() + self.pending_places() as u64
    }

    /// Takes the next shard, with all its rows, from the store that is being replaced. False where there is none, where
    /// it lacks rows or is damaged, and within a shard.
    pub fn keep_shard(&mut self) -> Result<bool, StoreError> {
        let shards = self.before.as_ref().map(|before| &before.shards[..]).unwrap_or_default();
        let Some(shard) = shards.get(self.index.shards.len()) else { return Ok(false) };
        if self.pending_places() > 0 || !shard.entry.missing.is_empty() || shard.verify().is_err() {
            return Ok(false);
        }
        let to = self.partial.join(&shard.entry.file);
        artifact::remove_any(&to)?;
        // Two names for one file; a copy where the file system has no such thing.
        if fs::hard_link(shard.path(), &to).is_err() {
            artifact::write_file(&to, shard.bytes())?;
        }
        self.keys.extend(shard.keys());
        let entry = shard.entry.clone();
        self.add(entry)?;
        Ok(true)
    }

    /// True where the store that is being replaced has the row of `key`.
    pub fn has_before(&self, key: i64) -> bool {
        self.before.as_ref().is_some_and(|before| before.row_of(key).is_some())
    }

    /// Adds the next row without its values, because what it is made from cannot be read: it is kept as the store that
    /// is being replaced has it, or else left out.
    pub fn push_unmade(&mut self, key: i64) -> Result<(), StoreError> {
        if !self.keys.insert(key) {
            return Err(StoreError::SameKey(key));
        }
        let before = self.before.as_ref().and_then(|before| Some((before, before.row_of(key)?)));
        match before {
            Some((before, row)) => {
                self.pending.iter_mut().zip(before.raw(row)).for_each(|(to, row)| to.extend(row));
                self.pending_rows += 1;
            }
            None => self.pending_missing.push(key),
        }
        self.write_if_full()
    }

    /// Adds a row: its key and its values, in the order of the columns.
    pub fn push(&mut self, key: i64, row: &[Values<'_>]) -> Result<(), StoreError> {
        assert_eq!(row.len() + 1, self.columns.len(), "a row has a value for every column");
        if self.keys.contains(&key) {
            return Err(StoreError::SameKey(key));
        }
        let values = std::iter::once(Values::Integers(std::slice::from_ref(&key)))
            .chain(row.iter().copied());
        let mut appended = Ok(());
        for ((column, values), to) in self.columns.iter().zip(values).zip(&mut self.pending) {
            appended = appended.and_then(|()| values.append(column, to));
        }
        if appended.is_err() {
            // No column may be longer than the others.
            for (column, bytes) in self.columns.iter().zip(&mut self.pending) {
                bytes.truncate(self.pending_rows * column.row_bytes());
            }
            return appended;
        }
        self.keys.insert(key);
        self.pending_rows += 1;
        self.write_if_full()
    }

    /// Writes what is left and gives the store its name. A store that was there before is replaced.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if self.pending_places() > 0 {
            self.write_shard()?;
        }
        self.index.write(&self.partial)?;
        Ok(artifact::replace(&self.partial, &self.path)?)
    }

    fn pending_places(&self) -> usize {
        self.pending_rows + self.pending_missing.len()
    }

    fn write_if_full(&mut self) -> Result<(), StoreError> {
        if self.pending_places() == self.index.spec.shard_rows {
            self.write_shard()
        } else {
            Ok(())
        }
    }

    fn write_shard(&mut self) -> Result<(), StoreError> {
        let views = self.columns.iter().zip(&self.pending).map(|(column, bytes)| {
            let shape = std::iter::once(self.pending_rows).chain(column.shape.iter().copied());
            let view = TensorView::new(column.dtype.to_safetensors(), shape.collect(), bytes);
            (column.name.as_str(), view.expect("every column has as many rows as were pushed"))
        });
        let bytes = safetensors::serialize(views, None).expect("the views were checked");
        let entry = ShardEntry {
            file: format!("{:05}.safetensors", self.index.shards.len()),
            rows: self.pending_rows,
            bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            missing: std::mem::take(&mut self.pending_missing),
        };
        artifact::write_file(&self.partial.join(&entry.file), &bytes)?;
        self.pending.iter_mut().for_each(Vec::clear);
        self.pending_rows = 0;
        self.add(entry)
    }

    /// The shard lies in its place: now the index may say so.
    fn add(&mut self, entry: ShardEntry) -> Result<(), StoreError> {
        self.index.rows += entry.rows as u64;
        self.index.shards.push(entry);
        self.index.write(&self.partial)
    }
}

/// The index and keys of a part that can be taken up: of the same spec, every shard as it was written.
fn resumable(partial: &Path, spec: &StoreSpec) -> Option<(Index, BTreeSet<i64>)> {
    let mut index = Index::read(partial).ok().filter(|index| index.spec == *spec)?;
    // `finish` was cut off between the last, shorter shard and the new name.
    if let Some(short) = index.shards.pop_if(|shard| shard.places() < spec.shard_rows) {
        index.rows -= short.rows as u64;
    }
    let mut keys = BTreeSet::new();
    for entry in &index.shards {
        let shard = Shard::open(partial, entry, spec).ok()?;
        shard.verify().ok()?;
        keys.extend(shard.keys());
        keys.extend(&entry.missing);
    }
    Some((index, keys))
}
