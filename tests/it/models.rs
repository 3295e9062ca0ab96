//! The networks against transformers and diffusers.
//!
//! Reference: tests/golden/models/networks.py (versions and seed in its header). Each file holds the
//! weights under the names the library itself writes, the config it writes, inputs and outputs.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test that called")]

mod encoders;
mod features;
pub(crate) mod formula;
pub(crate) mod golden;
mod mmdit;
mod strict;
mod taef2;
mod text;
mod variants;

use self::golden::{F32, Golden, assert_close, golden_path};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use umbra::models::autoencoder::{AutoencoderKl, AutoencoderKlConfig};
use umbra::models::condition::{Condition, ConditionConfig};
use umbra::models::denoiser::{Unet, UnetConfig};
use umbra::models::encoder::VitConfig;
use umbra::models::weights::file::{self, FileError, NonFinite};
use umbra::models::weights::{gradients, load_state_dict, num_parameters, shapes, state_dict};
use umbra::models::{Compute, Init};
use umbra::random::Stream;

/// bfloat16 keeps 8 bits: 0.4 % per rounding, averaged over the layers.
const BF16: f64 = 2e-2;

#[test]
fn vits_match_transformers() {
    for name in ["vit", "vit_other_size", "dinov2", "dinov2_registers"] {
        let golden = Golden::read(name);
        let vit = golden.vit(&Device::flex());
        let tokens = vit.forward(golden.tensor("pixels"));
        golden.assert_close("tokens", tokens, F32);
    }
}

#[test]
fn autoencoders_match_diffusers() {
    for name in ["autoencoder", "autoencoder_other"] {
        let golden = Golden::read(name);
        let autoencoder = golden.autoencoder(&Device::flex());
        let moments = autoencoder.encode(golden.tensor("images"));
        golden.assert_close("kl", moments.kl(), F32);
        golden.assert_close("mean", moments.mean, F32);
        golden.assert_close("logvar", moments.logvar, F32);
        let reconstruction = autoencoder.decode(golden.tensor("latents"));
        golden.assert_close("reconstruction", reconstruction, F32);
    }
}

#[test]
fn unets_match_diffusers() {
    for name in ["unet", "unet_other"] {
        let golden = Golden::read(name);
        let unet = golden.unet(&Device::flex());
        golden.assert_close("prediction", golden.predict(&unet, &Device::flex()), F32);
    }
}

#[test]
fn gradients_match_torch() {
    for name in ["unet", "unet_other"] {
        let golden = Golden::read(name);
        let device = Device::flex().autodiff();
        let unet = golden.unet(&device);
        let prediction = golden.predict(&unet, &device);
        golden.assert_close("prediction", prediction.clone(), F32);
        let loss = (prediction - golden.tensor_on("target", &device)).square().mean();
        golden.assert_close("loss", loss.clone(), F32);
        let found = gradients(&unet, &loss.backward());
        let mut compared = 0;
        for (name, expected) in &golden.arrays {
            if let Some(parameter) = name.strip_prefix("gradient/") {
                assert_close(name, &found[parameter], expected, F32);
                compared += 1;
            }
        }
        assert!(compared >= 2, "{compared} gradients in the file");
    }
}

#[test]
fn bf16_agrees_with_f32() {
    let device = Device::flex();
    for name in ["vit", "dinov2_registers"] {
        let golden = Golden::read(name);
        let vit = golden.vit(&device).with_compute(Compute::Bf16);
        golden.assert_near("tokens", vit.forward(golden.tensor("pixels")), BF16);
    }
    let golden = Golden::read("autoencoder");
    let autoencoder = golden.autoencoder(&device).with_compute(Compute::Bf16);
    golden.assert_near("mean", autoencoder.encode(golden.tensor("images")).mean, BF16);
    let reconstruction = autoencoder.decode(golden.tensor("latents"));
    golden.assert_near("reconstruction", reconstruction, BF16);
    for device in [device.clone(), device.autodiff()] {
        let golden = Golden::read("unet");
        let unet = golden.unet(&device).with_compute(Compute::Bf16);
        let prediction = golden.predict(&unet, &device);
        golden.assert_near("prediction", prediction.clone(), BF16);
        if device.is_autodiff() {
            let found = gradients(&unet, &prediction.square().mean().backward());
            assert!(found.values().all(|data| data.iter::<f32>().all(f32::is_finite)));
            assert_eq!(found.len(), shapes(&unet).len());
        }
    }
}

#[test]
fn attention_of_the_class_token_is_a_distribution() {
    let golden = Golden::read("dinov2_registers");
    let vit = golden.vit(&Device::flex());
    let attention = vit.class_attention(golden.tensor("pixels"));
    assert_eq!(attention.dims(), [2, 2, 55]);
    let sums = attention.sum_dim(2).into_data();
    assert!(sums.iter::<f32>().all(|sum| sum > 0.0 && sum <= 1.0), "{sums}");
}

#[test]
fn a_network_is_the_same_wherever_its_stream_is() {
    let config = small_unet();
    let build = |seed| config.init(&mut Init::new(Stream::new(seed, "unet"), &Device::flex()));
    assert_eq!(state_dict(&build(1)), state_dict(&build(1)));
    assert_ne!(state_dict(&build(1)), state_dict(&build(2)));
    let silent = state_dict(&build(1));
    let max = |name: &str| silent[name].iter::<f32>().fold(0.0, |max: f32, x| max.max(x.abs()));
    assert_eq!(max("conv_out.weight"), 0.0);
    assert_eq!(max("down_blocks.0.resnets.0.conv2.weight"), 0.0);
    // PyTorch's bound for a convolution from 2 channels with 3×3 kernels.
    let bound = 1.0 / 18f32.sqrt();
    assert!(max("conv_in.weight") < bound && max("conv_in.weight") > 0.8 * bound);
}

/// Reference: the sums over the parameters of diffusers' networks of these configs, built on its meta device.
#[test]
fn the_published_sizes_come_out_without_drawing_weights() {
    let mut init = Init::new(Stream::new(1, "count"), &Device::flex()).deferred();
    assert_eq!(num_parameters(&UnetConfig::default().init(&mut init)), 859_520_964);
    assert_eq!(num_parameters(&AutoencoderKlConfig::default().init(&mut init)), 83_653_863);
}

#[test]
fn weights_survive_a_file() {
    let golden = Golden::read("unet");
    let unet = golden.unet(&Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    file::write(&path, &state_dict(&unet)).unwrap();
    assert_eq!(file::read(&path, NonFinite::Refuse).unwrap(), golden.weights);
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(golden_path("vit")).unwrap();
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        file::read(&path, NonFinite::Refuse).unwrap_err().to_string()
    };
    for length in [0, 7, 8, 100, whole.len() - 1] {
        assert!(message(&whole[..length]).contains("not a usable safetensors file"));
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(message(&longer).contains("not a usable safetensors file"));
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(&huge).contains("header of 18446744073709551615 bytes"));
    let end = whole.len();
    let mut not_a_number = whole;
    not_a_number[end - 32..].fill(0xff);
    assert!(message(&not_a_number).contains("NaN or infinity"));
    assert!(file::read(&path, NonFinite::Keep).is_ok());

    let pickle = file::read(&folder.path().join("model.ckpt"), NonFinite::Refuse).unwrap_err();
    assert!(matches!(pickle, FileError::Pickle { .. }));
    assert!(pickle.to_string().contains("s.save_file("), "{pickle}");
}

#[test]
fn every_tensor_at_fault_is_named_at_once() {
    let golden = Golden::read("unet");
    let mut state = golden.weights.clone();
    state.remove("conv_in.bias");
    state.insert("conv_in.scale".into(), TensorData::new(vec![1f32], [1]));
    state.insert("conv_out.bias".into(), TensorData::new(vec![1f32; 5], [5]));
    let config = UnetConfig::from_diffusers(&golden.config).unwrap();
    let unet = config.init(&mut Init::new(Stream::new(1, "unet"), &Device::flex()));
    let message = load_state_dict(unet, &state).unwrap_err().to_string();
    assert_eq!(
        message,
        "the weights do not fit the network: 1 missing (conv_in.bias); \
         1 not in the network (conv_in.scale); \
         1 of another shape (conv_out.bias [5] instead of [4])"
    );
}

#[test]
fn loading_keeps_what_learns() {
    let device = Device::flex().autodiff();
    let golden = Golden::read("unet");
    let config = UnetConfig::from_diffusers(&golden.config).unwrap();
    let unet = config.init(&mut Init::new(Stream::new(1, "unet"), &device));
    let frozen = load_state_dict(unet.clone().no_grad(), &golden.weights).unwrap();
    let learning = load_state_dict(unet, &golden.weights).unwrap();
    let learned = |unet: &Unet| {
        let prediction = golden.predict(unet, &device);
        let offset = Tensor::<4>::zeros([1, 1, 1, 1], &device).require_grad();
        gradients(unet, &(prediction + offset).mean().backward()).len()
    };
    assert_eq!(learned(&frozen), 0);
    assert_eq!(learned(&learning), golden.weights.len());
}

#[test]
fn a_file_of_the_old_autoencoder_is_understood() {
    let golden = Golden::read("autoencoder");
    let old = golden.weights.iter().map(|(name, data)| {
        let name = name.replace("0.to_q.", "0.query.").replace("0.to_k.", "0.key.");
        let name = name.replace("0.to_v.", "0.value.").replace("0.to_out.0.", "0.proj_attn.");
        let data = match (name.contains("query.weight"), data.shape().to_vec()) {
            (true, shape) => {
                let values = data.iter::<f32>().collect::<Vec<_>>();
                TensorData::new(values, [shape[0], shape[1], 1, 1])
            }
            _ => data.clone(),
        };
        (name, data)
    });
    assert_eq!(AutoencoderKl::from_file(old.collect()), golden.weights);
}

#[test]
fn names_of_a_vit_go_to_the_file_and_back() {
    for name in ["vit", "dinov2"] {
        let golden = Golden::read(name);
        let config = VitConfig::from_transformers(&golden.config).unwrap();
        let state = state_dict(&golden.vit(&Device::flex()));
        assert_eq!(config.to_file(state), golden.weights);
    }
}

#[test]
fn a_dropped_condition_is_the_null_condition() {
    let device = Device::flex();
    let config = ConditionConfig { num_tokens: 2, token_width: 6, width: 4 };
    let condition: Condition = config.init(&mut Init::new(Stream::new(1, "condition"), &device));
    let tokens = Tensor::<3>::from_data(
        TensorData::new(Stream::new(1, "tokens").at(0).normals(2 * 2 * 6), [2, 2, 6]),
        &device,
    );
    let mixed = condition.forward(tokens.clone(), Tensor::from_floats([0.0, 1.0], &device));
    let kept = condition.forward(tokens, Tensor::from_floats([1.0, 1.0], &device));
    assert_eq!(mixed.dims(), [2, 3, 4]);
    let row = |x: &Tensor<3>, at| x.clone().narrow(0, at, 1).into_data();
    assert_eq!(row(&mixed, 0), condition.null(1).into_data());
    assert_eq!(row(&mixed, 1), row(&kept, 1));
    assert_ne!(row(&mixed, 0), row(&kept, 0));
    assert_eq!(Condition::pooled(kept).dims(), [2, 8]);
}

#[test]
fn impossible_sizes_are_refused() {
    let unet = |change: fn(&mut UnetConfig)| {
        let mut config = small_unet();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    assert_eq!(
        unet(|config| config.norm_num_groups = 5),
        "U-Net: block_out_channels is 8, which must be a positive multiple of norm_num_groups (5)"
    );
    assert_eq!(
        unet(|config| config.attention = vec![true]),
        "U-Net: attention has 1 entries, expected 2, one per level of block_out_channels"
    );
    assert_eq!(
        unet(|config| config.layers_per_block = 0),
        "U-Net: layers_per_block must be at least 1"
    );
    let vit = VitConfig { image_size: 30, patch_size: 8, ..VitConfig::default() };
    assert_eq!(
        vit.check().unwrap_err().to_string(),
        "vision transformer: image_size is 30, which must be a positive multiple of patch_size (8)"
    );
}

fn small_unet() -> UnetConfig {
    UnetConfig {
        sample_size: 8,
        in_channels: 2,
        out_channels: 2,
        block_out_channels: vec![8, 16],
        layers_per_block: 1,
        attention: vec![false, true],
        attention_head_dim: vec![2],
        cross_attention_dim: 6,
        norm_num_groups: 4,
        ..UnetConfig::default()
    }
}
