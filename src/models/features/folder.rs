//! A folder with one of these networks: `config.json` and `model.safetensors`.

use super::{
    InceptionV3Config, InceptionV3Features, Lpips, LpipsConfig, XrayDenseNet, XrayDenseNetConfig,
};
use crate::models::weights::file::{self, FileError, NonFinite};
use crate::models::weights::{StateDict, WeightsError, consume_state_dict};
use crate::models::{ConfigError, Init};
use crate::random::Stream;
use burn::module::Module;
use burn::tensor::Device;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where in `folder` the weights are.
pub fn weights_path(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}

impl XrayDenseNetConfig {
    /// The config in `folder`, which must also have weights; these are not read.
    pub fn from_folder(folder: &Path) -> Result<Self, FeaturesError> {
        config(folder, Self::from_json)
    }
}

impl XrayDenseNet {
    /// The network in `folder`, not learning.
    pub fn from_folder(folder: &Path, device: &Device) -> Result<Self, FeaturesError> {
        let config = XrayDenseNetConfig::from_folder(folder)?;
        load(folder, config.init(&mut undrawn(device)), |file| config.from_file(file))
    }
}

impl InceptionV3Config {
    /// The config in `folder`, which must also have weights; these are not read.
    pub fn from_folder(folder: &Path) -> Result<Self, FeaturesError> {
        config(folder, Self::from_json)
    }
}

impl InceptionV3Features {
    /// The network in `folder`, not learning.
    pub fn from_folder(folder: &Path, device: &Device) -> Result<Self, FeaturesError> {
        let config = InceptionV3Config::from_folder(folder)?;
        load(folder, config.init(&mut undrawn(device)), |file| config.from_file(file))
    }
}

impl LpipsConfig {
    /// The config in `folder`, which must also have weights; these are not read.
    pub fn from_folder(folder: &Path) -> Result<Self, FeaturesError> {
        config(folder, Self::from_json)
    }
}

impl Lpips {
    /// The network in `folder`, not learning; gradients reach its inputs.
    pub fn from_folder(folder: &Path, device: &Device) -> Result<Self, FeaturesError> {
        let config = LpipsConfig::from_folder(folder)?;
        load(folder, config.init(&mut undrawn(device)), |file| config.from_file(file))
    }
}

/// Why a folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// There is no such folder, or a file of it is not there.
    #[error("{} is missing; expected a folder with config.json and model.safetensors (docs/weights.md)", path.display())]
    Missing {
        /// The folder or file.
        path: PathBuf,
    },
    /// The config cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The config is of another network, or not of a possible one.
    #[error("cannot use {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// The weights cannot be read.
    #[error("cannot open {}", folder.display())]
    File {
        /// The folder.
        folder: PathBuf,
        /// Which file, and why.
        source: FileError,
    },
    /// The weights are not the network's.
    #[error("cannot use {}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Every tensor at fault.
        source: WeightsError,
    },
}

fn config<C>(
    folder: &Path,
    from_json: fn(&str) -> Result<C, ConfigError>,
) -> Result<C, FeaturesError> {
    let path = folder.join("config.json");
    for path in [folder, &path, &weights_path(folder)] {
        if !path.exists() {
            return Err(FeaturesError::Missing { path: path.into() });
        }
    }
    let json = fs::read_to_string(&path)
        .map_err(|source| FeaturesError::Read { path: path.clone(), source })?;
    from_json(&json).map_err(|source| FeaturesError::Config { path, source })
}

fn load<M: Module>(
    folder: &Path,
    network: M,
    from_file: impl FnOnce(StateDict) -> StateDict,
) -> Result<M, FeaturesError> {
    let path = weights_path(folder);
    let state = file::read(&path, NonFinite::Refuse)
        .map_err(|source| FeaturesError::File { folder: folder.into(), source })?;
    consume_state_dict(network.no_grad(), from_file(state))
        .map_err(|source| FeaturesError::Weights { path, source })
}

/// For parameters that are about to be loaded.
fn undrawn(device: &Device) -> Init {
    Init::new(Stream::new(0, "features"), device).deferred()
}
