//! umbra: latent diffusion models from unlabelled radiographs, conditioned on DINO embeddings.

pub mod artifact;
pub mod cli;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod encode;
pub mod evaluate;
pub mod export;
pub mod forward;
pub mod interrupt;
pub mod metric;
pub mod models;
pub mod random;
pub mod recipe;
pub mod sample;
pub mod stages;
pub mod telemetry;
pub mod train;
