//! Files to batches: pixels and patients, no networks.

pub mod catalog;
pub mod file;
pub mod image;
pub mod ingest;
pub mod latents;
pub mod loader;
pub mod mask;
mod patience;
pub mod phantom;
pub mod picture;
pub mod radiographs;
pub mod secret;
pub mod section;
pub mod source;
pub mod store;
