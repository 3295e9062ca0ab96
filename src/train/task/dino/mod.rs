//! Training the encoder without labels: self-distillation (DINO, arXiv 2104.14294).
//!
//! A student sees all views of an image, a teacher (the student's average) only the large ones; the student
//! learns to predict the teacher's prototype scores. Centring and sharpening keep it from collapsing, and
//! validation watches whether they do.
//!
//! Three things cross a batch: the running mean of the teacher's scores, Sinkhorn-Knopp, which balances them, and
//! KoLeo, which drives each embedding from its nearest. They are found from the whole batch before any micro-batch, so
//! that the size of a micro-batch changes no step ([`Shared`]).

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
    loader::{Collate, SampleError, Samples, column},
    radiographs::Radiographs,
};
use crate::metric::{self, Features};
use crate::models::encoder::Embedder;
use crate::models::encoder::normalise;
use crate::models::encoder::{Vit, VitConfig};
use crate::models::weights::StateDict;
use crate::models::{Compute, Init};
use crate::random::Stream;
use crate::train::adamw::Norm;
use crate::train::learning_rate::cosine;
use anyhow::{Context, Result};
use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use std::ops::Range;
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

/// The views of B images, view by view.
pub struct Batch {
    images: usize,
    /// `[2 · B · S · S]`.
    globals: Vec<f32>,
    /// `[L · B · s · s]`.
    locals: Vec<f32>,
}

impl Batch {
    fn of(items: &[Item]) -> Self {
        let views = |of: fn(&views::Drawn) -> &[Vec<f32>]| {
            let count = items.first().map_or(0, |item| of(&item.views).len());
            let mut values = Vec::new();
            for view in 0..count {
                values.append(&mut column(items, |item| &of(&item.views)[view]));
            }
            values
        };
        Self {
            images: items.len(),
            globals: views(|drawn| &drawn.globals),
            locals: views(|drawn| &drawn.locals),
        }
    }
}

/// A batch of B images where it is computed, and what crosses it.
pub struct Shared {
    /// Both global views, [2, B, S, S].
    globals: Tensor<4>,
    /// The local views, [L, B, s, s]; none of them is no tensor.
    locals: Option<Tensor<4>>,
    /// The teacher's probabilities for both global views, [2, B, K].
    targets: Tensor<3>,
    /// KoLeo of the whole batch, where it is more than a round.
    spread: Option<Spread>,
}

/// KoLeo over the embeddings of a batch, and its gradient with respect to them, [2, B, D]: with it, a micro-batch pulls
/// at the network as the whole batch would, without the others' graph (gradient caching, arXiv 2101.06983).
struct Spread {
    value: Tensor<1>,
    gradient: Tensor<3>,
}

impl Spread {
    /// Of the student's embeddings [2, B, D] of both global views.
    fn of(embeddings: Tensor<3>) -> Self {
        let embeddings = Tensor::from_inner(embeddings).require_grad();
        let value = koleo_of_views(embeddings.clone());
        let gradient =
            embeddings.grad(&value.backward()).expect("KoLeo depends on what it spreads");
        Self { value: value.inner(), gradient }
    }
}

/// KoLeo over each of two views by itself, of embeddings [2, B, D].
fn koleo_of_views(embeddings: Tensor<3>) -> Tensor<1> {
    let view = |at| loss::koleo(embeddings.clone().slice_dim(0, at..at + 1).squeeze_dim(0));
    view(0) + view(1)
}

/// Some of the images of `views` [V, B, S, S], as a network sees them: [V · b, 1, S, S], all first views, then all second
/// ones …
fn of_images(views: &Tensor<4>, images: Range<usize>) -> Tensor<4> {
    let [count, _, side, _] = views.dims();
    let rows = count * images.len();
    views.clone().slice_dim(1, images).reshape([rows, 1, side, side])
}

/// What `of` makes of `round` images of `globals` at a time, [2b, N] view by view, as [2, B, N] of all of them.
fn rows(globals: &Tensor<4>, round: usize, of: impl Fn(Tensor<4>) -> Tensor<2>) -> Tensor<3> {
    let [_, batch, ..] = globals.dims();
    let made = (0..batch).step_by(round).map(|first| {
        let images = first..(first + round).min(batch);
        let rows = of(of_images(globals, images.clone()));
        let [_, width] = rows.dims();
        rows.reshape([2, images.len(), width])
    });
    Tensor::cat(made.collect(), 1)
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
    /// Brings a batch to the device: the global views [2, B, S, S] and the local ones [L, B, s, s], if there are any.
    fn show(&self, batch: Batch) -> (Tensor<4>, Option<Tensor<4>>) {
        let Views { num_local, local_size, global_size, .. } = self.dino.views;
        let size = global_size.unwrap_or(self.train.size());
        let upload = |values, views, side| {
            let data = TensorData::new(values, [views, batch.images, side, side]);
            Tensor::from_data(data, &self.device)
        };
        let globals = upload(batch.globals, 2, size);
        (globals, (num_local > 0).then(|| upload(batch.locals, num_local, local_size)))
    }

    fn teacher_temperature(&self, progress: Progress) -> f64 {
        let (first, last) = self.dino.teacher_temperature;
        let done = progress.images_seen as f64 / self.dino.teacher_warm_up.max(1) as f64;
        first + (last - first) * done.min(1.0)
    }
}

impl Task for DinoTask {
    type Model = Distilled;
    type Item = Item;
    type Batch = Batch;
    type Shared = Shared;

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

    fn collate(&self) -> Collate<Item, Batch> {
        Arc::new(|items| Batch::of(&items))
    }

    fn share(
        &mut self,
        student: &Distilled,
        teacher: &Distilled,
        batch: Batch,
        round: usize,
        progress: Progress,
    ) -> Shared {
        let images = batch.images;
        let (globals, locals) = self.show(batch);
        let scores =
            rows(&globals, round, |views| teacher.head.forward(teacher.embed(views), false));
        let scores = scores.flatten::<2>(0, 1); // [2B, K]
        let temperature = self.teacher_temperature(progress);
        let targets = match self.dino.centering {
            Centering::Mean { .. } => {
                let targets = loss::centered(scores.clone(), self.center.mean.clone(), temperature);
                self.center.note(scores);
                targets
            }
            Centering::SinkhornKnopp { iterations } => {
                loss::sinkhorn_knopp(scores / temperature, iterations)
            }
        };
        let [_, prototypes] = targets.dims();
        let spread = (self.dino.koleo > 0.0 && round < images).then(|| {
            let student = student.valid();
            Spread::of(rows(&globals, round, |views| student.embed(views)))
        });
        Shared { globals, locals, targets: targets.reshape([2, images, prototypes]), spread }
    }

    fn loss(
        &self,
        student: &Distilled,
        shared: &Shared,
        images: Range<usize>,
        progress: Progress,
    ) -> Loss {
        let batch = images.len();
        let part = |of_all: &Tensor<3>| -> Tensor<2> {
            of_all.clone().slice_dim(1, images.clone()).flatten(0, 1)
        };
        let targets = part(&shared.targets); // [2B, K]
        let mut parts = vec![("train/teacher_entropy", loss::entropy(targets.clone()))];

        let frozen = progress.images_seen < self.dino.freeze_prototypes;
        let globals = of_images(&shared.globals, images.clone());
        let embeddings = student.embed(Tensor::from_inner(globals)); // [2B, D]
        let mut scores = vec![student.head.forward(embeddings.clone(), frozen)];
        if let Some(locals) = &shared.locals {
            let locals = Tensor::from_inner(of_images(locals, images.clone()));
            scores.push(student.head.forward(student.embed(locals), frozen));
        }
        let scores = Tensor::cat(scores, 0); // [(2 + L)B, K]
        let targets = Tensor::from_inner(targets);
        let mut total = loss::cross_view(targets, scores, self.dino.student_temperature);
        if self.dino.koleo > 0.0 {
            let spread = match &shared.spread {
                None => koleo_of_views(embeddings.reshape([2, batch, self.network.hidden_size])),
                Some(Spread { value, gradient }) => {
                    let [_, whole, _] = gradient.dims();
                    let slope = Tensor::from_inner(part(gradient));
                    // Has the whole batch's value, and its gradient with respect to these rows.
                    let rise = (embeddings * slope).sum() * (whole as f64 / batch as f64);
                    rise.clone() - rise.detach() + Tensor::from_inner(value.clone())
                }
            };
            parts.push(("train/koleo", spread.clone().inner()));
            total = total + spread * self.dino.koleo;
        }
        Loss { total, parts }
    }

    fn after_step(&mut self, norm: &Norm, _progress: Progress) {
        if let Centering::Mean { momentum } = self.dino.centering {
            self.center.follow(momentum, norm);
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
    use crate::models::weights::gradients;
    use burn::tensor::TensorData;
    use std::path::Path;

    const SIZE: usize = 16;

    fn task() -> DinoTask {
        let views = Views { num_local: 1, local_size: 8, ..Views::default() };
        let head = HeadConfig { hidden: 16, bottleneck: 8, prototypes: 12 };
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
        round: usize,
        is_taken: bool,
    }

    /// The centre after `steps` of six images, and of the last one the mean loss and the gradient.
    fn train(task: &mut DinoTask, steps: &[Step]) -> (Vec<f32>, f64, StateDict) {
        let teacher = Distilled::new(&task.network, &task.dino.head, 1, &task.device);
        let student = Distilled::new(&task.network, &task.dino.head, 2, &task.device).train();
        let (mut mean, mut gradient) = (0.0, StateDict::new());
        for (step, &Step { first_image, round, is_taken }) in (0..).zip(steps) {
            let progress = Progress { step, images_seen: first_image, images: 100 };
            let items = items(task, first_image);
            let images = items.len();
            let shared = task.share(&student, &teacher, Batch::of(&items), round, progress);
            let losses = (0..images).step_by(round).map(|first| {
                let rows = first..(first + round).min(images);
                let share = rows.len() as f64 / images as f64;
                task.loss(&student, &shared, rows, progress).total * share
            });
            let loss = losses.reduce(|sum, loss| sum + loss).unwrap();
            mean = f64::from(loss.clone().into_scalar::<f32>());
            gradient = gradients(&student, &loss.backward());
            // As the loop does it, which learns later than the task whether the step was taken.
            let norm = if is_taken { 1.0 } else { f32::NAN };
            task.after_step(&Norm::new(Tensor::from_data([norm], &task.device)), progress);
        }
        (task.state()["center"].try_to_vec().unwrap(), mean, gradient)
    }

    #[test]
    fn the_centre_stands_still_when_a_step_is_left_out() {
        let step = |first_image, is_taken| Step { first_image, round: 4, is_taken };
        let center = |steps: &[Step]| train(&mut task(), steps).0;
        assert_eq!(center(&[step(0, false)]), [0.0; 12]);
        assert_ne!(center(&[step(0, true)]), [0.0; 12]);
        let with_one_left_out = center(&[step(0, true), step(6, false), step(12, true)]);
        assert_eq!(with_one_left_out, center(&[step(0, true), step(12, true)]));
    }

    /// Centre, Sinkhorn-Knopp and KoLeo see the whole batch, however it is cut.
    #[test]
    fn micro_batches_of_any_size_take_the_same_step() {
        for (centering, koleo) in [
            (Centering::Mean { momentum: 0.9 }, 0.0),
            (Centering::Mean { momentum: 0.9 }, 0.5),
            (Centering::SinkhornKnopp { iterations: 3 }, 0.5),
        ] {
            let steps = |round| {
                let mut task = task();
                task.dino.centering = centering;
                task.dino.koleo = koleo;
                let step = |first_image| Step { first_image, round, is_taken: true };
                train(&mut task, &[step(0), step(6)])
            };
            let (center, loss, gradient) = steps(6);
            for round in [4, 3, 1] {
                // Sums of six terms in another order, in f32.
                let (other_center, other_loss, other_gradient) = steps(round);
                assert!((loss - other_loss).abs() < 1e-5, "{round}: {loss} {other_loss}");
                for (one, other) in center.iter().zip(other_center) {
                    assert!((one - other).abs() < 1e-6, "{round}: {one} {other}");
                }
                for (name, expected) in &gradient {
                    let values = |data: &TensorData| data.try_to_vec::<f32>().unwrap();
                    let (expected, found) = (values(expected), values(&other_gradient[name]));
                    // Softmax makes the keys' biases cancel: their gradient is nothing but rounding.
                    let most = expected.iter().fold(1e-4f32, |most, value| most.max(value.abs()));
                    for (one, other) in expected.iter().zip(found) {
                        assert!((one - other).abs() < 1e-3 * most, "{round} {name}: {one} {other}");
                    }
                }
            }
        }
    }
}
