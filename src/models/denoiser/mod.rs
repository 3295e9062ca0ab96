//! Networks that tell noise from image, given a condition.

mod added;
mod backbone;
mod blocks;
mod conditioned;
mod mmdit;
mod mmdit_block;
mod mmdit_config;
mod mmdit_diffusers;
mod position;
mod projection;
mod projector;
mod time;
mod transformer;
mod unet;
mod unet_config;
mod unet_diffusers;

pub use added::{Added, AddedError, ClassEmbedding, TextTime};
pub use backbone::{Backbone, BackboneConfig};
pub use conditioned::{Denoiser, DenoiserConfig};
pub use mmdit::Mmdit;
pub use mmdit_config::MmditConfig;
pub use projector::{Projector, ProjectorConfig};
pub use unet::Unet;
pub use unet_config::{MidBlockKind, TimeScaleShift, UnetConfig};
