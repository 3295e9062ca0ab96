//! Training the encoder without labels: self-distillation (DINO, arXiv 2104.14294).
//!
//! A student sees all views of an image, a teacher (the student's average) only the large ones; the student
//! learns to predict the teacher's prototype scores. Centring and sharpening keep it from collapsing, and
//! validation watches whether they do.
//!
//! Beside it, as DINOv2 has it: the student guesses patches that it does not see (`ibot`), leaves out branches of its
//! layers (`drop_path`), and is looked at closer towards the end (`views.late`). What is random of an image follows from
//! its position.
//!
//! Three things cross a batch: the running mean of the teacher's scores, Sinkhorn-Knopp, which balances them, and
//! KoLeo, which drives each embedding from its nearest. They are found from the whole batch before any micro-batch, so
//! that the size of a micro-batch changes no step ([`Shared`]).

mod center;
mod distilled;
#[cfg(test)]
mod golden;
mod gram;
mod head;
mod ibot;
mod item;
mod loss;
mod masks;
mod section;
mod spread;
mod views;
mod watch;

pub use center::{Centers, fresh_centers};
pub use distilled::Distilled;
pub use gram::{Anchor, Gram};
pub use head::{Head, HeadConfig};
pub use ibot::{Ibot, PatchHead};
pub use item::Item;
pub use section::{Centering, Dino};
pub use views::{Late, Views};

use super::{Loss, Progress, Task};
use crate::data::{
    loader::{Collate, Samples, column},
    radiographs::Radiographs,
};
use crate::models::Compute;
use crate::models::encoder::{Dropped, Preprocessing, Vit, VitConfig, dropped};
use crate::models::weights::StateDict;
use crate::random::Stream;
use crate::train::adamw::Norm;
use crate::train::learning_rate::cosine;
use crate::train::step::rounds;
use anyhow::Result;
use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use center::Center;
use distilled::class;
use ibot::Masked;
use item::Viewed;
use spread::{Spread, koleo_of_views};
use std::ops::Range;
use std::sync::Arc;
use views::Drawn;

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
    /// Images per optimizer step.
    pub step: usize,
    /// How an image reaches the network.
    pub input: Preprocessing,
    /// Running means of the teacher's scores.
    pub centers: Centers,
    /// The teacher that patches are anchored to.
    pub anchor: Anchor,
}

/// The views of B images, view by view.
pub struct Batch {
    /// What is known of them beside their views.
    items: Vec<Item>,
    /// `[2 · B · S · S]`.
    globals: Vec<f32>,
    /// `[L · B · s · s]`.
    locals: Vec<f32>,
}

impl Batch {
    fn of(mut items: Vec<Item>) -> Self {
        let views = |of: fn(&Drawn) -> &[Vec<f32>]| {
            let count = items.first().map_or(0, |item| of(&item.views).len());
            let mut values = Vec::new();
            for view in 0..count {
                values.append(&mut column(&items, |item| &of(&item.views)[view]));
            }
            values
        };
        let (globals, locals) = (views(|drawn| &drawn.globals), views(|drawn| &drawn.locals));
        for item in &mut items {
            (item.views.globals, item.views.locals) = Default::default();
        }
        Self { items, globals, locals }
    }
}

/// A batch of B images where it is computed, and what crosses it.
pub struct Shared {
    /// What is known of them beside their views.
    items: Vec<Item>,
    /// Both global views, [2, B, S, S].
    globals: Tensor<4>,
    /// The local views, [L, B, s, s]; none of them is no tensor.
    locals: Option<Tensor<4>>,
    /// The teacher's probabilities for both global views, [2, B, K].
    targets: Tensor<3>,
    /// Those for the masked patches, where any are.
    patches: Option<PatchTargets>,
    /// KoLeo of the whole batch, where it is more than a round.
    spread: Option<Spread>,
    /// What the student's patches are anchored to, if they are.
    anchor: Option<Vit>,
}

/// The masked patches of a batch, and the teacher's probabilities for them, [M, K], image by image.
struct PatchTargets {
    masked: Masked,
    probabilities: Tensor<2>,
}

/// Some of the images of `views` [V, B, S, S], as a network sees them: [V · b, 1, S, S], all first views, then all second
/// ones …
fn of_images(views: &Tensor<4>, images: Range<usize>) -> Tensor<4> {
    let [count, _, side, _] = views.dims();
    let rows = count * images.len();
    views.clone().slice_dim(1, images).reshape([rows, 1, side, side])
}

/// [2b, N], view by view, as [2, b, N].
fn by_view(rows: Tensor<2>) -> Tensor<3> {
    let [rows_of_both, width] = rows.dims();
    rows.reshape([2, rows_of_both / 2, width])
}

impl DinoTask {
    fn viewed(&self) -> Viewed {
        let stream = |name| Stream::new(self.seed, name);
        Viewed {
            radiographs: self.train.clone(),
            dino: self.dino.clone(),
            side: self.input.side,
            patch: self.network.patch_size,
            layers: self.network.num_hidden_layers,
            late_from: self.dino.late_from(self.step),
            views: stream("encoder/views"),
            masks: stream("encoder/masks"),
            branches: stream("encoder/drop_path"),
        }
    }

    /// Tokens [B, T, D] of grey `views` [B, 1, S, S] in [0, 1].
    fn see(&self, model: &Distilled, views: Tensor<4>, dropped: &Dropped) -> Tensor<3> {
        model.backbone.forward_without(self.input.normalise(views), dropped)
    }

    /// Brings a batch to the device: the global views [2, B, S, S] and the local ones [L, B, s, s], if there are any.
    fn show(&self, batch: Batch) -> (Vec<Item>, Tensor<4>, Option<Tensor<4>>) {
        let Batch { items, globals, locals } = batch;
        let [size, local_size] =
            items.first().map_or([self.input.side; 2], |item| item.views.sizes);
        let upload = |values, views, side| {
            let data = TensorData::new(values, [views, items.len(), side, side]);
            Tensor::from_data(data, &self.device)
        };
        let globals = upload(globals, 2, size);
        let num_local = self.dino.views.num_local;
        let locals = (num_local > 0).then(|| upload(locals, num_local, local_size));
        (items, globals, locals)
    }

    /// What the student does not see of some views (the first two are the global ones) of `items`, all first of these
    /// views before all second ones; on `device`.
    fn dropped(&self, items: &[Item], views: Range<usize>, device: &Device) -> Dropped {
        let each = || views.clone().flat_map(|view| items.iter().map(move |item| (item, view)));
        let branches: Vec<&[f32]> =
            each().filter_map(|(item, view)| item.branches.get(view).map(Vec::as_slice)).collect();
        let masks = each().filter_map(|(item, view)| item.masks.get(view));
        let masks: Vec<Vec<f32>> =
            masks.map(|mask| mask.iter().map(|&is| f32::from(u8::from(is))).collect()).collect();
        let masks: Vec<&[f32]> = masks.iter().map(Vec::as_slice).collect();
        Dropped {
            patches: dropped::of_images(&masks, device),
            branches: dropped::of_images(&branches, device),
        }
    }

    /// The masked patches of `items`, by their places among the tokens of global views.
    fn masked(&self, items: &[Item]) -> Masked {
        Masked::of(items, 1 + self.network.num_register_tokens)
    }

    fn teacher_temperature(&self, progress: Progress) -> f64 {
        let (first, last) = self.dino.teacher_temperature;
        let done = progress.images_seen as f64 / self.dino.teacher_warm_up.max(1) as f64;
        first + (last - first) * done.min(1.0)
    }

    /// The teacher's probabilities [R, K] for `scores` [R, K] of a whole batch, of which `center` takes note.
    fn assign(
        centering: Centering,
        center: &mut Center,
        scores: Tensor<2>,
        temperature: f64,
    ) -> Tensor<2> {
        match centering {
            Centering::Mean { .. } => {
                let targets = loss::centered(scores.clone(), center.mean.clone(), temperature);
                center.note(scores);
                targets
            }
            Centering::SinkhornKnopp { iterations } => {
                loss::sinkhorn_knopp(scores / temperature, iterations)
            }
        }
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
        Arc::new(self.viewed())
    }

    fn collate(&self) -> Collate<Item, Batch> {
        Arc::new(Batch::of)
    }

    fn share(
        &mut self,
        student: &Distilled,
        teacher: &Distilled,
        batch: Batch,
        round: usize,
        progress: Progress,
    ) -> Shared {
        let (items, globals, locals) = self.show(batch);
        let batch = items.len();
        let masked = self.masked(&items);
        let (mut scores, mut of_patches) = (Vec::new(), Vec::new());
        for images in rounds(batch, round) {
            let tokens =
                self.see(teacher, of_images(&globals, images.clone()), &Dropped::default());
            scores.push(by_view(teacher.head.forward(class(&tokens), false)));
            let here = self.masked(&items[images]);
            if here.len() > 0 {
                of_patches.push(teacher.patch_head().forward(here.take(tokens), false));
            }
        }
        let temperature = self.teacher_temperature(progress);
        let scores = Tensor::cat(scores, 1).flatten::<2>(0, 1); // [2B, K]
        let (centering, Centers { classes, patches }) = (self.dino.centering, &mut self.centers);
        let targets = Self::assign(centering, classes, scores, temperature);
        let patches = patches.as_mut().filter(|_| masked.len() > 0).map(|center| {
            let scores = Tensor::cat(of_patches, 0); // [M, K]
            let probabilities = Self::assign(centering, center, scores, temperature);
            PatchTargets { masked, probabilities }
        });
        let spread = (self.dino.koleo > 0.0 && round < batch).then(|| {
            let student = student.valid();
            let embeddings = rounds(batch, round).map(|images| {
                let dropped = self.dropped(&items[images.clone()], 0..2, &self.device);
                by_view(class(&self.see(&student, of_images(&globals, images), &dropped)))
            });
            Spread::of(Tensor::cat(embeddings.collect(), 1))
        });
        let (seen, batch) = (progress.images_seen, batch as u64);
        let gram = self.dino.gram.as_ref();
        let anchor = gram.and_then(|gram| self.anchor.of(gram, seen, batch, &teacher.backbone));
        let anchor = anchor.cloned();
        Shared { items, globals, locals, targets: by_view(targets), patches, spread, anchor }
    }

    fn loss(
        &self,
        student: &Distilled,
        shared: &Shared,
        images: Range<usize>,
        progress: Progress,
    ) -> Loss {
        let device = self.device.clone().autodiff();
        let items = &shared.items[images.clone()];
        let first = images.start;
        let targets: Tensor<2> = shared.targets.clone().slice_dim(1, images.clone()).flatten(0, 1); // [2B, K]
        let mut parts = vec![("train/teacher_entropy", loss::entropy(targets.clone()))];

        let frozen = progress.images_seen < self.dino.freeze_prototypes;
        let globals = of_images(&shared.globals, images.clone());
        let views = Tensor::from_inner(globals.clone());
        let tokens = self.see(student, views, &self.dropped(items, 0..2, &device));
        let embeddings = class(&tokens); // [2B, D]
        let mut scores = vec![student.head.forward(embeddings.clone(), frozen)];
        let num_local = self.dino.views.num_local;
        if let Some(locals) = &shared.locals {
            let locals = Tensor::from_inner(of_images(locals, images.clone()));
            let dropped = self.dropped(items, 2..2 + num_local, &device);
            let embeddings = class(&self.see(student, locals, &dropped));
            scores.push(student.head.forward(embeddings, frozen));
        }
        let scores = Tensor::cat(scores, 0); // [(2 + L)B, K]
        let targets = Tensor::from_inner(targets);
        let mut total = loss::cross_view(targets, scores, self.dino.student_temperature);
        if self.dino.koleo > 0.0 {
            let spread = match &shared.spread {
                None => koleo_of_views(by_view(embeddings)),
                Some(spread) => spread.part(embeddings, first),
            };
            parts.push(("train/koleo", spread.clone().inner()));
            total = total + spread * self.dino.koleo;
        }
        if let Some(gram) = &self.dino.gram {
            let skipped = 1 + self.network.num_register_tokens;
            let apart = match &shared.anchor {
                Some(anchor) => {
                    let anchor =
                        gram::patches(anchor.forward(self.input.normalise(globals)), skipped);
                    gram::apart(gram::patches(tokens.clone(), skipped), Tensor::from_inner(anchor))
                }
                None => Tensor::zeros([1], &device),
            };
            parts.push(("train/gram", apart.clone().inner()));
            total = total + apart * gram.weight;
        }
        if let Some(ibot) = &self.dino.ibot {
            let here = self.masked(items);
            let guess = match &shared.patches {
                Some(PatchTargets { masked, probabilities }) if here.len() > 0 => {
                    let targets = probabilities.clone().slice_dim(0, masked.of_images(images));
                    let scores = student.patch_head().forward(here.take(tokens), frozen);
                    let temperature = self.dino.student_temperature;
                    let weights = here.weights(&device);
                    loss::masked_patches(Tensor::from_inner(targets), scores, weights, temperature)
                }
                _ => Tensor::zeros([1], &device),
            };
            parts.push(("train/ibot", guess.clone().inner()));
            total = total + guess * ibot.weight;
        }
        Loss { total, parts }
    }

    fn after_step(&mut self, norm: &Norm, _progress: Progress) {
        if let Centering::Mean { momentum } = self.dino.centering {
            self.centers.follow(momentum, norm);
        }
    }

    fn ema_decay(&self, _recipe: f64, progress: Progress) -> f64 {
        cosine(self.dino.teacher_momentum, 1.0, progress.fraction())
    }

    fn weight_decay(&self, recipe: f64, progress: Progress) -> f64 {
        cosine(recipe, self.dino.final_weight_decay, progress.fraction())
    }

    /// Collapse shows as an effective rank near 1, a mean cosine near 1, an entropy of the mean assignment near 0, or as
    /// images that are all alike to the prototypes.
    fn validate(&self, ema: &Distilled) -> Result<Vec<(&'static str, f64)>> {
        watch::figures(self, ema)
    }

    fn state(&self) -> StateDict {
        let mut state = self.centers.state();
        state.extend(self.anchor.state());
        state
    }

    fn restore(&mut self, mut state: StateDict) -> Result<()> {
        self.anchor = Anchor::take(&mut state, &self.network, &self.device)?;
        self.centers.restore(state, &self.device)
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "network": self.network, "head": self.dino.head })
    }
}

#[cfg(test)]
mod tests;
