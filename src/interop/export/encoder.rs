//! The encoder in transformers' layout: `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.

use super::{ExportError, Part};
use crate::models::encoder::{Flavor, Preprocessing, Resample, VitConfig, gated_width};
use crate::models::weights::StateDict;
use burn::tensor::TensorData;
use serde_json::{Value, json};

/// Which class of transformers has the network's parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Vit,
    Dinov2,
    /// A network with registers is always written as this, for `ViTModel` has none.
    Dinov2WithRegisters,
}

fn class(config: &VitConfig) -> Class {
    // `ViTModel` has neither layer scale nor gate.
    let is_plain = config.layer_scale.is_none() && !config.use_swiglu_ffn;
    match (config.num_register_tokens, config.flavor) {
        (0, Flavor::Vit) if is_plain => Class::Vit,
        (0, _) => Class::Dinov2,
        _ => Class::Dinov2WithRegisters,
    }
}

/// The `config.json` of an encoder that was trained or given.
pub(super) fn described(encoder: &Part<VitConfig>) -> Result<Value, ExportError> {
    match encoder {
        Part::Trained(network) => config(&network.config),
        Part::Given(folder) => {
            let read = serde_json::from_str(&folder.config);
            let mut written: Value =
                read.map_err(|error| ExportError::NoEncoder { what: error.to_string() })?;
            if written["architectures"][0].is_null() {
                // What transformers calls the models of the types that are opened here.
                written["architectures"] = json!([match written["model_type"].as_str() {
                    Some("vit") => "ViTModel",
                    Some("dinov2") => "Dinov2Model",
                    Some("dinov2_with_registers") => "Dinov2WithRegistersModel",
                    _ => "DINOv3ViTModel",
                }]);
            }
            Ok(written)
        }
    }
}

/// The `config.json` of one that was trained here.
pub(super) fn config(config: &VitConfig) -> Result<Value, ExportError> {
    let mut written = json!({
        "hidden_act": "gelu",
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.num_channels,
        "qkv_bias": config.qkv_bias,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
    });
    let own = match class(config) {
        Class::Vit => json!({
            "architectures": ["ViTModel"],
            "model_type": "vit",
            "intermediate_size": config.intermediate_size,
            // With the pooler in `weights`: the pooled output is the class token.
            "pooler_act": "linear",
        }),
        Class::Dinov2 => json!({
            "architectures": ["Dinov2Model"],
            "model_type": "dinov2",
            "mlp_ratio": mlp_ratio(config)?,
            "layerscale_value": config.layer_scale.unwrap_or(1.0),
            "use_mask_token": config.mask_token,
            "use_swiglu_ffn": config.use_swiglu_ffn,
        }),
        Class::Dinov2WithRegisters => json!({
            "architectures": ["Dinov2WithRegistersModel"],
            "model_type": "dinov2_with_registers",
            "mlp_ratio": mlp_ratio(config)?,
            "layerscale_value": config.layer_scale.unwrap_or(1.0),
            "num_register_tokens": config.num_register_tokens,
            "use_swiglu_ffn": config.use_swiglu_ffn,
        }),
    };
    if let (Value::Object(written), Value::Object(own)) = (&mut written, own) {
        written.extend(own);
    }
    Ok(written)
}

/// DINOv2's config knows the width inside the feed-forward part, or that of one without a gate, as a whole multiple only.
fn mlp_ratio(config: &VitConfig) -> Result<usize, ExportError> {
    let VitConfig { intermediate_size, hidden_size, use_swiglu_ffn, .. } = *config;
    let width = |ratio: usize| match use_swiglu_ffn {
        true => gated_width(ratio * hidden_size),
        false => ratio * hidden_size,
    };
    // Widths grow with the ratio, at least by two thirds of a multiple.
    let most = 2 * intermediate_size / hidden_size.max(1) + 1;
    if let Some(ratio) = (1..=most).find(|&ratio| width(ratio) == intermediate_size) {
        return Ok(ratio);
    }
    let what = format!(
        "its intermediate_size {intermediate_size} is no whole multiple of its hidden_size {hidden_size}"
    );
    Err(ExportError::NoEncoder { what })
}

/// The weights under transformers' names, with what its classes have and the network has not: layer scales
/// of one, a mask token that nothing uses, a pooler that hands on the class token.
pub(super) fn weights(config: &VitConfig, state: StateDict) -> StateDict {
    let width = config.hidden_size;
    let class = class(config);
    if class == Class::Vit {
        let mut file = config.to_file(state);
        file.remove(VitConfig::MASK_TOKEN);
        let identity = (0..width * width).map(|at| if at % (width + 1) == 0 { 1.0 } else { 0.0 });
        file.insert("pooler.dense.weight".into(), data(identity.collect(), &[width, width]));
        file.insert("pooler.dense.bias".into(), data(vec![0.0; width], &[width]));
        return file;
    }
    // In memory the names are DINOv2's.
    let mut file = state;
    for layer in 0..config.num_hidden_layers {
        for scale in ["layer_scale1", "layer_scale2"] {
            file.entry(format!("encoder.layer.{layer}.{scale}.lambda1"))
                .or_insert_with(|| data(vec![1.0; width], &[width]));
        }
    }
    if class == Class::Dinov2WithRegisters {
        file.entry(VitConfig::MASK_TOKEN.into())
            .or_insert_with(|| data(vec![0.0; width], &[1, width]));
    }
    file
}

/// The `preprocessor_config.json`: the run's size and normalisation.
///
/// Its resize stretches where umbra pads; sample.py does as umbra does.
pub(super) fn preprocessor(input: &Preprocessing) -> Value {
    let Preprocessing { side, mean, std, resample } = input;
    json!({
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": mean.len() != 1,
        "do_resize": true,
        "size": { "height": side, "width": side },
        "resample": match resample {
            Resample::Lanczos => 1,
            Resample::Bilinear => 2,
            Resample::Bicubic => 3,
        },
        "do_center_crop": false,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
    })
}

fn data(values: Vec<f32>, shape: &[usize]) -> TensorData {
    TensorData::new(values, shape.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::encoder::trained_input;
    use crate::models::weights::{load_state_dict, state_dict};
    use crate::models::{Fill, Init};
    use crate::random::Stream;
    use burn::tensor::{Device, Tensor};

    fn small(num_register_tokens: usize, flavor: Flavor) -> VitConfig {
        VitConfig {
            image_size: 8,
            patch_size: 4,
            num_channels: 1,
            hidden_size: 8,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 32,
            num_register_tokens,
            layer_scale: (flavor == Flavor::Dinov2).then_some(0.5),
            flavor,
            ..VitConfig::default()
        }
    }

    fn init() -> Init {
        Init::new(Stream::new(1, "export"), &Device::flex())
    }

    /// Read back as any file of transformers is, the network says the same.
    #[test]
    fn what_is_written_is_the_same_network() {
        let cases = [(0, Flavor::Vit), (3, Flavor::Vit), (0, Flavor::Dinov2), (2, Flavor::Dinov2)];
        let plain = cases.map(|(registers, flavor)| small(registers, flavor));
        let layer_scale = plain.clone().map(|it| VitConfig { layer_scale: Some(0.1), ..it });
        let gated = plain.clone().map(|it| VitConfig {
            use_swiglu_ffn: true,
            intermediate_size: gated_width(4 * it.hidden_size),
            ..it
        });
        let masked = plain.clone().map(|it| VitConfig { mask_token: true, ..it });
        for given in [plain, layer_scale, gated, masked].concat() {
            let vit = given.init(&mut init());
            let read = VitConfig::from_transformers(&config(&given).unwrap().to_string()).unwrap();
            assert_eq!(read.use_swiglu_ffn, given.use_swiglu_ffn);
            let file = weights(&given, state_dict(&vit));
            let read = read.with_parts_of(&file);
            let again = load_state_dict(read.init(&mut init()), &read.from_file(file)).unwrap();
            // Another size than the position embeddings are for.
            let pixels = init().param([2, 1, 12, 16], Fill::Normal(1.0)).val();
            let (expected, found) = (vit.forward(pixels.clone()), again.forward(pixels));
            assert_eq!(found.into_data(), expected.into_data(), "{given:?}");
        }
    }

    #[test]
    fn a_width_that_dinov2_cannot_say_is_refused() {
        let odd = VitConfig { intermediate_size: 20, ..small(1, Flavor::Vit) };
        let error = config(&odd).unwrap_err().to_string();
        assert!(error.contains("20") && error.contains('8'), "{error}");
        assert!(config(&VitConfig { num_register_tokens: 0, ..odd }).is_ok());
    }

    #[test]
    fn the_normalisation_is_the_encoders_own() {
        let written = preprocessor(&trained_input(64));
        let number = |name: &str| written[name][0].as_f64().unwrap() as f32;
        let (mean, std) = (number("image_mean"), number("image_std"));
        let pixels = Tensor::<4>::from_data(
            TensorData::new(vec![mean, mean + std], [1, 1, 1, 2]),
            &Device::flex(),
        );
        let seen = trained_input(64).normalise(pixels).into_data();
        assert_eq!(seen.try_into_vec::<f32>().unwrap(), [0.0, 1.0]);
        assert_eq!(written["size"], json!({ "height": 64, "width": 64 }));
    }
}
