//! All networks of a trained run, ready to draw.

use super::generate::Generator;
use super::sampler::Sampler;
use crate::data::file::Window;
use crate::data::latents::Scale;
use crate::diffusion::Diffusion;
use crate::models::autoencoder::Autoencoder;
use crate::models::condition::Tokens;
use crate::models::denoiser::Denoiser;
use crate::models::encoder::Embedder;
use crate::models::images::values;
use anyhow::Result;
use burn::tensor::Device;

/// The networks of one run, which belong together.
pub struct Model {
    /// The recipe's name.
    pub recipe: String,
    /// The image encoder, with what images go through first.
    pub encoder: Embedder,
    /// Which of its tokens guide.
    pub tokens: Tokens,
    /// Makes images of latents.
    pub autoencoder: Autoencoder,
    /// Its averaged weights.
    pub denoiser: Denoiser,
    /// As the denoiser was trained.
    pub diffusion: Diffusion,
    /// As it saw latents.
    pub scale: Scale,
    /// Channels, height and width of a latent.
    pub latent_shape: [usize; 3],
    /// Tokens and their width.
    pub token_shape: [usize; 2],
    /// Side of an image in pixels.
    pub image_size: usize,
    /// What of a file's values its images showed.
    pub window: Window,
    /// Where it computes.
    pub device: Device,
}

impl Model {
    /// What draws images on the way of `sampler`.
    pub fn generator(&self, sampler: Sampler) -> Generator<'_> {
        Generator {
            denoiser: &self.denoiser,
            weaker: &[],
            autoencoder: &self.autoencoder,
            diffusion: &self.diffusion,
            scale: &self.scale,
            latent_shape: self.latent_shape,
            token_shape: self.token_shape,
            sampler,
            device: &self.device,
        }
    }

    /// The tokens [N · d] of each of `images`, grey squares of [`image_size`](Self::image_size) in [0, 1], that guide
    /// the denoiser to images like it.
    pub fn condition(&self, images: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let tokens = self.encoder.condition_tokens(self.tokens, images, self.image_size);
        let [num_tokens, width] = self.token_shape;
        Ok(values(tokens)?.chunks_exact(num_tokens * width).map(<[f32]>::to_vec).collect())
    }
}
