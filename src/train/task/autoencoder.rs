//! Training the autoencoder: images in, the same images out, through a small Gaussian latent.

use super::{Loss, Progress, Task};
use crate::data::image::Gray;
use crate::data::loader::{SampleError, Samples};
use crate::data::picture::contact_sheet;
use crate::data::radiographs::{Radiographs, Sample};
use crate::metric;
use crate::models::autoencoder::{Autoencoder, AutoencoderKl, AutoencoderKlConfig};
use crate::models::images::{stack, to_images, with_channels};
use crate::random::Stream;
use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
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
    /// pixels (so that 1e-6 means what it means in the latent diffusion paper, arXiv 2112.10752).
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
        let mut place = || draws.below((square.size - side + 1) as u64) as usize;
        let (left, top) = (place(), place());
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

impl AutoencoderTask {
    fn crop_size(&self) -> usize {
        self.loss.crop.unwrap_or(self.train.size())
    }
}

impl Task for AutoencoderTask {
    type Model = AutoencoderKl;
    type Item = Item;

    fn name(&self) -> &'static str {
        "autoencoder"
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

    fn loss(
        &mut self,
        model: &AutoencoderKl,
        _ema: &AutoencoderKl,
        items: &[Item],
        _progress: Progress,
    ) -> Loss {
        let device = self.device.clone().autodiff();
        let images = stack(items.iter().map(|item| &item.pixels[..]), self.crop_size(), &device);
        let pixels = images.dims()[2] * images.dims()[3];
        let images = images * 2.0 - 1.0;

        let moments = model.encode(images.clone());
        let noise: Vec<f32> = items.iter().flat_map(|item| item.noise.iter().copied()).collect();
        let noise = Tensor::from_data(TensorData::new(noise, moments.mean.dims()), &device);
        let restored = model.decode(moments.sample(noise));

        let difference = restored.clone() - images.clone();
        let reconstruction = match self.loss.reconstruction {
            Reconstruction::Absolute => difference.abs().mean(),
            Reconstruction::Squared => difference.square().mean(),
        };
        let kl = moments.kl().mean() / pixels as f64;
        let mut total = reconstruction.clone() + kl.clone() * self.loss.kl_weight;
        if self.loss.gradient_weight > 0.0 {
            total = total + gradient_difference(restored, images) * self.loss.gradient_weight;
        }
        let parts =
            vec![("train/reconstruction", reconstruction.inner()), ("train/kl", kl.inner())];
        Loss { total, parts }
    }

    fn validate(&self, ema: &AutoencoderKl) -> Result<Vec<(&'static str, f64)>> {
        let restored = reconstruct(
            &Autoencoder::Kl(ema.clone()),
            &self.valid,
            self.valid.len(),
            self.batch_size,
            &self.device,
        )?;
        let mut sum = 0.0;
        for (sample, restored) in &restored {
            let square = &sample.square;
            sum += metric::psnr(&square.pixels, restored, Some(&square.content_mask()));
        }
        Ok(vec![("validation/psnr_db", sum / restored.len() as f64)])
    }

    fn preview(&self, ema: &AutoencoderKl) -> Result<Option<Gray>> {
        let shown = reconstruct(
            &Autoencoder::Kl(ema.clone()),
            &self.valid,
            8,
            self.batch_size,
            &self.device,
        )?;
        let tiles = shown
            .into_iter()
            .flat_map(|(sample, restored)| [sample.square.pixels.clone(), restored]);
        Ok(Some(contact_sheet(
            &tiles.collect::<Vec<_>>(),
            self.valid.size(),
            8,
            2,
            &["image", "restored"].repeat(4),
        )))
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(&self.network).expect("a network's configuration is plain data")
    }
}

/// The first `count` images that can be opened, and what the autoencoder makes of them (posterior mean), in [0, 1].
/// Fails where there is none.
pub fn reconstruct(
    model: &Autoencoder,
    images: &Radiographs,
    count: usize,
    batch_size: usize,
    device: &Device,
) -> Result<Vec<(Arc<Sample>, Vec<f32>)>> {
    let mut out = Vec::new();
    let channels = model.config().in_channels();
    let samples = (0..images.len()).map(|at| images.get_or_skip(at)).filter_map(Result::transpose);
    let mut samples = samples.take(count).peekable();
    while samples.peek().is_some() {
        let samples = samples.by_ref().take(batch_size).collect::<Result<Vec<_>, _>>()?;
        let batch =
            stack(samples.iter().map(|sample| &sample.square.pixels[..]), images.size(), device);
        let latents = model.encode(with_channels(batch * 2.0 - 1.0, channels)).mean;
        out.extend(samples.into_iter().zip(to_images(model.decode(latents))?));
    }
    ensure!(!out.is_empty(), "there is no image to restore");
    Ok(out)
}

fn gradient_difference(a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
    let [_, _, height, width] = a.dims();
    let difference = a - b;
    let down =
        difference.clone().slice_dim(2, 1..height) - difference.clone().slice_dim(2, 0..height - 1);
    let right = difference.clone().slice_dim(3, 1..width) - difference.slice_dim(3, 0..width - 1);
    (down.abs().mean() + right.abs().mean()) * 0.5
}
