//! Image encoders and what images go through before them, against transformers.
//!
//! Reference: tests/golden/models/encoders.py (versions and seed in its header).

use super::BF16;
use super::golden::{F32, Golden, assert_close};
use burn::tensor::Device;
use std::collections::BTreeMap;
use umbra::models::encoder::{
    Dinov3Config, Dropped, Flavor, ImageEncoder, ImageEncoderConfig, Preprocessing, Resample,
    VitConfig,
};
use umbra::models::weights::{gradients, num_parameters, shapes, state_dict};
use umbra::models::{Compute, Init};
use umbra::random::Stream;

const NAMES: [&str; 5] = ["dinov3", "dinov3_gated", "dinov3_biases", "dinov2_swiglu", "vit_pooler"];

fn config(golden: &Golden) -> ImageEncoderConfig {
    ImageEncoderConfig::from_transformers(&golden.config).unwrap()
}

fn load(golden: &Golden, device: &Device) -> ImageEncoder {
    config(golden).load(golden.weights.clone(), device).unwrap()
}

#[test]
fn encoders_match_transformers() {
    for name in NAMES {
        let golden = Golden::read(name);
        let encoder = load(&golden, &Device::flex());
        let tokens = encoder.forward(golden.tensor("pixel_values"));
        golden.assert_close("last_hidden_state", tokens.clone(), F32);
        golden.assert_close("pooler_output", encoder.pooled(&tokens).unwrap(), F32);
    }
}

#[test]
fn encoders_agree_in_bf16() {
    for name in NAMES {
        let golden = Golden::read(name);
        let encoder = load(&golden, &Device::flex()).with_compute(Compute::Bf16);
        let tokens = encoder.forward(golden.tensor("pixel_values"));
        golden.assert_near("last_hidden_state", tokens.clone(), BF16);
        golden.assert_near("pooler_output", encoder.pooled(&tokens).unwrap(), BF16);
    }
}

#[test]
fn gradients_of_dinov3_match_torch() {
    let device = Device::flex().autodiff();
    for name in ["dinov3", "dinov3_gated"] {
        let golden = Golden::read(name);
        let encoder = load(&golden, &device);
        let tokens = encoder.forward(golden.tensor_on("pixel_values", &device));
        let loss = (tokens - golden.tensor_on("target", &device)).square().mean();
        let found = gradients(&encoder, &loss.backward());
        let expected = golden
            .arrays
            .iter()
            .filter_map(|(name, data)| Some((name.strip_prefix("gradient/")?, data)))
            .collect::<BTreeMap<_, _>>();
        assert!(expected.len() >= 2);
        for (parameter, expected) in expected {
            assert_close(parameter, &found[parameter], expected, F32);
        }
    }
}

/// As a student of self-distillation sees: patches masked, branches left out, layer scale and gate.
#[test]
fn what_is_dropped_is_dropped_as_in_transformers() {
    let golden = Golden::read("dinov2_dropped");
    let run = |device: &Device| {
        let ImageEncoder::Vit(vit) = load(&golden, device) else { panic!() };
        let dropped = Dropped {
            patches: Some(golden.tensor_on("masks", device)),
            branches: Some(golden.tensor_on("branches", device)),
        };
        let tokens = vit.forward_without(golden.tensor_on("pixel_values", device), &dropped);
        (vit, tokens)
    };
    golden.assert_close("last_hidden_state", run(&Device::flex()).1, F32);
    let device = Device::flex().autodiff();
    let (vit, tokens) = run(&device);
    let loss = (tokens - golden.tensor_on("target", &device)).square().mean();
    let found = gradients(&vit, &loss.backward());
    let expected = golden
        .arrays
        .iter()
        .filter_map(|(name, data)| Some((name.strip_prefix("gradient/")?, data)));
    let expected: Vec<_> = expected.collect();
    assert_eq!(expected.len(), 5);
    for (parameter, expected) in expected {
        assert_close(parameter, &found[parameter], expected, F32);
    }
}

#[test]
fn every_parameter_learns() {
    let device = Device::flex().autodiff();
    for compute in [Compute::F32, Compute::Bf16] {
        for name in NAMES {
            let golden = Golden::read(name);
            let encoder = load(&golden, &device).with_compute(compute);
            let tokens = encoder.forward(golden.tensor_on("pixel_values", &device));
            let pooled = encoder.pooled(&tokens).unwrap().square().mean();
            let found = gradients(&encoder, &(tokens.square().mean() + pooled).backward());
            assert!(found.values().all(|data| data.iter::<f32>().all(f32::is_finite)), "{name}");
            // No patch is masked, so nothing reaches the token that would stand for it.
            let expected = shapes(&encoder).into_keys().filter(|name| !name.contains("mask_token"));
            assert_eq!(
                found.into_keys().collect::<Vec<_>>(),
                expected.collect::<Vec<_>>(),
                "{name}"
            );
        }
    }
}

#[test]
fn names_of_an_encoder_go_to_the_file_and_back() {
    for name in NAMES {
        let golden = Golden::read(name);
        let encoder = load(&golden, &Device::flex());
        assert_eq!(encoder.config().to_file(state_dict(&encoder)), golden.weights, "{name}");
    }
    // As transformers holds it in memory.
    let golden = Golden::read("dinov3");
    let inside = golden.weights.iter().map(|(name, data)| {
        let prefix = if name.starts_with("layer.") { "model." } else { "" };
        (format!("{prefix}{name}"), data.clone())
    });
    assert!(config(&golden).load(inside.collect(), &Device::flex()).is_ok());
}

#[test]
fn a_vit_without_a_pooler_has_no_pooled_output() {
    let golden = Golden::read("vit_pooler");
    let mut weights = golden.weights.clone();
    weights.retain(|name, _| !name.starts_with("pooler."));
    let encoder = config(&golden).load(weights, &Device::flex()).unwrap();
    let tokens = encoder.forward(golden.tensor("pixel_values"));
    golden.assert_close("last_hidden_state", tokens.clone(), F32);
    assert!(encoder.pooled(&tokens).is_none());
}

#[test]
fn a_dinov2_without_a_token_for_masks_is_the_same() {
    let golden = Golden::read("dinov2_swiglu");
    let mut weights = golden.weights.clone();
    weights.remove("embeddings.mask_token").unwrap();
    let encoder = config(&golden).load(weights, &Device::flex()).unwrap();
    let tokens = encoder.forward(golden.tensor("pixel_values"));
    golden.assert_close("last_hidden_state", tokens, F32);
}

#[test]
fn what_an_encoder_says_of_itself_is_so() {
    for name in NAMES {
        let golden = Golden::read(name);
        let encoder = load(&golden, &Device::flex());
        let pixels = golden.tensor::<4>("pixel_values");
        let [b, c, h, w] = pixels.dims();
        let config = encoder.config();
        assert_eq!(c, config.num_channels());
        let patch = encoder.patch_size();
        let patches = (h / patch) * (w / patch);
        let tokens = encoder.forward(pixels.clone()).dims();
        assert_eq!(tokens, [b, 1 + encoder.num_registers() + patches, encoder.hidden_size()]);
        let attention = encoder.class_attention(pixels);
        assert_eq!(attention.dims()[2], patches);
        let sums = attention.sum_dim(2).into_data();
        assert!(sums.iter::<f32>().all(|sum| sum > 0.0 && sum <= 1.0 + 1e-5), "{sums}");
        // The linear layers alone: two operations per weight and token.
        assert!(encoder.flops(h, w) > 2 * (tokens[1] * tokens[2] * tokens[2]) as u64);
    }
}

/// Of what its authors published, the fields that decide the network and its input.
#[test]
fn rad_dino_is_understood() {
    let json = r#"{
        "apply_layernorm": true, "architectures": ["Dinov2Model"], "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 768,
        "image_size": 518, "initializer_range": 0.02, "layer_norm_eps": 1e-06, "layerscale_value": 1.0,
        "mlp_ratio": 4, "model_type": "dinov2", "num_attention_heads": 12, "num_channels": 3,
        "num_hidden_layers": 12, "out_features": ["stage12"], "out_indices": [12], "patch_size": 14,
        "qkv_bias": true, "reshape_hidden_states": true, "torch_dtype": "float32", "use_swiglu_ffn": false
    }"#;
    let config = ImageEncoderConfig::from_transformers(json).unwrap();
    let expected = VitConfig {
        image_size: 518,
        patch_size: 14,
        hidden_size: 768,
        num_attention_heads: 12,
        intermediate_size: 3072,
        layer_scale: Some(1.0),
        mask_token: true,
        flavor: Flavor::Dinov2,
        ..VitConfig::default()
    };
    assert_eq!(config, ImageEncoderConfig::Vit(expected));
    let json = r#"{
        "crop_size": {"height": 518, "width": 518}, "do_center_crop": true, "do_convert_rgb": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5307, 0.5307, 0.5307],
        "image_processor_type": "BitImageProcessor", "image_std": [0.2583, 0.2583, 0.2583], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 518}
    }"#;
    let expected = Preprocessing {
        side: 518,
        mean: vec![0.5307; 3],
        std: vec![0.2583; 3],
        resample: Resample::Bicubic,
    };
    assert_eq!(Preprocessing::from_transformers(json, &config).unwrap(), expected);
}

/// Reference: the sums over the parameters of transformers' networks of these configs, built on its meta device.
#[test]
fn the_giants_come_out_at_their_published_sizes() {
    let count = |json: &str| {
        let config = ImageEncoderConfig::from_transformers(json).unwrap();
        let mut init = Init::new(Stream::new(1, "count"), &Device::flex()).deferred();
        num_parameters(&config.init(&mut init))
    };
    let giant = r#"{"model_type": "dinov2", "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24,
        "image_size": 518, "patch_size": 14, "layer_norm_eps": 1e-6, "use_swiglu_ffn": true}"#;
    assert_eq!(count(giant), 1_136_480_768);
    let largest = r#"{"model_type": "dinov3_vit", "hidden_size": 4096, "num_hidden_layers": 40,
        "num_attention_heads": 32, "intermediate_size": 8192, "use_gated_mlp": true, "hidden_act": "silu",
        "query_bias": false, "value_bias": false, "num_register_tokens": 4}"#;
    assert_eq!(count(largest), 6_716_035_072);
}

#[test]
fn preprocessing_matches_transformers() {
    let golden = Golden::read("preprocessing");
    let configs: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&golden.config).unwrap();
    let image: Vec<f32> = golden.arrays["image"].iter::<f32>().collect();
    let encoder = ImageEncoderConfig::Dinov3(Dinov3Config::default());
    for (name, side, largest) in [
        // One subtraction and one division, in f32 on both sides.
        ("same_size", 40, 1e-6),
        // The reference rounds to bytes after each of the two passes: half a level each, and its weights
        // are whole numbers too.
        ("smaller", 24, 1.5 / 255.0),
        ("cropped", 28, 1.5 / 255.0),
        ("larger", 49, 1.5 / 255.0),
        // Floats throughout.
        ("dinov3", 32, 1e-5),
    ] {
        let preprocessing =
            Preprocessing::from_transformers(&configs[name].to_string(), &encoder).unwrap();
        assert_eq!(preprocessing.side, side, "{name}");
        let found = preprocessing.apply([&image[..], &image[..]], 40, &Device::flex());
        assert_eq!(found.dims(), [2, 3, side, side]);
        let pixels = side * side;
        let found = found.into_data();
        let (found, expected) = (found.iter::<f32>(), golden.arrays[name].iter::<f32>());
        let expected: Vec<f32> = expected.collect();
        for (at, (found, expected)) in found.zip(expected.iter().cycle()).enumerate() {
            let difference = (found - expected).abs() * preprocessing.std[at / pixels % 3];
            assert!(difference < largest, "{name}: {difference} of the grey range at {at}");
        }
    }
}

#[test]
fn what_a_processor_says_is_read_in_every_form() {
    let dinov2 = VitConfig { flavor: Flavor::Dinov2, image_size: 518, ..VitConfig::default() };
    let dinov2 = ImageEncoderConfig::Vit(VitConfig { patch_size: 14, ..dinov2 });
    let read = |json: &str| Preprocessing::from_transformers(json, &dinov2);
    // As DINO v1's folders have it.
    let old = read(
        r#"{"do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2, "size": 224}"#,
    );
    let imagenet = Preprocessing {
        side: 224,
        resample: Resample::Bilinear,
        ..Preprocessing::default_for(&dinov2)
    };
    assert_eq!(old.unwrap(), imagenet);
    // As DINOv2's have it: the crop counts, unless there is none.
    let cropped = r#"{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224}"#;
    assert_eq!(read(&format!("{cropped}}}")).unwrap().side, 224);
    assert_eq!(read(&format!("{cropped}, \"do_center_crop\": false}}")).unwrap().side, 256);
    // Nothing said.
    assert_eq!(read("{}").unwrap(), Preprocessing::default_for(&dinov2));
    // Statistics of bytes become statistics of values in [0, 1].
    let bytes =
        read(r#"{"do_rescale": false, "image_mean": [51, 51, 51], "image_std": [255, 255, 255]}"#)
            .unwrap();
    assert_eq!((bytes.mean, bytes.std), (vec![0.2; 3], vec![1.0; 3]));
    let plain = read(r#"{"do_normalize": false}"#).unwrap();
    assert_eq!((plain.mean, plain.std), (vec![0.0; 3], vec![1.0; 3]));

    let refusal = |json: &str| read(json).unwrap_err().to_string();
    assert_eq!(
        refusal(r#"{"resample": 0}"#),
        "image preprocessing: the config file has resample 0, which is not supported; expected 1 (Lanczos), \
         2 (bilinear) or 3 (bicubic)"
    );
    assert!(
        refusal(r#"{"size": {"height": 224, "width": 192}}"#).contains("one side for both axes")
    );
    assert!(refusal(r#"{"size": 1000000000000}"#).contains("of 1 to 8192 pixels"));
    assert!(refusal(r#"{"image_std": [1, 0, 1]}"#).contains("expected positive numbers"));
    assert!(refusal(r#"{"image_mean": [0.5]}"#).contains("image_mean [0.5]"));
    assert!(refusal(r#"{"rescale_factor": 0, "image_std": [1, 1, 1]}"#).contains("image_std"));
}

#[test]
fn the_input_side_is_any_multiple_of_the_patch() {
    let encoder = ImageEncoderConfig::Dinov3(Dinov3Config::default());
    let preprocessing = Preprocessing::default_for(&encoder);
    assert_eq!(preprocessing.side, 224);
    assert_eq!(preprocessing.clone().with_side(64, 16).unwrap().side, 64);
    assert_eq!(
        preprocessing.with_side(100, 16).unwrap_err().to_string(),
        "image preprocessing: side is 100, which must be a positive multiple of patch_size (16)"
    );
}

#[test]
fn other_encoders_are_refused_by_name() {
    let refusal = |json: &str| ImageEncoderConfig::from_transformers(json).unwrap_err().to_string();
    assert_eq!(
        refusal(r#"{"model_type": "swin"}"#),
        "image encoder: the config file has model_type \"swin\", which is not supported; expected vit, dinov2, \
         dinov2_with_registers or dinov3_vit"
    );
    assert!(refusal("{}").contains("missing field `model_type`"));
    let golden = Golden::read("dinov2_swiglu");
    let giant = golden.config.replace("\"hidden_size\": 16", "\"hidden_size\": 16000000");
    assert!(refusal(&giant).contains("at most 1048576 is understood"));
}
