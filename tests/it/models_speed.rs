//! How long the networks take. Not run by default:
//! `cargo test --release --test it models_speed -- --ignored --nocapture --test-threads 1`

#![expect(clippy::print_stdout, reason = "the times are what these tests are for")]

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::time::Instant;
use umbra::models::Init;
use umbra::models::autoencoder::AutoencoderKlConfig;
use umbra::models::denoiser::UnetConfig;
use umbra::models::encoder::VitConfig;
use umbra::random::Stream;

const BATCH: usize = 16;

#[test]
#[ignore = "minutes of work, for its printed times"]
fn unet() {
    let device = Device::flex().autodiff();
    let config = UnetConfig {
        block_out_channels: vec![64, 128],
        layers_per_block: 2,
        attention: vec![false, true],
        attention_head_dim: vec![4],
        cross_attention_dim: 128,
        ..UnetConfig::default()
    };
    let unet = config.init(&mut Init::new(Stream::new(1, "unet"), &device));
    let (noisy, target) =
        (noise([BATCH, 4, 16, 16], 1, &device), noise([BATCH, 4, 16, 16], 2, &device));
    let context = noise([BATCH, 2, 128], 3, &device);
    let timesteps = noise([BATCH], 4, &device);
    let flops = BATCH as u64 * unet.flops(16, 16, 2);
    time("U-Net", flops, unet, |unet| {
        let prediction = unet.forward(noisy.clone(), timesteps.clone(), context.clone());
        (prediction - target.clone()).square().mean()
    });
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn autoencoder() {
    let device = Device::flex().autodiff();
    let config = AutoencoderKlConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![16, 32, 64],
        layers_per_block: 1,
        norm_num_groups: 8,
        ..AutoencoderKlConfig::default()
    };
    let autoencoder = config.init(&mut Init::new(Stream::new(1, "kl"), &device));
    let images = noise([BATCH, 1, 64, 64], 1, &device);
    let draw = noise([BATCH, 4, 16, 16], 2, &device);
    let flops = autoencoder.encode_flops(64, 64) + autoencoder.decode_flops(64, 64);
    time("autoencoder", BATCH as u64 * flops, autoencoder, |autoencoder| {
        let moments = autoencoder.encode(images.clone());
        let reconstruction = autoencoder.decode(moments.sample(draw.clone()));
        (reconstruction - images.clone()).abs().mean() + moments.kl().mean() * 1e-6
    });
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn vit() {
    let device = Device::flex().autodiff();
    let config = VitConfig {
        image_size: 64,
        patch_size: 8,
        num_channels: 1,
        hidden_size: 96,
        num_hidden_layers: 4,
        num_attention_heads: 3,
        intermediate_size: 384,
        ..VitConfig::default()
    };
    let vit = config.init(&mut Init::new(Stream::new(1, "vit"), &device));
    let images = noise([2 * BATCH, 1, 64, 64], 1, &device);
    let flops = 2 * BATCH as u64 * vit.flops(64, 64);
    time("ViT", flops, vit, |vit| vit.forward(images.clone()).narrow(1, 0, 1).square().mean());
}

/// The best of some rounds of forward and backward.
fn time<M: Module>(name: &str, flops: u64, module: M, loss: impl Fn(&M) -> Tensor<1>) {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..15 {
        let start = Instant::now();
        let value = loss(&module);
        best[0] = best[0].min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let _gradients = value.backward();
        best[1] = best[1].min(start.elapsed().as_secs_f64());
    }
    let [forward, backward] = best;
    println!(
        "{name}: forward {:.1} GFLOP, {:.0} ms; backward {:.0} ms; together {:.0} ms, {:.0} GFLOP/s",
        flops as f64 / 1e9,
        forward * 1e3,
        backward * 1e3,
        (forward + backward) * 1e3,
        3.0 * flops as f64 / (forward + backward) / 1e9,
    );
}

fn noise<const D: usize>(shape: [usize; D], position: u64, device: &Device) -> Tensor<D> {
    let values = Stream::new(1, "speed").at(position).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}
