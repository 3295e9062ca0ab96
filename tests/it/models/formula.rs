//! Weights and images by a formula, for networks too large to be stored.
//!
//! The same as in tests/golden/models/features.py, bit for bit: every step is one rounding in f32.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use umbra::models::weights::{StateDict, load_state_dict, shapes};

/// Output after output of SplitMix64, seeded with FNV-1a of `name`: the upper 24 bits, in [-1, 1).
pub(crate) fn uniform(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64)
        .map(|at| {
            let z = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let upper = ((z ^ (z >> 31)) >> 40) as i64 - (1 << 23);
            upper as f32 / (1 << 23) as f32
        })
        .collect()
}

/// The parameter that the reference calls `name`.
fn parameter(name: &str, shape: &[usize]) -> TensorData {
    let mut values = uniform(name, shape.iter().product());
    let change: Box<dyn Fn(f32) -> f32> = if name.ends_with("running_var") {
        Box::new(|u| (1.0 + 0.5 * u) * (1.0 / 64.0))
    } else if shape.len() > 1 {
        let fan_in: usize = shape[1..].iter().product();
        let scale = (6.0 / fan_in as f64).sqrt() as f32;
        let offset = if name.starts_with("lin") { 1.0 } else { 0.0 };
        Box::new(move |u| (offset + u) * scale)
    } else if name.ends_with("weight") {
        Box::new(|u| (1.0 + 0.2 * u) * (1.0 / 8.0))
    } else {
        Box::new(|u| 0.2 * u)
    };
    values.iter_mut().for_each(|value| *value = change(*value));
    TensorData::new(values, shape.to_vec())
}

/// Every parameter of `module`, whose name the reference knows as `theirs` says.
pub(crate) fn state<M: Module>(module: &M, theirs: fn(&str) -> String) -> StateDict {
    let parameter = |(name, shape): (String, Vec<usize>)| {
        let name = theirs(&name);
        let data = parameter(&name, &shape);
        (name, data)
    };
    shapes(module).into_iter().map(parameter).collect()
}

/// `module` with weights by the formula, named as in the reference.
pub(crate) fn filled<M: Module>(module: M) -> M {
    let state = state(&module, str::to_owned);
    load_state_dict(module, &state).unwrap()
}

/// Half noise, half a ramp that tells rows from columns and channels apart; in [-1, 1).
pub(crate) fn image(name: &str, shape: [usize; 4]) -> Tensor<4> {
    let [_, channels, height, width] = shape;
    let mut values = uniform(name, shape.iter().product());
    for (at, value) in values.iter_mut().enumerate() {
        let (x, y) = (at % width, at / width % height);
        let (c, b) = (at / (width * height) % channels, at / (width * height * channels));
        let ramp = ((2 * x + 3 * y + 40 * c + 70 * b) % 256) as f32 / 128.0 - 1.0;
        *value = 0.5 * *value + 0.5 * ramp;
    }
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A grey image of 8 bits, in [0, 1].
pub(crate) fn levels(name: &str, size: usize) -> Vec<f32> {
    let image = image(name, [1, 1, size, size]).into_data();
    image.iter::<f32>().map(|value| ((value + 1.0) * 128.0).floor() / 255.0).collect()
}
