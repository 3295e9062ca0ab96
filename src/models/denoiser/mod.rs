//! Networks that tell noise from image, given a condition.

mod added;
mod blocks;
mod conditioned;
mod projection;
mod time;
mod transformer;
mod unet;
mod unet_config;
mod unet_diffusers;

pub use added::{Added, AddedError, ClassEmbedding, TextTime};
pub use conditioned::{Denoiser, DenoiserConfig};
pub use unet::Unet;
pub use unet_config::{MidBlockKind, TimeScaleShift, UnetConfig};
