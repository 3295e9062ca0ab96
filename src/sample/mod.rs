//! From noise to images, and where on the manifold of embeddings to start.

pub mod generate;
pub mod manifold;
pub mod model;
pub mod sampler;
pub mod stage;
