//! Training the autoencoder: images in, the same images out, through a small latent.

mod adversarial;
mod loss;

pub use adversarial::{Adversarial, AgainstDiscriminator};
pub use loss::{KlLoss, Perceptual, PerceptualNetwork, Reconstruction};

use super::{Loss, Progress, Task, validated};
use crate::data::image::{Gray, Rect};
use crate::data::loader::{Collate, SampleError, Samples, column};
use crate::data::picture::contact_sheet;
use crate::data::radiographs::{Radiographs, Sample};
use crate::metric;
use crate::models::Compute;
use crate::models::autoencoder::{Autoencoder, AutoencoderConfig, Moments};
use crate::models::features::Lpips;
use crate::models::images::{stack, to_images, with_channels};
use crate::random::Stream;
use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// The task. Images are in [0, 1] as read and in [-1, 1] inside the network.
pub struct AutoencoderTask {
    /// The network's shape.
    pub network: AutoencoderConfig,
    /// The loss.
    pub loss: KlLoss,
    /// What sees how alike images look, where the loss asks for it; on the graph's side, and not learning.
    pub perceptual: Option<Lpips>,
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
    /// Draws of latents [B, C, h, w]; none where there is no variance to them.
    noise: Option<Tensor<4>>,
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

/// Images on their way through the network.
struct Restored {
    /// Images [B, C, H, W] in [-1, 1], and what was made of them.
    images: Tensor<4>,
    restored: Tensor<4>,
    /// What the decoder's last layer saw.
    features: Tensor<4>,
    /// The distribution of their latents; none where there is no variance to it.
    moments: Option<Moments>,
}

impl AutoencoderTask {
    /// Brings a batch to the device.
    fn show(&self, batch: Batch) -> Shown {
        let Batch { pixels, noise } = batch;
        let size = self.crop_size();
        let (images, side) = (pixels.len() / (size * size), size / self.network.factor());
        let upload = |values, shape: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values, shape), &self.device)
        };
        let noise_shape = [images, self.network.latent_channels(), side, side];
        Shown {
            images: upload(pixels, [images, 1, size, size]) * 2.0 - 1.0,
            noise: self.network.has_variances().then(|| upload(noise, noise_shape)),
        }
    }

    /// Takes some `rows` of a batch through `model`, on the graph's side or on the plain one.
    fn restored(
        &self,
        model: &Autoencoder,
        batch: &Shown,
        rows: Range<usize>,
        tracks: bool,
    ) -> Restored {
        let part = |tensor: &Tensor<4>| {
            let part = tensor.clone().slice_dim(0, rows.clone());
            if tracks { Tensor::from_inner(part) } else { part }
        };
        let images = with_channels(part(&batch.images), self.network.in_channels());
        let moments = model.encode(images.clone());
        let (latents, moments) = match &batch.noise {
            Some(noise) => (moments.sample(part(noise)), Some(moments)),
            None => (moments.mean, None),
        };
        let features = model.before_last(latents);
        Restored { restored: model.finish(features.clone()), images, features, moments }
    }
}

impl Task for AutoencoderTask {
    type Model = Autoencoder;
    type Item = Item;
    type Batch = Batch;
    type Shared = Shown;

    const VERSION: u32 = 2;

    fn name(&self) -> &'static str {
        "autoencoder"
    }

    fn with_compute(model: Autoencoder, compute: Compute) -> Autoencoder {
        model.with_compute(compute)
    }

    fn samples(&self) -> Arc<dyn Samples<Item = Item>> {
        let side = self.crop_size() / self.network.factor();
        Arc::new(Images {
            radiographs: self.train.clone(),
            crop: Stream::new(self.seed, "autoencoder/crop"),
            crop_size: self.crop_size(),
            noise: Stream::new(self.seed, "autoencoder/posterior"),
            latent_values: match self.network.has_variances() {
                true => self.network.latent_channels() * side * side,
                false => 0,
            },
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
        _: &Autoencoder,
        _: &Autoencoder,
        batch: Batch,
        _: usize,
        _: Progress,
    ) -> Shown {
        self.show(batch)
    }

    fn loss(&self, model: &Autoencoder, batch: &Shown, rows: Range<usize>, _: Progress) -> Loss {
        let Restored { images, restored, moments, .. } = self.restored(model, batch, rows, true);
        self.loss.of(restored, images, moments.as_ref(), self.perceptual.as_ref())
    }

    fn validate(&self, ema: &Autoencoder) -> Result<Vec<(&'static str, f64)>> {
        let shown = validated(self.valid.len(), self.seed);
        let mut psnr = Vec::new();
        restore(ema, &self.valid, shown, self.batch_size, &self.device, |sample, restored| {
            let square = &sample.square;
            psnr.push(metric::psnr(&square.pixels, &restored, Some(&square.content_mask())));
            Ok(())
        })?;
        Ok(vec![("validation/psnr_db", psnr.iter().sum::<f64>() / psnr.len() as f64)])
    }

    fn preview(&self, ema: &Autoencoder) -> Result<Option<Gray>> {
        let shown = 0..self.valid.len().min(8);
        let mut tiles = Vec::new();
        restore(ema, &self.valid, shown, self.batch_size, &self.device, |sample, restored| {
            tiles.extend([sample.square.pixels.clone(), restored]);
            Ok(())
        })?;
        Ok(Some(contact_sheet(&tiles, self.valid.size(), 8, 2, &["image", "restored"].repeat(4))))
    }

    fn config(&self) -> serde_json::Value {
        self.network.record()
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

#[cfg(test)]
mod tests;
