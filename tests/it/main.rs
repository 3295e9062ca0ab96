//! integration tests

mod models;
