//! Training the autoencoder: images in, the same images out, through a small Gaussian latent.

use super::{Loss, Progress, Task, validated};
use crate::data::image::{Gray, Rect};
use crate::data::loader::{Collate, SampleError, Samples, column};
use crate::data::picture::contact_sheet;
use crate::data::radiographs::{Radiographs, Sample};
use crate::metric;
use crate::models::Compute;
use crate::models::autoencoder::{Autoencoder, AutoencoderKl, AutoencoderKlConfig, Moments};
use crate::models::images::{stack, to_images, with_channels};
use crate::random::Stream;
use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// What the reconstruction is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconstruction {
    /// Mean absolute difference; sharper edges.
    Absolute,
    /// Mean squared difference; the highest PSNR.
    Squared,
}

/// The autoencoder's loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KlLoss {
    /// What the reconstruction is judged by.
    pub reconstruction: Reconstruction,
    /// Weight of the KL divergence to a standard normal, summed over the latent and divided by the number of
    /// pixels. The latent diffusion paper's 1e-6 (arXiv 2112.10752) stands beside `Absolute` and a perceptual loss;
    /// beside `Squared`, whose values are far smaller, the same number holds the latents more tightly.
    pub kl_weight: f64,
    /// Side of the random square crops it is trained on, in pixels; a multiple of the factor. None: whole
    /// images. Small crops make for many cheap steps, which is what a short training needs most.
    pub crop: Option<usize>,
    /// Weight of the mean absolute difference between horizontal and vertical pixel gradients; keeps edges.
    pub gradient_weight: f64,
}

impl Default for KlLoss {
    fn default() -> Self {
        Self {
            reconstruction: Reconstruction::Squared,
            kl_weight: 1e-6,
            crop: None,
            gradient_weight: 0.0,
        }
    }
}

/// The task. Images are in [0, 1] as read and in [-1, 1] inside the network.
pub struct AutoencoderTask {
    /// The network's shape.
    pub network: AutoencoderKlConfig,
    /// The loss.
    pub loss: KlLoss,
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
}

/// An image, or a crop of it, and the draw of its latent.
pub struct Item {
    pixels: Vec<f32>,
    noise: Vec<f32>,
}

/// Images side by side, and the draws of their latents.
pub struct Batch {
    pixels: Vec<f32>,
    noise: Vec<f32>,
}

/// A batch where it is computed.
pub struct Shown {
    /// In [-1, 1], [B, 1, H, W].
    images: Tensor<4>,
    /// [B, C, h, w].
    noise: Tensor<4>,
}

struct Images {
    radiographs: Arc<Radiographs>,
    crop: Stream,
    crop_size: usize,
    noise: Stream,
    latent_values: usize,
}

impl Samples for Images {
    type Item = Item;

    fn len(&self) -> u64 {
        self.radiographs.len() as u64
    }

    fn get(&self, index: u64, position: u64) -> Result<Item, SampleError> {
        let sample = self.radiographs.get(index as usize)?;
        let (square, side) = (&sample.square, self.crop_size);
        let mut draws = self.crop.at(position);
        let Rect { x, y, width, height } = square.content;
        let mut place = |first: usize, length: usize| {
            let starts = starts(first, length, side, square.size);
            starts.start() + draws.below((starts.end() - starts.start() + 1) as u64) as usize
        };
        let (left, top) = (place(x, width), place(y, height));
        let rows = (top..top + side).flat_map(|row| {
            let start = row * square.size + left;
            square.pixels[start..start + side].iter().copied()
        });
        Ok(Item {
            pixels: rows.collect(),
            noise: self.noise.at(position).normals(self.latent_values),
        })
    }
}

/// Where a crop of `side` may start along one axis of a square of `size`, whose image goes from `first` over
/// `length` pixels: inside the image, or around all of it where it is shorter than the crop.
fn starts(first: usize, length: usize, side: usize, size: usize) -> RangeInclusive<usize> {
    let (a, b) = (first, (first + length).saturating_sub(side));
    a.min(b)..=a.max(b).min(size - side)
}

impl AutoencoderTask {
    fn crop_size(&self) -> usize {
        self.loss.crop.unwrap_or(self.train.size())
    }
}

impl KlLoss {
    /// The loss of images [B, 1, H, W] in [-1, 1] that were `restored` from latents of these `moments`.
    fn of(&self, restored: Tensor<4>, images: Tensor<4>, moments: &Moments) -> Loss {
        let [_, _, height, width] = images.dims();
        let difference = restored.clone() - images.clone();
        let reconstruction = match self.reconstruction {
            Reconstruction::Absolute => difference.abs().mean(),
            Reconstruction::Squared => difference.square().mean(),
        };
        let kl = moments.kl().mean() / (height * width) as f64;
        let mut total = reconstruction.clone() + kl.clone() * self.kl_weight;
        if self.gradient_weight > 0.0 {
            total = total + gradient_difference(restored, images) * self.gradient_weight;
        }
        let parts =
            vec![("train/reconstruction", reconstruction.inner()), ("train/kl", kl.inner())];
        Loss { total, parts }
    }
}

impl Task for AutoencoderTask {
    type Model = AutoencoderKl;
    type Item = Item;
    type Batch = Batch;
    type Shared = Shown;

    const VERSION: u32 = 2;

    fn name(&self) -> &'static str {
        "autoencoder"
    }

    fn with_compute(model: AutoencoderKl, compute: Compute) -> AutoencoderKl {
        model.with_compute(compute)
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        let side = self.crop_size() / self.network.factor();
        Arc::new(Images {
            radiographs: self.train.clone(),
            crop: Stream::new(self.seed, "autoencoder/crop"),
            crop_size: self.crop_size(),
            noise: Stream::new(self.seed, "autoencoder/posterior"),
            latent_values: self.network.latent_channels * side * side,
        })
    }

    fn collate(&self) -> Collate<Item, Batch> {
        Arc::new(|items| Batch {
            pixels: column(&items, |item| &item.pixels),
            noise: column(&items, |item| &item.noise),
        })
    }

    fn share(
        &mut self,
        _: &AutoencoderKl,
        _: &AutoencoderKl,
        batch: Batch,
        _: usize,
        _: Progress,
    ) -> Shown {
        let Batch { pixels, noise } = batch;
        let (size, channels) = (self.crop_size(), self.network.latent_channels);
        let side = size / self.network.factor();
        let images = pixels.len() / (size * size);
        let upload = |values, shape: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values, shape), &self.device)
        };
        Shown {
            images: upload(pixels, [images, 1, size, size]) * 2.0 - 1.0,
            noise: upload(noise, [images, channels, side, side]),
        }
    }

    fn loss(&self, model: &AutoencoderKl, batch: &Shown, rows: Range<usize>, _: Progress) -> Loss {
        let [images, noise] = [&batch.images, &batch.noise]
            .map(|tensor| Tensor::from_inner(tensor.clone().slice_dim(0, rows.clone())));
        let images = with_channels(images, self.network.in_channels);

        let moments = model.encode(images.clone());
        let restored = model.decode(moments.sample(noise));
        self.loss.of(restored, images, &moments)
    }

    fn validate(&self, ema: &AutoencoderKl) -> Result<Vec<(&'static str, f64)>> {
        let shown = validated(self.valid.len(), self.seed);
        let model = Autoencoder::Kl(ema.clone());
        let mut psnr = Vec::new();
        restore(&model, &self.valid, shown, self.batch_size, &self.device, |sample, restored| {
            let square = &sample.square;
            psnr.push(metric::psnr(&square.pixels, &restored, Some(&square.content_mask())));
            Ok(())
        })?;
        Ok(vec![("validation/psnr_db", psnr.iter().sum::<f64>() / psnr.len() as f64)])
    }

    fn preview(&self, ema: &AutoencoderKl) -> Result<Option<Gray>> {
        let model = Autoencoder::Kl(ema.clone());
        let shown = 0..self.valid.len().min(8);
        let mut tiles = Vec::new();
        restore(&model, &self.valid, shown, self.batch_size, &self.device, |sample, restored| {
            tiles.extend([sample.square.pixels.clone(), restored]);
            Ok(())
        })?;
        Ok(Some(contact_sheet(&tiles, self.valid.size(), 8, 2, &["image", "restored"].repeat(4))))
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(&self.network).expect("a network's configuration is plain data")
    }
}

/// Hands those of the `shown` images that can be opened to `take`, each with what the autoencoder makes of it (posterior
/// mean), in [0, 1]. Fails where there is none.
pub fn restore(
    model: &Autoencoder,
    images: &Radiographs,
    shown: impl IntoIterator<Item = usize>,
    batch_size: usize,
    device: &Device,
    mut take: impl FnMut(&Sample, Vec<f32>) -> Result<()>,
) -> Result<()> {
    let channels = model.config().in_channels();
    let openable = shown.into_iter().map(|at| images.get_or_skip(at)).filter_map(Result::transpose);
    let mut openable = openable.peekable();
    ensure!(openable.peek().is_some(), "there is no image to restore");
    while openable.peek().is_some() {
        let samples = openable.by_ref().take(batch_size).collect::<Result<Vec<_>, _>>()?;
        let pixels =
            stack(samples.iter().map(|sample| &sample.square.pixels[..]), images.size(), device);
        let latents = model.encode(with_channels(pixels * 2.0 - 1.0, channels)).mean;
        for (sample, restored) in samples.iter().zip(to_images(model.decode(latents))?) {
            take(sample, restored)?;
        }
    }
    Ok(())
}

fn gradient_difference(a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
    let [_, _, height, width] = a.dims();
    let difference = a - b;
    let down =
        difference.clone().slice_dim(2, 1..height) - difference.clone().slice_dim(2, 0..height - 1);
    let right = difference.clone().slice_dim(3, 1..width) - difference.slice_dim(3, 0..width - 1);
    (down.abs().mean() + right.abs().mean()) * 0.5
}

#[cfg(test)]
mod tests;
