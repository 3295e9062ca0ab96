//! A folder with one of these networks: `config.json` and its weights (docs/weights.md).

use super::{
    InceptionV3Config, InceptionV3Features, Lpips, LpipsConfig, XrayDenseNet, XrayDenseNetConfig,
};
use crate::models::weights::folder::{FolderError, ModelFolder};
use burn::tensor::Device;

impl XrayDenseNet {
    /// The network in `folder`, not learning.
    pub fn from_folder(folder: &ModelFolder, device: &Device) -> Result<Self, FolderError> {
        let config = folder.parsed(XrayDenseNetConfig::from_json)?;
        folder.network(|init| config.init(init), |file| config.from_file(file), device)
    }
}

impl InceptionV3Features {
    /// The network in `folder`, not learning.
    pub fn from_folder(folder: &ModelFolder, device: &Device) -> Result<Self, FolderError> {
        let config = folder.parsed(InceptionV3Config::from_json)?;
        folder.network(|init| config.init(init), |file| config.from_file(file), device)
    }
}

impl Lpips {
    /// The network in `folder`, not learning; gradients reach its inputs.
    pub fn from_folder(folder: &ModelFolder, device: &Device) -> Result<Self, FolderError> {
        let config = folder.parsed(LpipsConfig::from_json)?;
        folder.network(|init| config.init(init), |file| config.from_file(file), device)
    }
}
