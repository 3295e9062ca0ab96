//! From noise and condition tokens to images.

use super::sampler::{Sampler, starting_noise};
use crate::data::latents::Scale;
use crate::diffusion::{Diffusion, guidance};
use crate::models::autoencoder::Autoencoder;
use crate::models::denoiser::Denoiser;
use crate::models::images::to_images;
use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};

/// Everything that turns a seed and a condition into an image.
pub struct Generator<'a> {
    /// The averaged weights.
    pub denoiser: &'a Denoiser,
    /// Makes images of latents.
    pub autoencoder: &'a Autoencoder,
    /// As it was trained.
    pub diffusion: &'a Diffusion,
    /// As the denoiser saw latents.
    pub scale: Scale,
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
    /// One grey image in [0, 1] per request, row by row. `guidance` 1 means none.
    pub fn images(&self, requests: &[Request], guidance: f64) -> Result<Vec<Vec<f32>>> {
        Ok(to_images(self.decoded(requests, guidance)?)?)
    }

    /// The decoder's float output [B, C, H, W] in about [-1, 1].
    pub fn decoded(&self, requests: &[Request], guidance: f64) -> Result<Tensor<4>> {
        let latents = self.latents(requests, guidance)?;
        Ok(self.autoencoder.decode(latents * self.scale.std + self.scale.mean))
    }

    fn latents(&self, requests: &[Request], guidance: f64) -> Result<Tensor<4>> {
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
        let schedule = &self.diffusion.schedule;
        let mut denoise = |noisy: Tensor<4>, t: f64| -> Result<Tensor<4>> {
            let timesteps = vec![schedule.timestep(t); batch];
            let predict = |keep: &[bool]| {
                self.denoiser.forward(noisy.clone(), &timesteps, tokens.clone(), keep)
            };
            let mut prediction = predict(&keep);
            if guidance != 1.0 {
                prediction = guidance::guide(prediction, predict(&vec![false; batch]), guidance);
            }
            let (alpha, sigma) = schedule.alpha_sigma(t);
            let (alpha, sigma) = (vec![alpha; batch], vec![sigma; batch]);
            Ok(self.diffusion.objective.clean(prediction, noisy, &alpha, &sigma))
        };
        self.sampler.sample(schedule, noise, &mut denoise)
    }
}
