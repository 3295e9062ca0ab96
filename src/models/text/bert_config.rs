//! What BERT is built from.
//!
//! In memory the parameters carry the names of transformers' `BertModel`. Files of models with a head (masked
//! language models, CXR-BERT) put `bert.` before them; [`BertConfig::from_file`] takes both.

use super::Activation;
use crate::models::foreign::Foreign;
use crate::models::weights::StateDict;
use crate::models::{ConfigError, check_depth, check_multiple, check_positive};
use serde::{Deserialize, Serialize};

pub(super) const NETWORK: &str = "BERT";

/// What files of models with a head put before the names of everything else.
const PREFIX: &str = "bert.";
const POOLER: &str = "pooler.dense.weight";
/// What a config says to training, to the heads of other classes, and (of the first BERTs) to nobody any more.
const OF_TRAINING_AND_HEADS: [&str; 11] = [
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "directionality",
    "hidden_dropout_prob",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "projection_dim",
    "projection_size",
];

/// Sizes of BERT, in transformers' words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertConfig {
    /// Tokens that have a number.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Nonlinearity of the feed-forward part.
    pub hidden_act: Activation,
    /// Most tokens of a text.
    pub max_position_embeddings: usize,
    /// Kinds of tokens: first text, second text.
    pub type_vocab_size: usize,
    /// Added to the variance by every norm.
    pub layer_norm_eps: f64,
    /// Whether a layer makes one vector of the first token.
    pub add_pooling_layer: bool,
}

impl Default for BertConfig {
    /// BERT-base, uncased.
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            add_pooling_layer: true,
        }
    }
}

impl BertConfig {
    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        check_positive(NETWORK, &sizes)?;
        check_depth(NETWORK, ("num_hidden_layers", self.num_hidden_layers))?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        check_multiple(NETWORK, ("hidden_size", self.hidden_size), heads)
    }

    /// Reads the `config.json` of transformers' `BertModel` or a BERT with a head.
    ///
    /// It does not say whether there is a pooler: what the class usually has is taken, and
    /// [`for_file`](Self::for_file) makes sure.
    pub fn from_transformers(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Foreign::parse(NETWORK, json)?;
        let model_type: String = fields.require("model_type")?;
        if !["bert", "cxr-bert"].contains(&model_type.as_str()) {
            return fields.refuse("model_type", &model_type.into(), "bert or cxr-bert");
        }
        fields.confine("position_embedding_type", |name| name == "absolute", "absolute")?;
        let architectures: Option<Vec<String>> = fields.take("architectures", None)?;
        let has_none = |name: &String| POOLERLESS.contains(&name.as_str());
        let usual = Self::default();
        let config = Self {
            vocab_size: fields.take("vocab_size", usual.vocab_size)?,
            hidden_size: fields.take("hidden_size", usual.hidden_size)?,
            num_hidden_layers: fields.take("num_hidden_layers", usual.num_hidden_layers)?,
            num_attention_heads: fields.take("num_attention_heads", usual.num_attention_heads)?,
            intermediate_size: fields.take("intermediate_size", usual.intermediate_size)?,
            hidden_act: Activation::take(&mut fields, usual.hidden_act)?,
            max_position_embeddings: fields
                .take("max_position_embeddings", usual.max_position_embeddings)?,
            type_vocab_size: fields.take("type_vocab_size", usual.type_vocab_size)?,
            layer_norm_eps: fields.take("layer_norm_eps", usual.layer_norm_eps)?,
            add_pooling_layer: !architectures.iter().flatten().any(has_none),
        };
        fields.pass_over(&OF_TRAINING_AND_HEADS);
        fields.finish_encoder()?;
        config.check()?;
        Ok(config)
    }

    /// The same, with a pooler if the tensors of `file` hold one and none otherwise.
    pub fn for_file(mut self, file: &StateDict) -> Self {
        let names = [POOLER.to_owned(), format!("{PREFIX}{POOLER}")];
        self.add_pooling_layer = names.iter().any(|name| file.contains_key(name));
        self
    }

    /// A file's tensors under the names of the state dict: without heads, without position numbers, without
    /// the pooler if this config has none.
    ///
    /// Where some names start with `bert.`, all others are heads.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        let has_head = file.keys().any(|name| name.starts_with(PREFIX));
        let name_of = |name: String| {
            let name = if has_head { name.strip_prefix(PREFIX)?.to_owned() } else { name };
            let unwanted = BUFFERS.contains(&name.as_str())
                || (name.starts_with("pooler.") && !self.add_pooling_layer);
            let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
            (!unwanted).then(|| name.replace("LayerNorm.beta", "LayerNorm.bias"))
        };
        file.into_iter().filter_map(|(name, data)| Some((name_of(name)?, data))).collect()
    }
}

/// Classes whose BERT has no pooler.
const POOLERLESS: [&str; 5] = [
    "BertForMaskedLM",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertLMHeadModel",
    "CXRBertModel",
];
/// What files of transformers before 4.31 hold beside weights: 0, 1, 2 … and zeros.
const BUFFERS: [&str; 2] = ["embeddings.position_ids", "embeddings.token_type_ids"];
