//! Three channels: events ([`log`]), numbers ([`metrics`]), progress ([`progress`], [`Watch`]).

pub mod log;
pub mod metrics;
pub(crate) mod plain;
pub mod progress;
pub mod tensorboard;
mod watch;

pub use watch::Watch;
