//! How much each residual branch counts.

use crate::models::{Fill, Init, cast_like};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A learned factor per channel on a residual branch (Touvron et al. 2021).
#[derive(Module, Debug)]
pub(super) struct LayerScale {
    lambda1: Param<Tensor<1>>,
}

impl LayerScale {
    /// Factors for `width` channels that all start as `start`.
    pub(super) fn new(init: &mut Init, width: usize, start: f64) -> Self {
        Self { lambda1: init.param([width], Fill::Constant(start)) }
    }

    /// [B, N, D] to the same, in the number format of `branch`.
    pub(super) fn forward(&self, branch: Tensor<3>) -> Tensor<3> {
        cast_like(self.lambda1.val(), &branch).unsqueeze::<3>() * branch
    }
}
