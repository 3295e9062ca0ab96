//! What crosses modules, touches files or runs a loop.

// Clippy knows tests by their attribute; the functions they share have none.
#![allow(clippy::unwrap_used)]

mod artifact;
mod files;
mod ingest;
mod interrupt;
mod loader;
mod models;
mod store;
mod telemetry;
