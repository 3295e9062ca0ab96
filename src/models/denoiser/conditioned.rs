//! Backbone and condition together: what is trained, saved and sampled.

use super::backbone::{Backbone, BackboneConfig};
use super::projector::{Projector, ProjectorConfig};
use crate::models::condition::{Condition, ConditionConfig};
use crate::models::{Compute, Init};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Sizes of the network and of its condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct DenoiserConfig {
    /// The network.
    pub backbone: BackboneConfig,
    /// What guides it.
    pub condition: ConditionConfig,
    /// What its tokens are held to an encoder's by, in training.
    pub projector: Option<ProjectorConfig>,
}

/// As checkpoints hold it: the network under its name, beside `condition`.
type Stored = Map<String, Value>;

const CONDITION: &str = "condition";
const PROJECTOR: &str = "projector";

impl TryFrom<Stored> for DenoiserConfig {
    type Error = String;

    fn try_from(mut stored: Stored) -> Result<Self, Self::Error> {
        let condition = stored.remove(CONDITION).ok_or("missing field `condition`")?;
        let projector = stored.remove(PROJECTOR).map(serde_json::from_value).transpose();
        let backbone = serde_json::from_value(Value::Object(stored));
        let condition = serde_json::from_value(condition);
        let text = |error: serde_json::Error| error.to_string();
        Ok(Self {
            backbone: backbone.map_err(text)?,
            condition: condition.map_err(text)?,
            projector: projector.map_err(text)?,
        })
    }
}

impl From<DenoiserConfig> for Stored {
    fn from(config: DenoiserConfig) -> Self {
        let plain = "a config is plain data";
        let backbone = serde_json::to_value(config.backbone).expect(plain);
        let condition = serde_json::to_value(config.condition).expect(plain);
        let mut stored: Self = serde_json::from_value(backbone).expect("a network has its name");
        stored.insert(CONDITION.into(), condition);
        if let Some(projector) = config.projector {
            let projector = serde_json::to_value(projector).expect(plain);
            stored.insert(PROJECTOR.into(), projector);
        }
        stored
    }
}

impl DenoiserConfig {
    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Denoiser {
        Denoiser {
            backbone: self.backbone.init(init),
            condition: self.condition.init(init),
            projector: self.projector.map(|config| config.init(init)),
            compute: Compute::default(),
        }
    }

    /// Whether it is told how far a step leads.
    pub fn takes_steps(&self) -> bool {
        self.backbone.takes_steps(self.condition.num_tokens * self.condition.width)
    }

    /// Whether the pooled condition joins the network's time embedding.
    pub fn is_pooled(&self) -> bool {
        self.backbone.is_pooled(self.condition.num_tokens * self.condition.width)
    }
}

/// What the network is told beside the noisy latents.
struct Told {
    /// `[B]`.
    timesteps: Tensor<1>,
    /// How far steps lead, `[B]`, if it is told.
    steps: Option<Tensor<1>>,
    /// The condition, [B, N + 1, D].
    context: Tensor<3>,
    /// The same, [B, N · D], if it takes it.
    pooled: Option<Tensor<2>>,
}

/// A network guided by an encoder's tokens.
#[derive(Module, Debug)]
pub struct Denoiser {
    /// Predicts what the objective asks for.
    pub backbone: Backbone,
    /// Makes keys and values of tokens.
    pub condition: Condition,
    /// Says what an encoder sees, from the network's tokens; in training alone.
    pub projector: Option<Projector>,
    #[module(skip)]
    compute: Compute,
}

impl Denoiser {
    /// `noisy` latents [B, C, h, w] at `timesteps` (B of them), guided by `tokens` [B, N, d] where `keep` and by
    /// the null condition elsewhere, to a prediction [B, C, h, w] in f32.
    pub fn forward(
        &self,
        noisy: Tensor<4>,
        timesteps: &[f64],
        tokens: Tensor<3>,
        keep: &[bool],
    ) -> Tensor<4> {
        self.forward_step(noisy, timesteps, &vec![0.0; timesteps.len()], tokens, keep)
    }

    /// [`forward`](Self::forward) for steps that lead as far as `steps` say, in units of timesteps: the mean of what it
    /// predicts on the way. Ignored by a network that was not built to be told.
    pub fn forward_step(
        &self,
        noisy: Tensor<4>,
        timesteps: &[f64],
        steps: &[f64],
        tokens: Tensor<3>,
        keep: &[bool],
    ) -> Tensor<4> {
        let Told { timesteps, steps, context, pooled } =
            self.told(&noisy, timesteps, steps, tokens, keep);
        self.backbone.forward(noisy, timesteps, context, pooled, steps)
    }

    /// A denoiser for use, of its parts.
    pub fn of(backbone: Backbone, condition: Condition) -> Self {
        Self { backbone, condition, projector: None, compute: Compute::default() }
    }

    /// [`forward_step`](Self::forward_step), and what the projector says the encoder sees in the images, [B, T, d], row
    /// by row of the network's tokens; nothing where there is no projector.
    pub fn forward_aligned(
        &self,
        noisy: Tensor<4>,
        timesteps: &[f64],
        steps: &[f64],
        tokens: Tensor<3>,
        keep: &[bool],
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        let Some(projector) = &self.projector else {
            return (self.forward_step(noisy, timesteps, steps, tokens, keep), None);
        };
        let Told { timesteps, steps, context, pooled } =
            self.told(&noisy, timesteps, steps, tokens, keep);
        let blocks = projector.blocks();
        let (prediction, hidden) =
            self.backbone.forward_hidden(noisy, timesteps, context, pooled, steps, blocks);
        (prediction, hidden.map(|hidden| projector.forward(hidden, self.compute)))
    }

    fn told(
        &self,
        noisy: &Tensor<4>,
        timesteps: &[f64],
        steps: &[f64],
        tokens: Tensor<3>,
        keep: &[bool],
    ) -> Told {
        let device = noisy.device();
        let row = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), &device)
        };
        let keep = row(keep.iter().map(|&keep| f32::from(u8::from(keep))).collect());
        let context = self.condition.forward(tokens, keep); // [B, N + 1, D]
        let numbers = |values: &[f64]| row(values.iter().map(|&value| value as f32).collect());
        let [_, n, width] = context.dims();
        let pooled_width = (n - 1) * width;
        let is_pooled = self.backbone.is_pooled(pooled_width);
        Told {
            timesteps: numbers(timesteps),
            steps: self.backbone.takes_steps(pooled_width).then(|| numbers(steps)),
            pooled: is_pooled.then(|| Condition::pooled(context.clone())),
            context,
        }
    }

    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.backbone = self.backbone.with_compute(compute);
        self.compute = compute;
        self
    }

    /// Forward cost per image of `height` by `width` latents, in floating-point operations.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let tokens = self.condition.num_tokens() + 1;
        self.backbone.flops(height, width, tokens) + self.condition.flops()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::{self, is_named};
    use crate::random::Stream;
    use burn::tensor::Device;
    use std::collections::BTreeSet;

    fn config(network: &str) -> DenoiserConfig {
        let condition = r#""condition": {"num_tokens": 1, "token_width": 8, "width": 4}"#;
        serde_json::from_str(&format!("{{{network}, {condition}}}")).unwrap()
    }

    /// What checkpoints have held since there was a U-Net alone.
    #[test]
    fn the_network_is_stored_under_its_name() {
        let unet = r#""unet": {"block_out_channels": [4], "attention": [false], "attention_head_dim": [1],
            "cross_attention_dim": 4, "norm_num_groups": 2, "mid_block": "None"}"#;
        let transformer = r#""transformer": {"num_layers": 1, "attention_head_dim": 4, "num_attention_heads": 1,
            "joint_attention_dim": 4, "pos_embed_max_size": 4, "pooled_projection_dim": 4}"#;
        for (network, part) in [(unet, "unet"), (transformer, "transformer")] {
            let config = config(network);
            assert_eq!(config.backbone.part(), part);
            let stored = serde_json::to_value(&config).unwrap();
            let keys: BTreeSet<&str> =
                stored.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["condition", part].into());
            assert_eq!(serde_json::from_value::<DenoiserConfig>(stored).unwrap(), config);
            let init = &mut Init::new(Stream::new(1, "denoiser"), &Device::flex());
            let denoiser = config.init(init);
            let names: Vec<String> = weights::shapes(&denoiser).into_keys().collect();
            let (own, other): (Vec<_>, Vec<_>) =
                names.iter().partition(|name| is_named(name, &format!("{part}.*")));
            assert!(own.len() > 10 && other.iter().all(|name| is_named(name, "condition.*")));
            // Alone it has the names of diffusers' file.
            let alone: Vec<String> = weights::shapes(&denoiser.backbone).into_keys().collect();
            let stripped: Vec<&str> =
                own.iter().filter_map(|name| name.split_once('.')).map(|(_, name)| name).collect();
            assert_eq!(alone, stripped);
        }
        let both = format!(r#"{{{unet}, {transformer}, "condition": {{}}}}"#);
        assert!(serde_json::from_str::<DenoiserConfig>(&both).is_err());
    }
}
