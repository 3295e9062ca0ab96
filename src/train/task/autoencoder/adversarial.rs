//! The autoencoder against a discriminator, which learns to tell what it restores from what is real.
//!
//! The losses are those of latent diffusion (Rombach et al. 2022) and VQGAN (Esser et al. 2021). Both networks step from
//! the same restored images, where those make them anew for the discriminator: a forward pass less, and the one order in
//! which nothing depends on whose turn it is.

use super::super::{Progress, Task};
use super::loss::kl;
use super::{AutoencoderTask, Batch, Restored, Shown};
use crate::data::image::Gray;
use crate::data::loader::{Loader, LoaderConfig, LoaderError};
use crate::faults::demand;
use crate::models::autoencoder::Autoencoder;
use crate::models::discriminator::{Discriminator, DiscriminatorConfig};
use crate::train::adamw::{AdamWConfig, GradientSum};
use crate::train::checkpoint::Parts;
use crate::train::learner::{Learner, Stride};
use crate::train::step::{Figures, Report, descent, rounds};
use crate::train::{Procedure, Train};
use anyhow::Result;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Section of the discriminator and of what it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adversarial {
    /// Weight of the adversarial loss where, at the decoder's last layer, its gradient has the length of that of all
    /// other losses: at every step it is scaled to that first.
    pub weight: f64,
    /// Images after which it begins. Before them the autoencoder learns alone, and the discriminator not at all.
    pub from: u64,
    /// Channels of the discriminator's first layer, doubled by each of the next; a multiple of 8.
    pub channels: usize,
    /// Its layers that halve the sides. 3 judge patches of 70 × 70 pixels, 2 of 34 × 34.
    pub layers: usize,
    /// Its learning rate, always the same.
    pub learning_rate: f64,
}

impl Default for Adversarial {
    fn default() -> Self {
        Self { weight: 0.5, from: 0, channels: 64, layers: 3, learning_rate: 2e-4 }
    }
}

/// Shares of itself that the discriminator's mean gradient keeps at a step, and its mean square.
const BETAS: [f64; 2] = [0.5, 0.9];
/// Added to the length of the adversarial gradient.
const EPSILON: f64 = 1e-4;
/// The adversarial gradient is never made more than this many times longer.
const MOST: f64 = 1e4;

impl Adversarial {
    /// The discriminator of images of `in_channels`.
    pub fn config(&self, in_channels: usize) -> DiscriminatorConfig {
        DiscriminatorConfig { in_channels, channels: self.channels, layers: self.layers }
    }

    /// Every fault, where `images` of `side` pixels are trained on.
    pub(super) fn check(&self, side: usize, images: u64) -> Vec<String> {
        let config = self.config(1);
        let is_number = |value: f64| value.is_finite() && value >= 0.0;
        let expected = format!("fewer than the training's {images} images");
        let least = config.least_side();
        let sizes = match config.check() {
            Err(error) => Some(error.to_string()),
            Ok(()) if side < least => Some(format!(
                "layers is {}, which needs images of at least {least} pixels; they have {side} (task.crop or data.size)",
                self.layers
            )),
            Ok(()) => None,
        };
        let rate = self.learning_rate;
        let faults = [
            demand(is_number(self.weight), "weight", self.weight, "a number from 0 up"),
            demand(self.from < images, "from", self.from, expected),
            demand(rate > 0.0 && rate.is_finite(), "learning_rate", rate, "a number above 0"),
            sizes,
        ];
        faults.into_iter().flatten().collect()
    }
}

/// Two learners: the autoencoder, and what it is to deceive.
pub struct AgainstDiscriminator<'a> {
    task: &'a mut AutoencoderTask,
    section: Adversarial,
    autoencoder: Learner<Autoencoder>,
    discriminator: Learner<Discriminator>,
}

/// The gradients of a step and what it tells.
struct Gradients {
    autoencoder: GradientSum,
    discriminator: GradientSum,
    figures: Figures,
}

/// What pulls at the restored images of a round: the gradients of the two losses by their pixels.
struct Pull {
    distance: Tensor<4>,
    deceit: Tensor<4>,
}

impl<'a> AgainstDiscriminator<'a> {
    /// Both at their first weights; `task` has the section of the discriminator.
    pub fn new(
        task: &'a mut AutoencoderTask,
        section: Adversarial,
        (autoencoder, discriminator): (Autoencoder, Discriminator),
        plan: &Train,
    ) -> Self {
        let [beta1, beta2] = BETAS;
        let optimizer = AdamWConfig { beta1, beta2, weight_decay: 0.0, ..plan.optimizer.clone() };
        let against = Train { optimizer, ..plan.clone() };
        let discriminator = discriminator.with_compute(plan.compute);
        Self {
            autoencoder: Learner::new(None, autoencoder.with_compute(plan.compute), plan),
            discriminator: Learner::new(Some("discriminator"), discriminator, &against),
            task,
            section,
        }
    }

    /// Of the mean losses over a batch of `images`, in rounds of `round`: what is balanced is balanced over all of them.
    fn gradients(&self, batch: &Shown, images: usize, round: usize) -> Gradients {
        let model = self.autoencoder.model();
        let rounds: Vec<Range<usize>> = rounds(images, round).collect();
        let share = |rows: &Range<usize>| rows.len() as f64 / images as f64;
        // A single round goes through the network once; of several, each once more when all are balanced.
        let mut whole = match &rounds[..] {
            [all] => Some(self.task.restored(model, batch, all.clone(), true)),
            _ => None,
        };
        let plain = whole.is_none().then(|| model.valid());
        let judge = self.discriminator.model().clone().no_grad();

        let mut figures = Figures::default();
        let mut pulls = Vec::new();
        let mut at_last: Option<[Tensor<4>; 2]> = None;
        for rows in &rounds {
            let looked =
                plain.as_ref().map(|plain| self.task.restored(plain, batch, rows.clone(), false));
            let Restored { images, features, restored, .. } =
                looked.as_ref().or(whole.as_ref()).expect("one of the two is there");
            let (pull, parts) = self.pull(&judge, restored, images, share(rows));
            figures.add(parts, share(rows));
            let lengths = [&pull.distance, &pull.deceit]
                .map(|pull| last_layer_gradient(model, features, pull.clone()));
            at_last = Some(match at_last {
                None => lengths,
                Some([a, b]) => {
                    let [c, d] = lengths;
                    [a + c, b + d]
                }
            });
            pulls.push(pull);
        }
        drop((plain, judge));
        let [distance, deceit] = at_last.expect("a batch has items");
        let weight = adaptive_weight(distance, deceit) * self.section.weight;

        let (mut ours, mut theirs) = (GradientSum::default(), GradientSum::default());
        for (rows, pull) in rounds.iter().zip(pulls) {
            // Rounds are averaged with equal weight, and shares are in the pulls.
            let (share, num_rounds) = (share(rows), rounds.len() as f64);
            let seen = whole
                .take()
                .unwrap_or_else(|| self.task.restored(model, batch, rows.clone(), true));
            let Restored { images, moments, restored, .. } = seen;
            let together = pull.distance + pull.deceit * weight.clone().reshape([1, 1, 1, 1]);
            let apart = self.apart(restored.clone().inner(), images.clone().inner());
            let mut total = (restored * Tensor::from_inner(together)).sum();
            if let Some(moments) = moments {
                let kl = kl(&moments, &images);
                let held = kl.clone() * self.task.loss.kl_weight;
                figures
                    .add([("train/kl", kl.inner()), ("train/loss", held.clone().inner())], share);
                total = total + held * share;
            }
            ours.add(model, (total * num_rounds).backward());

            let Apart { loss, real, fake } = apart;
            let told = [
                ("train/discriminator", loss.clone().inner()),
                ("train/discriminator_real", real),
                ("train/discriminator_fake", fake),
            ];
            figures.add(told, share);
            theirs.add(self.discriminator.model(), (loss * (share * num_rounds)).backward());
        }
        let deceived = figures.get("train/adversarial") * weight.clone();
        figures.add([("train/loss", deceived), ("train/adversarial_weight", weight)], 1.0);
        Gradients { autoencoder: ours, discriminator: theirs, figures }
    }

    /// What pulls at images that were `restored`, with `share` of the batch in them, and the losses.
    fn pull(
        &self,
        judge: &Discriminator,
        restored: &Tensor<4>,
        images: &Tensor<4>,
        share: f64,
    ) -> (Pull, Vec<(&'static str, Tensor<1>)>) {
        let leaf = || tracked(restored).require_grad();
        let by = |loss: Tensor<1>, leaf: &Tensor<4>| {
            let gradients = (loss * share).backward();
            leaf.grad(&gradients).expect("the loss follows from the image")
        };
        let (task, near) = (&*self.task, leaf());
        let distance = task.loss.distance(near.clone(), tracked(images), task.perceptual.as_ref());
        let total = distance.total();
        let mut parts = vec![("train/loss", total.clone().inner())];
        parts.extend(distance.parts());
        let distance = by(total, &near);
        let far = leaf();
        let deceit = judge.forward(far.clone()).mean().neg();
        parts.push(("train/adversarial", deceit.clone().inner()));
        (Pull { distance, deceit: by(deceit, &far) }, parts)
    }

    /// What the discriminator makes of `restored` images and real ones.
    fn apart(&self, restored: Tensor<4>, images: Tensor<4>) -> Apart {
        let [fake, real] = [restored, images]
            .map(|images| self.discriminator.model().forward(Tensor::from_inner(images)));
        let loss = hinge(real.clone(), fake.clone());
        Apart { loss, real: real.inner().mean(), fake: fake.inner().mean() }
    }
}

/// What a discriminator makes of a round.
struct Apart {
    loss: Tensor<1>,
    /// Means of what it says, not tracked.
    real: Tensor<1>,
    fake: Tensor<1>,
}

/// `x` on the graph's side, knowing nothing of where it came from.
fn tracked(x: &Tensor<4>) -> Tensor<4> {
    Tensor::from_inner(x.clone().without_autodiff())
}

/// The hinge loss (Lim & Ye 2017) of what a discriminator says of `real` and `fake` patches, halved.
fn hinge(real: Tensor<4>, fake: Tensor<4>) -> Tensor<1> {
    (relu(real.neg() + 1.0).mean() + relu(fake + 1.0).mean()) * 0.5
}

/// The gradient of the decoder's last layer, which sees `features`, under a `pull` at the restored images.
fn last_layer_gradient(model: &Autoencoder, features: &Tensor<4>, pull: Tensor<4>) -> Tensor<4> {
    let restored = model.finish(tracked(features));
    let gradients = (restored * Tensor::from_inner(pull)).sum().backward();
    model.last_layer().grad(&gradients).expect("a recipe is checked for that the last layer learns")
}

/// By how much the adversarial loss is multiplied, for its gradient at the last layer to be as long as that of the
/// `distance`: `[1]`.
fn adaptive_weight(distance: Tensor<4>, deceit: Tensor<4>) -> Tensor<1> {
    let length = |gradient: Tensor<4>| gradient.square().sum().sqrt();
    (length(distance) / (length(deceit) + EPSILON)).clamp(0.0, MOST)
}

impl Procedure for AgainstDiscriminator<'_> {
    type Batch = Batch;

    fn name(&self) -> &'static str {
        self.task.name()
    }

    fn loader(&self, config: LoaderConfig) -> Result<Loader<Batch>, LoaderError> {
        Loader::collated(self.task.samples(), self.task.collate(), config)
    }

    /// Takes a step of both, from the same images.
    fn step(&mut self, batch: Batch, plan: &Train, progress: Progress) -> Report {
        let images = plan.batch_size;
        let seen_after = progress.images_seen + images as u64;
        let learning_rate = plan.learning_rate.at(seen_after, progress.images);
        let decays = plan.ema.decays(progress, seen_after);
        let stride = Stride {
            learning_rate,
            weight_decay: plan.optimizer.weight_decay,
            ema_decay: decays[0],
        };
        if progress.images_seen < self.section.from {
            let (gradients, figures) = descent(self.task, &self.autoencoder, batch, plan, progress);
            let gradient_norm = self.autoencoder.step(gradients, stride);
            self.autoencoder.follow(&gradient_norm, &decays[1..]);
            return Report { figures: figures.into(), gradient_norm, learning_rate };
        }
        let round = plan.micro_batch_size.unwrap_or(images).min(images);
        let batch = self.task.show(batch);
        let Gradients { autoencoder, discriminator, figures } =
            self.gradients(&batch, images, round);
        let gradient_norm = self.autoencoder.step(autoencoder, stride);
        self.autoencoder.follow(&gradient_norm, &decays[1..]);
        // Its average is of no use: it follows at once.
        let against =
            Stride { learning_rate: self.section.learning_rate, weight_decay: 0.0, ema_decay: 0.0 };
        self.discriminator.step(discriminator, against);
        Report { figures: figures.into(), gradient_norm, learning_rate }
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>> {
        self.task.validate(self.autoencoder.ema())
    }

    fn preview(&self) -> Result<Option<Gray>> {
        self.task.preview(self.autoencoder.ema())
    }

    fn save(&mut self, parts: &mut Parts) {
        self.autoencoder.save(parts);
        self.discriminator.save(parts);
        parts.insert("task".to_owned(), self.task.state());
    }

    fn load(&mut self, parts: &Parts) -> Result<()> {
        self.autoencoder.load(parts)?;
        self.discriminator.load(parts)?;
        self.task.restore(parts.get("task")?.clone())
    }

    fn config(&self) -> serde_json::Value {
        self.task.config()
    }
}

#[cfg(test)]
mod tests;
