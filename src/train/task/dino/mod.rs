//! Training the encoder without labels: self-distillation (DINO, arXiv 2104.14294).
//!
//! A student sees all views of an image, a teacher (the student's average) only the large ones; the student
//! learns to predict the teacher's prototype scores. Centring and sharpening keep it from collapsing, and
//! validation watches whether they do.

mod head;
mod views;

pub use head::{Head, HeadConfig};
pub use views::Views;

use super::{Loss, Progress, Task};
use crate::data::{
    loader::{SampleError, Samples},
    radiographs::Radiographs,
};
use crate::encode::Embedder;
use crate::metric::{self, Features};
use crate::models::Init;
use crate::models::encoder::{Vit, VitConfig};
use crate::models::images::{normalise, stack};
use crate::models::weights::StateDict;
use crate::random::Stream;
use crate::train::learning_rate::cosine;
use anyhow::{Context, Result};
use burn::{
    module::Module,
    tensor::{
        Device, Tensor, TensorData,
        activation::{log_softmax, softmax},
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What keeps the teacher from answering the same to everything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Centering {
    /// A running mean is taken off its scores (arXiv 2104.14294).
    Mean {
        /// Decay of the running mean.
        momentum: f64,
    },
    /// Each batch's answers are balanced over the prototypes (arXiv 2006.09882, and DINOv2).
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
    /// Weight of the KoLeo regulariser (arXiv 2304.07193), which spreads embeddings apart, summed over the two
    /// global views. 0 for none.
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
    /// Faults, each what follows the section's name; `patch` is the encoder's.
    pub fn faults(&self, patch: usize) -> Vec<String> {
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

/// Backbone and head: the student, and as its average the teacher.
#[derive(Module, Debug)]
pub struct Distilled {
    /// What later stages use.
    pub backbone: Vit,
    /// What only training uses.
    pub head: Head,
}

impl Distilled {
    /// A new student.
    pub fn new(vit: &VitConfig, head: &HeadConfig, seed: u64, device: &Device) -> Self {
        let mut init = Init::new(Stream::new(seed, "encoder/init"), device);
        let backbone = vit.init(&mut init);
        let head = head.init(vit.hidden_size, &mut init);
        Self { backbone, head }
    }

    /// Class embeddings [B, D] of grey views [B, 1, S, S] in [0, 1].
    fn embed(&self, views: Tensor<4>) -> Tensor<2> {
        let tokens = self.backbone.forward(normalise(views));
        let [batch, _, width] = tokens.dims();
        tokens.slice_dim(1, 0..1).reshape([batch, width])
    }
}

/// The task.
pub struct DinoTask {
    /// The encoder's shape.
    pub network: VitConfig,
    /// Its training.
    pub dino: Dino,
    /// What it learns from.
    pub train: Arc<Radiographs>,
    /// What it is measured on.
    pub valid: Arc<Radiographs>,
    /// The recipe's seed.
    pub seed: u64,
    /// Where it computes, without autodiff.
    pub device: Device,
    /// Images per forward pass when measuring.
    pub batch_size: usize,
    /// Running mean of the teacher's scores, [1, K].
    pub center: Tensor<2>,
}

/// The views of one image.
pub struct Item {
    views: views::Drawn,
}

struct Viewed {
    radiographs: Arc<Radiographs>,
    views: Views,
    stream: Stream,
}

impl Samples for Viewed {
    type Item = Item;

    fn len(&self) -> u64 {
        self.radiographs.len() as u64
    }

    fn get(&self, index: u64, position: u64) -> Result<Item, SampleError> {
        let sample = self.radiographs.get(index as usize)?;
        Ok(Item { views: self.views.draw(&sample.square, &mut self.stream.at(position)) })
    }
}

impl DinoTask {
    fn teacher_temperature(&self, progress: Progress) -> f64 {
        let (first, last) = self.dino.teacher_temperature;
        let done = progress.images_seen as f64 / self.dino.teacher_warm_up.max(1) as f64;
        first + (last - first) * done.min(1.0)
    }
}

impl Task for DinoTask {
    type Model = Distilled;
    type Item = Item;

    fn name(&self) -> &'static str {
        "encoder"
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        Arc::new(Viewed {
            radiographs: self.train.clone(),
            views: self.dino.views.clone(),
            stream: Stream::new(self.seed, "encoder/views"),
        })
    }

    fn loss(
        &mut self,
        student: &Distilled,
        teacher: &Distilled,
        items: &[Item],
        progress: Progress,
    ) -> Loss {
        let device = self.device.clone().autodiff();
        let batch = items.len();
        let size = self.dino.views.global_size.unwrap_or(self.train.size());
        // View-major: all first views, then all second ones.
        let globals = |device: &Device| {
            let views =
                (0..2).flat_map(|view| items.iter().map(move |item| &item.views.globals[view][..]));
            stack(views, size, device)
        };
        let targets = teacher.head.forward(teacher.embed(globals(&self.device)), false); // [2B, K]
        let temperature = self.teacher_temperature(progress);
        let sharp = match self.dino.centering {
            Centering::Mean { momentum } => {
                let sharp = softmax((targets.clone() - self.center.clone()) / temperature, 1);
                self.center =
                    self.center.clone() * momentum + targets.mean_dim(0) * (1.0 - momentum);
                sharp
            }
            Centering::SinkhornKnopp { iterations } => {
                sinkhorn_knopp(targets / temperature, iterations)
            }
        };
        let entropy = -(sharp.clone() * (sharp.clone() + 1e-9).log()).sum_dim(1).mean();

        let frozen = progress.images_seen < self.dino.freeze_prototypes;
        let embeddings = student.embed(globals(&device)); // [2B, D]
        let mut views = vec![student.head.forward(embeddings.clone(), frozen)];
        if self.dino.views.num_local > 0 {
            let locals = (0..self.dino.views.num_local)
                .flat_map(|view| items.iter().map(move |item| &item.views.locals[view][..]));
            let locals = stack(locals, self.dino.views.local_size, &device);
            views.push(student.head.forward(student.embed(locals), frozen));
        }
        let scores = Tensor::cat(views, 0); // [(2 + L)B, K]
        let log_student = log_softmax(scores / self.dino.student_temperature, 1);

        // Every student view against every teacher view, except a view against itself.
        let num_views = 2 + self.dino.views.num_local;
        let sharp = Tensor::from_inner(sharp);
        let mut sum = Tensor::<1>::zeros([1], &device);
        for teacher_view in 0..2 {
            let target =
                sharp.clone().slice_dim(0, teacher_view * batch..(teacher_view + 1) * batch);
            for view in (0..num_views).filter(|&view| view != teacher_view) {
                let log_view = log_student.clone().slice_dim(0, view * batch..(view + 1) * batch);
                sum = sum - (target.clone() * log_view).sum_dim(1).mean();
            }
        }
        let mut total = sum / (2 * (num_views - 1)) as f64;
        let mut parts = vec![("train/teacher_entropy", entropy)];
        if self.dino.koleo > 0.0 {
            let spread = koleo(embeddings.clone().slice_dim(0, 0..batch))
                + koleo(embeddings.slice_dim(0, batch..2 * batch));
            parts.push(("train/koleo", spread.clone().inner()));
            total = total + spread * self.dino.koleo;
        }
        Loss { total, parts }
    }

    fn ema_decay(&self, _recipe: f64, progress: Progress) -> f64 {
        cosine(self.dino.teacher_momentum, 1.0, progress.fraction())
    }

    fn weight_decay(&self, recipe: f64, progress: Progress) -> f64 {
        cosine(recipe, self.dino.final_weight_decay, progress.fraction())
    }

    /// Collapse shows as an effective rank near 1 and a mean cosine near 1.
    fn validate(&self, ema: &Distilled) -> Result<Vec<(&'static str, f64)>> {
        let embedder =
            Embedder::trained_here(ema.backbone.clone(), self.valid.size(), &self.device);
        let embeddings = embedder.embed_all(&self.valid, self.batch_size)?;
        let features = Features::new(&embeddings, self.network.hidden_size);
        let rank = metric::effective_rank(features)?;
        if rank < 2.0 {
            tracing::warn!(
                effective_rank = rank,
                "the encoder is collapsing: its embeddings are nearly all alike"
            );
        }
        Ok(vec![
            ("validation/effective_rank", rank),
            ("validation/mean_cosine", metric::mean_cosine(features)?),
        ])
    }

    fn state(&self) -> StateDict {
        StateDict::from([("center".to_owned(), self.center.to_data())])
    }

    fn restore(&mut self, mut state: StateDict) -> Result<()> {
        let center = state.remove("center").context("the checkpoint has no centre")?;
        self.center = Tensor::from_data(center, &self.device);
        Ok(())
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "network": self.network, "head": self.dino.head })
    }
}

/// Mean negative log distance to the nearest other row, rows on the unit sphere (arXiv 2304.07193, section 4).
fn koleo(embeddings: Tensor<2>) -> Tensor<1> {
    let [batch, _] = embeddings.dims();
    let device = embeddings.device();
    let rows = head::unit(embeddings);
    let cosine = rows.clone().matmul(rows.transpose());
    let itself = Tensor::<2>::eye(batch, &device) * 2.0;
    let nearest = (cosine - itself).max_dim(1); // [B, 1]
    let distance = (nearest * -2.0 + 2.0).clamp_min(1e-8).sqrt();
    -distance.log().mean()
}

/// Probabilities [B, K] from scores [B, K] over temperature: rows sum to 1, columns are balanced.
///
/// In the log domain, where large scores over small temperatures stay finite.
fn sinkhorn_knopp(scores: Tensor<2>, iterations: usize) -> Tensor<2> {
    let mut log = scores;
    for _ in 0..iterations {
        log = log.clone() - log_sum_exp(log, 0);
        log = log.clone() - log_sum_exp(log, 1);
    }
    log.exp()
}

fn log_sum_exp(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let most = x.clone().max_dim(dim);
    (x - most.clone()).exp().sum_dim(dim).log() + most
}

/// A centre of zeros for `prototypes` scores.
pub fn fresh_center(prototypes: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(vec![0f32; prototypes], [1, prototypes]), device)
}
