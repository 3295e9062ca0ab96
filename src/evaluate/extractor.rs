//! What sees the images before a distance between two sets of them is taken.

use crate::artifact::Hasher;
use crate::faults::demand;
use crate::metric::radiomics;
use crate::models::encoder::{Embedder, ImageEncoderConfig, Preprocessing};
use crate::models::features::{
    InceptionV3Config, InceptionV3Features, Resizing, XrayDenseNet, XrayDenseNetConfig,
};
use crate::models::weights::folder::{FolderError, ModelFolder};
use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A network that makes features, as a recipe names it. Relative folders start at `--data-root`;
/// docs/weights.md says how to make them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Extractor {
    /// The run's own encoder, which then judges itself: to be compared with nothing outside this run.
    #[default]
    Own,
    /// TorchXRayVision's DenseNet: 1024 features of a radiograph.
    XrayDenseNet {
        /// Has its `config.json` and `model.safetensors`.
        folder: PathBuf,
        /// Most images on a side, where the figure's own `images` are not fewer.
        #[serde(default = "default_images")]
        images: usize,
    },
    /// The Inception-v3 of the Fréchet inception distance: 2048 features of a photograph.
    InceptionV3 {
        /// Has its `config.json` and `model.safetensors`.
        folder: PathBuf,
        /// How images become 299 × 299.
        #[serde(default)]
        resizing: Resizing,
        /// Most images on a side, where the figure's own `images` are not fewer.
        #[serde(default = "default_images")]
        images: usize,
    },
    /// No network: brightness and texture as radiomics programs measure them, each feature at mean 0 and deviation 1
    /// over the real images. The logarithm of their Fréchet distance is the Fréchet radiomic distance (Konz et al.
    /// 2026).
    Radiomics {
        /// Most images on a side, where the figure's own `images` are not fewer.
        #[serde(default = "default_images")]
        images: usize,
    },
    /// A vision transformer of DINO's family in transformers' layout: its class embedding. DINOv2's makes the Fréchet
    /// distance FD-DINOv2 (Stein et al. 2023), RAD-DINO's that of chest radiographs.
    Dino {
        /// Has its `config.json`, weights and, where there is one, `preprocessor_config.json`.
        folder: PathBuf,
        /// Side that images are resized to, in pixels; none: what the folder says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        side: Option<usize>,
        /// Most images on a side, where the figure's own `images` are not fewer.
        #[serde(default = "default_images")]
        images: usize,
    },
}

/// As many as RoentGen's evaluation takes per side.
fn default_images() -> usize {
    5000
}

impl Extractor {
    /// Faults, a sentence each. Looks into the folder, but does not read the weights.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let images = self.most_images();
        let too_few = demand(images >= 2, "images", images, "at least 2");
        let Some(folder) = self.folder(data_root) else { return too_few.into_iter().collect() };
        let opened = folder.and_then(|folder| match self {
            Self::InceptionV3 { .. } => folder.parsed(InceptionV3Config::from_json).map(drop),
            Self::Dino { side, .. } => seen_by(&folder, *side).map(drop),
            Self::Own | Self::Radiomics { .. } | Self::XrayDenseNet { .. } => {
                folder.parsed(XrayDenseNetConfig::from_json).map(drop)
            }
        });
        // The whole chain: what is wrong stands at its end.
        let opened = opened.err().map(|error| format!("folder: {:#}", anyhow::Error::from(error)));
        too_few.into_iter().chain(opened).collect()
    }

    /// Its folder, where it has one.
    pub fn folder(&self, data_root: &Path) -> Option<Result<ModelFolder, FolderError>> {
        match self {
            Self::Own | Self::Radiomics { .. } => None,
            Self::XrayDenseNet { folder, .. }
            | Self::InceptionV3 { folder, .. }
            | Self::Dino { folder, .. } => Some(ModelFolder::open(&data_root.join(folder))),
        }
    }

    /// The hash of what its features follow from; none for the run's own.
    pub fn hash(&self, data_root: &Path) -> Option<Result<String>> {
        let hash = |folder: Result<ModelFolder, FolderError>| -> Result<String> {
            let folder = folder?;
            let hash = folder.hash()?;
            let Self::Dino { side, .. } = self else { return Ok(hash) };
            let (_, input) = seen_by(&folder, *side)?;
            let input = serde_json::to_string(&input)?;
            Ok(Hasher::new("image encoder", 1).upstream(&hash).section(&input).finish())
        };
        match self {
            Self::Radiomics { .. } => Some(Ok(Hasher::new("radiomics", RADIOMICS).finish())),
            _ => self.folder(data_root).map(hash),
        }
    }

    /// Most images on a side.
    pub fn most_images(&self) -> usize {
        match self {
            Self::Own => usize::MAX,
            Self::XrayDenseNet { images, .. }
            | Self::InceptionV3 { images, .. }
            | Self::Dino { images, .. }
            | Self::Radiomics { images } => *images,
        }
    }

    /// Whether its features are of different units, and are brought to one scale.
    pub fn is_scaled(&self) -> bool {
        matches!(self, Self::Radiomics { .. })
    }

    /// The section of a report in which `figure` stands where this sees the images.
    pub fn key(&self, figure: &str) -> String {
        match self {
            Self::Own => figure.to_owned(),
            Self::XrayDenseNet { .. } => format!("{figure}_xray_densenet"),
            Self::InceptionV3 { .. } => format!("{figure}_inception_v3"),
            Self::Dino { .. } => format!("{figure}_dino"),
            Self::Radiomics { .. } => format!("{figure}_radiomics"),
        }
    }

    /// The network in the folder; none for the run's own.
    pub fn open(
        &self,
        data_root: &Path,
        device: &Device,
    ) -> Result<Option<ForeignNetwork>, FolderError> {
        if let Self::Radiomics { .. } = self {
            return Ok(Some(ForeignNetwork::Radiomics));
        }
        let Some(folder) = self.folder(data_root).transpose()? else { return Ok(None) };
        Ok(Some(match self {
            Self::InceptionV3 { resizing, .. } => {
                let network = InceptionV3Features::from_folder(&folder, device)?;
                ForeignNetwork::InceptionV3(Box::new(network), *resizing)
            }
            Self::Dino { side, .. } => {
                let (config, input) = seen_by(&folder, *side)?;
                let network = config
                    .load(folder.weights()?, device)
                    .map_err(|source| FolderError::Fit { path: folder.path.clone(), source })?;
                let network = network.no_grad();
                let embedder = Embedder { network, input, device: device.clone() };
                ForeignNetwork::Dino(Box::new(embedder))
            }
            Self::Own | Self::Radiomics { .. } | Self::XrayDenseNet { .. } => {
                ForeignNetwork::XrayDenseNet(Box::new(XrayDenseNet::from_folder(&folder, device)?))
            }
        }))
    }
}

/// The encoder of a folder, and what an image goes through before it.
fn seen_by(
    folder: &ModelFolder,
    side: Option<usize>,
) -> Result<(ImageEncoderConfig, Preprocessing), FolderError> {
    let config = folder.parsed(ImageEncoderConfig::from_transformers)?;
    let input = Preprocessing::of_folder(folder, &config)?;
    let patch = config.patch_size();
    let input = match side {
        Some(side) => folder.parsed(|_| input.with_side(side, patch))?,
        None => input,
    };
    Ok((config, input))
}

/// Raised when an image has other radiomics features.
const RADIOMICS: u32 = 1;

/// Operations that a network carries out before anybody looks whether a signal came: some seconds of two slow cores.
const MOST_OPERATIONS: f64 = 4e11;

/// An opened network that is not the run's.
pub enum ForeignNetwork {
    /// For radiographs.
    XrayDenseNet(Box<XrayDenseNet>),
    /// For photographs, with what its images go through.
    InceptionV3(Box<InceptionV3Features>, Resizing),
    /// A vision transformer.
    Dino(Box<Embedder>),
    /// None.
    Radiomics,
}

impl ForeignNetwork {
    /// As reports call it, before the hash of its weights.
    pub fn name(&self) -> String {
        match self {
            Self::XrayDenseNet(network) => {
                format!("xray-densenet{}", network.config().num_layers())
            }
            Self::InceptionV3(_, Resizing::Tensorflow1) => "inception-v3".to_owned(),
            Self::InceptionV3(_, Resizing::Clean) => "inception-v3-clean".to_owned(),
            Self::Dino(embedder) => {
                format!("vit-{}-at-{}", embedder.width(), embedder.input.side)
            }
            Self::Radiomics => "radiomics".to_owned(),
        }
    }

    /// Numbers per image.
    pub fn num_features(&self) -> usize {
        match self {
            Self::XrayDenseNet(network) => network.config().num_features(),
            Self::InceptionV3(..) => InceptionV3Config::default().num_features(),
            Self::Dino(embedder) => embedder.width(),
            Self::Radiomics => radiomics::NUM_FEATURES,
        }
    }

    /// Images that it sees at once. Part of the meaning: which images share a batch decides rounding in the last bit.
    pub fn batch(&self) -> usize {
        match self {
            // Those for 299 × 299 pixels keep large maps.
            Self::XrayDenseNet(_) | Self::InceptionV3(..) => 8,
            Self::Dino(embedder) => {
                let side = embedder.input.side;
                let operations = embedder.network.flops(side, side) as f64;
                (MOST_OPERATIONS / operations).clamp(1.0, 16.0) as usize
            }
            Self::Radiomics => 64,
        }
    }

    /// Features of grey images of `size` × `size` in [0, 1], row after row.
    pub fn embed(&self, images: &[&[f32]], size: usize, device: &Device) -> Result<Vec<f32>> {
        let features = match self {
            Self::XrayDenseNet(network) => {
                network.forward(XrayDenseNet::preprocess(images, size, device)).features
            }
            Self::InceptionV3(network, resizing) => {
                let pixels = InceptionV3Features::preprocess(images, size, *resizing, device);
                network.forward(pixels)
            }
            Self::Radiomics => {
                let features = images.par_iter().flat_map_iter(|image| {
                    radiomics::features(image, size).into_iter().map(|value| value as f32)
                });
                return Ok(features.collect());
            }
            Self::Dino(embedder) => return embedder.embed(images, size, images.len()),
        };
        Ok(features.into_data().try_into_vec::<f32>()?)
    }
}
