//! The networks a denoiser may be, behind one interface: who trains, samples or stores it does not know which.

use super::added::Added;
use super::mmdit_diffusers::CLASS as MMDIT;
use super::time::sinusoids;
use super::unet_diffusers::CLASS as UNET;
use super::{ClassEmbedding, Mmdit, MmditConfig, Unet, UnetConfig};
use crate::models::{Compute, ConfigError, Init, foreign};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Numbers that tell how far a step leads: sinusoids, as the timestep has them.
const STEP_WIDTH: usize = 256;

/// Sizes of a [`Backbone`]. The variant's name is its key in a checkpoint's config.
#[expect(clippy::large_enum_variant, reason = "a denoiser has one")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneConfig {
    /// Stable Diffusion's U-Net.
    Unet(UnetConfig),
    /// Stable Diffusion 3's transformer.
    Transformer(MmditConfig),
}

/// Predicts, from noisy latents, whatever its training's objective asks for. The variant's name, in small letters, is
/// what its weights' names begin with in a checkpoint.
#[expect(clippy::large_enum_variant, reason = "a denoiser has one")]
#[derive(Module, Debug)]
pub enum Backbone {
    /// Stable Diffusion's U-Net.
    Unet(Unet),
    /// Stable Diffusion 3's transformer.
    Transformer(Mmdit),
}

impl BackboneConfig {
    /// What [`part`](Self::part) may be.
    pub const PARTS: [&str; 2] = ["unet", "transformer"];

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> Backbone {
        match self {
            Self::Unet(config) => Backbone::Unet(config.init(init)),
            Self::Transformer(config) => Backbone::Transformer(config.init(init)),
        }
    }

    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Unet(config) => config.check(),
            Self::Transformer(config) => config.check(),
        }
    }

    /// Reads the `config.json` of diffusers, whichever class it names; an old one that names none is a U-Net's.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        match foreign::class("denoiser", json)?.as_deref() {
            None | Some(UNET) => UnetConfig::from_diffusers(json).map(Self::Unet),
            Some(MMDIT) => MmditConfig::from_diffusers(json).map(Self::Transformer),
            Some(other) => Err(ConfigError::Foreign {
                network: "denoiser",
                what: format!("_class_name {:?}", other.chars().take(60).collect::<String>()),
                expected: "UNet2DConditionModel or SD3Transformer2DModel",
            }),
        }
    }

    /// The `config.json` with which diffusers opens the network's weights.
    pub fn to_diffusers(&self) -> Value {
        match self {
            Self::Unet(config) => config.to_diffusers(),
            Self::Transformer(config) => config.to_diffusers(),
        }
    }

    /// The class of diffusers that it is.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::Unet(_) => UNET,
            Self::Transformer(_) => MMDIT,
        }
    }

    /// What diffusers calls its folder in a pipeline, and a checkpoint its weights.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Unet(_) => "unet",
            Self::Transformer(_) => "transformer",
        }
    }

    /// What people call it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Unet(_) => "U-Net",
            Self::Transformer(_) => "transformer",
        }
    }

    /// Tokens to a side of latents of `side` × `side`, their width, and the number of blocks; none of a U-Net, which has
    /// no blocks of equal tokens.
    pub fn blocks_of_tokens(&self, side: usize) -> Option<[usize; 3]> {
        match self {
            Self::Unet(_) => None,
            Self::Transformer(config) => {
                let width = config.num_attention_heads * config.attention_head_dim;
                Some([side / config.patch_size.max(1), width, config.num_layers])
            }
        }
    }

    /// Channels of the noisy latents, and of the prediction.
    pub fn channels(&self) -> [usize; 2] {
        match self {
            Self::Unet(config) => [config.in_channels, config.out_channels],
            Self::Transformer(config) => [config.in_channels, config.out_channels],
        }
    }

    /// Side of the latents that it is meant for.
    pub fn sample_size(&self) -> usize {
        match self {
            Self::Unet(config) => config.sample_size,
            Self::Transformer(config) => config.sample_size,
        }
    }

    /// Width of the condition tokens that it attends to.
    pub fn context_width(&self) -> usize {
        match self {
            Self::Unet(config) => config.context_width(),
            Self::Transformer(config) => config.joint_attention_dim,
        }
    }

    /// Whether a pooled condition `width` wide joins its time embedding.
    pub fn is_pooled(&self, width: usize) -> bool {
        match self {
            Self::Unet(config) => matches!(
                config.class_embedding,
                Some(ClassEmbedding::SimpleProjection(_) | ClassEmbedding::Projection(_))
            ),
            // Any other width is given zeros.
            Self::Transformer(config) => {
                [width, width + STEP_WIDTH].contains(&config.pooled_projection_dim)
            }
        }
    }

    /// Whether it is told how far a step leads, its pooled condition being `width` wide.
    pub fn takes_steps(&self, width: usize) -> bool {
        match self {
            Self::Unet(config) => config.time_cond_proj_dim == Some(STEP_WIDTH),
            // Beside the pooled condition.
            Self::Transformer(config) => config.pooled_projection_dim == width + STEP_WIDTH,
        }
    }

    /// The same, told how far a step leads, its pooled condition being `width` wide.
    pub fn with_steps(self, width: usize) -> Self {
        match self {
            Self::Unet(config) => {
                Self::Unet(UnetConfig { time_cond_proj_dim: Some(STEP_WIDTH), ..config })
            }
            Self::Transformer(config) => Self::Transformer(MmditConfig {
                pooled_projection_dim: width + STEP_WIDTH,
                ..config
            }),
        }
    }

    /// Fails, with the end of a sentence about them, where it cannot take latents of `side` × `side`.
    pub fn check_side(&self, side: usize) -> Result<(), String> {
        match self {
            Self::Unet(config) => config.check_side(side),
            Self::Transformer(config) => config.check_side(side),
        }
    }

    /// What of a network trained elsewhere does not go with a condition that is `width` wide when pooled, which it
    /// is where `is_pooled`: sentences that begin with the network's place.
    pub fn check_condition(&self, width: usize, is_pooled: bool) -> Vec<String> {
        match self {
            Self::Unet(config) => config.check_condition(width, is_pooled),
            Self::Transformer(config) => {
                config.check_condition(width, is_pooled).into_iter().collect()
            }
        }
    }
}

/// How far steps `[B]` lead, as a network is told: [B, W].
fn step_waves(steps: Tensor<1>) -> Tensor<2> {
    sinusoids(steps, STEP_WIDTH, true, 0.0)
}

/// The pooled condition [B, P] and, beside it, how far steps lead: [B, P + W].
fn beside_steps(pooled: Option<Tensor<2>>, steps: Option<Tensor<1>>) -> Option<Tensor<2>> {
    match (pooled, steps.map(step_waves)) {
        (Some(pooled), Some(waves)) => Some(Tensor::cat(vec![pooled, waves], 1)),
        (pooled, waves) => pooled.or(waves),
    }
}

impl Backbone {
    /// What it was built from.
    pub fn config(&self) -> BackboneConfig {
        match self {
            Self::Unet(unet) => BackboneConfig::Unet(unet.config().clone()),
            Self::Transformer(mmdit) => BackboneConfig::Transformer(mmdit.config().clone()),
        }
    }

    /// The same network computing in another number format.
    pub fn with_compute(self, compute: Compute) -> Self {
        match self {
            Self::Unet(unet) => Self::Unet(unet.with_compute(compute)),
            Self::Transformer(mmdit) => Self::Transformer(mmdit.with_compute(compute)),
        }
    }

    /// `noisy` latents [B, C, h, w] at `timesteps` `[B]`, guided by `context` [B, K, D] and by the same condition
    /// `pooled` [B, P] if it was built for one, to a prediction [B, out, h, w] in f32. `steps` `[B]` are how far a step
    /// leads, in units of timesteps, if it was built to be told.
    pub fn forward(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
        steps: Option<Tensor<1>>,
    ) -> Tensor<4> {
        match self {
            Self::Unet(unet) => {
                let timestep_cond = steps.map(step_waves);
                let added = Added { class_labels: pooled, timestep_cond, ..Added::default() };
                unet.forward_added(noisy, timesteps, context, added)
            }
            Self::Transformer(mmdit) => {
                let pooled = beside_steps(pooled, steps);
                mmdit.forward(noisy, timesteps, context, pooled)
            }
        }
    }

    /// [`forward`](Self::forward), and the image's tokens [B, N, D] after the first `blocks` blocks, in f32, row by
    /// row. None where there are none: a U-Net has no blocks of equal tokens.
    pub fn forward_hidden(
        &self,
        noisy: Tensor<4>,
        timesteps: Tensor<1>,
        context: Tensor<3>,
        pooled: Option<Tensor<2>>,
        steps: Option<Tensor<1>>,
        blocks: usize,
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        match self {
            Self::Unet(_) => (self.forward(noisy, timesteps, context, pooled, steps), None),
            Self::Transformer(mmdit) => {
                let pooled = beside_steps(pooled, steps);
                mmdit.forward_hidden(noisy, timesteps, context, pooled, blocks)
            }
        }
    }

    /// Whether a pooled condition `width` wide joins its time embedding.
    pub fn is_pooled(&self, width: usize) -> bool {
        self.config().is_pooled(width)
    }

    /// Whether it is told how far a step leads, its pooled condition being `width` wide.
    pub fn takes_steps(&self, width: usize) -> bool {
        self.config().takes_steps(width)
    }

    /// Forward cost per image of `height` by `width` latents under `num_context` condition tokens, in
    /// floating-point operations.
    pub fn flops(&self, height: usize, width: usize, num_context: usize) -> u64 {
        match self {
            Self::Unet(unet) => unet.flops(height, width, num_context),
            Self::Transformer(mmdit) => mmdit.flops(height, width, num_context),
        }
    }
}
