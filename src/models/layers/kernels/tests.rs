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
        let ours = conv2d(x.clone(), weight.clone(), bias.clone(), geometry);
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
        let ours = group_norm(x.clone(), weight.clone(), bias.clone(), num_groups, 1e-5, with_silu);
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
fn constants_get_no_gradient() {
    let x = noise([1, 2, 4, 4], 1).set_require_grad(false);
    let (weight, bias) = (noise([2, 2, 3, 3], 2), noise([2], 3).set_require_grad(false));
    let geometry = ConvGeometry { stride: 1, padding: (1, 1) };
    let gradients = conv2d(x.clone(), weight.clone(), bias.clone(), geometry).sum().backward();
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
