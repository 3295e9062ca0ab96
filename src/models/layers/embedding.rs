//! A table of vectors.

use crate::models::{Fill, Init};
use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Int, Tensor};

/// One learned vector per index.
#[derive(Module, Debug)]
pub struct Embedding {
    /// [indices, width].
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A table with PyTorch's default start (standard normal).
    pub fn new(init: &mut Init, num_indices: usize, width: usize) -> Self {
        Self { weight: init.param([num_indices, width], Fill::Normal(1.0)) }
    }

    /// [B, N] to [B, N, width].
    pub fn forward(&self, indices: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.weight.val(), indices)
    }
}
