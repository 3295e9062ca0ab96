//! The store: what the networks see of every image, computed once and read in place.
//!
//! A folder of safetensors shards, each with one tensor per column, a row per image, and an `index.json` that
//! says what the columns are, what the store was made from, and what every shard must hash to. Any reader
//! of safetensors opens a shard; this one maps it into memory.

mod column;
mod error;
mod index;
mod map;
mod reader;
mod writer;

pub use column::{ColumnSpec, Dtype, Values};
pub use error::StoreError;
pub use index::StoreSpec;
pub use reader::{Check, Column, Store};
pub use writer::StoreWriter;
