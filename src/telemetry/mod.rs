//! Three channels: events ([`log`]), numbers ([`metrics`]), progress ([`progress`]).

pub mod log;
pub mod metrics;
pub mod progress;
pub mod tensorboard;
