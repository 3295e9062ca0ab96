//! `umbra bench`: how fast a training step is here.

use super::args::{Bench, Encoder};
use super::exit;
use crate::device;
use crate::engine;
use crate::engine::nvidia::survey;
use crate::models::autoencoder::AutoencoderKlConfig;
use crate::models::denoiser::{BackboneConfig, MmditConfig, UnetConfig};
use crate::models::encoder::{Flavor, VitConfig};
use crate::models::weights::num_parameters;
use crate::models::{Compute, Init};
use crate::random::Stream;
use crate::stages::rates::{Rate, Rates};
use crate::train::adamw::{AdamW, AdamWConfig, GradientSum};
use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;
use std::io::Write as _;
use std::time::Instant;

/// Condition tokens, as Stable Diffusion has.
const CONTEXT: usize = 77;

/// Times forward, backward and optimizer step of a denoiser and prints one JSON document.
pub(super) fn bench(bench: &Bench) -> Result<u8> {
    let device = device::parse(&bench.device)?;
    if let Some(encoder) = bench.encode {
        return encode(bench, encoder, &device);
    }
    let (name, config) = network(bench);
    if bench.transformer
        && let Err(why) = config.check_side(bench.latent)
    {
        let what = format!("--latent: latents are {0} × {0}, {why}", bench.latent);
        return Err(exit::BadArgument(what).into());
    }
    let compute = compute(bench);
    let init = &mut Init::new(Stream::new(1, "bench"), &device);
    let mut network = config.init(init).with_compute(compute).train();
    let parameters = num_parameters(&network);
    let flops = network.flops(bench.latent, bench.latent, CONTEXT);
    let shape = [bench.batch, config.channels()[0], bench.latent, bench.latent];
    let autodiff = device.clone().autodiff();
    let noisy: Tensor<4> = normal("noisy", shape, &autodiff);
    let target: Tensor<4> = normal("target", shape, &autodiff);
    let context: Tensor<3> =
        normal("context", [bench.batch, CONTEXT, config.context_width()], &autodiff);
    let timesteps = Tensor::<1>::from_data(
        TensorData::new(vec![500f32; bench.batch], [bench.batch]),
        &autodiff,
    );
    let mut optimizer = AdamW::new(AdamWConfig::default());
    let sync = || device.sync().context("the device failed");

    let plain = (noisy.clone().inner(), timesteps.clone().inner(), context.clone().inner());
    let mut forward = Vec::new();
    let mut steps: Vec<[f64; 3]> = Vec::new();
    let valid = network.valid();
    for _ in 0..bench.warm_up + bench.iterations {
        let start = Instant::now();
        let (noisy, timesteps, context) = plain.clone();
        let _out = valid.forward(noisy, timesteps, context, None, None);
        sync()?;
        forward.push(start.elapsed().as_secs_f64());
    }
    drop(valid);
    let mut loss_value = f64::NAN;
    let mut calls = 0;
    for _ in 0..bench.warm_up + bench.iterations {
        let start = Instant::now();
        let calls_before = engine::calls();
        let prediction =
            network.forward(noisy.clone(), timesteps.clone(), context.clone(), None, None);
        let loss = (prediction - target.clone()).square().mean();
        sync()?;
        let forward_done = start.elapsed().as_secs_f64();
        let mut gradients = GradientSum::default();
        gradients.add(&network, loss.backward());
        sync()?;
        let backward_done = start.elapsed().as_secs_f64();
        let (next, _, _) = optimizer.step(network, None, gradients, 1e-4);
        network = next;
        sync()?;
        calls = engine::calls() - calls_before;
        loss_value = f64::from(loss.inner().into_scalar::<f32>());
        let done = start.elapsed().as_secs_f64();
        steps.push([forward_done, backward_done - forward_done, done - backward_done]);
    }
    // The same without waiting between the parts.
    sync()?;
    let start = Instant::now();
    for _ in 0..bench.iterations {
        let prediction =
            network.forward(noisy.clone(), timesteps.clone(), context.clone(), None, None);
        let loss = (prediction - target.clone()).square().mean();
        let mut gradients = GradientSum::default();
        gradients.add(&network, loss.backward());
        (network, _, _) = optimizer.step(network, None, gradients, 1e-4);
    }
    sync()?;
    let step = start.elapsed().as_secs_f64() / bench.iterations as f64;
    let memory = engine::memory_in_use();
    let operations = bench.operations.then(|| {
        engine::time_calls(true);
        let prediction =
            network.forward(noisy.clone(), timesteps.clone(), context.clone(), None, None);
        let loss = (prediction - target.clone()).square().mean();
        let mut gradients = GradientSum::default();
        gradients.add(&network, loss.backward());
        let _ = optimizer.step(network, None, gradients, 1e-4);
        table(engine::time_calls(false))
    });
    let first = steps[0].iter().sum::<f64>();
    let part = |at: usize| median(steps[bench.warm_up..].iter().map(|step| step[at]).collect());
    let tflops = 3.0 * flops as f64 * bench.batch as f64 / step / 1e12;
    let most_memory = memory.or_else(peak_memory);
    if bench.save {
        let kept = most_memory.unwrap_or(0) as f64 - 16.0 * parameters as f64;
        let forward = flops as f64 * bench.batch as f64;
        let threads = if bench.device == "cpu" { rayon::current_num_threads() } else { 1 };
        let rate = Rate {
            operations_per_second: tflops * 1e12 / threads as f64,
            bytes_per_operation: kept.max(0.0) / forward,
        };
        let path = Rates::save(&bench.device, compute, rate)?;
        tracing::info!(path = %path.display(), ?rate, "kept");
    }
    let document = json!({
        "network": name,
        "parameters": parameters,
        "gflop_forward": flops as f64 / 1e9,
        "device": bench.device,
        "compute": format!("{compute:?}"),
        "latent": bench.latent,
        "batch": bench.batch,
        "first_step_s": first,
        "inference_ms": 1e3 * median(forward[bench.warm_up..].to_vec()),
        "forward_ms": 1e3 * part(0),
        "backward_ms": 1e3 * part(1),
        "optimizer_ms": 1e3 * part(2),
        "step_ms": 1e3 * step,
        "images_per_second": bench.batch as f64 / step,
        "tflops": tflops,
        "mfu": peak(bench).map(|peak| tflops / peak),
        "memory_gib": most_memory.map(|bytes| bytes as f64 / f64::from(1 << 30)),
        "engine_calls": calls,
        "last_loss": loss_value,
        "operations": operations,
    });
    writeln!(std::io::stdout().lock(), "{document}")?;
    Ok(exit::DONE)
}

/// The most memory that this process has had, in bytes; where the system says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The denoiser that is timed, and its name.
fn network(bench: &Bench) -> (&'static str, BackboneConfig) {
    let transformer = |width: usize, depth: usize, heads: usize| {
        BackboneConfig::Transformer(MmditConfig {
            sample_size: bench.latent,
            in_channels: 4,
            out_channels: 4,
            num_layers: depth,
            attention_head_dim: width / heads,
            num_attention_heads: heads,
            joint_attention_dim: width,
            pooled_projection_dim: 1,
            pos_embed_max_size: bench.latent / 2,
            qk_norm: true,
            ..MmditConfig::default()
        })
    };
    match (bench.transformer, bench.tiny) {
        (false, false) => ("unet-sd15", BackboneConfig::Unet(UnetConfig::default())),
        (false, true) => {
            let config = UnetConfig {
                block_out_channels: vec![64, 128, 256],
                attention: vec![false, true, true],
                cross_attention_dim: 384,
                ..UnetConfig::default()
            };
            ("unet-25m", BackboneConfig::Unet(config))
        }
        (true, false) => ("transformer-xl-2", transformer(1152, 28, 16)),
        (true, true) => ("transformer-s-2", transformer(384, 12, 6)),
    }
}

/// Times the encoding of images.
fn encode(bench: &Bench, encoder: Encoder, device: &Device) -> Result<u8> {
    let compute = compute(bench);
    let init = &mut Init::new(Stream::new(1, "bench"), device);
    let (name, side, run): (&str, usize, Box<dyn Fn(Tensor<4>) -> f32>) = match encoder {
        Encoder::Vae => {
            let vae = AutoencoderKlConfig::default().init(init).with_compute(compute);
            let run = move |pixels| vae.encode(pixels).mean.mean().into_scalar::<f32>();
            ("vae-sd", 256, Box::new(run))
        }
        Encoder::Dino => {
            let config = VitConfig {
                patch_size: 14,
                image_size: 518,
                hidden_size: 768,
                intermediate_size: 3072,
                num_attention_heads: 12,
                layer_scale: Some(1.0),
                mask_token: true,
                flavor: Flavor::Dinov2,
                ..VitConfig::default()
            };
            let vit = config.init(init).with_compute(compute);
            let run = move |pixels| vit.forward(pixels).mean().into_scalar::<f32>();
            ("dinov2-b", 224, Box::new(run))
        }
    };
    let pixels: Tensor<4> = normal("pixels", [bench.batch, 3, side, side], device);
    let mut seconds = Vec::new();
    for _ in 0..bench.warm_up + bench.iterations {
        let start = Instant::now();
        let _ = run(pixels.clone());
        seconds.push(start.elapsed().as_secs_f64());
    }
    let first = seconds[0];
    let step = median(seconds[bench.warm_up..].to_vec());
    let document = json!({
        "network": name,
        "device": bench.device,
        "compute": format!("{compute:?}"),
        "pixels": side,
        "batch": bench.batch,
        "first_s": first,
        "encode_ms": 1e3 * step,
        "images_per_second": bench.batch as f64 / step,
    });
    writeln!(std::io::stdout().lock(), "{document}")?;
    Ok(exit::DONE)
}

fn compute(bench: &Bench) -> Compute {
    match (bench.bf16, bench.tf32) {
        (true, _) => Compute::Bf16,
        (_, true) => Compute::Tf32,
        _ => Compute::F32,
    }
}

/// What the card could do at most, in TFLOP/s, where that is known.
fn peak(bench: &Bench) -> Option<f64> {
    let index: usize = bench.device.strip_prefix("cuda:")?.parse().ok()?;
    let cards = survey::cards().ok()?;
    cards.get(index)?.peak_bf16().filter(|_| bench.bf16)
}

/// What a step is made of, the longest first.
fn table(timings: std::collections::BTreeMap<String, engine::Timing>) -> Vec<serde_json::Value> {
    let mut rows: Vec<_> = timings.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    let row = |(name, timing): (String, engine::Timing)| {
        json!({
            "operation": name,
            "calls": timing.calls,
            "ms": 1e3 * timing.seconds,
            "host_ms": 1e3 * timing.host_seconds,
            "tflops": timing.flops as f64 / timing.seconds / 1e12,
        })
    };
    rows.into_iter().map(row).collect()
}

fn normal<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product();
    let values = Stream::new(1, name).at(0).normals(count);
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
