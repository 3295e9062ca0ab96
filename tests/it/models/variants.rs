//! Variants of autoencoder and U-Net against diffusers, and which configs are read, written and refused.
//!
//! Reference: tests/golden/models/variants.py (versions and seed in its header).

use super::golden::{F32, Golden};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use umbra::models::autoencoder::{
    Activation, Autoencoder, AutoencoderConfig, AutoencoderKlConfig, AutoencoderTinyConfig,
    PooledBlocks,
};
use umbra::models::denoiser::{
    Added, AddedError, ClassEmbedding, MidBlockKind, TextTime, TimeScaleShift, Unet, UnetConfig,
};
use umbra::models::weights::{gradients, load_state_dict, num_parameters, shapes};
use umbra::models::{Compute, Init};
use umbra::random::Stream;

/// bfloat16 keeps 8 bits: 0.4 % per rounding. diffusers itself, in bfloat16, is 1.0 to 1.8 % off on these.
const BF16: f64 = 4e-2;

const AUTOENCODERS: [&str; 6] =
    ["tiny", "tiny_other", "tiny_mish", "tiny_swish", "tiny_raw", "kl_16"];
const UNETS: [&str; 9] = [
    "unet_linear",
    "unet_text_time",
    "unet_hid",
    "unet_scale_shift",
    "unet_time_cond",
    "unet_no_mid",
    "unet_cross_only",
    "unet_cross_only_mid",
    "unet_other",
];

#[test]
fn autoencoders_of_every_kind_match_the_reference() {
    for name in AUTOENCODERS {
        let golden = Golden::read(name);
        let autoencoder = autoencoder(&golden, &Device::flex());
        let moments = autoencoder.encode(golden.tensor("images"));
        let latents = golden.tensor("latents");
        golden.assert_close("mean", moments.mean.clone(), F32);
        golden.assert_close("reconstruction", autoencoder.decode(latents), F32);
        let noise = moments.mean.ones_like();
        let draw = moments.sample(noise);
        match autoencoder.config() {
            AutoencoderConfig::Kl(_) => golden.assert_close("logvar", moments.logvar, F32),
            AutoencoderConfig::Tiny(_) => golden.assert_close("mean", draw, F32),
        }
    }
}

#[test]
fn unets_of_every_kind_match_diffusers() {
    for name in UNETS {
        let golden = Golden::read(name);
        let device = Device::flex();
        let unet = golden.unet(&device);
        let added = added(&golden, &device);
        assert_eq!(unet.config().check_inputs(&added, 2), Ok(()), "{name}");
        golden.assert_close("prediction", predict(&golden, &unet, added, &device), F32);
    }
}

#[test]
fn variants_agree_in_bf16_and_learn() {
    let device = Device::flex().autodiff();
    for name in
        ["unet_text_time", "unet_scale_shift", "unet_hid", "unet_cross_only", "unet_time_cond"]
    {
        let golden = Golden::read(name);
        let unet = golden.unet(&device).with_compute(Compute::Bf16);
        let prediction = predict(&golden, &unet, added(&golden, &device), &device);
        golden.assert_near("prediction", prediction.clone(), BF16);
        let found = gradients(&unet, &prediction.square().mean().backward());
        assert_eq!(found.len(), shapes(&unet).len(), "{name}");
    }
    for name in ["tiny", "tiny_raw"] {
        let golden = Golden::read(name);
        let autoencoder = autoencoder(&golden, &device).with_compute(Compute::Bf16);
        let mean = autoencoder.encode(golden.tensor_on("images", &device)).mean;
        golden.assert_near("mean", mean.clone(), BF16);
        let reconstruction = autoencoder.decode(golden.tensor_on("latents", &device));
        golden.assert_near("reconstruction", reconstruction.clone(), BF16);
        let loss = mean.square().mean() + reconstruction.square().mean();
        let found = gradients(&autoencoder, &loss.backward());
        assert_eq!(found.len(), shapes(&autoencoder).len(), "{name}");
    }
}

/// Convolutions without a bias take the CPU's own kernel, too: its gradient is that of burn's.
#[test]
fn convolutions_without_bias_learn_alike_in_both_formats() {
    let golden = Golden::read("tiny");
    let device = Device::flex().autodiff();
    let find = |compute| {
        let autoencoder = autoencoder(&golden, &device).with_compute(compute);
        let mean = autoencoder.encode(golden.tensor_on("images", &device)).mean;
        let found = gradients(&autoencoder, &mean.square().mean().backward());
        let gradient = found["encoder.layers.2.weight"].clone();
        gradient.iter::<f64>().collect::<Vec<_>>()
    };
    let (exact, rough) = (find(Compute::F32), find(Compute::Bf16));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut exact.iter().zip(&rough).map(|(a, b)| a - b));
    assert!(error < 5e-2 * norm(&mut exact.iter().copied()), "{error}");
}

/// The config diffusers itself wrote says the same as ours in every field of ours.
#[test]
fn configs_go_to_diffusers_and_back() {
    let same = |ours: &Value, theirs: &Value| match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::String(a), Value::String(b)) => a == b || (a == "silu" && b == "swish"),
        (a, b) => a == b,
    };
    let compare = |name: &str, ours: &Value, theirs: &str| {
        let theirs: Value = serde_json::from_str(theirs).unwrap();
        for (field, value) in ours.as_object().unwrap() {
            let found = &theirs[field];
            assert!(same(value, found), "{name}: {field} is {value}, diffusers wrote {found}");
        }
    };
    for name in UNETS.into_iter().chain(["unet"]) {
        let golden = Golden::read(name);
        let config = UnetConfig::from_diffusers(&golden.config).unwrap();
        let written = config.to_diffusers();
        assert_eq!(UnetConfig::from_diffusers(&written.to_string()).unwrap(), config);
        compare(name, &written, &golden.config);
    }
    for name in AUTOENCODERS.into_iter().chain(["autoencoder", "autoencoder_other"]) {
        let golden = Golden::read(name);
        let config = AutoencoderConfig::from_diffusers(&golden.config).unwrap();
        let written = config.to_diffusers();
        assert_eq!(AutoencoderConfig::from_diffusers(&written.to_string()).unwrap(), config);
        if name != "tiny_raw" {
            compare(name, &written, &golden.config);
        }
    }
    for config in [sd15(), sd21(), sdxl()] {
        let config = UnetConfig::from_diffusers(&config.to_string()).unwrap();
        let written = config.to_diffusers().to_string();
        assert_eq!(UnetConfig::from_diffusers(&written).unwrap(), config);
    }
}

#[test]
fn the_published_unets_are_understood() {
    let read = |config: Value| UnetConfig::from_diffusers(&config.to_string()).unwrap();
    assert_eq!(read(sd15()), UnetConfig::default());
    let expected = UnetConfig {
        sample_size: 96,
        attention_head_dim: vec![5, 10, 20, 20],
        cross_attention_dim: 1024,
        use_linear_projection: true,
        ..UnetConfig::default()
    };
    assert_eq!(read(sd21()), expected);
    let expected = UnetConfig {
        sample_size: 128,
        block_out_channels: vec![320, 640, 1280],
        attention: vec![false, true, true],
        attention_head_dim: vec![5, 10, 20],
        cross_attention_dim: 2048,
        transformer_layers_per_block: vec![1, 2, 10],
        use_linear_projection: true,
        text_time: Some(TextTime { input_dim: 2816, time_embed_dim: 256 }),
        ..UnetConfig::default()
    };
    assert_eq!(read(sdxl()), expected);
    // Reference: the sums over the parameters of diffusers' networks, built on its meta device.
    let mut init = Init::new(Stream::new(1, "count"), &Device::flex()).deferred();
    assert_eq!(num_parameters(&read(sd21()).init(&mut init)), 865_910_724);
    assert_eq!(num_parameters(&expected.init(&mut init)), 2_567_463_684);
}

#[test]
fn the_published_autoencoders_are_understood() {
    let kl = |change: Value| {
        let config = merged(sd_vae(), change).to_string();
        AutoencoderKlConfig::from_diffusers(&config).unwrap()
    };
    assert_eq!(kl(json!({})), AutoencoderKlConfig::default());
    let sdxl = kl(json!({ "scaling_factor": 0.13025, "force_upcast": true, "sample_size": 1024 }));
    assert_eq!(sdxl, AutoencoderKlConfig { scaling_factor: 0.13025, ..Default::default() });
    let flux = json!({
        "latent_channels": 16, "use_quant_conv": false, "use_post_quant_conv": false,
        "mid_block_add_attention": true, "latents_mean": null, "latents_std": null,
        "scaling_factor": 0.3611, "shift_factor": 0.1159, "force_upcast": true,
    });
    let expected = AutoencoderKlConfig {
        latent_channels: 16,
        use_quant_conv: false,
        use_post_quant_conv: false,
        scaling_factor: 0.3611,
        shift_factor: Some(0.1159),
        ..Default::default()
    };
    assert_eq!(kl(flux), expected);
    let any = AutoencoderConfig::Kl(expected);
    assert_eq!([any.factor(), any.latent_channels(), any.in_channels()], [8, 16, 3]);
    assert_eq!([any.scaling_factor(), any.shift_factor()], [0.3611, 0.1159]);

    let tiny = r#"{"_class_name": "AutoencoderTiny", "latent_channels": 16, "latent_magnitude": 3,
        "act_fn": "relu", "block_out_channels": [64, 64, 64, 64], "force_upcast": false}"#;
    let tiny = AutoencoderTinyConfig::from_diffusers(tiny).unwrap();
    let expected = AutoencoderTinyConfig { latent_channels: 16, ..Default::default() };
    assert_eq!(tiny, expected);
    // Reference: the sum over the parameters of diffusers' network.
    let mut init = Init::new(Stream::new(1, "count"), &Device::flex()).deferred();
    let network = AutoencoderTinyConfig::default().init(&mut init);
    assert_eq!(num_parameters(&network), 2_445_063);
    assert_eq!(AutoencoderTinyConfig::default().act_fn, Activation::Relu);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let unet = |change: Value| {
        let config = merged(sd21(), change).to_string();
        UnetConfig::from_diffusers(&config).unwrap_err().to_string()
    };
    let refused = [
        (json!({ "dual_cross_attention": true }), "dual_cross_attention true", "false"),
        (json!({ "downsample_padding": 0 }), "downsample_padding 0", "1"),
        (json!({ "mid_block_scale_factor": 1.4 }), "mid_block_scale_factor 1.4", "1"),
        (json!({ "norm_num_groups": null }), "norm_num_groups null", "a number of groups"),
        (json!({ "num_attention_heads": 8 }), "num_attention_heads 8", "null"),
        (
            json!({ "layers_per_block": [2, 2, 2, 1] }),
            "layers_per_block [2,2,2,1]",
            "one value for all levels",
        ),
        (
            json!({ "cross_attention_dim": [1, 2, 3, 4] }),
            "cross_attention_dim [1,2,3,4]",
            "one value for all levels",
        ),
        (
            json!({ "transformer_layers_per_block": [[1, 1], 2, 3, 4] }),
            "transformer_layers_per_block [[1,1],2,3,4]",
            "one value, or a list with one per level",
        ),
        (
            json!({ "mid_block_type": "UNetMidBlock2DSimpleCrossAttn" }),
            "mid_block_type \"UNetMidBlock2DSimpleCrossAttn\"",
            "UNetMidBlock2DCrossAttn, UNetMidBlock2D or null",
        ),
        (
            json!({ "encoder_hid_dim": 8, "encoder_hid_dim_type": "image_proj" }),
            "encoder_hid_dim_type \"image_proj\"",
            "text_proj or null",
        ),
        (
            json!({ "addition_embed_type": "image" }),
            "addition_embed_type \"image\"",
            "text_time or null",
        ),
        (
            json!({ "class_embed_type": "projection" }),
            "projection_class_embeddings_input_dim null",
            "the width of what is projected",
        ),
        (json!({ "class_embeddings_concat": true }), "class_embeddings_concat true", "false"),
        (
            json!({ "resnet_time_scale_shift": "spatial" }),
            "resnet_time_scale_shift \"spatial\"",
            "default or scale_shift",
        ),
        (
            json!({ "time_embedding_type": "fourier" }),
            "time_embedding_type \"fourier\"",
            "positional",
        ),
        (json!({ "timestep_post_act": "silu" }), "timestep_post_act \"silu\"", "null"),
        (json!({ "attention_type": "gated" }), "attention_type \"gated\"", "default"),
        (json!({ "act_fn": "gelu" }), "act_fn \"gelu\"", "silu"),
        (json!({ "from_the_future": [1, 2] }), "from_the_future [1,2]", "a config without it"),
        (
            json!({ "_class_name": "UNet2DModel" }),
            "_class_name \"UNet2DModel\"",
            "UNet2DConditionModel",
        ),
    ];
    for (change, what, expected) in refused {
        let sentence = format!(
            "U-Net: the config file has {what}, which is not supported; expected {expected}"
        );
        assert_eq!(unet(change), sentence);
    }
    assert_eq!(
        unet(json!({ "conv_in_kernel": 4 })),
        "U-Net: conv_in_kernel is 4, which must be odd"
    );
    assert_eq!(
        unet(json!({ "transformer_layers_per_block": [1, 2] })),
        "U-Net: transformer_layers_per_block has 2 entries, expected 4, one per level of block_out_channels"
    );

    let kl = |change: Value| {
        let config = merged(sd_vae(), change).to_string();
        AutoencoderConfig::from_diffusers(&config).unwrap_err().to_string()
    };
    assert_eq!(
        kl(json!({ "latents_mean": [0.1, 0.2] })),
        "autoencoder: latents_mean has 2 entries, expected 4, one per level of latent_channels"
    );
    let refused = [
        (
            json!({ "down_block_types": vec!["AttnDownEncoderBlock2D"; 4] }),
            "down_block_types \"AttnDownEncoderBlock2D\"",
            "DownEncoderBlock2D",
        ),
        (
            json!({ "up_block_types": vec!["AttnUpDecoderBlock2D"; 4] }),
            "up_block_types \"AttnUpDecoderBlock2D\"",
            "UpDecoderBlock2D",
        ),
        (json!({ "batch_norm_eps": 1e-4 }), "batch_norm_eps 0.0001", "a config without it"),
        (
            json!({ "_class_name": "AsymmetricAutoencoderKL" }),
            "_class_name \"AsymmetricAutoencoderKL\"",
            "AutoencoderKL, AutoencoderTiny or TinyAutoencoder",
        ),
    ];
    for (change, what, expected) in refused {
        let sentence = format!(
            "autoencoder: the config file has {what}, which is not supported; expected {expected}"
        );
        assert_eq!(kl(change), sentence);
    }
    assert_eq!(
        kl(json!({ "down_block_types": ["DownEncoderBlock2D"] })),
        "autoencoder: down_block_types has 1 entries, expected 4, one per level of block_out_channels"
    );

    let tiny = |change: Value| {
        let config = merged(json!({ "_class_name": "AutoencoderTiny" }), change).to_string();
        AutoencoderConfig::from_diffusers(&config).unwrap_err().to_string()
    };
    assert_eq!(
        tiny(json!({ "upsample_fn": "bilinear" })),
        "tiny autoencoder: the config file has upsample_fn \"bilinear\", which is not supported; expected nearest"
    );
    assert_eq!(
        tiny(json!({ "encoder_block_out_channels": [8, 8, 16, 16] })),
        "tiny autoencoder: encoder_block_out_channels is [8, 8, 16, 16], which must be equal at every level"
    );
    assert_eq!(
        tiny(json!({ "upsampling_scaling_factor": 3 })),
        "tiny autoencoder: 4 levels of the encoder and 4 of the decoder with upsampling_scaling_factor 3 do not undo each other"
    );
    assert_eq!(
        tiny(json!({ "pooled_blocks": { "encoder": [3] } })),
        "tiny autoencoder: the config file has pooled_blocks {\"encoder\":[3]}, which is not supported; expected a config without it"
    );
    assert_eq!(
        tiny(json!({ "_class_name": "TinyAutoencoder", "pooled_blocks": { "encoder": [2] } })),
        "tiny autoencoder: pooled_blocks of the encoder names entry 2 of layers, which is not a block"
    );
    assert!(tiny(json!({ "act_fn": "elu" })).contains("act_fn: unknown variant `elu`"));
}

/// A checkpoint's `state.json` holds the config; those written before there were variants still open.
#[test]
fn configs_of_old_checkpoints_are_read() {
    let old = json!({
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [32, 64],
        "layers_per_block": 1, "attention": [false, true], "attention_head_dim": [2],
        "cross_attention_dim": 64, "transformer_layers_per_block": 1, "norm_num_groups": 8,
        "norm_eps": 1e-5, "use_linear_projection": false, "flip_sin_to_cos": true, "freq_shift": 0.0,
        "projection_class_embeddings_input_dim": null,
    });
    let read =
        |change: Value| serde_json::from_value::<UnetConfig>(merged(old.clone(), change)).unwrap();
    let expected = UnetConfig {
        sample_size: 8,
        block_out_channels: vec![32, 64],
        layers_per_block: 1,
        attention: vec![false, true],
        attention_head_dim: vec![2],
        cross_attention_dim: 64,
        norm_num_groups: 8,
        ..UnetConfig::default()
    };
    assert_eq!(read(json!({})), expected);
    let pooled = UnetConfig {
        class_embedding: Some(ClassEmbedding::SimpleProjection(128)),
        ..expected.clone()
    };
    assert_eq!(read(json!({ "projection_class_embeddings_input_dim": 128 })), pooled);
    let strange = merged(old.clone(), json!({ "strange": 1 }));
    assert!(serde_json::from_value::<UnetConfig>(strange).is_err());

    let every_field = UnetConfig {
        class_embedding: Some(ClassEmbedding::Timestep),
        text_time: Some(TextTime { input_dim: 29, time_embed_dim: 4 }),
        mid_block: MidBlockKind::None,
        resnet_time_scale_shift: TimeScaleShift::ScaleShift,
        transformer_layers_per_block: vec![1, 2],
        only_cross_attention: vec![true, false],
        encoder_hid_dim: Some(9),
        time_embedding_dim: Some(12),
        ..expected
    };
    for config in [pooled, every_field, UnetConfig::default()] {
        let stored = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<UnetConfig>(&stored).unwrap(), config);
    }
    let tiny = AutoencoderConfig::Tiny(AutoencoderTinyConfig {
        pooled_blocks: PooledBlocks { encoder: vec![11], decoder: vec![2] },
        act_fn: Activation::Gelu,
        ..Default::default()
    });
    let stored = serde_json::to_string(&tiny).unwrap();
    assert_eq!(serde_json::from_str::<AutoencoderConfig>(&stored).unwrap(), tiny);
}

#[test]
fn added_inputs_that_do_not_fit_are_named() {
    let device = Device::flex();
    let ones = |shape| Some(Tensor::<2>::ones(shape, &device));
    let golden = Golden::read("unet_text_time");
    let xl = UnetConfig::from_diffusers(&golden.config).unwrap();
    let missing = |what| Err(AddedError::Missing { what });
    assert_eq!(xl.check_inputs(&Added::default(), 2), missing("text_embeds"));
    let text = Added { text_embeds: ones([2, 5]), ..Added::default() };
    assert_eq!(xl.check_inputs(&text, 2), missing("time_ids"));
    let narrow = Added { time_ids: ones([2, 5]), ..text.clone() };
    assert_eq!(
        xl.check_inputs(&narrow, 2).unwrap_err().to_string(),
        "the width of text_embeds with the sinusoids of time_ids is 25, expected 29"
    );
    let labelled = Added { time_ids: ones([2, 6]), class_labels: ones([2, 1]), ..text };
    let refused = Err(AddedError::NotTaken { what: "class_labels" });
    assert_eq!(xl.check_inputs(&labelled, 2), refused);

    let golden = Golden::read("unet_hid");
    let table = UnetConfig::from_diffusers(&golden.config).unwrap();
    assert_eq!((table.class_width(), table.context_width()), (Some(1), 9));
    let label = |label: f32| Added {
        class_labels: Some(Tensor::full([2, 1], label, &device)),
        ..Added::default()
    };
    assert_eq!(table.check_inputs(&label(4.0), 2), Ok(()));
    assert_eq!(
        table.check_inputs(&label(5.0), 2).unwrap_err().to_string(),
        "class_labels holds 5, expected whole numbers from 0 to below 5"
    );
    assert!(table.check_inputs(&label(0.5), 2).is_err());
    let batch = Err(AddedError::Batch { what: "class_labels", found: 2, batch: 3 });
    assert_eq!(table.check_inputs(&label(1.0), 3), batch);
}

#[test]
fn costs_count_every_product() {
    let mut init = Init::new(Stream::new(1, "count"), &Device::flex()).deferred();
    let config = AutoencoderTinyConfig {
        encoder_block_out_channels: vec![4, 4],
        decoder_block_out_channels: vec![4, 4],
        num_encoder_blocks: vec![0, 1],
        num_decoder_blocks: vec![1, 0],
        pooled_blocks: PooledBlocks { encoder: vec![2], decoder: vec![] },
        ..Default::default()
    };
    let tiny = config.init(&mut init);
    // 3 × 3 kernels at 8 × 6 pixels, then at 4 × 3 with the pool's two pointwise maps of 4 to 16.
    let encode = 48 * 9 * 3 * 4 + 12 * (9 * 4 * 4 + 3 * 9 * 4 * 4 + 2 * 64 + 9 * 4 * 4);
    let decode = 12 * (9 * 4 * 4 + 3 * 9 * 4 * 4) + 48 * (9 * 4 * 4 + 9 * 4 * 3);
    assert_eq!(tiny.encode_flops(8, 6), 2 * encode);
    assert_eq!(tiny.decode_flops(8, 6), 2 * decode);
}

fn autoencoder(golden: &Golden, device: &Device) -> Autoencoder {
    let config = AutoencoderConfig::from_diffusers(&golden.config).unwrap();
    let network = config.init(&mut Init::new(Stream::new(1, "autoencoder"), device).deferred());
    load_state_dict(network, &config.from_file(golden.weights.clone())).unwrap()
}

fn added(golden: &Golden, device: &Device) -> Added {
    let optional = |name| golden.arrays.contains_key(name).then(|| golden.tensor_on(name, device));
    Added {
        class_labels: optional("class_labels").or(optional("pooled")),
        text_embeds: optional("text_embeds"),
        time_ids: optional("time_ids"),
        timestep_cond: optional("timestep_cond"),
    }
}

fn predict(golden: &Golden, unet: &Unet, added: Added, device: &Device) -> Tensor<4> {
    let [noisy, context] = ["noisy", "context"];
    let (noisy, context) = (golden.tensor_on(noisy, device), golden.tensor_on(context, device));
    unet.forward_added(noisy, golden.tensor_on("timesteps", device), context, added)
}

fn merged(mut config: Value, change: Value) -> Value {
    for (field, value) in change.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

/// As published by runwayml: an old config, without the fields that came later.
fn sd15() -> Value {
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false, "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
        "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
        "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    })
}

/// As published by stabilityai, 768 pixels.
fn sd21() -> Value {
    let change = json!({
        "_diffusers_version": "0.10.0.dev0", "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "dual_cross_attention": false, "num_class_embeds": null,
        "only_cross_attention": false, "sample_size": 96, "upcast_attention": true,
        "use_linear_projection": true,
    });
    merged(sd15(), change)
}

/// As published by stabilityai.
fn sdxl() -> Value {
    let change = json!({
        "_diffusers_version": "0.19.0.dev0", "addition_embed_type": "text_time",
        "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
        "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3,
        "conv_out_kernel": 3, "cross_attention_dim": 2048, "cross_attention_norm": null,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "encoder_hid_dim": null, "encoder_hid_dim_type": null, "mid_block_only_cross_attention": null,
        "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": null,
        "projection_class_embeddings_input_dim": 2816, "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": false, "resnet_time_scale_shift": "default", "sample_size": 128,
        "time_cond_proj_dim": null, "time_embedding_act_fn": null, "time_embedding_dim": null,
        "time_embedding_type": "positional", "timestep_post_act": null,
        "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "upcast_attention": null,
    });
    merged(sd21(), change)
}

/// As published with Stable Diffusion 1.5.
fn sd_vae() -> Value {
    json!({
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
        "out_channels": 3, "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    })
}
