//! What a DINOv3 vision transformer is built from.

use super::vit_config::OF_BACKBONES;
use crate::models::foreign::Foreign;
use crate::models::{
    ConfigError, MOST, check_at_most, check_depth, check_multiple, check_positive,
};
use burn::tensor::activation::{gelu, silu};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NETWORK: &str = "DINOv3 vision transformer";

/// Always in files, empty where there are none; no tensor in memory is empty.
const REGISTERS: &str = "embeddings.register_tokens";

/// Sizes of a DINOv3 vision transformer, in transformers' words and with its defaults (ViT-S/16).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dinov3Config {
    /// Side of the square images it was trained on, in pixels. Others are taken as well.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Channels of an image: 1, or 3 (a single channel given is then repeated).
    pub num_channels: usize,
    /// Width of a token, a multiple of four times `num_attention_heads`.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// What bends the feed-forward part.
    pub hidden_act: Activation,
    /// Whether the feed-forward part is gated.
    pub use_gated_mlp: bool,
    /// Learned tokens beside the class token that hold nothing of their own.
    pub num_register_tokens: usize,
    /// Ratio of the fastest turn of queries and keys to the slowest, but for one step.
    pub rope_theta: f64,
    /// Start of the factor on each residual branch.
    pub layerscale_value: f64,
    /// Added to the variance by every norm.
    pub layer_norm_eps: f64,
    /// Whether queries have a bias.
    pub query_bias: bool,
    /// Whether keys have a bias.
    pub key_bias: bool,
    /// Whether values have a bias.
    pub value_bias: bool,
    /// Whether the layer after attention has a bias.
    pub proj_bias: bool,
    /// Whether the layers of the feed-forward part have biases.
    pub mlp_bias: bool,
}

impl Default for Dinov3Config {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            hidden_size: 384,
            num_hidden_layers: 12,
            num_attention_heads: 6,
            intermediate_size: 1536,
            hidden_act: Activation::Gelu,
            use_gated_mlp: false,
            num_register_tokens: 0,
            rope_theta: 100.0,
            layerscale_value: 1.0,
            layer_norm_eps: 1e-5,
            query_bias: true,
            key_bias: false,
            value_bias: true,
            proj_bias: true,
            mlp_bias: true,
        }
    }
}

impl Dinov3Config {
    /// Fails where [`init`](Self::init) could not build, or the network not compute.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("num_hidden_layers", self.num_hidden_layers))?;
        check_at_most(NETWORK, ("num_register_tokens", self.num_register_tokens), MOST)?;
        let quarters = ("4 · num_attention_heads", 4 * self.num_attention_heads);
        check_multiple(NETWORK, ("hidden_size", self.hidden_size), quarters)?;
        if self.rope_theta > 0.0 && self.rope_theta.is_finite() {
            Ok(())
        } else {
            let what = format!("rope_theta {}", self.rope_theta);
            Err(ConfigError::Foreign { network: NETWORK, what, expected: "a positive number" })
        }
    }

    /// Reads the `config.json` of transformers' `DINOv3ViTModel`.
    pub fn from_transformers(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Foreign::parse(NETWORK, json)?;
        fields.confine("model_type", |name| name == "dinov3_vit", "dinov3_vit")?;
        let config: Self = fields.take_each()?;
        // How training moves the positions about.
        fields.pass_over(&["pos_embed_jitter", "pos_embed_rescale", "pos_embed_shift"]);
        fields.pass_over(&["attention_dropout"]);
        fields.pass_over(&OF_BACKBONES);
        fields.finish_encoder()?;
        config.check()?;
        Ok(config)
    }

    /// A state dict under the names its files use.
    pub fn to_file(&self, mut state: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
        if self.num_register_tokens == 0 {
            let none = TensorData::new(Vec::<f32>::new(), [1, 0, self.hidden_size]);
            state.insert(REGISTERS.into(), none);
        }
        state
    }

    /// A file's tensors under the names of the state dict.
    ///
    /// Files that name the blocks as transformers does in memory, `model.layer`, are understood too.
    pub fn from_file(&self, file: BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
        let ours = |name: String| match name.strip_prefix("model.") {
            Some(rest) if rest.starts_with("layer.") => rest.to_owned(),
            _ => name,
        };
        file.into_iter()
            .filter(|(name, data)| name != REGISTERS || data.num_elements() > 0)
            .map(|(name, data)| (ours(name), data))
            .collect()
    }
}

/// What bends a feed-forward part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x Φ(x), Φ exact.
    #[default]
    Gelu,
    /// x / (1 + exp(-x)).
    Silu,
}

impl Activation {
    pub(super) fn apply(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Gelu => gelu(x),
            Self::Silu => silu(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_built_is_refused() {
        let refusal = |json: &str| Dinov3Config::from_transformers(json).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"hidden_size": 36, "num_attention_heads": 6}"#),
            "DINOv3 vision transformer: hidden_size is 36, which must be a positive multiple of \
             4 · num_attention_heads (24)"
        );
        assert_eq!(
            refusal(r#"{"num_attention_heads": 0}"#),
            "DINOv3 vision transformer: num_attention_heads must be at least 1"
        );
        assert!(refusal(r#"{"hidden_act": "relu"}"#).contains("expected `gelu` or `silu`"));
        assert!(refusal(r#"{"rope_theta": 0}"#).contains("rope_theta 0"));
        assert_eq!(
            refusal(r#"{"num_hidden_layers": 100000000}"#),
            "DINOv3 vision transformer: num_hidden_layers is 100000000; at most 1024 is understood"
        );
    }
}
