//! Networks that tell noise from image, given a condition.

mod conditioned;
mod projection;
mod time;
mod transformer;
mod unet;
mod unet_config;

pub use conditioned::{Denoiser, DenoiserConfig};
pub use unet::Unet;
pub use unet_config::UnetConfig;
