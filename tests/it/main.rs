//! integration tests

mod files;
