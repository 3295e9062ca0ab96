//! What a vision transformer is built from.
//!
//! In memory the parameters carry DINOv2's names. Files of a DINO v1 network (transformers' `ViTModel`)
//! name the same parameters otherwise; [`VitConfig::to_file`] and [`VitConfig::from_file`] translate.

use crate::models::foreign::Foreign;
use crate::models::{
    ConfigError, MOST, check_at_most, check_depth, check_multiple, check_positive,
};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NETWORK: &str = "vision transformer";
/// What a config of DINOv2 or DINOv3 says to training, and to those who use it as a detector's backbone.
pub(super) const OF_BACKBONES: [&str; 6] = [
    "apply_layernorm",
    "drop_path_rate",
    "out_features",
    "out_indices",
    "reshape_hidden_states",
    "stage_names",
];

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
    /// Whether there is a token for masked patches, which only training knows.
    pub mask_token: bool,
    /// Whether the feed-forward part is gated, as DINOv2-giant's is; files of `ViTModel` have none.
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
    /// What the token for masked patches is called.
    pub const MASK_TOKEN: &str = "embeddings.mask_token";

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
        let mut fields = Foreign::parse(NETWORK, json)?;
        let model_type: String = fields.require("model_type")?;
        let flavor = match model_type.as_str() {
            "vit" => Flavor::Vit,
            "dinov2" | "dinov2_with_registers" => Flavor::Dinov2,
            other => {
                let expected = "vit, dinov2 or dinov2_with_registers";
                return fields.refuse("model_type", &other.into(), expected);
            }
        };
        fields.confine("hidden_act", |name| name == "gelu", "gelu")?;
        let hidden_size = fields.require("hidden_size")?;
        let mut config = Self {
            image_size: fields.require("image_size")?,
            patch_size: fields.require("patch_size")?,
            num_channels: fields.take("num_channels", 3)?,
            hidden_size,
            num_hidden_layers: fields.require("num_hidden_layers")?,
            num_attention_heads: fields.require("num_attention_heads")?,
            layer_norm_eps: fields.require("layer_norm_eps")?,
            qkv_bias: fields.take("qkv_bias", true)?,
            flavor,
            ..Self::default()
        };
        match flavor {
            Flavor::Vit => {
                config.intermediate_size = fields.take("intermediate_size", 3072)?;
                config.pooler_act = match fields.take("pooler_act", String::from("tanh"))?.as_str()
                {
                    "tanh" => PoolerAct::Tanh,
                    "linear" => PoolerAct::Linear,
                    other => return fields.refuse("pooler_act", &other.into(), "tanh or linear"),
                };
                // The weights say whether there is a pooler and how wide it is; the stride is a decoder's.
                fields.pass_over(&["pooler_output_size", "encoder_stride"]);
            }
            Flavor::Dinov2 => {
                let mlp = fields.take("mlp_ratio", 4.0)? * hidden_size as f64;
                // Far more is refused below; this much can be doubled first.
                let mlp = (mlp as usize).min(1 << 40);
                config.use_swiglu_ffn = fields.take("use_swiglu_ffn", false)?;
                config.intermediate_size =
                    if config.use_swiglu_ffn { gated_width(mlp) } else { mlp };
                config.layer_scale = Some(fields.take("layerscale_value", 1.0)?);
                config.mask_token = fields.take("use_mask_token", true)?;
                if model_type == "dinov2_with_registers" {
                    config.num_register_tokens = fields.take("num_register_tokens", 4)?;
                }
                fields.pass_over(&OF_BACKBONES);
            }
        }
        fields.pass_over(&["hidden_dropout_prob", "attention_probs_dropout_prob"]);
        fields.finish_encoder()?;
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
            Flavor::Dinov2 => self.mask_token = file.contains_key(Self::MASK_TOKEN),
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

    /// The state dict of the network in training, of that of its file: with a token for masked patches, which files may
    /// lack, if it needs one, and without it if not.
    pub fn to_train(
        &self,
        mut state: BTreeMap<String, TensorData>,
    ) -> BTreeMap<String, TensorData> {
        let width = self.hidden_size;
        match self.mask_token {
            true => {
                let zeros = || TensorData::new(vec![0f32; width], [1, width]);
                state.entry(Self::MASK_TOKEN.to_owned()).or_insert_with(zeros);
            }
            false => drop(state.remove(Self::MASK_TOKEN)),
        }
        state
    }

    /// A parameter's name in files, of its `name` in the state dict.
    pub fn file_name(&self, name: &str) -> String {
        let state = BTreeMap::from([(name.to_owned(), TensorData::new(Vec::<f32>::new(), [0]))]);
        self.to_file(state).into_keys().next().expect("a name stays a name")
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

/// Width inside a gated feed-forward part that has as many weights as a plain one of width `mlp`: two thirds, then up to
/// the next multiple of 8.
pub fn gated_width(mlp: usize) -> usize {
    (2 * mlp / 3).next_multiple_of(8)
}

/// In a block: DINOv2's name, `ViTModel`'s. The last `output.dense` comes after the attention's.
const VIT_NAMES: [(&str, &str); 5] = [
    (".attention.output.dense.", ".attention.output.dense."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
];
