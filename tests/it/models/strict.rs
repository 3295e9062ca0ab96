//! Configs of other projects: what decides a network is read or refused by its name; what does not is passed over.

use serde_json::{Map, Value, json};
use umbra::interop::scheduler::SchedulerConfig;
use umbra::models::autoencoder::{AutoencoderKlConfig, AutoencoderTinyConfig};
use umbra::models::denoiser::{MmditConfig, UnetConfig};
use umbra::models::encoder::{Dinov3Config, ImageEncoderConfig, Preprocessing};
use umbra::models::features::{InceptionV3Config, LpipsConfig, XrayDenseNetConfig};
use umbra::models::text::{BertConfig, ClipTextConfig};

/// One kind of config file.
struct Family {
    name: &'static str,
    read: fn(&str) -> Result<(), String>,
    /// A file as the library writes it.
    written: Value,
    /// Fields that other versions write, and that change nothing.
    harmless: Value,
    /// Fields that do change the network, to one that is not built here.
    refused: Value,
}

fn outcome<T, E: ToString>(read: Result<T, E>) -> Result<(), String> {
    read.map(drop).map_err(|error| error.to_string())
}

/// What transformers 4 writes of every class, and what its oldest versions did.
fn notes() -> Value {
    // As text: too many fields for the macro.
    let written = r#"{
        "_name_or_path": "openai/clip", "_attn_implementation_autoset": true, "architectures": ["Model"],
        "auto_map": {"AutoModel": "a.B"}, "bad_words_ids": null, "bos_token_id": 0, "chunk_size_feed_forward": 0,
        "diversity_penalty": 0.0, "do_sample": false, "early_stopping": false, "eos_token_id": 2,
        "finetuning_task": null, "id2label": {"0": "LABEL_0"}, "is_decoder": false, "is_encoder_decoder": false,
        "add_cross_attention": false, "cross_attention_hidden_size": null, "initializer_factor": 1.0,
        "initializer_range": 0.02, "label2id": {"LABEL_0": 0}, "length_penalty": 1.0, "max_length": 20,
        "min_length": 0, "num_beams": 1, "output_attentions": false, "output_hidden_states": false,
        "pad_token_id": 1, "problem_type": null, "pruned_heads": {}, "repetition_penalty": 1.0,
        "return_dict": true, "temperature": 1.0, "tie_word_embeddings": true, "top_k": 50, "top_p": 1.0,
        "torch_dtype": "float32", "dtype": "float32", "torchscript": false, "transformers_version": "4.31.0",
        "typical_p": 1.0, "use_bfloat16": false, "use_cache": true, "gradient_checkpointing": false
    }"#;
    serde_json::from_str(written).unwrap()
}

/// `notes` with `more`.
fn notes_and(more: Value) -> Value {
    let mut all = notes();
    extend(&mut all, &more);
    all
}

fn extend(config: &mut Value, more: &Value) {
    let more: Map<String, Value> = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
}

/// A config of the networks that measure, as docs/weights.md says.
fn named(class: &str, config: impl serde::Serialize) -> Value {
    let mut written = serde_json::to_value(config).unwrap();
    extend(&mut written, &json!({ "_class_name": class }));
    written
}

fn families() -> Vec<Family> {
    let encoder = |json: &str| outcome(ImageEncoderConfig::from_transformers(json));
    let backbone = json!({
        "apply_layernorm": true, "reshape_hidden_states": true, "drop_path_rate": 0.1,
        "out_features": ["stage12"], "out_indices": [12], "stage_names": ["stem", "stage1"]
    });
    let sizes = json!({
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        "num_channels": 3, "layer_norm_eps": 1e-6, "hidden_act": "gelu", "qkv_bias": true
    });
    let vision = |own: Value| {
        let mut config = sizes.clone();
        extend(&mut config, &own);
        config
    };
    vec![
        Family {
            name: "ViT",
            read: encoder,
            written: vision(
                json!({"model_type": "vit", "intermediate_size": 64, "pooler_act": "tanh",
                "pooler_output_size": 32, "encoder_stride": 16}),
            ),
            harmless: notes_and(
                json!({"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
            ),
            refused: json!({"use_swiglu_ffn": true, "num_register_tokens": 4, "layerscale_value": 1.0,
                "hidden_act": "relu", "pooler_act": "relu", "pruned_heads": {"0": [1]}}),
        },
        Family {
            name: "DINOv2",
            read: encoder,
            written: vision(
                json!({"model_type": "dinov2", "mlp_ratio": 4, "layerscale_value": 1.0,
                "use_swiglu_ffn": false, "use_mask_token": true}),
            ),
            harmless: notes_and(backbone.clone()),
            refused: json!({"num_register_tokens": 4, "hidden_act": "silu", "quantization_config": {"bits": 4},
                "intermediate_size": 100}),
        },
        Family {
            name: "DINOv2 with registers",
            read: encoder,
            written: vision(
                json!({"model_type": "dinov2_with_registers", "num_register_tokens": 4}),
            ),
            harmless: notes_and(backbone.clone()),
            refused: json!({"hidden_act": "silu", "interpolate_antialias": true}),
        },
        Family {
            name: "DINOv3",
            read: |json| outcome(Dinov3Config::from_transformers(json)),
            written: json!({"model_type": "dinov3_vit", "hidden_size": 64, "num_attention_heads": 2,
                "rope_theta": 100.0, "pos_embed_shift": null, "pos_embed_jitter": null, "key_bias": false,
                "pos_embed_rescale": 2.0, "attention_dropout": 0.0, "hidden_act": "silu"}),
            harmless: notes_and(backbone),
            refused: json!({"hidden_act": "relu", "rope_scaling": {"type": "linear"},
                "model_type": "dinov3_convnext"}),
        },
        Family {
            name: "image processor",
            read: |json| {
                let encoder = ImageEncoderConfig::Dinov3(Dinov3Config::default());
                outcome(Preprocessing::from_transformers(json, &encoder))
            },
            written: json!({"image_processor_type": "BitImageProcessor", "do_center_crop": true,
                "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
                "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "resample": 3,
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392}),
            harmless: json!({"_processor_class": null, "processor_class": null, "default_to_square": true,
                "data_format": "channels_first", "device": null, "disable_grouping": null,
                "input_data_format": null, "return_tensors": null, "do_pad": false, "pad_size": null,
                "do_reduce_labels": false, "image_processor_type": "DINOv3ViTImageProcessorFast"}),
            refused: json!({"do_resize": false, "do_pad": true, "size_divisor": 32,
                "do_flip_channel_order": true, "image_processor_type": "ConvNextImageProcessor"}),
        },
        Family {
            name: "CLIP",
            read: |json| outcome(ClipTextConfig::from_transformers(json)),
            written: json!({"model_type": "clip_text_model", "hidden_size": 64, "num_attention_heads": 2,
                "hidden_act": "quick_gelu", "attention_dropout": 0.0, "projection_dim": 32, "dropout": 0.0}),
            harmless: notes(),
            refused: json!({"hidden_act": "silu", "use_attention_mask": true, "is_decoder": true}),
        },
        Family {
            name: "whole CLIP",
            read: |json| outcome(ClipTextConfig::from_transformers(json)),
            written: json!({"model_type": "clip", "projection_dim": 32, "logit_scale_init_value": 2.6,
                "vision_config": {"anything": 1}, "vision_config_dict": null, "text_config_dict": null,
                "text_config": notes_and(json!({"hidden_size": 64, "num_attention_heads": 2,
                    "model_type": "clip_text_model"}))}),
            harmless: notes(),
            refused: json!({"text_config": {"hidden_act": "silu"}, "text_config_dict": {"hidden_act": "silu"}}),
        },
        Family {
            name: "BERT",
            read: |json| outcome(BertConfig::from_transformers(json)),
            written: json!({"model_type": "bert", "position_embedding_type": "absolute",
                "classifier_dropout": null, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
            harmless: notes_and(
                json!({"model_type": "cxr-bert", "projection_size": 128, "directionality": "bidi",
                "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
                "pooler_size_per_head": 128, "pooler_type": "first_token_transform"}),
            ),
            refused: json!({"position_embedding_type": "relative_key", "is_decoder": true,
                "add_cross_attention": true, "hidden_act": "swish", "embedding_size": 128,
                "is_encoder_decoder": true}),
        },
        Family {
            name: "U-Net",
            read: |json| outcome(UnetConfig::from_diffusers(json)),
            written: serde_json::from_str(&super::Golden::read("unet").config).unwrap(),
            harmless: json!({"_diffusers_version": "0.30.0", "sample_size": 32}),
            refused: json!({"time_embedding_type": "fourier", "dual_cross_attention": true}),
        },
        Family {
            name: "transformer",
            read: |json| outcome(MmditConfig::from_diffusers(json)),
            written: serde_json::from_str(&super::Golden::read("mmdit").config).unwrap(),
            harmless: json!({"_diffusers_version": "0.29.0.dev0", "sample_size": 32}),
            refused: json!({"dual_attention_layers": [0], "qk_norm": "layer_norm", "pos_embed_max_size": null}),
        },
        Family {
            name: "AutoencoderKL",
            read: |json| outcome(AutoencoderKlConfig::from_diffusers(json)),
            written: serde_json::from_str(&super::Golden::read("autoencoder").config).unwrap(),
            harmless: json!({"_diffusers_version": "0.30.0", "sample_size": 32, "force_upcast": true}),
            refused: json!({"act_fn": "gelu"}),
        },
        Family {
            name: "AutoencoderTiny",
            read: |json| outcome(AutoencoderTinyConfig::from_diffusers(json)),
            written: serde_json::from_str(&super::Golden::read("tiny").config).unwrap(),
            harmless: json!({"_diffusers_version": "0.30.0"}),
            refused: json!({"act_fn": "tanh"}),
        },
        Family {
            name: "scheduler",
            read: |json| outcome(SchedulerConfig::from_diffusers(json)),
            written: json!({"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false}),
            harmless: json!({"_diffusers_version": "0.6.0", "skip_prk_steps": true, "solver_order": 2,
                "use_karras_sigmas": true, "sigma_schedule": "karras"}),
            refused: json!({"thresholding": true, "prediction_type": "flow_prediction"}),
        },
        Family {
            name: "XRV DenseNet",
            read: |json| outcome(XrayDenseNetConfig::from_json(json)),
            written: named("XrayDenseNet", XrayDenseNetConfig::default()),
            harmless: json!({}),
            refused: json!({}),
        },
        Family {
            name: "Inception",
            read: |json| outcome(InceptionV3Config::from_json(json)),
            written: named("InceptionV3Features", InceptionV3Config::default()),
            harmless: json!({}),
            refused: json!({}),
        },
        Family {
            name: "LPIPS",
            read: |json| outcome(LpipsConfig::from_json(json)),
            written: named("Lpips", LpipsConfig::default()),
            harmless: json!({}),
            refused: json!({}),
        },
    ]
}

#[test]
fn a_field_nobody_knows_is_refused_by_name_in_every_family() {
    for Family { name, read, written, harmless, refused } in families() {
        let with = |more: &Value| {
            let mut config = written.clone();
            extend(&mut config, more);
            read(&config.to_string())
        };
        assert_eq!(with(&json!({})), Ok(()), "{name}");
        assert_eq!(with(&harmless), Ok(()), "{name}");
        for value in [json!(true), json!(false), json!(3), json!("text"), json!({"a": 1})] {
            let error = with(&json!({ "flux_capacitor": value })).unwrap_err();
            assert!(error.contains("flux_capacitor"), "{name}: {error}");
            assert!(!error.contains('\n'), "{name}: {error}");
        }
        for (field, value) in refused.as_object().unwrap() {
            let error = with(&json!({ field: value })).unwrap_err();
            let inner = value.as_object().and_then(|value| value.keys().next());
            let named = [Some(field), inner].into_iter().flatten().any(|name| error.contains(name));
            assert!(named, "{name}: {field}: {error}");
        }
    }
}

/// A made-up field inside the text half of a whole CLIP is one too.
#[test]
fn the_text_half_is_read_as_strictly_as_the_whole() {
    let whole = json!({"model_type": "clip", "text_config": {"flux_capacitor": 1}});
    let error = ClipTextConfig::from_transformers(&whole.to_string()).unwrap_err().to_string();
    assert!(error.contains("flux_capacitor 1, which is not supported"), "{error}");
}

#[test]
fn what_cannot_be_read_is_named_too() {
    let error = Dinov3Config::from_transformers(r#"{"hidden_size": "wide"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "DINOv3 vision transformer: the config file cannot be read: hidden_size: invalid type: string \"wide\", \
         expected usize"
    );
}
