//! integration tests

mod artifact;
mod interrupt;
mod loader;
mod store;
mod telemetry;
