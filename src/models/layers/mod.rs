//! Layers with PyTorch's layouts and parameter names.

mod batch_norm;
mod conv;
mod embedding;
mod kernels;
mod linear;
mod norm;
mod resnet;

pub use batch_norm::BatchNorm;
pub use conv::Conv2d;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub(crate) use resnet::repeat;
pub use resnet::{Downsample, Resnet, ResnetShape, Upsample};
