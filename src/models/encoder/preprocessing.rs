//! What an image goes through before an encoder that was trained elsewhere sees it.

use super::{Flavor, ImageEncoderConfig};
use crate::data::image;
use crate::models::foreign::Foreign;
use crate::models::weights::folder::{self, FolderError, ModelFolder};
use crate::models::{ConfigError, check_multiple};
use burn::tensor::{Device, Tensor, TensorData};
use fast_image_resize as fir;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const NETWORK: &str = "image preprocessing";
/// How the names of the image processors start that do what is done here.
const PROCESSORS: [&str; 4] = ["ViT", "Bit", "CLIP", "DINOv3ViT"];
/// How a processor takes and gives arrays; images here have one channel, and their own classes.
const OF_ARRAYS: [&str; 10] = [
    "auto_map",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "do_reduce_labels",
    "input_data_format",
    "processor_class",
    "return_tensors",
];
/// Largest side that a file may ask for, in pixels.
const MAX_SIDE: u64 = 1 << 13;
/// Of ImageNet's images, per channel: what DINO v1, DINOv2 and DINOv3 were trained with.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Side and statistics of what an encoder was trained on.
///
/// Images are squares already, padded to the whole radiograph. They are resized to what the network was shown,
/// which is the crop where its training cropped: nothing is cropped here and nothing is stretched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Columns and rows of what the network is given, in pixels.
    pub side: usize,
    /// Per channel, subtracted from values in [0, 1].
    pub mean: Vec<f32>,
    /// Per channel, what the difference is divided by.
    pub std: Vec<f32>,
    /// How an image of another size is resized.
    pub resample: Resample,
}

/// A filter of the resize, always widened where the image shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resample {
    /// A triangle: Pillow's number 2.
    Bilinear,
    /// A cubic with a = -0.5: Pillow's number 3.
    Bicubic,
    /// Lanczos over three lobes: Pillow's number 1.
    Lanczos,
}

impl Preprocessing {
    /// Where the folder has no `preprocessor_config.json`: the side that `encoder` was built for, with ImageNet's
    /// statistics for DINOv2 and DINOv3, and for `ViTModel`s (DINO v1's folders bring their own) transformers'
    /// 0.5 and 0.5, as for anything with a number of channels other than three.
    pub fn default_for(encoder: &ImageEncoderConfig) -> Self {
        let num_channels = encoder.num_channels();
        let (is_imagenet, resample) = match encoder {
            ImageEncoderConfig::Vit(vit) if vit.flavor == Flavor::Vit => {
                (false, Resample::Bilinear)
            }
            ImageEncoderConfig::Vit(_) => (true, Resample::Bicubic),
            ImageEncoderConfig::Dinov3(_) => (true, Resample::Bilinear),
        };
        let (mean, std) = if is_imagenet && num_channels == 3 {
            (IMAGENET_MEAN.to_vec(), IMAGENET_STD.to_vec())
        } else {
            (vec![0.5; num_channels], vec![0.5; num_channels])
        };
        Self { side: encoder.image_size(), mean, std, resample }
    }

    /// What the `preprocessor_config.json` in `folder` says; where there is none, [`default_for`](Self::default_for).
    pub fn of_folder(
        folder: &ModelFolder,
        encoder: &ImageEncoderConfig,
    ) -> Result<Self, FolderError> {
        const FILE: &str = "preprocessor_config.json";
        let path = folder.path.join(FILE);
        if !path.is_file() {
            return Ok(Self::default_for(encoder));
        }
        let text = folder::read_config(&folder.path, FILE)?;
        Self::from_transformers(&text, encoder)
            .map_err(|source| FolderError::Config { path, source })
    }

    /// Reads the `preprocessor_config.json` of transformers' image processors for `ViTModel`, DINOv2 and DINOv3.
    /// What is absent there is as in [`default_for`](Self::default_for).
    ///
    /// Fails on sides that are not equal, statistics that do not fit the channels of `encoder`, and other filters.
    pub fn from_transformers(
        json: &str,
        encoder: &ImageEncoderConfig,
    ) -> Result<Self, ConfigError> {
        let mut fields = Foreign::parse(NETWORK, json)?;
        let older: Option<String> = fields.take("feature_extractor_type", None)?;
        let class = fields.take::<Option<String>>("image_processor_type", None)?.or(older);
        let is_known = |name: &String| PROCESSORS.iter().any(|start| name.starts_with(start));
        if let Some(other) = class.as_ref().filter(|name| !is_known(name)) {
            let expected = "that of a ViT, Bit, CLIP or DINOv3ViT image processor";
            return fields.refuse("image_processor_type", &other.as_str().into(), expected);
        }
        let foreign: Transformers = fields.take_each()?;
        let is_resized = |value: &Value| *value == Value::Bool(true);
        fields.confine("do_resize", is_resized, "true, for images of any size")?;
        for name in ["do_pad", "do_flip_channel_order"] {
            fields.confine_to_false(name)?;
        }
        fields.pass_over(&OF_ARRAYS);
        fields.finish()?;
        let default = Self::default_for(encoder);
        let is_cropped = foreign.do_center_crop.unwrap_or_else(|| {
            // Those that crop unless told otherwise.
            let crops = |name: &str| name.starts_with("Bit") || name.starts_with("CLIP");
            class.as_deref().is_some_and(crops)
        });
        let crop = foreign.crop_size.filter(|_| is_cropped).map(|size| ("crop_size", size));
        let side = match crop.or_else(|| foreign.size.map(|size| ("size", size))) {
            Some((what, size)) => side(what, &size)?,
            None => default.side,
        };
        let resample = match foreign.resample {
            None => default.resample,
            Some(1) => Resample::Lanczos,
            Some(2) => Resample::Bilinear,
            Some(3) => Resample::Bicubic,
            Some(other) => {
                let what = format!("resample {other}");
                return refuse(what, "1 (Lanczos), 2 (bilinear) or 3 (bicubic)");
            }
        };
        // In the reference, statistics are of bytes times the factor; here, of bytes over 255.
        let factor = match foreign.do_rescale.unwrap_or(true) {
            true => foreign.rescale_factor.unwrap_or(1.0 / 255.0),
            false => 1.0,
        };
        let scale = 255.0 * factor;
        let num_channels = encoder.num_channels();
        let is_normalised = foreign.do_normalize.unwrap_or(true);
        let statistics = |what: &str, given: Option<Vec<f64>>, default: Vec<f32>, without: f64| {
            let values = match (is_normalised, given) {
                (false, _) => vec![without; num_channels],
                (true, None) => return Ok(default),
                (true, Some(values)) => values,
            };
            let scaled = values.iter().map(|value| (value / scale) as f32).collect::<Vec<_>>();
            if scaled.len() == num_channels && scaled.iter().all(|value| value.is_finite()) {
                return Ok(scaled);
            }
            let what = format!("{what} {values:?}, rescale_factor {factor}");
            refuse(what, "a finite number for each channel of the network")
        };
        let mean = statistics("image_mean", foreign.image_mean, default.mean, 0.0)?;
        let std = statistics("image_std", foreign.image_std, default.std, 1.0)?;
        if std.iter().any(|std| *std <= 0.0) {
            return refuse(format!("an image_std of {std:?} after rescaling"), "positive numbers");
        }
        Ok(Self { side, mean, std, resample })
    }

    /// The same for another side, a multiple of `patch_size`.
    pub fn with_side(mut self, side: usize, patch_size: usize) -> Result<Self, ConfigError> {
        check_multiple(NETWORK, ("side", side), ("patch_size", patch_size))?;
        self.side = side;
        Ok(self)
    }

    /// Square grey images of `size` × `size` values in [0, 1] to what the network is given: [B, C, side, side].
    ///
    /// Resized on the host, with what the filter overshoots cut off; then every channel is the same image under
    /// its own mean and standard deviation.
    pub fn apply<'a>(
        &self,
        images: impl IntoIterator<Item = &'a [f32]>,
        size: usize,
        device: &Device,
    ) -> Tensor<4> {
        let Self { side, mean, std, .. } = self;
        let mut values = Vec::new();
        for image in images {
            let resized = (size != *side).then(|| self.resize(image, size));
            let image = resized.as_deref().unwrap_or(image);
            for (mean, std) in mean.iter().zip(std) {
                values.extend(image.iter().map(|value| (value - mean) / std));
            }
        }
        let shape = [values.len() / (mean.len() * side * side), mean.len(), *side, *side];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Grey `images` [B, 1, H, W] in [0, 1], of any size, under each channel's mean and standard deviation:
    /// [B, C, H, W]. What [`apply`](Self::apply) does after the resize, on the images' device.
    pub fn normalise(&self, images: Tensor<4>) -> Tensor<4> {
        let statistics = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, values.len(), 1, 1]);
            Tensor::<4>::from_data(data, &images.device())
        };
        (images.clone() - statistics(&self.mean)) / statistics(&self.std)
    }

    fn resize(&self, image: &[f32], size: usize) -> Vec<f32> {
        let filter = match self.resample {
            Resample::Bilinear => fir::FilterType::Bilinear,
            Resample::Bicubic => fir::FilterType::CatmullRom,
            Resample::Lanczos => fir::FilterType::Lanczos3,
        };
        let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(filter));
        let pass = |image: &[f32], from: [usize; 2], to: [usize; 2]| {
            let mut passed = image::resample(image, from, to, &options);
            passed.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
            passed
        };
        // One axis at a time: the references hold bytes in between, which cuts off what the filter overshoots.
        let across = pass(image, [size; 2], [self.side, size]);
        pass(&across, [self.side, size], [self.side; 2])
    }
}

/// The fields of a transformers image processor that decide what the network sees.
#[derive(Default, Serialize, Deserialize)]
struct Transformers {
    size: Option<Value>,
    crop_size: Option<Value>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    resample: Option<u64>,
}

/// A size as transformers has written it over the years: 224, {"height": 224, "width": 224} or
/// {"`shortest_edge`": 224}, which of a square is every edge.
fn side(what: &str, size: &Value) -> Result<usize, ConfigError> {
    let edge = |name: &str| size.get(name).and_then(Value::as_u64);
    let side = match (edge("height"), edge("width")) {
        (Some(height), Some(width)) => Some(height).filter(|_| height == width),
        _ => size.as_u64().or_else(|| edge("shortest_edge")),
    };
    match side.filter(|side| (1..=MAX_SIDE).contains(side)) {
        Some(side) => Ok(side as usize),
        None => refuse(format!("{what} {size}"), "one side for both axes, of 1 to 8192 pixels"),
    }
}

fn refuse<T>(what: String, expected: &'static str) -> Result<T, ConfigError> {
    Err(ConfigError::Foreign { network: NETWORK, what, expected })
}
