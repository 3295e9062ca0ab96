//! The recipe's `train:` sections: how long and how fast.

use super::adamw::AdamWConfig;
use super::ema::EmaConfig;
use super::learning_rate::LearningRate;
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
    /// Images per forward and backward pass (gradient accumulation); smaller than `batch_size` saves memory. The mean
    /// gradient is the same where a loss looks at each image by itself. Self-distillation compares the images of a
    /// pass with each other, so there it is another training. None: the whole batch.
    pub micro_batch_size: Option<usize>,
    /// How fast, when.
    pub learning_rate: LearningRate,
    /// AdamW and gradient clipping.
    pub optimizer: AdamWConfig,
    /// The averaged weights, which are validated, sampled and exported.
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
            max_skipped_steps: 20,
        }
    }
}

impl Train {
    /// The section without what only extends, records or resumes a run: what a stage's hash covers.
    pub fn meaning(&self) -> Self {
        let Self { images, log_every, validate_every, preview_every, save_every, keep, .. } =
            Self::default();
        Self {
            images,
            log_every,
            validate_every,
            preview_every,
            save_every,
            keep,
            micro_batch_size: None,
            ..self.clone()
        }
    }

    /// The same for a loss that compares the images of a micro-batch with each other.
    pub fn meaning_by_micro_batch(&self) -> Self {
        let micro_batch_size = self.micro_batch_size.filter(|&micro| micro < self.batch_size);
        Self { micro_batch_size, ..self.meaning() }
    }

    /// Faults, each a sentence that starts with `place`, the section's name in the recipe.
    pub fn faults(&self, place: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, what: String| {
            if !holds {
                faults.push(format!("{place}.{what}"));
            }
        };
        demand(self.images > 0, format!("images is {}; expected at least 1", self.images));
        demand(
            (1..=65_536).contains(&self.batch_size),
            format!("batch_size is {}; expected 1 to 65536", self.batch_size),
        );
        if let Some(micro) = self.micro_batch_size {
            demand(
                micro > 0 && micro <= self.batch_size,
                format!(
                    "micro_batch_size is {micro}; expected 1 to batch_size ({})",
                    self.batch_size
                ),
            );
        }
        demand(
            self.learning_rate.warm_up <= self.images,
            format!(
                "learning_rate.warm_up is {} images, longer than the run ({} images)",
                self.learning_rate.warm_up, self.images
            ),
        );
        for (name, every) in [
            ("log_every", self.log_every),
            ("validate_every", self.validate_every),
            ("save_every", self.save_every),
            ("preview_every", self.preview_every.unwrap_or(1)),
        ] {
            demand(every > 0, format!("{name} is 0; expected at least 1 image"));
        }
        demand(self.keep >= 2, format!("keep is {}; expected at least 2 checkpoints", self.keep));
        let parts = [self.learning_rate.check(), self.optimizer.check(), self.ema.check()];
        faults.extend(parts.into_iter().flatten().map(|what| format!("{place}: {what}")));
        faults
    }
}
