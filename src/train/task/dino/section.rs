//! The recipe's `dino:` section.

use super::{Gram, HeadConfig, Ibot, Views};
use crate::faults::{demand, within};
use crate::train::Train;
use crate::train::adamw::Group;
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
    /// The answers to a batch are balanced over the prototypes (arXiv 2006.09882, and DINOv2).
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
    /// Weight of the KoLeo regulariser (arXiv 2304.07193), which spreads the embeddings of a batch apart,
    /// summed over the two global views. 0 for none.
    pub koleo: f64,
    /// Masked patches of the global views that the student must guess. None: none are masked.
    pub ibot: Option<Ibot>,
    /// Keeps which patches are alike as an earlier teacher saw it. None: nothing is kept.
    pub gram: Option<Gram>,
    /// Stochastic depth (Huang et al. 2016): probability that the student leaves out a branch of its last layer for an
    /// image; it rises evenly from 0 in the first one.
    pub drop_path: f64,
    /// Each layer learns this much slower than the one after it, the embeddings slowest; 1 for all alike.
    pub layer_decay: f64,
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
            ibot: None,
            gram: None,
            drop_path: 0.0,
            layer_decay: 1.0,
        }
    }
}

impl Dino {
    /// Every fault of the numbers a recipe gave, a sentence each; `patch` and `train` are the encoder's.
    pub fn check(&self, patch: usize, train: &Train) -> Vec<String> {
        let positive = |name, value: f64| {
            demand(value > 0.0 && value.is_finite(), name, value, "a number above 0")
        };
        let weight = |name, value: f64| {
            demand(value >= 0.0 && value.is_finite(), name, value, "a number from 0 up")
        };
        let share = |name, value: f64| demand((0.0..=1.0).contains(&value), name, value, "0 to 1");
        let (first, last) = self.teacher_temperature;
        let mut faults: Vec<String> = within("views", self.views.check(patch)).collect();
        faults.extend(
            [
                positive("student_temperature", self.student_temperature),
                positive("teacher_temperature[0]", first),
                positive("teacher_temperature[1]", last),
                share("teacher_momentum", self.teacher_momentum),
                match self.centering {
                    Centering::Mean { momentum } => share("centering.momentum", momentum),
                    Centering::SinkhornKnopp { iterations } => {
                        demand(iterations > 0, "centering.iterations", iterations, "at least 1")
                    }
                },
                weight("final_weight_decay", self.final_weight_decay),
                weight("koleo", self.koleo),
                demand(
                    self.koleo == 0.0 || train.batch_size != 1,
                    "koleo",
                    self.koleo,
                    "0 where a batch is 1 image, which has no neighbours to be driven from",
                ),
                demand(
                    train.ema.half_life.is_none() && train.ema.sigma_rel.is_empty(),
                    "teacher_momentum",
                    self.teacher_momentum,
                    "train.ema without half_life and sigma_rel: the average is the teacher, which follows \
                     teacher_momentum",
                ),
                demand(
                    (0.0..1.0).contains(&self.drop_path),
                    "drop_path",
                    self.drop_path,
                    "at least 0 and below 1",
                ),
                demand(
                    self.layer_decay > 0.0 && self.layer_decay <= 1.0,
                    "layer_decay",
                    self.layer_decay,
                    "above 0, at most 1",
                ),
            ]
            .into_iter()
            .flatten(),
        );
        faults.extend(self.head.check("head"));
        if let Some(ibot) = &self.ibot {
            faults.extend(within("ibot", ibot.check()));
        }
        if let Some(gram) = &self.gram {
            faults.extend(within("gram", gram.check()));
        }
        faults
    }

    /// What `layer_decay` means for the weights of an encoder of `depth` layers: the last norm and the heads learn as
    /// fast as the recipe says, layer l (from 0) by `layer_decay` to the power of depth − l, the embeddings one power
    /// slower than the first.
    pub fn groups(&self, depth: usize) -> Vec<Group> {
        if self.layer_decay == 1.0 {
            return Vec::new();
        }
        let group = |weights: String, layers: usize| Group {
            weights: vec![weights],
            rate: self.layer_decay.powf(layers as f64),
            decay: 1.0,
        };
        let layers =
            (0..depth).map(|at| group(format!("backbone.encoder.layer.{at}.*"), depth - at));
        std::iter::once(group("backbone.embeddings.*".to_owned(), depth + 1))
            .chain(layers)
            .collect()
    }

    /// How many images are seen before views are of the sizes they have towards the end: whole batches.
    pub fn late_from(&self, batch_size: usize) -> Option<u64> {
        let batch = batch_size.max(1) as u64;
        self.views.late.as_ref().map(|late| late.from / batch * batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn koleo_without_neighbours_is_refused() {
        let dino = Dino { koleo: 0.1, ..Dino::default() };
        let faults = |batch_size, micro_batch_size| {
            dino.check(8, &Train { batch_size, micro_batch_size, ..Train::default() })
        };
        assert!(
            faults(1, None)[0].starts_with("koleo is 0.1; expected 0 where a batch is 1 image")
        );
        // Neighbours are looked for in the whole batch.
        assert!(faults(16, Some(1)).is_empty() && faults(16, None).is_empty());
    }
}
