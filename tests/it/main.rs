//! integration tests

// What tests share may fail and print as tests do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod files;
