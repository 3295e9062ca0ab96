//! Reading a store in place.

use super::column::{to_f32, to_i64};
use super::index::{Index, ShardEntry};
use super::map::map;
use super::{ColumnSpec, Dtype, StoreError, StoreSpec};
use crate::artifact;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How thoroughly to look at a store before using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Sizes and headers: at once.
    Sizes,
    /// Every byte against its hash: as fast as the disk.
    Hashes,
}

/// A complete store, open for reading from any thread.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    spec: StoreSpec,
    columns: Vec<ColumnSpec>,
    pub(super) shards: Vec<Shard>,
    /// The first row of each shard. Not its number times `shard_rows`: rows may be missing.
    firsts: Vec<usize>,
    keys: Vec<i64>,
    rows: BTreeMap<i64, u64>,
    missing: Vec<i64>,
}

impl Store {
    /// Opens the store in the folder `path`. Anything that is not as it was written is refused.
    pub fn open(path: &Path, check: Check) -> Result<Self, StoreError> {
        let folder = artifact::current(path).unwrap_or_else(|| path.to_owned());
        let index = Index::read(&folder)?;
        let open = |entry| Shard::open(&folder, entry, &index.spec);
        let shards = index.shards.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if check == Check::Hashes {
            shards.iter().try_for_each(Shard::verify)?;
        }
        let keys: Vec<i64> = shards.iter().flat_map(Shard::keys).collect();
        let mut rows = BTreeMap::new();
        for (row, &key) in keys.iter().enumerate() {
            if rows.insert(key, row as u64).is_some() {
                return Err(StoreError::SameKey(key));
            }
        }
        let firsts = index.shards.iter().scan(0, |next, shard| {
            let first = *next;
            *next += shard.rows;
            Some(first)
        });
        let (firsts, missing): (_, Vec<i64>) = (firsts.collect(), index.missing().collect());
        if let Some(&key) = missing.iter().find(|&key| rows.contains_key(key)) {
            return Err(StoreError::SameKey(key));
        }
        let (spec, columns) = (index.spec.clone(), index.spec.all_columns());
        Ok(Self { path: folder, spec, columns, shards, firsts, keys, rows, missing })
    }

    /// Reads every byte and compares it with its hash.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.shards.iter().try_for_each(Shard::verify)
    }

    /// Reads every byte on all threads and compares it with its hash, for as long as `goes_on` says so, which is asked
    /// before every shard. False where it said no.
    pub fn verify_while(&self, goes_on: impl Fn() -> bool + Sync) -> Result<bool, StoreError> {
        let verify = |shard: &Shard| match goes_on() {
            true => shard.verify().map(|()| true),
            false => Ok(false),
        };
        let all: Vec<Result<bool, StoreError>> = self.shards.par_iter().map(verify).collect();
        // The first that is damaged is told, whichever thread was first.
        all.into_iter().try_fold(true, |all, one| Ok(all & one?))
    }

    /// The row as every column keeps it, the key first.
    pub(super) fn raw(&self, row: u64) -> impl Iterator<Item = &[u8]> {
        (0..self.columns.len()).map(move |number| Column { store: self, number }.bytes(row))
    }

    /// What the store holds and was made from.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.keys.len() as u64
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys of all rows, in order.
    pub fn keys(&self) -> &[i64] {
        &self.keys
    }

    /// The keys of rows that belong into the store and could not be made, in order.
    pub fn missing(&self) -> &[i64] {
        &self.missing
    }

    /// The row with `key`.
    pub fn row_of(&self, key: i64) -> Option<u64> {
        self.rows.get(&key).copied()
    }

    /// The column called `name`, to read many rows from.
    pub fn column(&self, name: &str) -> Result<Column<'_>, StoreError> {
        let number = self.columns.iter().position(|column| column.name == name);
        let number = number.ok_or_else(|| StoreError::NoColumn {
            path: self.path.clone(),
            name: name.to_owned(),
            known: self.columns.iter().map(|column| column.name.clone()).collect(),
        })?;
        Ok(Column { store: self, number })
    }

    /// One row (below `len`) of the column called `name`.
    pub fn row(&self, row: u64, name: &str) -> Result<Vec<f32>, StoreError> {
        Ok(self.column(name)?.row(row))
    }
}

/// A column of an open store.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    store: &'a Store,
    number: usize,
}

impl<'a> Column<'a> {
    /// Name, type and shape.
    pub fn spec(&self) -> &'a ColumnSpec {
        &self.store.columns[self.number]
    }

    /// The row as it lies in the file, little-endian, without a copy.
    pub fn bytes(&self, row: u64) -> &'a [u8] {
        let row = usize::try_from(row).expect("rows are numbered in memory");
        // The last shard that begins here or before: one that begins where the next does is empty.
        let shard = self.store.firsts.partition_point(|&first| first <= row) - 1;
        let row = row - self.store.firsts[shard];
        let width = self.spec().row_bytes();
        &self.store.shards[shard].column(self.number)[row * width..(row + 1) * width]
    }

    /// The row as f32. Exact, but for integers above 2²⁴.
    pub fn row(&self, row: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.spec().num_values()];
        self.read_into(row, &mut values);
        values
    }

    /// The row into `to`, which must have room for exactly that.
    pub fn read_into(&self, row: u64, to: &mut [f32]) {
        assert_eq!(to.len(), self.spec().num_values(), "the room fits the row");
        to_f32(self.spec().dtype, self.bytes(row), to);
    }

    /// The row as whole numbers. Only of an I64 column.
    pub fn integers(&self, row: u64) -> Vec<i64> {
        assert_eq!(self.spec().dtype, Dtype::I64, "{} holds no integers", self.spec().name);
        to_i64(self.bytes(row)).collect()
    }
}

/// One mapped file.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    pub(super) entry: ShardEntry,
    map: Mmap,
    /// Where each column lies in the map, the key first.
    columns: Vec<Range<usize>>,
}

impl Shard {
    pub(super) fn open(
        folder: &Path,
        entry: &ShardEntry,
        spec: &StoreSpec,
    ) -> Result<Self, StoreError> {
        let path = folder.join(&entry.file);
        let damaged = |what: String| StoreError::Damaged { path: path.clone(), what };
        let map = map(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        if map.len() as u64 != entry.bytes {
            return Err(damaged(format!("{} bytes, expected {}", map.len(), entry.bytes)));
        }
        let (header_bytes, header) =
            SafeTensors::read_metadata(&map).map_err(|error| damaged(error.to_string()))?;
        // Eight bytes of length, then the header, then the values.
        let first = 8 + header_bytes;
        let place = |column: &ColumnSpec| {
            let info = header.info(&column.name)?;
            let shape = std::iter::once(&entry.rows).chain(&column.shape);
            let (start, end) = info.data_offsets;
            let fits = info.dtype == column.dtype.to_safetensors()
                && info.shape.iter().eq(shape)
                && end - start == entry.rows * column.row_bytes();
            fits.then_some(first + start..first + end)
        };
        let columns = spec.all_columns();
        let columns = columns.iter().map(|column| {
            place(column)
                .ok_or_else(|| damaged(format!("column {} is not as declared", column.name)))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { entry: entry.clone(), columns, map, path })
    }

    pub(super) fn verify(&self) -> Result<(), StoreError> {
        if blake3::hash(&self.map).to_hex().as_str() != self.entry.blake3 {
            let what = "its content does not match its hash".to_owned();
            return Err(StoreError::Damaged { path: self.path.clone(), what });
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = i64> {
        to_i64(self.column(0))
    }

    /// All rows of a column.
    fn column(&self, number: usize) -> &[u8] {
        &self.map[self.columns[number].clone()]
    }
}
