//! What a network predicts, and how far its images may go.

use super::SchedulerError;
use super::fields::{Fields, Named};
use burn::tensor::Tensor;
use serde_json::{Value, json};

/// What the network of a variance preserving scheduler predicts (`prediction_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// alpha · noise − sigma · clean.
    Velocity,
    /// The image itself.
    Sample,
}

impl Named for Prediction {
    const NAMES: &'static [(&'static str, Self)] =
        &[("epsilon", Self::Epsilon), ("v_prediction", Self::Velocity), ("sample", Self::Sample)];
}

impl Prediction {
    /// The image that `output` means, where `sample` = `alpha` · image + `sigma` · noise.
    pub(super) fn clean(
        self,
        output: Tensor<4>,
        sample: Tensor<4>,
        [alpha, sigma]: [f32; 2],
    ) -> Tensor<4> {
        match self {
            Self::Epsilon => (sample - output.mul_scalar(sigma)).div_scalar(alpha),
            Self::Velocity => sample.mul_scalar(alpha) - output.mul_scalar(sigma),
            Self::Sample => output,
        }
    }

    /// The noise that `output` means, likewise.
    pub(super) fn noise(
        self,
        output: Tensor<4>,
        sample: Tensor<4>,
        [alpha, sigma]: [f32; 2],
    ) -> Tensor<4> {
        match self {
            Self::Epsilon => output,
            Self::Velocity => output.mul_scalar(alpha) + sample.mul_scalar(sigma),
            Self::Sample => (sample - output.mul_scalar(alpha)).div_scalar(sigma),
        }
    }

    /// The image that `output` means, where `sample` = image + `sigma` · noise and the network saw
    /// `sample` scaled to the power of the image.
    pub(super) fn clean_of_scaled(
        self,
        output: Tensor<4>,
        sample: Tensor<4>,
        sigma: f32,
    ) -> Tensor<4> {
        let power = sigma * sigma + 1.0;
        match self {
            Self::Epsilon => sample - output.mul_scalar(sigma),
            Self::Velocity => output.mul_scalar(-sigma / power.sqrt()) + sample.div_scalar(power),
            Self::Sample => output,
        }
    }

    /// Fails where the noise is to tell the image and no signal is left: that image is infinite, which
    /// only clamping cures.
    pub(super) fn check(
        self,
        class: &'static str,
        num_steps: usize,
        alpha_bars: impl IntoIterator<Item = f32>,
    ) -> Result<(), SchedulerError> {
        let is_blind = |power: f32| self == Self::Epsilon && power == 0.0;
        match alpha_bars.into_iter().any(is_blind) {
            true => {
                let why = "they start where no signal is left, and prediction_type epsilon tells \
                           nothing about the image there; expected v_prediction or sample";
                Err(SchedulerError::Steps { class, num_steps, why: why.into() })
            }
            false => Ok(()),
        }
    }
}

/// Whether predicted images are clamped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Whether they are.
    pub clip_sample: bool,
    /// Clamped to ± this.
    pub clip_sample_range: f64,
}

impl Clip {
    pub(super) fn new(clip_sample: bool) -> Self {
        Self { clip_sample, clip_sample_range: 1.0 }
    }

    pub(super) fn read(self, fields: &mut Fields) -> Result<Self, SchedulerError> {
        let clip = Self {
            clip_sample: fields.flag("clip_sample", self.clip_sample)?,
            clip_sample_range: fields.number("clip_sample_range", self.clip_sample_range)?,
        };
        match clip.clip_sample_range >= 0.0 {
            true => Ok(clip),
            false => {
                let range = json!(clip.clip_sample_range);
                Err(fields.fault("clip_sample_range", &range, "a number of at least 0"))
            }
        }
    }

    pub(super) fn write(self) -> Vec<(&'static str, Value)> {
        vec![
            ("clip_sample", json!(self.clip_sample)),
            ("clip_sample_range", json!(self.clip_sample_range)),
        ]
    }

    pub(super) fn apply(self, clean: Tensor<4>) -> Tensor<4> {
        let range = self.clip_sample_range;
        if self.clip_sample { clean.clamp(-range, range) } else { clean }
    }
}
