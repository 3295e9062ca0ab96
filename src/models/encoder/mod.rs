//! Networks that see: images to tokens.

mod position;
mod vit;

pub use vit::{Flavor, Vit, VitConfig};
