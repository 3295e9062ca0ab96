//! The projection head of self-distillation: embeddings to prototype scores.

use crate::faults::{demand, within};
use crate::models::layers::{Linear, affine};
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
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self { hidden: 512, bottleneck: 128, prototypes: 1024 }
    }
}

/// Three layers with GELU, L2 normalisation, and cosine scores against the prototypes (arXiv 2104.14294,
/// appendix C: the last layer is weight-normalised with its gain fixed to 1).
///
/// Prototypes start as the weights of any layer of PyTorch do. Only their directions count, but an optimizer
/// that steps by as much whatever the weight turns long ones more slowly.
#[derive(Module, Debug)]
pub struct Head {
    mlp: Vec<Linear>,
    last_layer: Param<Tensor<2>>,
}

impl HeadConfig {
    /// Every fault of the numbers a recipe gave in the section `place`, a sentence each.
    pub(super) fn check(&self, place: &str) -> Vec<String> {
        let least = |name, value: usize| demand(value > 0, name, value, "at least 1");
        let widths = [
            least("hidden", self.hidden),
            least("bottleneck", self.bottleneck),
            least("prototypes", self.prototypes),
        ];
        within(place, widths.into_iter().flatten()).collect()
    }

    /// A new head over embeddings of `width`.
    pub fn init(&self, width: usize, init: &mut Init) -> Head {
        let widths = [width, self.hidden, self.hidden, self.bottleneck];
        Head {
            mlp: widths
                .windows(2)
                .map(|pair| {
                    let weight = Fill::TruncatedNormal(0.02);
                    Linear::filled(init, pair[0], pair[1], weight, Some(Fill::Zeros))
                })
                .collect(),
            last_layer: init
                .param([self.prototypes, self.bottleneck], Fill::torch_default(self.bottleneck)),
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
        let prototypes = self.last_layer.val();
        let prototypes = if frozen { prototypes.detach() } else { prototypes };
        affine(unit(x), unit(prototypes), None)
    }
}

/// Rows scaled to length 1.
pub(super) fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = (x.clone().square().sum_dim(1) + 1e-12).sqrt();
    x / length
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;
    use crate::models::weights::{gradients, load_state_dict, state_dict};
    use crate::random::Stream;
    use burn::tensor::Device;

    fn fresh(config: &HeadConfig, width: usize, device: &Device) -> Head {
        config.init(width, &mut Init::new(Stream::new(1, "head"), device))
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn weights_start_as_long_as_in_the_reference() {
        let golden = Golden::read();
        let config = HeadConfig { hidden: 512, bottleneck: 128, prototypes: 1024 };
        let state = state_dict(&fresh(&config, 128, &Device::flex()));
        let std = |name: &str| {
            let values: Vec<f32> = state[name].try_to_vec().unwrap();
            let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
            (squares / values.len() as f64).sqrt()
        };
        let expected = golden.values("head/init/last_layer_std")[0];
        // 131,072 draws: four standard errors are 0.5 % of a uniform law's deviation, on either side.
        assert!((std("last_layer") / expected - 1.0).abs() < 0.01, "{}", std("last_layer"));
        let values: Vec<f32> = state["last_layer"].try_to_vec().unwrap();
        let most = values.iter().fold(0f32, |most, value| most.max(value.abs()));
        let expected = golden.values("head/init/last_layer_most")[0];
        assert!((f64::from(most) / expected - 1.0).abs() < 1e-3, "{most}");
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn scores_and_gradients_are_those_of_the_reference() {
        let golden = Golden::read();
        let device = Device::flex().autodiff();
        let config = HeadConfig { hidden: 12, bottleneck: 6, prototypes: 8 };
        let head = load_state_dict(fresh(&config, 10, &device), &golden.state("head/weight/"));
        let head = head.unwrap();
        let embeddings: Tensor<2> = golden.tensor("head/embeddings", &device).require_grad();
        let scores = head.forward(embeddings.clone(), false);
        golden.assert_close("head/scores", &scores.clone().inner(), 1e-6);
        let mut found = (scores * golden.tensor("head/upstream", &device)).sum().backward();
        // f32 over three layers and two normalisations, the sums short.
        for (name, gradient) in gradients(&head, &found) {
            let gradient = Tensor::<1>::from_data(flat(gradient), &Device::flex());
            golden.assert_close(&format!("head/gradient/{name}"), &gradient, 1e-5);
        }
        let gradient = embeddings.grad_remove(&mut found).unwrap();
        golden.assert_close("head/gradient/embeddings", &gradient, 1e-5);
    }

    #[test]
    fn frozen_prototypes_get_no_gradient_and_the_rest_does() {
        let device = Device::flex().autodiff();
        let head = fresh(&HeadConfig::default(), 10, &device);
        let x = Tensor::from_data([[1.0; 10], [-0.5; 10]], &device);
        let found = gradients(&head, &head.forward(x, true).square().sum().backward());
        assert!(!found.contains_key("last_layer"));
        assert!(found.contains_key("mlp.0.weight") && found.contains_key("mlp.2.bias"));
    }

    fn flat(data: burn::tensor::TensorData) -> burn::tensor::TensorData {
        let values: Vec<f32> = data.try_to_vec().unwrap();
        let len = values.len();
        burn::tensor::TensorData::new(values, [len])
    }
}
