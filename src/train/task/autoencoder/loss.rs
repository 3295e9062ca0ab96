//! What an autoencoder is judged by: pixels, edges, the look of it, and how its latents lie.

use super::super::Loss;
use super::adversarial::Adversarial;
use crate::faults::{demand, within};
use crate::models::autoencoder::Moments;
use crate::models::features::{Lpips, LpipsConfig};
use crate::models::weights::folder::{FolderError, ModelFolder};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    /// How alike both images look to a network that was trained elsewhere. None: not asked.
    pub perceptual: Option<Perceptual>,
    /// A discriminator that learns to tell restored images from real ones. None: none.
    pub adversarial: Option<Adversarial>,
}

/// How alike two images look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perceptual {
    /// Weight of the mean distance.
    #[serde(default = "one")]
    pub weight: f64,
    /// What sees the images. It does not learn.
    pub network: PerceptualNetwork,
}

/// A network that measures how different two images look; a folder, where relative paths start at `--data-root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PerceptualNetwork {
    /// LPIPS 0.1 over AlexNet (Zhang et al. 2018). Has `config.json` and `model.safetensors`; docs/weights.md makes it.
    Lpips(PathBuf),
}

fn one() -> f64 {
    1.0
}

impl Default for KlLoss {
    fn default() -> Self {
        Self {
            reconstruction: Reconstruction::Squared,
            kl_weight: 1e-6,
            crop: None,
            gradient_weight: 0.0,
            perceptual: None,
            adversarial: None,
        }
    }
}

impl Perceptual {
    /// The network's folder.
    pub fn folder(&self, data_root: &Path) -> Result<ModelFolder, FolderError> {
        let PerceptualNetwork::Lpips(path) = &self.network;
        ModelFolder::open(&data_root.join(path))
    }

    /// Every fault, where images of `side` pixels are looked at. Looks into the folder, but does not read the weights.
    fn check(&self, side: usize, data_root: &Path) -> Vec<String> {
        let opened = self.folder(data_root).and_then(|it| it.parsed(LpipsConfig::from_json));
        // The whole chain: what is wrong stands at its end.
        let opened = opened.err().map(|error| format!("network: {:#}", anyhow::Error::from(error)));
        let is_seen = side >= Lpips::LEAST_SIDE;
        let too_small = (!is_seen).then(|| {
            let least = Lpips::LEAST_SIDE;
            format!("network sees images of {side} pixels; expected at least {least} (task.crop or data.size)")
        });
        let weight = weight("weight", self.weight);
        weight.into_iter().chain(opened).chain(too_small).collect()
    }
}

fn weight(name: &str, value: f64) -> Option<String> {
    demand(value >= 0.0 && value.is_finite(), name, value, "a number from 0 up")
}

impl KlLoss {
    /// Every fault but that of the crop, where images of `side` pixels are seen `images` times; `has_variances` says
    /// whether a KL divergence has anything to hold.
    pub fn check(
        &self,
        side: usize,
        images: u64,
        has_variances: bool,
        data_root: &Path,
    ) -> Vec<String> {
        let is_idle = !has_variances && self.kl_weight != Self::default().kl_weight;
        let idle = is_idle.then(|| {
            let value = self.kl_weight;
            format!("kl_weight is {value}, but a tiny autoencoder's latents have no variances; leave it out")
        });
        let weights = [("kl_weight", self.kl_weight), ("gradient_weight", self.gradient_weight)];
        let mut faults: Vec<String> =
            weights.into_iter().filter_map(|(name, value)| weight(name, value)).collect();
        faults.extend(idle);
        if let Some(perceptual) = &self.perceptual {
            faults.extend(within("perceptual", perceptual.check(side, data_root)));
        }
        if let Some(adversarial) = &self.adversarial {
            faults.extend(within("adversarial", adversarial.check(side, images)));
        }
        faults
    }

    /// The loss of images [B, C, H, W] in [-1, 1] that were `restored` from latents of these `moments`; none where
    /// latents have no variances.
    pub(super) fn of(
        &self,
        restored: Tensor<4>,
        images: Tensor<4>,
        moments: Option<&Moments>,
        lpips: Option<&Lpips>,
    ) -> Loss {
        let kl = moments.map(|moments| kl(moments, &images));
        let Distance { reconstruction, others } = self.distance(restored, images, lpips);
        let mut total = reconstruction.clone();
        if let Some(kl) = &kl {
            total = total + kl.clone() * self.kl_weight;
        }
        let mut parts = vec![("train/reconstruction", reconstruction.inner())];
        parts.extend(kl.map(|kl| ("train/kl", kl.inner())));
        for Term { name, value, weight } in others {
            total = total + value.clone() * weight;
            parts.extend(name.map(|name| (name, value.inner())));
        }
        Loss { total, parts }
    }

    /// How far images [B, C, H, W] in [-1, 1] are from what was `restored` of them.
    pub(super) fn distance(
        &self,
        restored: Tensor<4>,
        images: Tensor<4>,
        lpips: Option<&Lpips>,
    ) -> Distance {
        let difference = restored.clone() - images.clone();
        let reconstruction = match self.reconstruction {
            Reconstruction::Absolute => difference.abs().mean(),
            Reconstruction::Squared => difference.square().mean(),
        };
        let mut others = Vec::new();
        if self.gradient_weight > 0.0 {
            let value = gradient_difference(restored.clone(), images.clone());
            others.push(Term { name: None, value, weight: self.gradient_weight });
        }
        if let (Some(lpips), Some(Perceptual { weight, .. })) = (lpips, &self.perceptual) {
            let value = lpips.forward(restored, images).mean();
            others.push(Term { name: Some("train/perceptual"), value, weight: *weight });
        }
        Distance { reconstruction, others }
    }
}

/// How far images are from what was restored of them.
pub(super) struct Distance {
    pub(super) reconstruction: Tensor<1>,
    others: Vec<Term>,
}

/// A further part of a distance; what has no name is not recorded.
struct Term {
    name: Option<&'static str>,
    value: Tensor<1>,
    weight: f64,
}

impl Distance {
    /// All of it.
    pub(super) fn total(&self) -> Tensor<1> {
        let add = |sum, term: &Term| sum + term.value.clone() * term.weight;
        self.others.iter().fold(self.reconstruction.clone(), add)
    }

    /// What is recorded of it, not tracked.
    pub(super) fn parts(self) -> Vec<(&'static str, Tensor<1>)> {
        let others = self.others.into_iter();
        let named = others.filter_map(|term| Some((term.name?, term.value.inner())));
        std::iter::once(("train/reconstruction", self.reconstruction.inner()))
            .chain(named)
            .collect()
    }
}

/// The KL divergence of latents from a standard normal, per pixel of the `images`.
pub(super) fn kl(moments: &Moments, images: &Tensor<4>) -> Tensor<1> {
    let [_, _, height, width] = images.dims();
    moments.kl().mean() / (height * width) as f64
}

fn gradient_difference(a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
    let [_, _, height, width] = a.dims();
    let difference = a - b;
    let down =
        difference.clone().slice_dim(2, 1..height) - difference.clone().slice_dim(2, 0..height - 1);
    let right = difference.clone().slice_dim(3, 1..width) - difference.slice_dim(3, 0..width - 1);
    (down.abs().mean() + right.abs().mean()) * 0.5
}
