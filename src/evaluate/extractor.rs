//! What sees the images before a distance between two sets of them is taken.

use crate::faults::demand;
use crate::models::features::{
    InceptionV3Config, InceptionV3Features, Resizing, XrayDenseNet, XrayDenseNetConfig,
};
use crate::models::weights::folder::{FolderError, ModelFolder};
use anyhow::Result;
use burn::tensor::Device;
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
}

/// As many as RoentGen's evaluation takes per side.
fn default_images() -> usize {
    5000
}

impl Extractor {
    /// Faults, a sentence each. Looks into the folder, but does not read the weights.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let Some(folder) = self.folder(data_root) else { return Vec::new() };
        let images = self.most_images();
        let opened = folder.and_then(|folder| match self {
            Self::InceptionV3 { .. } => folder.parsed(InceptionV3Config::from_json).map(drop),
            Self::Own | Self::XrayDenseNet { .. } => {
                folder.parsed(XrayDenseNetConfig::from_json).map(drop)
            }
        });
        let too_few = demand(images >= 2, "images", images, "at least 2");
        // The whole chain: what is wrong stands at its end.
        let opened = opened.err().map(|error| format!("folder: {:#}", anyhow::Error::from(error)));
        too_few.into_iter().chain(opened).collect()
    }

    /// Its folder, where it has one.
    pub fn folder(&self, data_root: &Path) -> Option<Result<ModelFolder, FolderError>> {
        match self {
            Self::Own => None,
            Self::XrayDenseNet { folder, .. } | Self::InceptionV3 { folder, .. } => {
                Some(ModelFolder::open(&data_root.join(folder)))
            }
        }
    }

    /// Most images on a side.
    pub fn most_images(&self) -> usize {
        match self {
            Self::Own => usize::MAX,
            Self::XrayDenseNet { images, .. } | Self::InceptionV3 { images, .. } => *images,
        }
    }

    /// The section of a report in which `figure` stands where this sees the images.
    pub fn key(&self, figure: &str) -> String {
        match self {
            Self::Own => figure.to_owned(),
            Self::XrayDenseNet { .. } => format!("{figure}_xray_densenet"),
            Self::InceptionV3 { .. } => format!("{figure}_inception_v3"),
        }
    }

    /// The network in the folder; none for the run's own.
    pub fn open(
        &self,
        data_root: &Path,
        device: &Device,
    ) -> Result<Option<ForeignNetwork>, FolderError> {
        let Some(folder) = self.folder(data_root).transpose()? else { return Ok(None) };
        Ok(Some(match self {
            Self::InceptionV3 { resizing, .. } => {
                let network = InceptionV3Features::from_folder(&folder, device)?;
                ForeignNetwork::InceptionV3(Box::new(network), *resizing)
            }
            Self::Own | Self::XrayDenseNet { .. } => {
                ForeignNetwork::XrayDenseNet(Box::new(XrayDenseNet::from_folder(&folder, device)?))
            }
        }))
    }
}

/// An opened network that is not the run's.
pub enum ForeignNetwork {
    /// For radiographs.
    XrayDenseNet(Box<XrayDenseNet>),
    /// For photographs, with what its images go through.
    InceptionV3(Box<InceptionV3Features>, Resizing),
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
        }
    }

    /// Numbers per image.
    pub fn num_features(&self) -> usize {
        match self {
            Self::XrayDenseNet(network) => network.config().num_features(),
            Self::InceptionV3(..) => InceptionV3Config::default().num_features(),
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
        };
        Ok(features.into_data().try_into_vec::<f32>()?)
    }
}
