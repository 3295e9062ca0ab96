//! `umbra parity`: does a device compute what the CPU computes?

use super::args::Parity;
use super::exit::{self, BadArgument};
use crate::device;
use crate::engine::{self, ConvGeometry, Groups};
use crate::models::autoencoder::AutoencoderKlConfig;
use crate::models::denoiser::{MmditConfig, UnetConfig};
use crate::models::encoder::VitConfig;
use crate::models::weights;
use crate::models::{Compute, Init, cast, leave};
use crate::random::Stream;
use crate::train::adamw::{AdamW, AdamWConfig, GradientSum};
use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorData};
use serde::Serialize;
use serde_json::json;
use std::cell::RefCell;
use std::io::Write as _;
use std::time::Instant;

/// Steps of the optimizer that losses are followed over.
const STEPS: usize = 20;

/// One comparison.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    compute: Compute,
    /// Root of the mean squared difference, in units of the reference's root mean square.
    error: f64,
    tolerance: f64,
}

impl Row {
    fn is_close(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// What is named, computed on some device.
type Values = Vec<(String, Vec<f32>)>;

/// Compares every operation, forward and backward, then networks and a short training, with the CPU in f32.
pub(super) fn parity(parity: &Parity) -> Result<u8> {
    if parity.device == "cpu" {
        let fault =
            "--device is \"cpu\"; expected cuda:N: the CPU is what others are compared with";
        return Err(BadArgument(fault.to_owned()).into());
    }
    let device = device::parse(&parity.device)?;
    let cpu = Device::flex();
    let start = Instant::now();
    let mut rows = Vec::new();
    let mut out = std::io::stdout().lock();
    let is_asked = |case: &Case| parity.only.as_ref().is_none_or(|text| case.name.contains(text));
    for case in cases().into_iter().filter(is_asked) {
        let expected = (case.compute)(&cpu, Compute::F32);
        for compute in [Compute::F32, Compute::Tf32, Compute::Bf16] {
            let tolerance = match compute {
                Compute::F32 => case.tolerances[0],
                // TF32 keeps three bits more than bf16, but only within products.
                Compute::Tf32 => case.tolerances[1] / 4.0,
                Compute::Bf16 => case.tolerances[1],
            };
            let found = (case.compute)(&device, compute);
            for ((what, expected), (_, found)) in expected.iter().zip(&found) {
                let error = error(expected, found);
                rows.push(Row {
                    what: format!("{}: {what}", case.name),
                    compute,
                    error,
                    tolerance,
                });
            }
        }
        if !parity.json {
            for row in rows.iter().rev().take_while(|row| row.what.starts_with(&case.name)) {
                if !row.is_close() {
                    writeln!(
                        out,
                        "{} in {:?}: {:.1e}, allowed {:.1e}",
                        row.what, row.compute, row.error, row.tolerance
                    )?;
                }
            }
        }
    }
    let failed = rows.iter().filter(|row| !row.is_close()).count();
    let worst = |compute: Compute| {
        let of = rows.iter().filter(|row| row.compute == compute);
        of.map(|row| row.error / row.tolerance).fold(0.0, f64::max)
    };
    let seconds = start.elapsed().as_secs_f64();
    if parity.json {
        let document = json!({
            "device": parity.device,
            "seconds": seconds,
            "failed": failed,
            "compared": rows,
        });
        writeln!(out, "{document}")?;
    } else {
        writeln!(
            out,
            "{}: {} of {} values as on the CPU in {seconds:.1} s (worst: {:.2} of what f32 may differ, {:.2} of TF32, {:.2} of bf16)",
            parity.device,
            rows.len() - failed,
            rows.len(),
            worst(Compute::F32),
            worst(Compute::Tf32),
            worst(Compute::Bf16),
        )?;
    }
    Ok(if failed == 0 { exit::DONE } else { exit::FAILED })
}

fn error(expected: &[f32], found: &[f32]) -> f64 {
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    let (mut difference, mut power) = (0.0, 0.0);
    for (expected, found) in expected.iter().zip(found) {
        let (expected, found) = (f64::from(*expected), f64::from(*found));
        difference += (expected - found).powi(2);
        power += expected.powi(2);
    }
    let error = (difference / power.max(1e-12 * expected.len() as f64)).sqrt();
    if error.is_finite() { error } else { f64::INFINITY }
}

/// What computes a case on a device.
type Computation = Box<dyn Fn(&Device, Compute) -> Values>;

/// An input, and where its gradient is found.
type Input = (String, Box<dyn Fn(&Gradients) -> Vec<f32>>);

/// Something that is computed on both sides.
struct Case {
    name: String,
    /// In f32 and in bf16.
    tolerances: [f64; 2],
    compute: Computation,
}

/// An operation of up to five inputs, in the number format that is asked for (weights stay f32).
struct Probe<'a> {
    device: Device,
    compute: Compute,
    name: &'a str,
    inputs: RefCell<Vec<Input>>,
}

impl Probe<'_> {
    /// Activations: in the format of the computation.
    fn input<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        self.compute.enter(self.weight(name, shape))
    }

    /// Weights: f32.
    fn weight<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let values =
            Stream::new(1, self.name).at(name.len() as u64).normals(shape.iter().product());
        let device = self.device.clone().autodiff();
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        // On every device what bf16 keeps of it, so that only the computation differs.
        let tensor = Compute::F32.enter(Compute::Bf16.enter(tensor)).detach().require_grad();
        let of = tensor.clone();
        let read = move |gradients: &Gradients| of.grad(gradients).map(read).unwrap_or_default();
        self.inputs.borrow_mut().push((name.to_owned(), Box::new(read)));
        tensor
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let tensor = cast(tensor, FloatDType::F32);
    tensor.into_data().try_to_vec::<f32>().unwrap_or_default()
}

/// A case from an operation: its output, and the gradient of each input.
fn operation<const D: usize>(
    name: impl Into<String>,
    run: impl Fn(&Probe<'_>) -> Tensor<D> + 'static,
) -> Case {
    let name = name.into();
    let of = name.clone();
    let compute = Box::new(move |device: &Device, compute: Compute| {
        let inputs = RefCell::default();
        let probe = Probe { device: device.clone(), compute, name: &of, inputs };
        let out = run(&probe);
        let weights: Tensor<D> = {
            let shape = out.dims();
            let values = Stream::new(2, &of).at(0).normals(shape.iter().product());
            Tensor::from_data(TensorData::new(values, shape), &device.clone().autodiff())
        };
        let mut values = vec![("output".to_owned(), read(out.clone().inner()))];
        let gradients = (leave(out) * weights).sum().backward();
        for (name, read) in probe.inputs.into_inner() {
            values.push((format!("gradient of {name}"), read(&gradients)));
        }
        values
    });
    Case { name, tolerances: [1e-4, 2e-2], compute }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, num_in, num_out, side, kernel, stride, padding) in [
        (2, 320, 320, 32, 3, 1, (1, 1)),
        (2, 4, 320, 32, 3, 1, (1, 1)),
        (2, 320, 4, 32, 3, 1, (1, 1)),
        (2, 640, 320, 16, 1, 1, (0, 0)),
        (3, 64, 64, 15, 3, 2, (1, 1)),
        (3, 64, 128, 16, 3, 2, (0, 1)),
        (2, 1, 32, 33, 3, 1, (1, 1)),
        (2, 3, 96, 56, 14, 14, (0, 0)),
        (1, 1280, 1280, 8, 3, 1, (1, 1)),
    ] {
        let name = format!("conv {num_in} to {num_out}, {kernel}×{kernel} by {stride}, {side} px");
        cases.push(operation(name, move |p| {
            let x = p.input("x", [b, num_in, side, side]);
            let scale = ((num_in * kernel * kernel) as f64).sqrt().recip();
            let weight = p.weight("weight", [num_out, num_in, kernel, kernel]) * scale;
            let bias = p.weight("of the bias", [num_out]);
            engine::conv2d(x, weight, Some(bias), ConvGeometry { stride, padding })
        }));
    }
    for (b, c, side, count, with_silu, is_shifted) in [
        (2, 320, 32, 32, true, false),
        (2, 640, 16, 32, false, false),
        (3, 1280, 8, 32, true, true),
        (2, 96, 17, 8, true, true),
        (1, 12, 9, 3, false, false),
    ] {
        let name = format!(
            "group norm of {c} channels in {count} groups, {side} px, SiLU {with_silu}, shifted {is_shifted}"
        );
        cases.push(operation(name, move |p| {
            let x = p.input("x", [b, c, side, side]) * 2.0 + 1.0;
            let shift = is_shifted.then(|| p.input("the shift", [b, c]));
            let (weight, bias) = (p.weight("weight", [c]), p.weight("of the bias", [c]));
            engine::group_norm(x, shift, weight, bias, Groups { count, epsilon: 1e-5, with_silu })
        }));
    }
    for (rows, num_in, num_out, has_bias) in
        [(2048, 320, 320, true), (154, 768, 640, false), (6, 320, 1280, true), (77, 40, 24, true)]
    {
        let name = format!("affine {rows} × {num_in} to {num_out}, bias {has_bias}");
        cases.push(operation(name, move |p| {
            let x = p.input("x", [1, rows, num_in]);
            let weight = p.weight("weight", [num_out, num_in]) * (num_in as f64).sqrt().recip();
            let bias = has_bias.then(|| p.weight("of the bias", [num_out]));
            engine::affine(x, weight, bias)
        }));
    }
    for (rows, width) in [(2048, 320), (77, 1280), (257, 384), (10, 30)] {
        cases.push(operation(format!("layer norm {rows} × {width}"), move |p| {
            let x = p.input("x", [1, rows, width]) * 2.0 + 1.0;
            let (weight, bias) = (p.weight("weight", [width]), p.weight("of the bias", [width]));
            engine::layer_norm(x, weight, bias, 1e-5)
        }));
    }
    for (rows, width) in [(2048, 1280), (33, 24)] {
        cases.push(operation(format!("GEGLU {rows} × {width}"), move |p| {
            engine::geglu(p.input("x", [1, rows, 2 * width]))
        }));
    }
    for (b, heads, queries, keys, width) in [
        (2, 8, 1024, 1024, 40),
        (2, 8, 1024, 77, 40),
        (2, 8, 256, 256, 80),
        (2, 8, 64, 77, 160),
        (2, 8, 16, 16, 160),
        (2, 6, 257, 257, 64),
        (1, 1, 256, 256, 512),
        (2, 2, 50, 50, 12),
    ] {
        let name = format!("attention {heads} × {queries} to {keys} of {width}");
        cases.push(operation(name, move |p| {
            let q = p.input("q", [b, heads, queries, width]);
            let k = p.input("keys", [b, heads, keys, width]);
            let v = p.input("values", [b, heads, keys, width]);
            engine::attention(q, k, v)
        }));
    }
    cases.push(operation("concat", |p| {
        let (a, b) = (p.input("a", [2, 64, 16, 16]), p.input("bb", [2, 32, 16, 16]));
        engine::concat(a, b)
    }));
    cases.push(operation("concat, odd", |p| {
        let (a, b) = (p.input("a", [2, 3, 7, 5]), p.input("bb", [2, 6, 7, 5]));
        engine::concat(a, b)
    }));
    for size in [[32, 32], [31, 32], [31, 31]] {
        cases.push(operation(format!("repeat to {size:?}"), move |p| {
            engine::repeat(p.input("x", [2, 64, 16, 16]), size)
        }));
    }
    cases.extend([unet(), transformer(), vit(), autoencoder(), training()]);
    cases
}

fn noise<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = Stream::new(3, name).at(0).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn small_unet() -> UnetConfig {
    UnetConfig {
        block_out_channels: vec![64, 128, 256],
        attention: vec![false, true, true],
        cross_attention_dim: 384,
        ..UnetConfig::default()
    }
}

/// The network with noise where its weights start at zero, which would hide everything behind them.
fn without_zeros<M: Module>(model: M) -> M {
    let mut state = weights::state_dict(&model);
    for (name, data) in &mut state {
        if data.iter::<f32>().all(|value| value == 0.0) {
            let values = Stream::new(4, name).at(0).normals(data.num_elements());
            let values: Vec<f32> = values.into_iter().map(|value| 0.05 * value).collect();
            *data = TensorData::new(values, data.shape().clone());
        }
    }
    weights::load_state_dict(model, &state).expect("the network's own weights fit it")
}

/// Loss and gradients of a network, the gradients as one.
fn summary<M: Module>(model: &M, loss: Tensor<1>) -> Values {
    let mut values = vec![("loss".to_owned(), read(loss.clone().inner()))];
    let gradients = weights::gradients(model, &loss.backward());
    let all = gradients.into_values().flat_map(|data| data.try_to_vec::<f32>().unwrap_or_default());
    values.push(("all gradients".to_owned(), all.collect()));
    values
}

fn unet() -> Case {
    let compute = Box::new(|device: &Device, compute: Compute| {
        let init = &mut Init::new(Stream::new(1, "parity"), device);
        let unet = without_zeros(small_unet().init(init)).with_compute(compute).train();
        let device = device.clone().autodiff();
        let noisy = noise("noisy", [2, 4, 32, 32], &device);
        let context = noise("context", [2, 77, 384], &device);
        let timesteps = Tensor::from_data([500.0, 20.0], &device);
        let out = unet.forward(noisy, timesteps, context);
        let mut values = vec![("output".to_owned(), read(out.clone().inner()))];
        let target = noise("target", [2, 4, 32, 32], &device);
        values.extend(summary(&unet, (out - target).square().mean()));
        values
    });
    Case { name: "U-Net of 25M".to_owned(), tolerances: [1e-3, 5e-2], compute }
}

fn transformer() -> Case {
    let compute = Box::new(|device: &Device, compute: Compute| {
        let config = MmditConfig {
            sample_size: 32,
            in_channels: 4,
            out_channels: 4,
            num_layers: 4,
            num_attention_heads: 6,
            joint_attention_dim: 256,
            pooled_projection_dim: 128,
            pos_embed_max_size: 16,
            qk_norm: true,
            ..MmditConfig::default()
        };
        let init = &mut Init::new(Stream::new(1, "parity"), device);
        let transformer = without_zeros(config.init(init)).with_compute(compute).train();
        let device = device.clone().autodiff();
        let noisy = noise("noisy", [2, 4, 32, 32], &device);
        let context = noise("context", [2, 3, 256], &device);
        let timesteps = Tensor::from_data([500.0, 20.0], &device);
        let pooled = noise("pooled", [2, 128], &device);
        let out = transformer.forward(noisy, timesteps, context, Some(pooled));
        let mut values = vec![("output".to_owned(), read(out.clone().inner()))];
        let target = noise("target", [2, 4, 32, 32], &device);
        values.extend(summary(&transformer, (out - target).square().mean()));
        values
    });
    Case { name: "transformer".to_owned(), tolerances: [1e-3, 5e-2], compute }
}

fn vit() -> Case {
    let compute = Box::new(|device: &Device, compute: Compute| {
        let config = VitConfig {
            hidden_size: 384,
            num_hidden_layers: 4,
            num_attention_heads: 6,
            ..VitConfig::default()
        };
        let init = &mut Init::new(Stream::new(1, "parity"), device);
        let vit = config.init(init).with_compute(compute).train();
        let pixels = noise("pixels", [2, 3, 112, 112], &device.clone().autodiff());
        let out = vit.forward(pixels);
        let mut values = vec![("output".to_owned(), read(out.clone().inner()))];
        values.extend(summary(&vit, out.square().mean()));
        values
    });
    Case { name: "ViT".to_owned(), tolerances: [1e-3, 5e-2], compute }
}

fn autoencoder() -> Case {
    let compute = Box::new(|device: &Device, compute: Compute| {
        let config = AutoencoderKlConfig {
            block_out_channels: vec![32, 64, 64],
            ..AutoencoderKlConfig::default()
        };
        let init = &mut Init::new(Stream::new(1, "parity"), device);
        let autoencoder = config.init(init).with_compute(compute).train();
        let pixels = noise("pixels", [2, config.in_channels, 64, 64], &device.clone().autodiff());
        let moments = autoencoder.encode(pixels.clone());
        let out = autoencoder.decode(moments.mean.clone());
        let mut values = vec![
            ("latents".to_owned(), read(moments.mean.inner())),
            ("output".to_owned(), read(out.clone().inner())),
        ];
        values.extend(summary(&autoencoder, (out - pixels).square().mean()));
        values
    });
    Case { name: "autoencoder".to_owned(), tolerances: [1e-3, 1e-1], compute }
}

/// The losses of a short training of the U-Net.
fn training() -> Case {
    let compute = Box::new(|device: &Device, compute: Compute| {
        let init = &mut Init::new(Stream::new(1, "parity"), device);
        let mut unet = small_unet().init(init).with_compute(compute).train();
        let device = device.clone().autodiff();
        let noisy = noise("noisy", [2, 4, 16, 16], &device);
        let target = noise("target", [2, 4, 16, 16], &device);
        let context = noise("context", [2, 77, 384], &device);
        let timesteps = Tensor::from_data([500.0, 20.0], &device);
        let mut optimizer = AdamW::new(AdamWConfig::default());
        let losses = (0..STEPS).map(|_| {
            let out = unet.forward(noisy.clone(), timesteps.clone(), context.clone());
            let loss = (out - target.clone()).square().mean();
            let mut gradients = GradientSum::default();
            gradients.add(&unet, loss.clone().backward());
            let (next, _, _) = optimizer.step(unet.clone(), None, gradients, 1e-4);
            unet = next;
            loss.inner().into_scalar::<f32>()
        });
        vec![(format!("losses of {STEPS} steps"), losses.collect())]
    });
    Case { name: "training".to_owned(), tolerances: [2e-3, 5e-2], compute }
}
