//! What crosses modules, touches files or runs a loop.

// Clippy lets `unwrap` pass inside `#[test]` functions only, not in what they share.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod ingest;
