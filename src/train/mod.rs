//! train

pub mod adamw;
pub mod ema;
pub mod learning_rate;
mod parameters;
