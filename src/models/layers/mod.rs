//! Layers with PyTorch's layouts and parameter names.

mod batch_norm;
mod conv;
mod embedding;
mod linear;
mod norm;
mod resnet;

pub use batch_norm::BatchNorm;
pub use conv::Conv2d;
pub use embedding::Embedding;
pub use linear::Linear;
pub(crate) use linear::affine;
pub(crate) use norm::normalised;
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use resnet::{Downsample, Resnet, ResnetShape, Upsample};
pub(crate) use resnet::{concat, repeat};
