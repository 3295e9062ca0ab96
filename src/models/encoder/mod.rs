//! Networks that see: images to tokens.

mod position;
mod vit;
mod vit_config;

pub use vit::Vit;
pub use vit_config::{Flavor, VitConfig};
