//! What a DenseNet for radiographs is built from.

use super::{parse, without_counters};
use crate::models::weights::StateDict;
use crate::models::{ConfigError, check_positive};
use serde::{Deserialize, Serialize};

const NETWORK: &str = "DenseNet";

/// Sizes of a DenseNet (Huang et al. 2017), in TorchXRayVision's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XrayDenseNetConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Channels that a layer adds.
    pub growth_rate: usize,
    /// Layers of each block; between blocks channels and sides are halved.
    pub block_config: Vec<usize>,
    /// Channels before the first block.
    pub num_init_features: usize,
    /// Channels inside a layer, in growth rates.
    pub bn_size: usize,
    /// Findings that are told.
    pub num_classes: usize,
    /// The probability of each finding that counts as one half; null where none was determined.
    pub op_threshs: Option<Vec<Option<f32>>>,
}

impl Default for XrayDenseNetConfig {
    /// DenseNet-121 for one grey channel and 18 findings.
    fn default() -> Self {
        Self {
            in_channels: 1,
            growth_rate: 32,
            block_config: vec![6, 12, 24, 16],
            num_init_features: 64,
            bn_size: 4,
            num_classes: 18,
            op_threshs: None,
        }
    }
}

impl XrayDenseNetConfig {
    /// Reads a folder's `config.json`.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let config: Self = parse(NETWORK, "XrayDenseNet", json)?;
        config.check()?;
        Ok(config)
    }

    /// Fails where [`init`](Self::init) could not build.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("in_channels", self.in_channels),
            ("growth_rate", self.growth_rate),
            ("number of block_config", self.block_config.len()),
            ("num_init_features", self.num_init_features),
            ("bn_size", self.bn_size),
            ("num_classes", self.num_classes),
        ];
        check_positive(NETWORK, &sizes)?;
        let layers: Vec<_> = self.block_config.iter().map(|&it| ("block_config", it)).collect();
        check_positive(NETWORK, &layers)?;
        let refuse =
            |what, expected| Err(ConfigError::Foreign { network: NETWORK, what, expected });
        if let Some(thresholds) = &self.op_threshs {
            if thresholds.len() != self.num_classes {
                let (found, classes) = (thresholds.len(), self.num_classes);
                let what = format!("op_threshs of {found} numbers and num_classes {classes}");
                return refuse(what, "a threshold for each class");
            }
            let is_probability = |threshold: &&f32| **threshold > 0.0 && **threshold < 1.0;
            if let Some(other) = thresholds.iter().flatten().find(|it| !is_probability(it)) {
                return refuse(
                    format!("{other} in op_threshs"),
                    "numbers between 0 and 1, or null",
                );
            }
        }
        Ok(())
    }

    /// Layers with weights, norms not counted: 121 in DenseNet-121.
    pub fn num_layers(&self) -> usize {
        // Two convolutions per layer, the first, one between blocks, and the classifier.
        2 * self.block_config.iter().sum::<usize>() + self.block_config.len() + 1
    }

    /// Channels of the features.
    pub fn num_features(&self) -> usize {
        let (last, before) =
            self.block_config.split_last().expect("a checked config has at least one block");
        let grown = |channels, layers| channels + layers * self.growth_rate;
        let entering =
            before.iter().fold(self.num_init_features, |channels, &it| grown(channels, it) / 2);
        grown(entering, *last)
    }

    /// The tensors of `xrv.models.DenseNet`'s state dict under the names of this one: `denseblock1.denselayer2`
    /// is `denseblock.0.denselayer.1` here. Batch counters are dropped, and thresholds if the config has them;
    /// where it has none they stay, and loading names them.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        without_counters(file)
            .filter(|(name, _)| name != "op_threshs" || self.op_threshs.is_none())
            .map(|(name, data)| (name.split('.').map(from_one).collect::<Vec<_>>().join("."), data))
            .collect()
    }
}

/// `denselayer2` as `denselayer.1`; other words as they are.
fn from_one(word: &str) -> String {
    let numbered = ["denseblock", "denselayer", "transition"].into_iter().find_map(|kind| {
        let number: usize = word.strip_prefix(kind)?.parse().ok()?;
        Some(format!("{kind}.{}", number.checked_sub(1)?))
    });
    numbered.unwrap_or_else(|| word.to_owned())
}
