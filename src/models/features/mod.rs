//! The fixed networks by which the field measures images: what makes the features of Fréchet and kernel
//! distances, and a distance between two images that follows the eye. None of them is trained here.
//!
//! None has a Hugging Face layout either, so a folder holds `model.safetensors` with the tensors of the state
//! dict and a `config.json` whose `_class_name` is [`XrayDenseNet`], [`InceptionV3Features`] or [`Lpips`];
//! docs/weights.md has the scripts that write both.

mod densenet;
mod densenet_config;
mod folder;
mod inception;
mod inception_blocks;
mod lpips;
mod resize;

pub use densenet::{XrayDenseNet, XrayDenseNetOutput};
pub use densenet_config::XrayDenseNetConfig;
pub use inception::{InceptionV3Config, InceptionV3Features, Resizing};
pub use lpips::{Lpips, LpipsConfig};

use super::layers::Conv2d;
use super::weights::StateDict;
use super::{ConfigError, Init};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, TensorData};
use serde::de::DeserializeOwned;

/// The fields of a `config.json` beside its `_class_name`, which must be `class`.
fn parse<T: DeserializeOwned>(
    network: &'static str,
    class: &'static str,
    json: &str,
) -> Result<T, ConfigError> {
    let fault = |why: String| ConfigError::Parse { network, why };
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|error| fault(error.to_string()))?;
    match fields.remove("_class_name") {
        Some(found) if found == class => {}
        None => return Err(fault(format!("_class_name is missing; expected \"{class}\""))),
        Some(found) => {
            let what = format!("_class_name {found}");
            return Err(ConfigError::Foreign { network, what, expected: class });
        }
    }
    serde_json::from_value(fields.into()).map_err(|error| fault(error.to_string()))
}

/// `file` without what only training needs: how many batches a norm has seen.
fn without_counters(file: StateDict) -> impl Iterator<Item = (String, TensorData)> {
    file.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked"))
}

/// A square convolution without bias that keeps the size.
fn plain_conv(init: &mut Init, num_in: usize, num_out: usize, kernel: usize) -> Conv2d {
    Conv2d { bias: None, ..Conv2d::new(init, num_in, num_out, kernel) }
}

/// The largest value under a 3×3 window; what is padded never is.
fn max_pool(x: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    let options = MaxPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding([padding; 2]);
    max_pool2d(x, options)
}

/// [B, C, H, W] to the mean over each channel's pixels, [B, C].
fn spatial_mean(x: Tensor<4>) -> Tensor<2> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h * w]).mean_dim(2).reshape([b, c])
}
