//! What a vision transformer is built from.
//!
//! In memory the parameters carry DINOv2's names. Files of a DINO v1 network (transformers' `ViTModel`)
//! name the same parameters otherwise; [`VitConfig::to_file`] and [`VitConfig::from_file`] translate.

use crate::models::{
    ConfigError, MOST, check_at_most, check_depth, check_multiple, check_positive,
};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NETWORK: &str = "vision transformer";

/// Which transformers model the network's files look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavor {
    /// `ViTModel`: DINO v1.
    #[default]
    Vit,
    /// `Dinov2Model`, or `Dinov2WithRegistersModel` where there are registers.
    Dinov2,
}

/// What a pooler's affine map is followed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolerAct {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// Nothing: what umbra exports, where the pooler is the identity.
    Linear,
}

/// Sizes of a vision transformer, in transformers' words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square images the position embeddings are for, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Channels of an image: 1, or 3 (a single channel given is then repeated).
    pub num_channels: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Learned tokens beside the class token that hold nothing of their own; `Dinov2` only.
    pub num_register_tokens: usize,
    /// Start of the factor on each residual branch; none for no such factor.
    pub layer_scale: Option<f64>,
    /// Added to the variance by every norm.
    pub layer_norm_eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether there is a token for masked patches; `Dinov2` only.
    pub mask_token: bool,
    /// Whether the feed-forward part is gated, as DINOv2-giant's is; `Dinov2` only.
    pub use_swiglu_ffn: bool,
    /// Width of `pooler_output`; none for no pooler. `Vit` only.
    pub pooler_size: Option<usize>,
    /// What the pooler ends with.
    pub pooler_act: PoolerAct,
    /// Which names the files use.
    pub flavor: Flavor,
}

impl Default for VitConfig {
    /// ViT-S/16 as DINO v1 has it.
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            hidden_size: 384,
            num_hidden_layers: 12,
            num_attention_heads: 6,
            intermediate_size: 1536,
            num_register_tokens: 0,
            layer_scale: None,
            layer_norm_eps: 1e-6,
            qkv_bias: true,
            mask_token: false,
            use_swiglu_ffn: false,
            pooler_size: None,
            pooler_act: PoolerAct::default(),
            flavor: Flavor::Vit,
        }
    }
}

impl VitConfig {
    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes =
            [("num_channels", self.num_channels), ("intermediate_size", self.intermediate_size)];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("num_hidden_layers", self.num_hidden_layers))?;
        check_at_most(NETWORK, ("num_register_tokens", self.num_register_tokens), MOST)?;
        let patch = ("patch_size", self.patch_size);
        check_multiple(NETWORK, ("image_size", self.image_size), patch)?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        check_multiple(NETWORK, ("hidden_size", self.hidden_size), heads)
    }

    /// Reads the `config.json` of transformers' `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.
    ///
    /// Whether a `ViTModel` has a pooler is not in there: see [`with_parts_of`](Self::with_parts_of).
    pub fn from_transformers(json: &str) -> Result<Self, ConfigError> {
        let foreign: Transformers = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network: NETWORK, why: error.to_string() })?;
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        let flavor = match foreign.model_type.as_str() {
            "vit" => Flavor::Vit,
            "dinov2" | "dinov2_with_registers" => Flavor::Dinov2,
            other => {
                let what = format!("model_type {other:?}");
                return refuse(what, "vit, dinov2 or dinov2_with_registers");
            }
        };
        if foreign.hidden_act != "gelu" {
            return refuse(format!("hidden_act {:?}", foreign.hidden_act), "gelu");
        }
        let pooler_act = match foreign.pooler_act.as_str() {
            "tanh" => PoolerAct::Tanh,
            "linear" => PoolerAct::Linear,
            other => return refuse(format!("pooler_act {other:?}"), "tanh or linear"),
        };
        let dinov2 = flavor == Flavor::Dinov2;
        let use_swiglu_ffn = dinov2 && foreign.use_swiglu_ffn;
        let mlp = foreign.mlp_ratio.unwrap_or(4.0) * foreign.hidden_size as f64;
        // Far more is refused below; this much can be doubled first.
        let mlp = foreign.intermediate_size.unwrap_or(mlp as usize).min(1 << 40);
        let registers = if foreign.model_type == "dinov2_with_registers" { 4 } else { 0 };
        let registers = foreign.num_register_tokens.unwrap_or(registers);
        let config = Self {
            image_size: foreign.image_size,
            patch_size: foreign.patch_size,
            num_channels: foreign.num_channels,
            hidden_size: foreign.hidden_size,
            num_hidden_layers: foreign.num_hidden_layers,
            num_attention_heads: foreign.num_attention_heads,
            // Two thirds keep the number of weights; then up to the next multiple of 8.
            intermediate_size: if use_swiglu_ffn { (2 * mlp / 3).next_multiple_of(8) } else { mlp },
            num_register_tokens: registers,
            layer_scale: dinov2.then_some(foreign.layerscale_value),
            layer_norm_eps: foreign.layer_norm_eps,
            qkv_bias: foreign.qkv_bias,
            mask_token: dinov2 && foreign.use_mask_token,
            use_swiglu_ffn,
            pooler_size: None,
            pooler_act,
            flavor,
        };
        config.check()?;
        Ok(config)
    }

    /// The same with the parts that `file` has and its config does not tell of: a `ViTModel`'s pooler, DINOv2's
    /// token for masked patches.
    pub fn with_parts_of(mut self, file: &BTreeMap<String, TensorData>) -> Self {
        match self.flavor {
            Flavor::Vit => {
                let weight = file.get("pooler.dense.weight");
                let size = weight.and_then(|data| data.shape().first().copied());
                self.pooler_size = size.filter(|size| *size > 0);
            }
            Flavor::Dinov2 => self.mask_token = file.contains_key("embeddings.mask_token"),
        }
        self
    }

    /// A state dict under the names its files use.
    pub fn to_file(&self, state: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
        self.rename(state, |(ours, theirs)| (ours, theirs))
    }

    /// A file's tensors under the names of the state dict, without a pooler that the network lacks.
    pub fn from_file(&self, file: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
        let mut state = self.rename(file, |(ours, theirs)| (theirs, ours));
        state.retain(|name, _| self.pooler_size.is_some() || !name.starts_with("pooler."));
        state
    }

    fn rename(
        &self,
        tensors: BTreeMap<String, TensorData>,
        direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
    ) -> BTreeMap<String, TensorData> {
        if self.flavor == Flavor::Dinov2 {
            return tensors;
        }
        let pairs = VIT_NAMES.map(direction);
        let rename = |name: String| match pairs.iter().find(|(from, _)| name.contains(from)) {
            Some((from, to)) if name.starts_with("encoder.layer.") => name.replacen(from, to, 1),
            _ => name,
        };
        tensors.into_iter().map(|(name, data)| (rename(name), data)).collect()
    }
}

/// In a block: DINOv2's name, `ViTModel`'s. The last `output.dense` comes after the attention's.
const VIT_NAMES: [(&str, &str); 5] = [
    (".attention.output.dense.", ".attention.output.dense."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
];

/// The fields of a transformers config that decide the network.
#[derive(Deserialize)]
struct Transformers {
    model_type: String,
    image_size: usize,
    patch_size: usize,
    #[serde(default = "three")]
    num_channels: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: Option<usize>,
    mlp_ratio: Option<f64>,
    num_register_tokens: Option<usize>,
    #[serde(default = "one")]
    layerscale_value: f64,
    layer_norm_eps: f64,
    #[serde(default = "yes")]
    qkv_bias: bool,
    #[serde(default = "yes")]
    use_mask_token: bool,
    #[serde(default)]
    use_swiglu_ffn: bool,
    #[serde(default = "gelu_name")]
    hidden_act: String,
    #[serde(default = "tanh_name")]
    pooler_act: String,
}

fn three() -> usize {
    3
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

fn gelu_name() -> String {
    "gelu".into()
}

fn tanh_name() -> String {
    "tanh".into()
}
