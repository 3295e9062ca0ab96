//! An encoder and what an image goes through before it.

use super::{ImageEncoder, Preprocessing, Resample, Vit};
use crate::data::radiographs::Radiographs;
use crate::models::condition::Tokens;
use crate::models::images::values;
use anyhow::Result;
use burn::tensor::{Device, Tensor};

/// What sees images.
#[derive(Debug, Clone)]
pub struct Embedder {
    /// The network.
    pub network: ImageEncoder,
    /// How an image reaches it.
    pub input: Preprocessing,
    /// Where it computes.
    pub device: Device,
}

impl Embedder {
    /// A network that was trained here on grey squares of `size`.
    pub fn trained_here(vit: Vit, size: usize, device: &Device) -> Self {
        let (network, input) = (ImageEncoder::Vit(vit), trained_input(size));
        Self { network, input, device: device.clone() }
    }

    /// All tokens of square grey images of `size` in [0, 1]: [B, 1 + R + P, d].
    pub fn tokens(&self, images: &[&[f32]], size: usize) -> Tensor<3> {
        let pixels = self.input.apply(images.iter().copied(), size, &self.device);
        self.network.forward(pixels)
    }

    /// The tokens that guide the denoiser: [B, N, d].
    pub fn condition_tokens(&self, tokens: Tokens, images: &[&[f32]], size: usize) -> Tensor<3> {
        self.guiding(tokens, self.tokens(images, size))
    }

    /// The patches among `all` tokens [B, 1 + R + P, d], row by row: [B, P, d].
    pub fn patches(&self, all: Tensor<3>) -> Tensor<3> {
        let num_tokens = all.dims()[1];
        all.slice_dim(1, 1 + self.network.num_registers()..num_tokens)
    }

    /// Patches to a side.
    pub fn grid(&self) -> usize {
        self.input.side / self.network.patch_size()
    }

    /// The tokens among `all` [B, 1 + R + P, d] that guide the denoiser: [B, N, d].
    pub fn guiding(&self, tokens: Tokens, all: Tensor<3>) -> Tensor<3> {
        let registers = self.network.num_registers();
        match tokens {
            Tokens::Class => all.slice_dim(1, 0..1),
            Tokens::ClassAndRegisters => all.slice_dim(1, 0..1 + registers),
            Tokens::ClassAndMean => {
                let patches = self.patches(all.clone()).mean_dim(1);
                Tensor::cat(vec![all.slice_dim(1, 0..1), patches], 1)
            }
            Tokens::ClassAndGrid(grid) => {
                let patches = self.patches(all.clone());
                Tensor::cat(vec![all.slice_dim(1, 0..1), on_grid(patches, grid)], 1)
            }
        }
    }

    /// Class embeddings of square grey images of `size`, row after row.
    pub fn embed(&self, images: &[&[f32]], size: usize, batch_size: usize) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for batch in images.chunks(batch_size) {
            out.extend(values(self.tokens(batch, size).slice_dim(1, 0..1))?);
        }
        Ok(out)
    }

    /// Class embeddings of those of the `chosen` images that can be opened, in order, row after row, and which these
    /// are. Fails where more cannot than may be skipped.
    pub fn embed_chosen(
        &self,
        images: &Radiographs,
        chosen: &[usize],
        batch_size: usize,
    ) -> Result<(Vec<f32>, Vec<usize>)> {
        let (mut out, mut opened) = (Vec::new(), Vec::new());
        for chunk in chosen.chunks(batch_size) {
            let samples =
                chunk.iter().map(|&at| images.get_or_skip(at)).collect::<Result<Vec<_>, _>>()?;
            opened.extend(samples.iter().flatten().map(|sample| sample.entry));
            let pixels: Vec<&[f32]> =
                samples.iter().flatten().map(|sample| &sample.square.pixels[..]).collect();
            out.extend(self.embed(&pixels, images.size(), batch_size)?);
        }
        Ok((out, opened))
    }

    /// Width of a token.
    pub fn width(&self) -> usize {
        self.network.hidden_size()
    }
}

/// Means of square `patches` [B, P, d] over a grid of `grid` fields to a side, which divides theirs: [B, grid², d].
fn on_grid(patches: Tensor<3>, grid: usize) -> Tensor<3> {
    let [b, p, d] = patches.dims();
    let per_field = p.isqrt() / grid;
    patches.reshape([b, grid, per_field, grid, per_field, d]).mean_dims(&[2, 4]).reshape([
        b,
        grid * grid,
        d,
    ])
}

/// How an image of `size` reaches an encoder that is trained here: shifted and scaled to about mean 0 and
/// variance 1.
pub fn trained_input(size: usize) -> Preprocessing {
    Preprocessing { side: size, mean: vec![0.5], std: vec![0.25], resample: Resample::Bicubic }
}
