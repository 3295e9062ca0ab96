//! Training the encoder without labels: self-distillation (DINO, arXiv 2104.14294).
//!
//! A student sees all views of an image, a teacher (the student's average) only the large ones; the student
//! learns to predict the teacher's prototype scores. Centring and sharpening keep it from collapsing, and
//! validation watches whether they do.
//!
//! Micro-batches are batches of their own to all that compares images: Sinkhorn-Knopp balances each by itself,
//! KoLeo looks for neighbours inside it, and a centred head takes its mean. Only the running mean of the teacher's
//! scores is that of the whole batch. So a smaller `micro_batch_size` is another training here, unless centring is
//! `Mean`, `koleo` is 0 and `head.centered` is off.

mod center;
#[cfg(test)]
mod golden;
mod head;
mod loss;
mod section;
mod views;

pub use center::{Center, fresh_center};
pub use head::{Head, HeadConfig};
pub use section::{Centering, Dino};
pub use views::Views;

use super::{Loss, Progress, Task};
use crate::data::{
    loader::{SampleError, Samples},
    radiographs::Radiographs,
};
use crate::metric::{self, Features};
use crate::models::encoder::Embedder;
use crate::models::encoder::normalise;
use crate::models::encoder::{Vit, VitConfig};
use crate::models::images::stack;
use crate::models::weights::StateDict;
use crate::models::{Compute, Init};
use crate::random::Stream;
use crate::train::learning_rate::cosine;
use anyhow::{Context, Result};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use std::sync::Arc;

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
    /// Running mean of the teacher's scores.
    pub center: Center,
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

    const VERSION: u32 = 2;

    fn name(&self) -> &'static str {
        "encoder"
    }

    fn with_compute(model: Distilled, compute: Compute) -> Distilled {
        Distilled { backbone: model.backbone.with_compute(compute), ..model }
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
        let Views { num_local, local_size, global_size, .. } = self.dino.views;
        // View-major: all first views, then all second ones.
        let globals =
            (0..2).flat_map(|view| items.iter().map(move |item| &item.views.globals[view][..]));
        let globals = stack(globals, global_size.unwrap_or(self.train.size()), &self.device);

        let scores = teacher.head.forward(teacher.embed(globals.clone()), false); // [2B, K]
        let temperature = self.teacher_temperature(progress);
        let targets = match self.dino.centering {
            Centering::Mean { .. } => {
                let targets = loss::centered(scores.clone(), self.center.mean.clone(), temperature);
                self.center.note(scores, progress.step);
                targets
            }
            Centering::SinkhornKnopp { iterations } => {
                loss::sinkhorn_knopp(scores / temperature, iterations)
            }
        };
        let mut parts = vec![("train/teacher_entropy", loss::entropy(targets.clone()))];

        let frozen = progress.images_seen < self.dino.freeze_prototypes;
        let embeddings = student.embed(Tensor::from_inner(globals)); // [2B, D]
        let mut scores = vec![student.head.forward(embeddings.clone(), frozen)];
        if num_local > 0 {
            let locals = (0..num_local)
                .flat_map(|view| items.iter().map(move |item| &item.views.locals[view][..]));
            let locals = stack(locals, local_size, &device);
            scores.push(student.head.forward(student.embed(locals), frozen));
        }
        let scores = Tensor::cat(scores, 0); // [(2 + L)B, K]
        let targets = Tensor::from_inner(targets);
        let mut total = loss::cross_view(targets, scores, self.dino.student_temperature);
        if self.dino.koleo > 0.0 {
            let spread = loss::koleo(embeddings.clone().slice_dim(0, 0..batch))
                + loss::koleo(embeddings.slice_dim(0, batch..2 * batch));
            parts.push(("train/koleo", spread.clone().inner()));
            total = total + spread * self.dino.koleo;
        }
        Loss { total, parts }
    }

    fn after_step(&mut self, _progress: Progress) {
        if let Centering::Mean { momentum } = self.dino.centering {
            self.center.follow(momentum);
        }
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
        StateDict::from([("center".to_owned(), self.center.mean.to_data())])
    }

    fn restore(&mut self, mut state: StateDict) -> Result<()> {
        let center = state.remove("center").context("the checkpoint has no centre")?;
        self.center = Center::new(Tensor::from_data(center, &self.device));
        Ok(())
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "network": self.network, "head": self.dino.head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::Gray;
    use std::path::Path;

    const SIZE: usize = 16;

    fn task() -> DinoTask {
        let views = Views { num_local: 1, local_size: 8, ..Views::default() };
        let head = HeadConfig { hidden: 16, bottleneck: 8, prototypes: 12, centered: false };
        let device = Device::flex();
        let nothing = Arc::new(Radiographs::open(Vec::new(), Path::new(""), SIZE, 0));
        DinoTask {
            network: VitConfig {
                image_size: SIZE,
                patch_size: 8,
                num_channels: 1,
                hidden_size: 16,
                num_hidden_layers: 1,
                num_attention_heads: 2,
                intermediate_size: 32,
                ..VitConfig::default()
            },
            center: fresh_center(head.prototypes, &device),
            dino: Dino { views, head, ..Dino::default() },
            train: nothing.clone(),
            valid: nothing,
            seed: 1,
            device,
            batch_size: 4,
        }
    }

    fn items(task: &DinoTask, first: u64) -> Vec<Item> {
        (first..first + 6)
            .map(|position| {
                let pixels = Stream::new(1, "image").at(position).normals(SIZE * SIZE);
                let square = Gray { width: SIZE, height: SIZE, pixels }.to_square(SIZE);
                let draws = &mut Stream::new(1, "views").at(position);
                Item { views: task.dino.views.draw(&square, draws) }
            })
            .collect()
    }

    struct Step {
        first_image: u64,
        micro_batches: &'static [usize],
        is_taken: bool,
    }

    /// The centre after `steps`, and the mean loss of the last one.
    fn train(steps: &[Step]) -> (Vec<f32>, f64) {
        let mut task = task();
        let teacher = Distilled::new(&task.network, &task.dino.head, 1, &task.device);
        let student = teacher.clone().train();
        let mut mean = 0.0;
        for (step, &Step { first_image, micro_batches, is_taken }) in (0..).zip(steps) {
            let progress = Progress { step, images_seen: first_image, images: 100 };
            let items = items(&task, first_image);
            let mut rest = &items[..];
            mean = 0.0;
            for &size in micro_batches {
                let (micro, others) = rest.split_at(size);
                let loss = task.loss(&student, &teacher, micro, progress).total;
                mean += f64::from(loss.into_scalar::<f32>()) * size as f64 / items.len() as f64;
                rest = others;
            }
            if is_taken {
                task.after_step(progress);
            }
        }
        (task.state()["center"].try_to_vec().unwrap(), mean)
    }

    #[test]
    fn the_centre_stands_still_when_a_step_is_left_out() {
        let step = |first_image, is_taken| Step { first_image, micro_batches: &[4, 2], is_taken };
        assert_eq!(train(&[step(0, false)]).0, [0.0; 12]);
        assert_ne!(train(&[step(0, true)]).0, [0.0; 12]);
        let with_one_left_out = train(&[step(0, true), step(6, false), step(12, true)]);
        assert_eq!(with_one_left_out, train(&[step(0, true), step(12, true)]));
    }

    #[test]
    fn without_anything_that_compares_images_micro_batches_do_not_change_the_step() {
        let steps = |micro_batches| {
            let step = |first_image| Step { first_image, micro_batches, is_taken: true };
            train(&[step(0), step(6)])
        };
        let (center, loss) = steps(&[6]);
        for (other_center, other_loss) in [steps(&[3, 3]), steps(&[1, 4, 1])] {
            // Sums of six terms in another order, in f32.
            assert!((loss - other_loss).abs() < 1e-5, "{loss} {other_loss}");
            for (one, other) in center.iter().zip(other_center) {
                assert!((one - other).abs() < 1e-6, "{one} {other}");
            }
        }
    }
}
