//! The U-Net's `config.json` of diffusers.

use super::unet_config::{MidBlockKind, NETWORK, TimeScaleShift};
use super::{ClassEmbedding, TextTime, UnetConfig};
use crate::models::ConfigError;
use crate::models::foreign::{Foreign, per_level};
use serde_json::{Value, json};

pub(super) const CLASS: &str = "UNet2DConditionModel";
const CROSS_DOWN: &str = "CrossAttnDownBlock2D";
const CROSS_UP: &str = "CrossAttnUpBlock2D";
const DOWN: &str = "DownBlock2D";
const UP: &str = "UpBlock2D";
const CROSS_MID: &str = "UNetMidBlock2DCrossAttn";
const MID: &str = "UNetMidBlock2D";

impl UnetConfig {
    /// Reads the `config.json` of diffusers' `UNet2DConditionModel`, of any version: what an older one lacks has
    /// diffusers' default. Fails, naming it, on a field that would change what is computed and is not understood.
    /// Dropout is passed over: it is for training only, and there is none here.
    pub fn from_diffusers(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Foreign::read(NETWORK, CLASS, json)?;
        confine(&mut fields)?;
        let attention = attention(&mut fields)?;
        let input_dim = fields.take("projection_class_embeddings_input_dim", None)?;
        let config = Self {
            sample_size: sample_size(&mut fields)?,
            in_channels: fields.take("in_channels", 4)?,
            out_channels: fields.take("out_channels", 4)?,
            block_out_channels: fields.take("block_out_channels", vec![320, 640, 1280, 1280])?,
            layers_per_block: fields.take_common("layers_per_block", 2)?,
            attention,
            mid_block: mid_block(&mut fields)?,
            attention_head_dim: fields.take_per_level("attention_head_dim", 8)?,
            cross_attention_dim: fields.take_common("cross_attention_dim", 1280)?,
            encoder_hid_dim: encoder_hid_dim(&mut fields)?,
            transformer_layers_per_block: fields
                .take_per_level("transformer_layers_per_block", 1)?,
            only_cross_attention: fields.take_per_level("only_cross_attention", false)?,
            norm_num_groups: norm_num_groups(&mut fields)?,
            norm_eps: fields.take("norm_eps", 1e-5)?,
            use_linear_projection: fields.take("use_linear_projection", false)?,
            conv_in_kernel: fields.take("conv_in_kernel", 3)?,
            conv_out_kernel: fields.take("conv_out_kernel", 3)?,
            center_input_sample: fields.take("center_input_sample", false)?,
            flip_sin_to_cos: fields.take("flip_sin_to_cos", true)?,
            freq_shift: fields.take("freq_shift", 0.0)?,
            time_embedding_dim: fields.take("time_embedding_dim", None)?,
            time_cond_proj_dim: fields.take("time_cond_proj_dim", None)?,
            resnet_time_scale_shift: time_scale_shift(&mut fields)?,
            class_embedding: class_embedding(&mut fields, input_dim)?,
            text_time: text_time(&mut fields, input_dim)?,
        };
        fields.finish()?;
        config.check()?;
        Ok(config)
    }

    /// The `config.json` with which diffusers opens the network's weights.
    pub fn to_diffusers(&self) -> Value {
        let kind =
            |with, without| self.attention.iter().map(move |at| if *at { with } else { without });
        let (class_embed_type, num_class_embeds) = match self.class_embedding {
            None => (None, None),
            Some(ClassEmbedding::Table(num_labels)) => (None, Some(num_labels)),
            Some(ClassEmbedding::Timestep) => (Some("timestep"), None),
            Some(ClassEmbedding::Identity) => (Some("identity"), None),
            Some(ClassEmbedding::Projection(_)) => (Some("projection"), None),
            Some(ClassEmbedding::SimpleProjection(_)) => (Some("simple_projection"), None),
        };
        let class_width = match self.class_embedding {
            Some(ClassEmbedding::Projection(width) | ClassEmbedding::SimpleProjection(width)) => {
                Some(width)
            }
            _ => None,
        };
        json!({
            "_class_name": CLASS,
            "act_fn": "silu",
            "addition_embed_type": self.text_time.map(|_| "text_time"),
            "addition_time_embed_dim": self.text_time.map(|it| it.time_embed_dim),
            "attention_head_dim": per_level(&self.attention_head_dim),
            "block_out_channels": self.block_out_channels,
            "center_input_sample": self.center_input_sample,
            "class_embed_type": class_embed_type,
            "conv_in_kernel": self.conv_in_kernel,
            "conv_out_kernel": self.conv_out_kernel,
            "cross_attention_dim": self.cross_attention_dim,
            "down_block_types": kind(CROSS_DOWN, DOWN).collect::<Vec<_>>(),
            "downsample_padding": 1,
            "encoder_hid_dim": self.encoder_hid_dim,
            "encoder_hid_dim_type": self.encoder_hid_dim.map(|_| "text_proj"),
            "flip_sin_to_cos": self.flip_sin_to_cos,
            "freq_shift": self.freq_shift,
            "in_channels": self.in_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_type": match self.mid_block {
                MidBlockKind::CrossAttention => Some(CROSS_MID),
                MidBlockKind::Residual => Some(MID),
                MidBlockKind::None => None,
            },
            "norm_eps": self.norm_eps,
            "norm_num_groups": self.norm_num_groups,
            "num_class_embeds": num_class_embeds,
            "only_cross_attention": per_level(&self.only_cross_attention),
            "out_channels": self.out_channels,
            "projection_class_embeddings_input_dim":
                class_width.or(self.text_time.map(|it| it.input_dim)),
            "resnet_time_scale_shift": match self.resnet_time_scale_shift {
                TimeScaleShift::Shift => "default",
                TimeScaleShift::ScaleShift => "scale_shift",
            },
            "sample_size": self.sample_size,
            "time_cond_proj_dim": self.time_cond_proj_dim,
            "time_embedding_dim": self.time_embedding_dim,
            "transformer_layers_per_block": per_level(&self.transformer_layers_per_block),
            "up_block_types": kind(CROSS_UP, UP).rev().collect::<Vec<_>>(),
            "use_linear_projection": self.use_linear_projection,
        })
    }
}

/// Fails on every field that would change the network in a way that is not understood.
fn confine(fields: &mut Foreign) -> Result<(), ConfigError> {
    let is = |number: f64| move |value: &Value| value.as_f64() == Some(number);
    let is_false = |value: &Value| value.is_null() || value == false;
    fields.confine("act_fn", |name| name == "silu" || name == "swish", "silu")?;
    fields.confine("attention_type", |name| name == "default", "default")?;
    fields.confine("class_embeddings_concat", is_false, "false")?;
    fields.confine("downsample_padding", is(1.0), "1")?;
    fields.confine("dual_cross_attention", is_false, "false")?;
    fields.confine("mid_block_scale_factor", is(1.0), "1")?;
    // diffusers refuses it, too: heads are counted by attention_head_dim.
    fields.confine_to_null("num_attention_heads")?;
    fields.confine_to_null("reverse_transformer_layers_per_block")?;
    fields.confine("time_embedding_type", |name| name == "positional", "positional")?;
    fields.confine_to_null("time_embedding_act_fn")?;
    fields.confine_to_null("timestep_post_act")?;
    // Nothing to the blocks that are understood, except the first (training only) and the second (attention is
    // computed in f32 either way).
    fields.pass_over(&[
        "dropout",
        "upcast_attention",
        "addition_embed_type_num_heads",
        "cross_attention_norm",
        "mid_block_only_cross_attention",
        "resnet_out_scale_factor",
        "resnet_skip_time_act",
    ]);
    Ok(())
}

/// Which levels have transformers.
fn attention(fields: &mut Foreign) -> Result<Vec<bool>, ConfigError> {
    let standard =
        |with: &str, without: &str| [with, with, with, without].map(ToOwned::to_owned).to_vec();
    let down: Vec<String> = fields.take("down_block_types", standard(CROSS_DOWN, DOWN))?;
    let mut default = standard(CROSS_UP, UP);
    default.reverse();
    let up: Vec<String> = fields.take("up_block_types", default)?;
    let mut attention = Vec::with_capacity(down.len());
    for block in &down {
        attention.push(match block.as_str() {
            CROSS_DOWN => true,
            DOWN => false,
            _ => {
                let known = "CrossAttnDownBlock2D or DownBlock2D";
                return fields.refuse("the block", &json!(block), known);
            }
        });
    }
    let mirror = attention.iter().rev().map(|at| if *at { CROSS_UP } else { UP });
    if mirror.eq(up.iter().map(String::as_str)) {
        Ok(attention)
    } else {
        fields.refuse("up_block_types", &json!(up), "the mirror of down_block_types")
    }
}

/// One side of the latents; a pair is [height, width].
fn sample_size(fields: &mut Foreign) -> Result<usize, ConfigError> {
    let default = UnetConfig::default().sample_size;
    let sides: Option<Vec<usize>> = match fields.take("sample_size", Value::Null)? {
        Value::Null => None,
        value if value.is_array() => serde_json::from_value(value).ok(),
        value => serde_json::from_value(value).ok().map(|side| vec![side]),
    };
    Ok(sides.and_then(|sides| sides.into_iter().max()).unwrap_or(default))
}

fn mid_block(fields: &mut Foreign) -> Result<MidBlockKind, ConfigError> {
    let name = fields.take("mid_block_type", Some(CROSS_MID.to_owned()))?;
    match name.as_deref() {
        Some(CROSS_MID) => Ok(MidBlockKind::CrossAttention),
        Some(MID) => Ok(MidBlockKind::Residual),
        None => Ok(MidBlockKind::None),
        Some(other) => {
            let known = "UNetMidBlock2DCrossAttn, UNetMidBlock2D or null";
            fields.refuse("mid_block_type", &json!(other), known)
        }
    }
}

/// diffusers takes a width without a type as "text_proj".
fn encoder_hid_dim(fields: &mut Foreign) -> Result<Option<usize>, ConfigError> {
    let width: Option<usize> = fields.take("encoder_hid_dim", None)?;
    let kind: Option<String> = fields.take("encoder_hid_dim_type", None)?;
    match (width, kind.as_deref()) {
        (None, None) => Ok(None),
        (Some(width), None | Some("text_proj")) => Ok(Some(width)),
        (None, Some("text_proj")) => {
            fields.refuse("encoder_hid_dim", &Value::Null, "a width for encoder_hid_dim_type")
        }
        (_, Some(other)) => {
            fields.refuse("encoder_hid_dim_type", &json!(other), "text_proj or null")
        }
    }
}

/// Null means no norm at the end, which is not understood.
fn norm_num_groups(fields: &mut Foreign) -> Result<usize, ConfigError> {
    match fields.take("norm_num_groups", Some(32))? {
        Some(num_groups) => Ok(num_groups),
        None => fields.refuse("norm_num_groups", &Value::Null, "a number of groups"),
    }
}

fn time_scale_shift(fields: &mut Foreign) -> Result<TimeScaleShift, ConfigError> {
    let name: String = fields.take("resnet_time_scale_shift", "default".into())?;
    match name.as_str() {
        "default" => Ok(TimeScaleShift::Shift),
        "scale_shift" => Ok(TimeScaleShift::ScaleShift),
        other => fields.refuse("resnet_time_scale_shift", &json!(other), "default or scale_shift"),
    }
}

fn class_embedding(
    fields: &mut Foreign,
    input_dim: Option<usize>,
) -> Result<Option<ClassEmbedding>, ConfigError> {
    let kind: Option<String> = fields.take("class_embed_type", None)?;
    let num_labels: Option<usize> = fields.take("num_class_embeds", None)?;
    let Some(kind) = kind else { return Ok(num_labels.map(ClassEmbedding::Table)) };
    Ok(Some(match (kind.as_str(), input_dim) {
        ("timestep", _) => ClassEmbedding::Timestep,
        ("identity", _) => ClassEmbedding::Identity,
        ("projection", Some(width)) => ClassEmbedding::Projection(width),
        ("simple_projection", Some(width)) => ClassEmbedding::SimpleProjection(width),
        ("projection" | "simple_projection", None) => return without_input_dim(fields),
        (other, _) => {
            let known = "null, timestep, identity, projection or simple_projection";
            return fields.refuse("class_embed_type", &json!(other), known);
        }
    }))
}

fn text_time(
    fields: &mut Foreign,
    input_dim: Option<usize>,
) -> Result<Option<TextTime>, ConfigError> {
    let kind: Option<String> = fields.take("addition_embed_type", None)?;
    let time_embed_dim: Option<usize> = fields.take("addition_time_embed_dim", None)?;
    match (kind.as_deref(), time_embed_dim, input_dim) {
        (None, ..) => Ok(None),
        (Some("text_time"), Some(time_embed_dim), Some(input_dim)) => {
            Ok(Some(TextTime { input_dim, time_embed_dim }))
        }
        (Some("text_time"), None, _) => fields.refuse(
            "addition_time_embed_dim",
            &Value::Null,
            "a width for addition_embed_type text_time",
        ),
        (Some("text_time"), _, None) => without_input_dim(fields),
        (Some(other), ..) => {
            fields.refuse("addition_embed_type", &json!(other), "text_time or null")
        }
    }
}

fn without_input_dim<T>(fields: &Foreign) -> Result<T, ConfigError> {
    let name = "projection_class_embeddings_input_dim";
    fields.refuse(name, &Value::Null, "the width of what is projected")
}
