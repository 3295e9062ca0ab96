//! The projection head of self-distillation: embeddings to prototype scores.

use crate::models::layers::Linear;
use crate::models::{Fill, Init};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::gelu},
};
use serde::{Deserialize, Serialize};

/// The head's widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// Width of the two hidden layers.
    pub hidden: usize,
    /// Width of the normalised bottleneck.
    pub bottleneck: usize,
    /// Prototypes: the classes that student and teacher must agree on.
    pub prototypes: usize,
    /// Take each batch's mean off the bottleneck before it is normalised. A small network starts with nearly
    /// the same bottleneck for all images; in a short training that is never unlearned, and student and teacher
    /// agree on calling everything alike.
    pub centered: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self { hidden: 512, bottleneck: 128, prototypes: 1024, centered: false }
    }
}

/// Three layers with GELU, L2 normalisation, and cosine scores against the prototypes (arXiv 2104.14294,
/// appendix C: the last layer is weight-normalised with its gain fixed to 1).
#[derive(Module, Debug)]
pub struct Head {
    mlp: Vec<Linear>,
    centered: bool,
    last_layer: Param<Tensor<2>>,
}

impl HeadConfig {
    /// A new head over embeddings of `width`.
    pub fn init(&self, width: usize, init: &mut Init) -> Head {
        let widths = [width, self.hidden, self.hidden, self.bottleneck];
        Head {
            centered: self.centered,
            mlp: widths
                .windows(2)
                .map(|pair| {
                    let weight = Fill::TruncatedNormal(0.02);
                    Linear::filled(init, pair[0], pair[1], weight, Some(Fill::Zeros))
                })
                .collect(),
            last_layer: init.param([self.prototypes, self.bottleneck], Fill::Normal(1.0)),
        }
    }
}

impl Head {
    /// Scores [B, K] in [-1, 1] of embeddings [B, D]. `frozen` keeps gradients out of the prototypes.
    pub fn forward(&self, embeddings: Tensor<2>, frozen: bool) -> Tensor<2> {
        let mut x = embeddings;
        for (index, layer) in self.mlp.iter().enumerate() {
            x = layer.forward(x);
            if index + 1 < self.mlp.len() {
                x = gelu(x);
            }
        }
        if self.centered {
            x = x.clone() - x.mean_dim(0);
        }
        let prototypes = self.last_layer.val();
        let prototypes = if frozen { prototypes.detach() } else { prototypes };
        unit(x).matmul(unit(prototypes).transpose())
    }
}

/// Rows scaled to length 1.
pub(super) fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = (x.clone().square().sum_dim(1) + 1e-12).sqrt();
    x / length
}
