//! The kernels against burn's own operations, forward and backward.

use super::*;
use crate::random::Stream;
use burn::tensor::activation::silu;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, TensorData};

/// f32 on both sides, sums of up to 100,000 terms in another order.
const TOLERANCE: f64 = 2e-5;

#[test]
fn convolutions_agree_with_burn() {
    // (batch, in, out, height, width, kernel, stride, padding): several images per tile, several tiles
    // per image, single pixels, patches, odd sizes, one image alone.
    let cases = [
        (20, 3, 5, 4, 6, 3, 1, (1, 1)),
        (3, 40, 7, 33, 30, 3, 1, (1, 1)),
        (9, 8, 4, 5, 5, 1, 1, (0, 0)),
        (2, 4, 6, 7, 9, 3, 2, (1, 1)),
        (2, 4, 6, 8, 10, 3, 2, (0, 1)),
        (2, 1, 6, 16, 8, 4, 4, (0, 0)),
        (1, 2, 3, 6, 5, 3, 1, (0, 2)),
        (1, 2, 3, 6, 5, 5, 1, (2, 2)),
    ];
    for (b, num_in, num_out, h, w, kernel, stride, padding) in cases {
        let x = noise([b, num_in, h, w], 1);
        let weight = noise([num_out, num_in, kernel, kernel], 2);
        let bias = noise([num_out], 3);
        let geometry = ConvGeometry { stride, padding };
        let ours = conv2d(x.clone(), weight.clone(), Some(bias.clone()), geometry);
        let options = ConvOptions::new_with_padding([stride; 2], [padding; 2], [1; 2], 1);
        let (w4, b1) = (weight.clone(), Some(bias.clone()));
        let theirs = burn::tensor::module::conv2d(x.clone(), w4, b1, options);
        let what = format!("{:?} {kernel} {stride} {padding:?}", x.dims());
        assert_close(&what, ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.3).sin().sum().backward());
        assert_close(&what, x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close(&what, weight.grad(&ours).unwrap(), weight.grad(&theirs).unwrap());
        assert_close(&what, bias.grad(&ours).unwrap(), bias.grad(&theirs).unwrap());
    }
}

#[test]
fn group_norms_agree_with_burn() {
    for (b, c, h, w, num_groups, with_silu) in [
        (2, 6, 3, 5, 3, true),
        (3, 8, 8, 8, 2, false),
        (1, 4, 2, 3, 2, true),
        (2, 5, 17, 9, 1, true),
    ] {
        let x = noise([b, c, h, w], 1) * 3.0 + 2.0;
        let x = x.detach().require_grad();
        let (weight, bias) = (noise([c], 2), noise([c], 3));
        let groups = Groups { count: num_groups, epsilon: 1e-5, with_silu };
        let ours = group_norm(x.clone(), None, weight.clone(), bias.clone(), groups);
        let groups = x.clone().reshape([b, num_groups, c / num_groups * h * w]);
        let centred = groups.clone() - groups.mean_dim(2);
        let normal = centred.clone() / (centred.square().mean_dim(2) + 1e-5).sqrt();
        let theirs = normal.reshape([b, c, h, w]) * weight.clone().reshape([1, c, 1, 1])
            + bias.clone().reshape([1, c, 1, 1]);
        let theirs = if with_silu { silu(theirs) } else { theirs };
        let what = format!("{:?} {num_groups} {with_silu}", x.dims());
        assert_close(&what, ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
        assert_close(&what, x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close(&what, weight.grad(&ours).unwrap(), weight.grad(&theirs).unwrap());
        assert_close(&what, bias.grad(&ours).unwrap(), bias.grad(&theirs).unwrap());
    }
}

#[test]
fn shifted_group_norms_agree_with_burn() {
    let (b, c, h, w) = (3, 6, 4, 5);
    let (x, shift) = (noise([b, c, h, w], 1), noise([b, c], 4));
    let (weight, bias) = (noise([c], 2), noise([c], 3));
    let groups = Groups { count: 2, epsilon: 1e-5, with_silu: true };
    let ours = group_norm(x.clone(), Some(shift.clone()), weight.clone(), bias.clone(), groups);
    let sum = x.clone() + shift.clone().reshape([b, c, 1, 1]);
    let theirs = group_norm(sum, None, weight.clone(), bias.clone(), groups);
    assert_close("shifted", ours.clone(), theirs.clone());
    let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
    assert_close("x", x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
    assert_close("shift", shift.grad(&ours).unwrap(), shift.grad(&theirs).unwrap());
    assert_close("weight", weight.grad(&ours).unwrap(), weight.grad(&theirs).unwrap());
}

#[test]
fn affine_maps_agree_with_burn() {
    for (rows, num_in, num_out, has_bias) in
        [(7, 5, 3, true), (130, 33, 17, false), (1, 1, 1, true)]
    {
        let x = noise([2, rows, num_in], 1);
        let (weight, bias) = (noise([num_out, num_in], 2), noise([num_out], 3));
        let bias = has_bias.then_some(bias);
        let ours = affine(x.clone(), weight.clone(), bias.clone());
        let theirs =
            burn::tensor::module::linear(x.clone(), weight.clone().swap_dims(0, 1), bias.clone());
        assert_close("affine", ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.3).sin().sum().backward());
        assert_close("x", x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close("weight", weight.grad(&ours).unwrap(), weight.grad(&theirs).unwrap());
        if let Some(bias) = bias {
            assert_close("bias", bias.grad(&ours).unwrap(), bias.grad(&theirs).unwrap());
        }
    }
}

#[test]
fn layer_norms_agree_with_burn() {
    for (rows, width) in [(5, 3), (100, 32), (1, 70)] {
        let x = (noise([2, rows, width], 1) * 2.0 + 1.0).detach().require_grad();
        let (weight, bias) = (noise([width], 2), noise([width], 3));
        let ours = layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-5);
        let centred = x.clone() - x.clone().mean_dim(2);
        let normal = centred.clone() / (centred.square().mean_dim(2) + 1e-5).sqrt();
        let [w, b] = [&weight, &bias].map(|x| x.clone().reshape([1, 1, width]));
        let theirs = normal * w + b;
        assert_close("norm", ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
        assert_close("x", x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
        assert_close("weight", weight.grad(&ours).unwrap(), weight.grad(&theirs).unwrap());
        assert_close("bias", bias.grad(&ours).unwrap(), bias.grad(&theirs).unwrap());
    }
}

#[test]
fn gated_units_agree_with_burn() {
    let x = (noise([3, 7, 20], 1) * 2.0).detach().require_grad();
    let ours = geglu(x.clone());
    let theirs =
        x.clone().narrow(2, 0, 10) * burn::tensor::activation::gelu(x.clone().narrow(2, 10, 10));
    assert_close("geglu", ours.clone(), theirs.clone());
    let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
    assert_close("x", x.grad(&ours).unwrap(), x.grad(&theirs).unwrap());
}

#[test]
fn attention_agrees_with_its_formula() {
    for (b, heads, queries, keys, width) in [(2, 3, 5, 7, 4), (1, 2, 130, 77, 8), (1, 1, 1, 1, 3)] {
        let (q, k) = (noise([b, heads, queries, width], 1), noise([b, heads, keys, width], 2));
        let v = noise([b, heads, keys, width], 3);
        let ours = attention(q.clone(), k.clone(), v.clone());
        let scores = (q.clone() / (width as f64).sqrt()).matmul(k.clone().swap_dims(2, 3));
        let theirs = burn::tensor::activation::softmax(scores, 3).matmul(v.clone());
        assert_close("attention", ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
        assert_close("q", q.grad(&ours).unwrap(), q.grad(&theirs).unwrap());
        assert_close("k", k.grad(&ours).unwrap(), k.grad(&theirs).unwrap());
        assert_close("v", v.grad(&ours).unwrap(), v.grad(&theirs).unwrap());
    }
}

#[test]
fn channels_and_pixels_agree_with_burn() {
    let (a, b) = (noise([2, 3, 4, 5], 1), noise([2, 2, 4, 5], 2));
    let (ours, theirs) = (concat(a.clone(), b.clone()), Tensor::cat(vec![a.clone(), b.clone()], 1));
    assert_close("concat", ours.clone(), theirs.clone());
    let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
    assert_close("a", a.grad(&ours).unwrap(), a.grad(&theirs).unwrap());
    assert_close("b", b.grad(&ours).unwrap(), b.grad(&theirs).unwrap());
    for size in [[8, 10], [7, 10], [8, 9], [7, 9]] {
        let ours = repeat(a.clone(), size);
        let wide = a.clone().reshape([2, 3, 4, 1, 5, 1]).expand([2, 3, 4, 2, 5, 2]);
        let theirs = wide.reshape([2, 3, 8, 10]).slice([0..2, 0..3, 0..size[0], 0..size[1]]);
        assert_close("repeat", ours.clone(), theirs.clone());
        let [ours, theirs] = [ours, theirs].map(|out| (out * 0.7).sin().sum().backward());
        assert_close("x", a.grad(&ours).unwrap(), a.grad(&theirs).unwrap());
    }
}

#[test]
fn constants_get_no_gradient() {
    let x = noise([1, 2, 4, 4], 1).set_require_grad(false);
    let (weight, bias) = (noise([2, 2, 3, 3], 2), noise([2], 3).set_require_grad(false));
    let geometry = ConvGeometry { stride: 1, padding: (1, 1) };
    let gradients =
        conv2d(x.clone(), weight.clone(), Some(bias.clone()), geometry).sum().backward();
    assert!(x.grad(&gradients).is_none() && bias.grad(&gradients).is_none());
    assert!(weight.grad(&gradients).is_some());
}

fn noise<const D: usize>(shape: [usize; D], position: u64) -> Tensor<D> {
    let values = Stream::new(1, "kernels").at(position).normals(shape.iter().product());
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

/// Every element within the tolerance, in units of the reference's root mean square (at least 1e-3).
fn assert_close<const D: usize>(what: &str, ours: Tensor<D>, theirs: Tensor<D>) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (ours.into_data(), theirs.into_data());
    let power = theirs.iter::<f64>().map(|x| x * x).sum::<f64>() / theirs.num_elements() as f64;
    let scale = power.sqrt().max(1e-3);
    for (a, b) in ours.iter::<f64>().zip(theirs.iter::<f64>()) {
        assert!((a - b).abs() < TOLERANCE * scale, "{what}: {a} is not {b}");
    }
}

/// `cargo test --release how_long -- --ignored --nocapture`; PyTorch's side is `benches/attention_peer.py`.
#[test]
#[ignore = "measures"]
#[allow(clippy::print_stderr)]
fn how_long_attention_takes() {
    let [q, k, v] = [1, 2, 3].map(|at| noise([4, 8, 1024, 64], at));
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let out = attention(q.clone(), k.clone(), v.clone());
        let forward = start.elapsed().as_secs_f64();
        let _ = out.sum().backward();
        let both = start.elapsed().as_secs_f64();
        eprintln!("attention forward {:.1} ms, both {:.1} ms", 1e3 * forward, 1e3 * both);
    }
}
