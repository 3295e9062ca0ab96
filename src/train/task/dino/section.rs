//! The recipe's `dino:` section.

use super::{HeadConfig, Views};
use crate::train::Train;
use serde::{Deserialize, Serialize};

/// What keeps the teacher from answering the same to everything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Centering {
    /// A running mean is taken off its scores (arXiv 2104.14294).
    Mean {
        /// Decay of the running mean, per optimizer step.
        momentum: f64,
    },
    /// Each micro-batch's answers are balanced over the prototypes (arXiv 2006.09882, and DINOv2).
    SinkhornKnopp {
        /// Rounds of balancing.
        iterations: usize,
    },
}

/// Self-distillation's own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dino {
    /// How views are drawn.
    pub views: Views,
    /// The projection head.
    pub head: HeadConfig,
    /// Softmax temperature of the student.
    pub student_temperature: f64,
    /// Softmax temperature of the teacher: at the start, and after `teacher_warm_up`.
    pub teacher_temperature: (f64, f64),
    /// Images over which the teacher's temperature rises.
    pub teacher_warm_up: u64,
    /// Decay of the teacher at the start; rises to 1 by a cosine.
    pub teacher_momentum: f64,
    /// What keeps the teacher's scores from preferring one prototype.
    pub centering: Centering,
    /// Weight decay at the end; it goes there by a cosine from the recipe's `weight_decay`.
    pub final_weight_decay: f64,
    /// Images during which the prototypes stand still.
    pub freeze_prototypes: u64,
    /// Weight of the KoLeo regulariser (arXiv 2304.07193), which spreads the embeddings of a micro-batch apart,
    /// summed over the two global views. 0 for none.
    pub koleo: f64,
}

impl Default for Dino {
    fn default() -> Self {
        Self {
            views: Views::default(),
            head: HeadConfig::default(),
            student_temperature: 0.1,
            teacher_temperature: (0.04, 0.07),
            teacher_warm_up: 0,
            teacher_momentum: 0.996,
            centering: Centering::Mean { momentum: 0.9 },
            final_weight_decay: 0.4,
            freeze_prototypes: 0,
            koleo: 0.0,
        }
    }
}

impl Dino {
    /// Does the loss compare the images of a micro-batch with each other? The running mean is that of a whole batch.
    pub fn compares_images(&self) -> bool {
        let is_balanced = matches!(self.centering, Centering::SinkhornKnopp { .. });
        is_balanced || self.koleo > 0.0 || self.head.centered
    }

    /// Faults, each what follows the section's name; `patch` and `train` are the encoder's.
    pub fn faults(&self, patch: usize, train: &Train) -> Vec<String> {
        let mut faults = self.views.faults(patch);
        let mut demand = |holds: bool, what: String| {
            if !holds {
                faults.push(what);
            }
        };
        for (name, value) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature.0", self.teacher_temperature.0),
            ("teacher_temperature.1", self.teacher_temperature.1),
        ] {
            demand(
                value > 0.0 && value.is_finite(),
                format!("{name} is {value}; expected above 0"),
            );
        }
        let momentum = self.teacher_momentum;
        demand(
            (0.0..=1.0).contains(&momentum),
            format!("teacher_momentum is {momentum}; expected from 0 to 1"),
        );
        match self.centering {
            Centering::Mean { momentum } => demand(
                (0.0..=1.0).contains(&momentum),
                format!("centering.momentum is {momentum}; expected from 0 to 1"),
            ),
            Centering::SinkhornKnopp { iterations } => {
                demand(iterations > 0, "centering.iterations is 0; expected at least 1".into());
            }
        }
        for (name, value) in
            [("final_weight_decay", self.final_weight_decay), ("koleo", self.koleo)]
        {
            demand(
                value >= 0.0 && value.is_finite(),
                format!("{name} is {value}; expected at least 0"),
            );
        }
        let micro = train.micro_batch_size.unwrap_or(train.batch_size);
        demand(
            self.koleo == 0.0 || micro != 1,
            format!(
                "koleo is {}, but a micro-batch of 1 image has no neighbours to be driven from; expected 0, or \
                 batch_size and micro_batch_size of at least 2",
                self.koleo
            ),
        );
        for (name, value) in [
            ("hidden", self.head.hidden),
            ("bottleneck", self.head.bottleneck),
            ("prototypes", self.head.prototypes),
        ] {
            demand(value > 0, format!("head.{name} is 0; expected at least 1"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn koleo_without_neighbours_is_refused() {
        let dino = Dino { koleo: 0.1, ..Dino::default() };
        let faults = |batch_size, micro_batch_size| {
            dino.faults(8, &Train { batch_size, micro_batch_size, ..Train::default() })
        };
        assert!(faults(1, None)[0].starts_with("koleo is 0.1, but a micro-batch of 1 image"));
        assert_eq!(faults(16, Some(1)).len(), 1);
        assert!(faults(16, Some(2)).is_empty() && faults(16, None).is_empty());
    }
}
