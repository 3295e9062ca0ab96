//! What CLIP's text encoder is built from.
//!
//! In memory the parameters carry the names of transformers' `CLIPTextModel` as its version 5 writes them,
//! without `text_model.` before each. [`ClipTextConfig::from_file`] takes files with and without it;
//! [`ClipTextConfig::to_file`] writes it, because version 5 reads both and older ones nothing else.

use super::Activation;
use crate::models::weights::StateDict;
use crate::models::{ConfigError, check_depth, check_multiple, check_positive};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) const NETWORK: &str = "CLIP text encoder";

/// What files put before the names of all but the projection.
const PREFIX: &str = "text_model.";
const PROJECTION: &str = "text_projection.weight";

/// Sizes of CLIP's text encoder, in transformers' words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipTextConfig {
    /// Tokens that have a number.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Most tokens of a text.
    pub max_position_embeddings: usize,
    /// Nonlinearity of the feed-forward part.
    pub hidden_act: Activation,
    /// Added to the variance by every norm.
    pub layer_norm_eps: f64,
    /// The token that ends a text, whose state is the pooled output. 2 stands for the token with the largest
    /// number: early configs say 2 and mean that.
    pub eos_token_id: i64,
    /// Width of the space shared with images; none for no projection into it.
    pub projection_dim: Option<usize>,
}

impl Default for ClipTextConfig {
    /// The text encoder of CLIP ViT-L/14 and Stable Diffusion 1.
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
            projection_dim: None,
        }
    }
}

impl ClipTextConfig {
    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("projection_dim", self.projection_dim.unwrap_or(1)),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("num_hidden_layers", self.num_hidden_layers))?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        check_multiple(NETWORK, ("hidden_size", self.hidden_size), heads)
    }

    /// Reads the `config.json` of transformers' `CLIPTextModel` or `CLIPTextModelWithProjection`, or the
    /// text half of `CLIPModel`'s.
    pub fn from_transformers(json: &str) -> Result<Self, ConfigError> {
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        let whole: Whole = parse(serde_json::from_str(json))?;
        let (text, projection_dim) = match whole.model_type.as_str() {
            "clip_text_model" => {
                let text: Transformers = parse(serde_json::from_str(json))?;
                let projects =
                    whole.architectures.iter().flatten().any(|name| name.ends_with(PROJECTING));
                let projection_dim = projects.then_some(text.projection_dim);
                (text, projection_dim)
            }
            "clip" => {
                let text = whole.text_config_dict.or(whole.text_config).unwrap_or_default();
                (parse(serde_json::from_value(text.into()))?, Some(whole.projection_dim))
            }
            other => return refuse(format!("model_type {other:?}"), "clip_text_model or clip"),
        };
        let Some(hidden_act) = Activation::from_transformers(&text.hidden_act) else {
            return refuse(format!("hidden_act {:?}", text.hidden_act), Activation::EXPECTED);
        };
        let config = Self {
            vocab_size: text.vocab_size,
            hidden_size: text.hidden_size,
            intermediate_size: text.intermediate_size,
            num_hidden_layers: text.num_hidden_layers,
            num_attention_heads: text.num_attention_heads,
            max_position_embeddings: text.max_position_embeddings,
            hidden_act,
            layer_norm_eps: text.layer_norm_eps,
            eos_token_id: text.eos_token_id,
            projection_dim,
        };
        config.check()?;
        Ok(config)
    }

    /// The same, with a projection if the tensors of `file` hold one and none otherwise.
    pub fn for_file(mut self, file: &StateDict) -> Self {
        self.projection_dim = file.get(PROJECTION).and_then(|data| data.shape().first().copied());
        self
    }

    /// A state dict under the names that every version of transformers reads.
    pub fn to_file(&self, state: StateDict) -> StateDict {
        let rename = |name: String| match name.as_str() {
            PROJECTION => name,
            _ => format!("{PREFIX}{name}"),
        };
        state.into_iter().map(|(name, data)| (rename(name), data)).collect()
    }

    /// A file's tensors under the names of the state dict: without position numbers, without the image half
    /// of a whole CLIP, and without the projection if this config has none.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        let is_ours = |name: &str| match name {
            PROJECTION => self.projection_dim.is_some(),
            _ => {
                !IMAGE_HALF.iter().any(|start| name.starts_with(start))
                    && !name.ends_with(POSITIONS)
            }
        };
        let strip = |name: String| name.strip_prefix(PREFIX).map(str::to_owned).unwrap_or(name);
        let ours = file.into_iter().filter(|(name, _)| is_ours(name));
        ours.map(|(name, data)| (strip(name), data)).collect()
    }
}

/// The end of the names of transformers' classes that have a projection.
const PROJECTING: &str = "WithProjection";
/// The start of the names in a `CLIPModel`'s file that have nothing to do with texts.
const IMAGE_HALF: [&str; 3] = ["vision_model.", "visual_projection.", "logit_scale"];
/// The end of the name of a buffer that holds 0, 1, 2 … in files of transformers before 4.31.
const POSITIONS: &str = "embeddings.position_ids";

fn parse<T: DeserializeOwned>(read: serde_json::Result<T>) -> Result<T, ConfigError> {
    read.map_err(|error| ConfigError::Parse { network: NETWORK, why: error.to_string() })
}

/// What is around the fields of the text encoder.
#[derive(Deserialize)]
struct Whole {
    model_type: String,
    architectures: Option<Vec<String>>,
    text_config: Option<Map<String, Value>>,
    /// Decides where both are there, as in transformers.
    text_config_dict: Option<Map<String, Value>>,
    #[serde(default = "shared_width")]
    projection_dim: usize,
}

fn shared_width() -> usize {
    512
}

/// The fields of a transformers config that decide the network, with transformers' defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Transformers {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    projection_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    eos_token_id: i64,
}

impl Default for Transformers {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: shared_width(),
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}
