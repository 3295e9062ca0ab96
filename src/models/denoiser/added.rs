//! What a U-Net may be told beside the timestep and the condition tokens: it all joins the time embedding.

use super::UnetConfig;
use super::time::{TimeEmbedding, sinusoids};
use crate::models::layers::{Embedding, Linear};
use crate::models::{Compute, Init};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Inputs that join the time embedding, where a network was built for them.
#[derive(Debug, Clone, Default)]
pub struct Added {
    /// Class labels or a pooled condition, [B, P], as [`ClassEmbedding`] says.
    pub class_labels: Option<Tensor<2>>,
    /// The pooled embedding of a text, [B, P].
    pub text_embeds: Option<Tensor<2>>,
    /// Numbers of pixels, [B, n]: Stable Diffusion XL's six are the original height and width, the crop's top and
    /// left, the target's height and width.
    pub time_ids: Option<Tensor<2>>,
    /// What joins the sinusoids of the timestep, [B, C]: a guidance scale's or a step's own sinusoids.
    pub timestep_cond: Option<Tensor<2>>,
}

/// What class labels are and how they join the time embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassEmbedding {
    /// A whole number below this, [B, 1], to which a learned vector belongs: diffusers' `num_class_embeds`.
    Table(usize),
    /// A number, [B, 1], that goes the way of the timestep: `class_embed_type` "timestep".
    Timestep,
    /// Added as it is; as wide as the time embedding: "identity".
    Identity,
    /// A vector of this width, through two affine maps with a SiLU between them: "projection".
    Projection(usize),
    /// A vector of this width, through one affine map: "simple_projection".
    SimpleProjection(usize),
}

/// Sizes of what Stable Diffusion XL adds: a text's embedding beside sinusoids of numbers of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTime {
    /// Width of both together: diffusers' `projection_class_embeddings_input_dim`.
    pub input_dim: usize,
    /// Width of the sinusoids of one number: `addition_time_embed_dim`.
    pub time_embed_dim: usize,
}

impl UnetConfig {
    /// Width P of the class labels [B, P] that the network takes, if it takes any.
    pub fn class_width(&self) -> Option<usize> {
        Some(match self.class_embedding? {
            ClassEmbedding::Table(_) | ClassEmbedding::Timestep => 1,
            ClassEmbedding::Identity => self.time_width(),
            ClassEmbedding::Projection(width) | ClassEmbedding::SimpleProjection(width) => width,
        })
    }

    /// Fails unless `added` holds just what the network takes, for `batch` images. Reads class labels back where
    /// they are numbers of rows of a table.
    pub fn check_inputs(&self, added: &Added, batch: usize) -> Result<(), AddedError> {
        let class_width = self.class_width();
        let told = added.timestep_cond.as_ref();
        check("timestep_cond", told, self.time_cond_proj_dim.is_some(), batch)?;
        if let (Some(expected), Some(cond)) = (self.time_cond_proj_dim, told) {
            let found = cond.dims()[1];
            if found != expected {
                return Err(AddedError::Width { what: "timestep_cond", found, expected });
            }
        }
        check("class_labels", added.class_labels.as_ref(), class_width.is_some(), batch)?;
        check("text_embeds", added.text_embeds.as_ref(), self.text_time.is_some(), batch)?;
        check("time_ids", added.time_ids.as_ref(), self.text_time.is_some(), batch)?;
        if let (Some(expected), Some(labels)) = (class_width, &added.class_labels) {
            let found = labels.dims()[1];
            if found != expected {
                return Err(AddedError::Width { what: "class_labels", found, expected });
            }
            if let Some(ClassEmbedding::Table(num_labels)) = self.class_embedding {
                let values = labels.to_data();
                let is_row =
                    |value: &f64| value.fract() == 0.0 && (0.0..num_labels as f64).contains(value);
                if let Some(label) = values.iter::<f64>().find(|value| !is_row(value)) {
                    return Err(AddedError::Label { label: label.to_string(), num_labels });
                }
            }
        }
        if let (Some(TextTime { input_dim: expected, time_embed_dim }), Some(text), Some(ids)) =
            (self.text_time, &added.text_embeds, &added.time_ids)
        {
            let found = text.dims()[1] + ids.dims()[1] * time_embed_dim;
            if found != expected {
                let what = "text_embeds with the sinusoids of time_ids";
                return Err(AddedError::Width { what, found, expected });
            }
        }
        Ok(())
    }
}

fn check(
    what: &'static str,
    input: Option<&Tensor<2>>,
    is_taken: bool,
    batch: usize,
) -> Result<(), AddedError> {
    match input.map(|input| input.dims()[0]) {
        None if is_taken => Err(AddedError::Missing { what }),
        Some(_) if !is_taken => Err(AddedError::NotTaken { what }),
        Some(found) if found != batch => Err(AddedError::Batch { what, found, batch }),
        _ => Ok(()),
    }
}

/// Inputs that are not those the network was built for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddedError {
    /// The network takes it and it is not there.
    #[error("the U-Net takes {what}, which is missing")]
    Missing {
        /// Which input.
        what: &'static str,
    },
    /// It is there and the network would ignore it.
    #[error("{what} is given, which the U-Net does not take")]
    NotTaken {
        /// Which input.
        what: &'static str,
    },
    /// It is for another number of images.
    #[error("{what} has {found} rows, expected {batch}, one per image")]
    Batch {
        /// Which input.
        what: &'static str,
        /// Its rows.
        found: usize,
        /// The images.
        batch: usize,
    },
    /// It is too wide or too narrow.
    #[error("the width of {what} is {found}, expected {expected}")]
    Width {
        /// Which input.
        what: &'static str,
        /// Its width.
        found: usize,
        /// The width the network takes.
        expected: usize,
    },
    /// There is no such class.
    #[error("class_labels holds {label}, expected whole numbers from 0 to below {num_labels}")]
    Label {
        /// The number.
        label: String,
        /// Rows of the table.
        num_labels: usize,
    },
}

/// The parameters behind a [`ClassEmbedding`]; `Identity` has none.
#[expect(clippy::large_enum_variant, reason = "a network has one, and a box is no module")]
#[derive(Module, Debug)]
pub(super) enum ClassMaps {
    Table(Embedding),
    One(Linear),
    Two(TimeEmbedding),
}

impl ClassMaps {
    pub(super) fn new(config: &UnetConfig, init: &mut Init) -> Option<Self> {
        let width = config.time_width();
        Some(match config.class_embedding? {
            ClassEmbedding::Table(num_labels) => {
                Self::Table(Embedding::new(init, num_labels, width))
            }
            ClassEmbedding::Timestep => {
                Self::Two(TimeEmbedding::new(init, config.block_out_channels[0], width))
            }
            ClassEmbedding::Identity => return None,
            ClassEmbedding::Projection(num_in) => {
                Self::Two(TimeEmbedding::new(init, num_in, width))
            }
            ClassEmbedding::SimpleProjection(num_in) => {
                Self::One(Linear::new(init, num_in, width, true))
            }
        })
    }

    pub(super) fn flops(&self) -> u64 {
        match self {
            Self::Table(_) => 0,
            Self::One(map) => map.flops(1),
            Self::Two(maps) => maps.flops(),
        }
    }
}

/// `labels` [B, P] to what they add to the time embedding, [B, width].
pub(super) fn embed_class(
    config: &UnetConfig,
    maps: Option<&ClassMaps>,
    labels: Tensor<2>,
    compute: Compute,
) -> Option<Tensor<2>> {
    let kind = config.class_embedding?;
    let [b, _] = labels.dims();
    Some(match maps {
        None => compute.enter(labels),
        Some(ClassMaps::Table(table)) => {
            let rows = table.forward(labels.int()); // [B, 1, width]
            compute.enter(rows.reshape([b, config.time_width()]))
        }
        Some(ClassMaps::One(map)) => map.forward(compute.enter(labels)),
        Some(ClassMaps::Two(maps)) if kind == ClassEmbedding::Timestep => {
            let width = config.block_out_channels[0];
            maps.forward(compute.enter(waves(config, labels.reshape([b]), width)))
        }
        Some(ClassMaps::Two(maps)) => maps.forward(compute.enter(labels)),
    })
}

/// A text's embedding [B, P] beside the sinusoids of `ids` [B, n]: [B, P + n · width of the sinusoids], in f32.
pub(super) fn beside_waves(
    config: &UnetConfig,
    TextTime { time_embed_dim, .. }: TextTime,
    text: Tensor<2>,
    ids: Tensor<2>,
) -> Tensor<2> {
    let [b, n] = ids.dims();
    let waves = waves(config, ids.reshape([b * n]), time_embed_dim);
    Tensor::cat(vec![text, waves.reshape([b, n * time_embed_dim])], 1)
}

/// Sinusoids of `numbers` [B] as the timestep has them: [B, width], in f32.
pub(super) fn waves(config: &UnetConfig, numbers: Tensor<1>, width: usize) -> Tensor<2> {
    sinusoids(numbers, width, config.flip_sin_to_cos, config.freq_shift)
}
