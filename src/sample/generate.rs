//! From noise and condition tokens to images.

use super::sampler::{Answer, Sampler, fresh_noise, starting_noise};
use crate::data::latents::Scale;
use crate::diffusion::guidance::{self, Guidance};
use crate::diffusion::self_consistency::told;
use crate::diffusion::{Diffusion, Objective};
use crate::models::autoencoder::Autoencoder;
use crate::models::denoiser::Denoiser;
use crate::models::images::to_images;
use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};

/// Everything that turns a seed and a condition into an image.
pub struct Generator<'a> {
    /// The averaged weights.
    pub denoiser: &'a Denoiser,
    /// The same at earlier images, for autoguidance.
    pub weaker: &'a [(u64, Denoiser)],
    /// Makes images of latents.
    pub autoencoder: &'a Autoencoder,
    /// As it was trained.
    pub diffusion: &'a Diffusion,
    /// As the denoiser saw latents.
    pub scale: &'a Scale,
    /// Channels, height, width of a latent.
    pub latent_shape: [usize; 3],
    /// Tokens and their width.
    pub token_shape: [usize; 2],
    /// The way from noise to clean.
    pub sampler: Sampler,
    /// Where it computes.
    pub device: &'a Device,
}

/// What guides one image.
#[derive(Debug, Clone)]
pub struct Request {
    /// Condition tokens [N · d]; None: the null condition.
    pub tokens: Option<Vec<f32>>,
    /// The noise's seed: the same seed gives the same noise in any batch.
    pub seed: u64,
}

impl Generator<'_> {
    /// One grey image in [0, 1] per request, row by row.
    pub fn images(&self, requests: &[Request], guidance: &Guidance) -> Result<Vec<Vec<f32>>> {
        Ok(to_images(self.decoded(requests, guidance)?)?)
    }

    /// The decoder's float output [B, C, H, W] in about [-1, 1].
    pub fn decoded(&self, requests: &[Request], guidance: &Guidance) -> Result<Tensor<4>> {
        let latents = self.latents(requests, guidance)?;
        Ok(self.autoencoder.decode(self.raw(latents)))
    }

    /// Latents [B, C, h, w] as the autoencoder knows them.
    fn raw(&self, latents: Tensor<4>) -> Tensor<4> {
        let channels = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let data = TensorData::new(values, [1, self.latent_shape[0], 1, 1]);
            Tensor::<4>::from_data(data, self.device)
        };
        latents * channels(&self.scale.std) + channels(&self.scale.mean)
    }

    fn latents(&self, requests: &[Request], guidance: &Guidance) -> Result<Tensor<4>> {
        let batch = requests.len();
        let [num_tokens, token_width] = self.token_shape;
        let seeds: Vec<u64> = requests.iter().map(|request| request.seed).collect();
        let noise = starting_noise(&seeds, self.latent_shape, self.device);
        let keep: Vec<bool> = requests.iter().map(|request| request.tokens.is_some()).collect();
        let tokens: Vec<f32> = requests
            .iter()
            .flat_map(|request| match &request.tokens {
                Some(tokens) => tokens.clone(),
                None => vec![0.0; num_tokens * token_width],
            })
            .collect();
        let tokens = Tensor::<3>::from_data(
            TensorData::new(tokens, [batch, num_tokens, token_width]),
            self.device,
        );
        let (schedule, objective) = (&self.diffusion.schedule, self.diffusion.objective);
        let weaker = self.weaker_for(guidance)?;
        let mut denoise = |noisy: Tensor<4>, t: f64| -> Result<Answer> {
            let step = self
                .sampler
                .leads_to(schedule, t)
                .map_or(0.0, |to| told(schedule.alpha_sigma(t).1, schedule.alpha_sigma(to).1));
            let asked = Asked {
                noisy,
                timestep: schedule.timestep(t),
                step,
                tokens: tokens.clone(),
                keep: &keep,
            };
            let at = Level { objective, levels: schedule.alpha_sigma(t), batch };
            Ok(match guidance {
                _ if !guidance.is_on(t) => at.clean(asked.of(self.denoiser), asked.noisy).into(),
                Guidance::None => unreachable!("it is never on"),
                Guidance::Scale(guidance::Scale { scale, rescale, .. }) => {
                    let [with, without] = asked.with_and_without(self.denoiser);
                    let guided = guidance::guide(with.clone(), without, *scale);
                    at.clean(guidance::rescaled(guided, with, *rescale), asked.noisy).into()
                }
                Guidance::Auto(guidance::Auto { scale, .. }) => {
                    let weaker = asked.of(weaker.expect("found above"));
                    let guided = guidance::guide(asked.of(self.denoiser), weaker, *scale);
                    at.clean(guided, asked.noisy).into()
                }
                Guidance::PlusPlus(guidance::PlusPlus { scale }) => {
                    let [with, without] = asked.with_and_without(self.denoiser);
                    let noise = at.noise(without.clone(), asked.noisy.clone());
                    let [with, without] =
                        [with, without].map(|it| at.clean(it, asked.noisy.clone()));
                    Answer { clean: guidance::guide(with, without, *scale), noise: Some(noise) }
                }
            })
        };
        let mut fresh = fresh_noise(&seeds, self.latent_shape, self.device);
        self.sampler.sample(schedule, noise, &mut fresh, &mut denoise)
    }

    /// The weaker denoiser that `guidance` asks for, if it does.
    fn weaker_for(&self, guidance: &Guidance) -> Result<Option<&Denoiser>> {
        let Guidance::Auto(guidance::Auto { images, .. }) = guidance else { return Ok(None) };
        let found = self.weaker.iter().find(|(seen, _)| seen == images);
        let (_, weaker) =
            found.with_context(|| format!("there is no denoiser at {images} images"))?;
        Ok(Some(weaker))
    }
}

/// What a denoiser is asked in one step.
struct Asked<'a> {
    noisy: Tensor<4>,
    timestep: f64,
    /// How far the step leads, in units of timesteps; 0 where the network is not told.
    step: f64,
    tokens: Tensor<3>,
    keep: &'a [bool],
}

impl Asked<'_> {
    /// What `denoiser` predicts, guided.
    fn of(&self, denoiser: &Denoiser) -> Tensor<4> {
        let [timesteps, steps] = [self.timestep, self.step].map(|it| vec![it; self.keep.len()]);
        let (noisy, tokens) = (self.noisy.clone(), self.tokens.clone());
        denoiser.forward_step(noisy, &timesteps, &steps, tokens, self.keep)
    }

    /// What it predicts guided, and by the null condition, both in one batch.
    fn with_and_without(&self, denoiser: &Denoiser) -> [Tensor<4>; 2] {
        let batch = self.keep.len();
        let [timesteps, steps] = [self.timestep, self.step].map(|it| vec![it; 2 * batch]);
        let keep: Vec<bool> = self.keep.iter().copied().chain(vec![false; batch]).collect();
        let noisy = Tensor::cat(vec![self.noisy.clone(); 2], 0);
        let tokens = Tensor::cat(vec![self.tokens.clone(); 2], 0);
        let both = denoiser.forward_step(noisy, &timesteps, &steps, tokens, &keep);
        [0, batch].map(|first| both.clone().narrow(0, first, batch))
    }
}

/// The noise of one step.
struct Level {
    objective: Objective,
    levels: (f64, f64),
    batch: usize,
}

impl Level {
    /// The images that `prediction` means.
    fn clean(&self, prediction: Tensor<4>, noisy: Tensor<4>) -> Tensor<4> {
        let (alpha, sigma) = (vec![self.levels.0; self.batch], vec![self.levels.1; self.batch]);
        self.objective.clean(prediction, noisy, &alpha, &sigma)
    }

    /// The noise that `prediction` means.
    fn noise(&self, prediction: Tensor<4>, noisy: Tensor<4>) -> Tensor<4> {
        let (alpha, sigma) = (vec![self.levels.0; self.batch], vec![self.levels.1; self.batch]);
        self.objective.noise(prediction, noisy, &alpha, &sigma)
    }
}
