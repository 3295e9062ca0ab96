//! From noise to an image, in steps.
//!
//! Samplers know neither network nor objective: they ask for the clean image behind a noisy one, so
//! each of them works with every schedule and objective.

mod ddim;
mod dpm_solver;
mod euler;
mod heun;
mod shortcut;

pub use {ddim::Ddim, dpm_solver::DpmSolver2M, euler::Euler, heun::Heun, shortcut::Shortcut};

use crate::diffusion::{Schedule, Spacing};
use crate::faults::demand;
use crate::faults::within;
use crate::random::Stream;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// A sampler, as a recipe names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Sampler {
    /// First order; can add fresh noise.
    Ddim(Ddim),
    /// First order.
    Euler(Euler),
    /// Second order, two questions per step.
    Heun(Heun),
    /// Second order, one question per step.
    DpmSolver2M(DpmSolver2M),
    /// Few long steps, of a denoiser that was trained for them.
    Shortcut(Shortcut),
}

/// What is known of a noisy batch [B, C, H, W].
pub struct Answer {
    /// The images in it.
    pub clean: Tensor<4>,
    /// The noise to go on with, where it is another than what `clean` leaves.
    pub noise: Option<Tensor<4>>,
}

impl From<Tensor<4>> for Answer {
    fn from(clean: Tensor<4>) -> Self {
        Self { clean, noise: None }
    }
}

/// Answers (noisy batch [B, C, H, W], t) with what is known of it.
pub type Denoise<'a, E> = dyn FnMut(Tensor<4>, f64) -> Result<Answer, E> + 'a;

/// Gives the fresh noise [B, C, H, W] of a step, where a sampler adds any.
pub type Fresh<'a> = dyn FnMut(usize) -> Tensor<4> + 'a;

impl Sampler {
    /// Turns `noise`, standard normal [B, C, H, W], into images, asking `denoise` about the noisy batch
    /// at each of [`times`](Self::times), and `fresh` for more noise if it is stochastic.
    ///
    /// Each image depends on its own noise only, not on its neighbours in the batch. Fails when
    /// `denoise` does.
    pub fn sample<E>(
        &self,
        schedule: &Schedule,
        noise: Tensor<4>,
        fresh: &mut Fresh<'_>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let levels: Vec<Level> =
            self.times(schedule).into_iter().map(|t| Level::new(schedule, t)).collect();
        self.walk(&levels, noise, fresh, denoise)
    }

    /// The times of its steps on `schedule`, from 1 down to 0.
    pub fn times(&self, schedule: &Schedule) -> Vec<f64> {
        self.spacing().times(schedule, self.num_steps())
    }

    fn spacing(&self) -> Spacing {
        match self {
            Self::Ddim(sampler) => sampler.spacing,
            Self::Euler(sampler) => sampler.spacing,
            Self::Heun(sampler) => sampler.spacing,
            Self::DpmSolver2M(sampler) => sampler.spacing,
            Self::Shortcut(_) => Spacing::Even,
        }
    }

    /// Does it go on with whatever noise it is given? The others find it from the images.
    pub fn takes_noise(&self) -> bool {
        matches!(self, Self::Ddim(_) | Self::Euler(_))
    }

    /// Where the step from time `t` leads, if the network is told.
    pub fn leads_to(&self, schedule: &Schedule, t: f64) -> Option<f64> {
        let Self::Shortcut(_) = self else { return None };
        self.times(schedule).into_iter().find(|to| *to < t)
    }

    /// Steps from noise to image.
    pub fn num_steps(&self) -> usize {
        match self {
            Self::Ddim(sampler) => sampler.steps,
            Self::Euler(sampler) => sampler.steps,
            Self::Heun(sampler) => sampler.steps,
            Self::DpmSolver2M(sampler) => sampler.steps,
            Self::Shortcut(sampler) => sampler.steps,
        }
    }

    /// Questions to the network per image.
    pub fn num_evaluations(&self) -> usize {
        match self {
            Self::Heun(sampler) => (2 * sampler.steps).saturating_sub(1),
            _ => self.num_steps(),
        }
    }

    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ddim(_) => "Ddim",
            Self::Euler(_) => "Euler",
            Self::Heun(_) => "Heun",
            Self::DpmSolver2M(_) => "DpmSolver2M",
            Self::Shortcut(_) => "Shortcut",
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let steps = self.num_steps();
        let is_walk = (1..=crate::diffusion::schedule::NUM_TIMESTEPS).contains(&steps);
        let own = match self {
            Self::Shortcut(sampler) => return sampler.check().into_iter().collect(),
            Self::Ddim(Ddim { eta, .. }) => demand((0.0..=1.0).contains(eta), "eta", eta, "0 to 1"),
            _ => None,
        };
        let steps = demand(is_walk, "steps", steps, "1 to 1000");
        let spacing = within("spacing", self.spacing().check());
        steps.into_iter().chain(own).chain(spacing).collect()
    }

    fn walk<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        fresh: &mut Fresh<'_>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        match self {
            Self::Ddim(sampler) => sampler.sample(levels, noise, fresh, denoise),
            Self::Euler(sampler) => sampler.sample(levels, noise, denoise),
            Self::Heun(sampler) => sampler.sample(levels, noise, denoise),
            Self::DpmSolver2M(sampler) => sampler.sample(levels, noise, fresh, denoise),
            Self::Shortcut(sampler) => sampler.walk().sample(levels, noise, denoise),
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::Ddim(Ddim::default())
    }
}

/// Standard normal noise [B, C, H, W], one sample per seed: the same seed gives the same noise in
/// any batch.
pub fn starting_noise(seeds: &[u64], shape: [usize; 3], device: &Device) -> Tensor<4> {
    noise_of(seeds, "sample/noise", 0, shape, device)
}

/// The noise that a stochastic sampler adds in each step, as [`starting_noise`] is the one that it starts from.
pub fn fresh_noise<'a>(
    seeds: &'a [u64],
    shape: [usize; 3],
    device: &'a Device,
) -> impl FnMut(usize) -> Tensor<4> + 'a {
    move |step| noise_of(seeds, "sample/fresh", step as u64, shape, device)
}

fn noise_of(
    seeds: &[u64],
    stream: &str,
    position: u64,
    [c, h, w]: [usize; 3],
    device: &Device,
) -> Tensor<4> {
    let of = |&seed: &u64| Stream::new(seed, stream).at(position).normals(c * h * w);
    let values = seeds.iter().flat_map(of).collect();
    Tensor::from_data(TensorData::new::<f32, _>(values, [seeds.len(), c, h, w]), device)
}

/// A point of the way: its time and the shares of image and noise there.
#[derive(Debug, Clone, Copy)]
struct Level {
    t: f64,
    alpha: f64,
    sigma: f64,
}

impl Level {
    fn new(schedule: &Schedule, t: f64) -> Self {
        let (alpha, sigma) = schedule.alpha_sigma(t);
        Self { t, alpha, sigma }
    }

    /// Goes on to `self` with the image and the noise that `clean` means at `from`.
    fn reached_from(&self, from: &Level, noisy: Tensor<4>, answer: Answer) -> Tensor<4> {
        let clean = match answer {
            Answer { clean, noise: None } => clean,
            Answer { clean, noise: Some(noise) } => {
                return clean.mul_scalar(self.alpha) + noise.mul_scalar(self.sigma);
            }
        };
        let kept = self.sigma / from.sigma;
        noisy.mul_scalar(kept) + clean.mul_scalar(self.alpha - from.alpha * kept)
    }
}

#[cfg(test)]
mod tests;
