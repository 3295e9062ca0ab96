//! The transformer's `config.json` of diffusers.

use super::MmditConfig;
use super::mmdit_config::NETWORK;
use crate::models::ConfigError;
use crate::models::foreign::Foreign;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "SD3Transformer2DModel";

impl MmditConfig {
    /// Reads the `config.json` of diffusers' `SD3Transformer2DModel`, of any version: what an older one lacks has
    /// diffusers' default. Fails, naming it, on a field that would change what is computed and is not understood.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Foreign::read(NETWORK, CLASS, json)?;
        // Stable Diffusion 3.5 medium's second attention.
        let is_empty = |value: &Value| value.is_null() || value == &json!([]);
        fields.confine("dual_attention_layers", is_empty, "none of them")?;
        let default = Self::default();
        let in_channels = fields.take("in_channels", default.in_channels)?;
        let out_channels = fields.take("out_channels", Some(default.out_channels))?;
        let caption: usize = fields.take("caption_projection_dim", 1152)?;
        let config = Self {
            sample_size: fields.take("sample_size", default.sample_size)?,
            patch_size: fields.take("patch_size", default.patch_size)?,
            in_channels,
            out_channels: out_channels.unwrap_or(in_channels),
            num_layers: fields.take("num_layers", default.num_layers)?,
            attention_head_dim: fields.take("attention_head_dim", default.attention_head_dim)?,
            num_attention_heads: fields.take("num_attention_heads", default.num_attention_heads)?,
            joint_attention_dim: fields.take("joint_attention_dim", default.joint_attention_dim)?,
            pooled_projection_dim: fields
                .take("pooled_projection_dim", default.pooled_projection_dim)?,
            pos_embed_max_size: positions(&mut fields)?,
            qk_norm: qk_norm(&mut fields)?,
        };
        config.check()?;
        if caption != config.width() {
            let expected = "attention_head_dim times num_attention_heads";
            return fields.refuse("caption_projection_dim", &json!(caption), expected);
        }
        fields.finish()?;
        Ok(config)
    }

    /// The `config.json` with which diffusers opens the network's weights.
    pub fn to_diffusers(&self) -> Value {
        json!({
            "_class_name": CLASS,
            "attention_head_dim": self.attention_head_dim,
            "caption_projection_dim": self.width(),
            "dual_attention_layers": [],
            "in_channels": self.in_channels,
            "joint_attention_dim": self.joint_attention_dim,
            "num_attention_heads": self.num_attention_heads,
            "num_layers": self.num_layers,
            "out_channels": self.out_channels,
            "patch_size": self.patch_size,
            "pooled_projection_dim": self.pooled_projection_dim,
            "pos_embed_max_size": self.pos_embed_max_size,
            "qk_norm": self.qk_norm.then_some("rms_norm"),
            "sample_size": self.sample_size,
        })
    }
}

/// Null means a table that is computed anew for every size, which is not understood.
fn positions(fields: &mut Foreign) -> Result<usize, ConfigError> {
    match fields.take("pos_embed_max_size", Some(MmditConfig::default().pos_embed_max_size))? {
        Some(side) => Ok(side),
        None => fields.refuse("pos_embed_max_size", &Value::Null, "the side of a stored table"),
    }
}

fn qk_norm(fields: &mut Foreign) -> Result<bool, ConfigError> {
    match fields.take("qk_norm", None::<String>)?.as_deref() {
        None => Ok(false),
        Some("rms_norm") => Ok(true),
        Some(other) => fields.refuse("qk_norm", &json!(other), "rms_norm or null"),
    }
}
