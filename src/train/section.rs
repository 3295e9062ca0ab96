//! The recipe's `train:` sections: how long and how fast.

use super::adamw::AdamWConfig;
use super::ema::EmaConfig;
use super::learning_rate::LearningRate;
use crate::faults::{demand, within};
use crate::models::Compute;
use serde::{Deserialize, Serialize};

/// How long and how fast to train one network. Counts are in images, so that a batch size can change
/// without changing the meaning of the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Images to train on, counted over all passes.
    pub images: u64,
    /// Images per optimizer step, over all accumulation rounds.
    pub batch_size: usize,
    /// Images per forward and backward pass (gradient accumulation); smaller than `batch_size` saves memory and changes
    /// nothing else: what crosses a batch is found from all of it first. None: the whole batch.
    pub micro_batch_size: Option<usize>,
    /// How fast, when.
    pub learning_rate: LearningRate,
    /// AdamW and gradient clipping.
    pub optimizer: AdamWConfig,
    /// The averaged weights, which are validated, sampled and exported; the first, where there are several.
    pub ema: EmaConfig,
    /// Number format (dtype) of the forward and backward pass, and of validation while training; weights, norms,
    /// softmax and loss stay F32. What is trained is encoded, sampled and measured with in F32.
    pub compute: Compute,
    /// Images between log records.
    pub log_every: u64,
    /// Images between validations. The first is before any step, the last at the end.
    pub validate_every: u64,
    /// Images between preview pictures. None: none.
    pub preview_every: Option<u64>,
    /// Images between checkpoints. One is always written at the end and when a signal comes.
    pub save_every: u64,
    /// Checkpoints kept, at least 2.
    pub keep: usize,
    /// Images at which a checkpoint is made and kept for good, beside the newest: autoguidance is by one of them.
    pub milestones: Vec<u64>,
    /// Steps in a row with a gradient that is not finite before the run gives up.
    pub max_skipped_steps: u32,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            images: 100_000,
            batch_size: 16,
            micro_batch_size: None,
            learning_rate: LearningRate::default(),
            optimizer: AdamWConfig::default(),
            ema: EmaConfig::default(),
            compute: Compute::F32,
            log_every: 500,
            validate_every: 10_000,
            preview_every: None,
            save_every: 10_000,
            keep: 2,
            milestones: Vec::new(),
            max_skipped_steps: 20,
        }
    }
}

impl Train {
    /// The section without what only extends, records or resumes a run: what a stage's hash covers.
    pub fn meaning(&self) -> Self {
        let Self {
            images,
            log_every,
            validate_every,
            preview_every,
            save_every,
            keep,
            milestones,
            ..
        } = Self::default();
        Self {
            images,
            log_every,
            validate_every,
            preview_every,
            save_every,
            keep,
            milestones,
            micro_batch_size: None,
            ema: EmaConfig { snapshot_every: None, ..self.ema.clone() },
            ..self.clone()
        }
    }

    /// Is a checkpoint at `images_seen` the first one at or after a milestone?
    pub fn is_milestone(&self, images_seen: u64) -> bool {
        let before = images_seen.saturating_sub(self.batch_size as u64);
        self.milestones.iter().any(|at| before < *at && *at <= images_seen)
    }

    /// Images between snapshots of power-function averages.
    pub fn snapshot_every(&self) -> u64 {
        self.ema.snapshot_every.unwrap_or(self.save_every)
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let warm_up = self.learning_rate.warm_up;
        let least = |name, value: u64| demand(value > 0, name, value, "at least 1 image");
        let mut faults: Vec<String> = [
            least("images", self.images),
            demand(
                (1..=65_536).contains(&self.batch_size),
                "batch_size",
                self.batch_size,
                "1 to 65536",
            ),
            self.micro_batch_size.and_then(|micro| {
                let expected = format!("1 to batch_size ({})", self.batch_size);
                demand(micro > 0 && micro <= self.batch_size, "micro_batch_size", micro, expected)
            }),
            demand(
                warm_up <= self.images,
                "learning_rate.warm_up",
                warm_up,
                format!("at most the training's {} images", self.images),
            ),
            least("log_every", self.log_every),
            least("validate_every", self.validate_every),
            least("save_every", self.save_every),
            self.preview_every.and_then(|every| least("preview_every", every)),
            self.milestones.iter().find(|at| **at == 0 || **at > self.images).and_then(|at| {
                demand(
                    false,
                    "milestones",
                    at,
                    format!("1 to the training's {} images", self.images),
                )
            }),
            demand(self.keep >= 2, "keep", self.keep, "at least 2 checkpoints"),
        ]
        .into_iter()
        .flatten()
        .collect();
        faults.extend(within("learning_rate", self.learning_rate.check()));
        faults.extend(within("optimizer", self.optimizer.check()));
        faults.extend(within("ema", self.ema.check()));
        faults
    }
}
