//! From noise to an image, in steps.
//!
//! Samplers know neither network nor objective: they ask for the clean image behind a noisy one, so
//! each of them works with every schedule and objective.

mod ddim;
mod dpm_solver;
mod euler;
mod heun;

pub use {ddim::Ddim, dpm_solver::DpmSolver2M, euler::Euler, heun::Heun};

use crate::faults::demand;
use crate::{diffusion::Schedule, random::Stream};
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
}

/// Answers (noisy batch [B, C, H, W], t) with the clean batch.
pub type Denoise<'a, E> = dyn FnMut(Tensor<4>, f64) -> Result<Tensor<4>, E> + 'a;

impl Sampler {
    /// Turns `noise`, standard normal [B, C, H, W], into images, asking `denoise` about the noisy batch
    /// at each t of [`Schedule::grid`].
    ///
    /// Each image depends on its own noise only, not on its neighbours in the batch. Fails when
    /// `denoise` does.
    pub fn sample<E>(
        &self,
        schedule: &Schedule,
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        let levels: Vec<Level> =
            schedule.grid(self.num_steps()).into_iter().map(|t| Level::new(schedule, t)).collect();
        self.walk(&levels, noise, denoise)
    }

    /// Steps from noise to image.
    pub fn num_steps(&self) -> usize {
        match self {
            Self::Ddim(sampler) => sampler.steps,
            Self::Euler(sampler) => sampler.steps,
            Self::Heun(sampler) => sampler.steps,
            Self::DpmSolver2M(sampler) => sampler.steps,
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
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let steps = self.num_steps();
        let is_walk = (1..=crate::diffusion::schedule::NUM_TIMESTEPS).contains(&steps);
        let eta = match self {
            Self::Ddim(Ddim { eta, .. }) => demand((0.0..=1.0).contains(eta), "eta", eta, "0 to 1"),
            _ => None,
        };
        demand(is_walk, "steps", steps, "1 to 1000").into_iter().chain(eta).collect()
    }

    fn walk<E>(
        &self,
        levels: &[Level],
        noise: Tensor<4>,
        denoise: &mut Denoise<'_, E>,
    ) -> Result<Tensor<4>, E> {
        match self {
            Self::Ddim(sampler) => sampler.sample(levels, noise, denoise),
            Self::Euler(sampler) => sampler.sample(levels, noise, denoise),
            Self::Heun(sampler) => sampler.sample(levels, noise, denoise),
            Self::DpmSolver2M(sampler) => sampler.sample(levels, noise, denoise),
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
pub fn starting_noise(seeds: &[u64], [c, h, w]: [usize; 3], device: &Device) -> Tensor<4> {
    let values = seeds
        .iter()
        .flat_map(|&seed| Stream::new(seed, "sample/noise").at(0).normals(c * h * w))
        .collect();
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
    fn reached_from(&self, from: &Level, noisy: Tensor<4>, clean: Tensor<4>) -> Tensor<4> {
        let kept = self.sigma / from.sigma;
        noisy.mul_scalar(kept) + clean.mul_scalar(self.alpha - from.alpha * kept)
    }
}

#[cfg(test)]
mod tests;
