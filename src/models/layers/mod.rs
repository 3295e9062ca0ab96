//! Layers with PyTorch's layouts and parameter names.

mod conv;
mod embedding;
mod kernels;
mod linear;
mod norm;
mod resnet;

pub use conv::Conv2d;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use resnet::{Downsample, Resnet, ResnetShape, Upsample};
