//! Writing a store, shard by shard.

use super::index::{Index, ShardEntry};
use super::reader::Shard;
use super::{ColumnSpec, StoreError, StoreSpec, Values};
use crate::artifact;
use safetensors::tensor::TensorView;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes a store. Until [`StoreWriter::finish`] it lies beside its place, in `<name>.partial`, and grows by whole
/// shards; a writer that is cut off is taken up again at the last of them.
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
        let path = path.to_owned();
        Ok(Self { path, partial, index, columns, keys, pending, pending_rows: 0 })
    }

    /// Rows so far: the number of the row to push next. After taking up a store, a multiple of `shard_rows`.
    pub fn rows(&self) -> u64 {
        self.index.rows + self.pending_rows as u64
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
        if self.pending_rows == self.index.spec.shard_rows {
            self.write_shard()?;
        }
        Ok(())
    }

    /// Writes what is left and gives the store its name. A store that was there before is replaced.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if self.pending_rows > 0 {
            self.write_shard()?;
        }
        self.index.write(&self.partial)?;
        Ok(artifact::replace(&self.partial, &self.path)?)
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
        };
        artifact::write_file(&self.partial.join(&entry.file), &bytes)?;
        self.index.rows += entry.rows as u64;
        self.index.shards.push(entry);
        self.index.write(&self.partial)?;
        self.pending.iter_mut().for_each(Vec::clear);
        self.pending_rows = 0;
        Ok(())
    }
}

/// The index and keys of a part that can be taken up: of the same spec, every shard as it was written.
fn resumable(partial: &Path, spec: &StoreSpec) -> Option<(Index, BTreeSet<i64>)> {
    let mut index = Index::read(partial).ok().filter(|index| index.spec == *spec)?;
    // `finish` was cut off between the last, shorter shard and the new name.
    if let Some(short) = index.shards.pop_if(|shard| shard.rows < spec.shard_rows) {
        index.rows -= short.rows as u64;
    }
    let mut keys = BTreeSet::new();
    for entry in &index.shards {
        let shard = Shard::open(partial, entry, spec).ok()?;
        shard.verify().ok()?;
        keys.extend(shard.keys());
    }
    Some((index, keys))
}
