//! What CLIP's text encoder is built from.
//!
//! In memory the parameters carry the names of transformers' `CLIPTextModel` as its version 5 writes them,
//! without `text_model.` before each. [`ClipTextConfig::from_file`] takes files with and without it;
//! [`ClipTextConfig::to_file`] writes it, because version 5 reads both and older ones nothing else.

use super::Activation;
use crate::models::foreign::Foreign;
use crate::models::weights::StateDict;
use crate::models::{ConfigError, check_depth, check_multiple, check_positive};
use serde::{Deserialize, Serialize};

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
        let mut whole = Foreign::parse(NETWORK, json)?;
        let model_type: String = whole.require("model_type")?;
        match model_type.as_str() {
            "clip_text_model" => {
                let classes: Option<Vec<String>> = whole.take("architectures", None)?;
                let projects = classes.iter().flatten().any(|name| name.ends_with(PROJECTING));
                let projection_dim = whole.take("projection_dim", SHARED_WIDTH)?;
                Self::read(whole, projects.then_some(projection_dim))
            }
            "clip" => {
                let projection_dim = whole.take("projection_dim", SHARED_WIDTH)?;
                // Decides where both are there, as in transformers.
                let first = whole.take::<Option<_>>("text_config_dict", None)?;
                let second = whole.take::<Option<_>>("text_config", None)?;
                whole.pass_over(&["vision_config", "vision_config_dict", "logit_scale_init_value"]);
                whole.finish_encoder()?;
                let mut text = Foreign::new(NETWORK, first.or(second).unwrap_or_default());
                text.pass_over(&["projection_dim"]);
                text.confine("model_type", |name| name == "clip_text_model", "clip_text_model")?;
                Self::read(text, Some(projection_dim))
            }
            other => whole.refuse("model_type", &other.into(), "clip_text_model or clip"),
        }
    }

    /// The `fields` of the text encoder itself, with transformers' defaults.
    fn read(mut fields: Foreign, projection_dim: Option<usize>) -> Result<Self, ConfigError> {
        let config = Self {
            vocab_size: fields.take("vocab_size", 49408)?,
            hidden_size: fields.take("hidden_size", 512)?,
            intermediate_size: fields.take("intermediate_size", 2048)?,
            num_hidden_layers: fields.take("num_hidden_layers", 12)?,
            num_attention_heads: fields.take("num_attention_heads", 8)?,
            max_position_embeddings: fields.take("max_position_embeddings", 77)?,
            hidden_act: Activation::take(&mut fields, Activation::QuickGelu)?,
            layer_norm_eps: fields.take("layer_norm_eps", 1e-5)?,
            eos_token_id: fields.take("eos_token_id", 49407)?,
            projection_dim,
        };
        fields.pass_over(&["attention_dropout", "dropout"]);
        fields.finish_encoder()?;
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
/// Width in which CLIP compares texts and images, unless told otherwise.
const SHARED_WIDTH: usize = 512;
/// The start of the names in a `CLIPModel`'s file that have nothing to do with texts.
const IMAGE_HALF: [&str; 3] = ["vision_model.", "visual_projection.", "logit_scale"];
/// The end of the name of a buffer that holds 0, 1, 2 … in files of transformers before 4.31.
const POSITIONS: &str = "embeddings.position_ids";
