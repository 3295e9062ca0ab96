use super::*;
use crate::models::denoiser::{Unet, UnetConfig};
use crate::models::layers::{Conv2d, Linear};
use crate::models::weights::gradients;
use crate::random::Stream;
use crate::train::adamw::GradientSum;
use crate::train::checkpoint::Parts;
use crate::train::{Learner, Stride, Train};
use burn::tensor::{Device, TensorData};

#[derive(serde::Deserialize)]
struct Golden {
    rank: usize,
    alpha: f64,
    cases: BTreeMap<String, BTreeMap<String, Array>>,
}

#[derive(serde::Deserialize)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Array {
    fn data(&self) -> TensorData {
        TensorData::new(self.values.clone(), self.shape.clone())
    }

    fn assert_close(&self, found: &TensorData, name: &str) {
        let found: Vec<f32> = found.try_to_vec().unwrap();
        assert_eq!(found.len(), self.values.len(), "{name}");
        let most = self.values.iter().fold(0f32, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(&self.values) {
            // Sums of some ten products in f32.
            assert!((found - expected).abs() < 1e-5 * most, "{name}: {found} {expected}");
        }
    }
}

fn init(name: &str) -> Init {
    Init::new(Stream::new(1, name), &Device::flex())
}

/// Reference: peft (tests/golden/lora.py, versions in its header).
#[test]
fn a_change_is_what_it_is_in_peft() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../tests/golden/lora.json")).unwrap();
    let lora = Lora { rank: golden.rank, alpha: golden.alpha, targets: vec!["weight".to_owned()] };
    for (name, case) in &golden.cases {
        let state = |names: [(&str, &str); 2]| -> StateDict {
            names.iter().map(|(to, from)| ((*to).to_owned(), case[*from].data())).collect()
        };
        let base = state([("weight", "weight"), ("bias", "bias")]);
        let change = state([("weight.lora.lora_a", "a"), ("weight.lora.lora_b", "b")]);
        let shape = &case["weight"].shape;
        match name.as_str() {
            "linear" => {
                let fresh = Linear::new(&mut init("linear"), shape[1], shape[0], true);
                let input = |device: &Device| Tensor::<2>::from_data(case["input"].data(), device);
                compare(case, fresh, &base, &change, &lora, |layer, device| {
                    layer.forward(input(device)).reshape([-1])
                });
            }
            _ => {
                let fresh = Conv2d::new(&mut init("conv"), shape[1], shape[0], shape[2]);
                let input = |device: &Device| Tensor::<4>::from_data(case["input"].data(), device);
                compare(case, fresh, &base, &change, &lora, |layer, device| {
                    layer.forward(input(device)).reshape([-1])
                });
            }
        }
    }
}

fn compare<M: Module + Clone>(
    case: &BTreeMap<String, Array>,
    fresh: M,
    base: &StateDict,
    change: &StateDict,
    lora: &Lora,
    forward: impl Fn(&M, &Device) -> Tensor<1>,
) {
    let device = Device::flex();
    let layer = weights::load_state_dict(fresh, base).unwrap();
    let layer = load_state_dict(lora.attach(layer, &mut init("lora")).unwrap(), change).unwrap();
    case["output"].assert_close(&forward(&layer, &device).into_data(), "output");
    let learning = layer.clone().train();
    let output = forward(&learning, &device.clone().autodiff());
    let found = gradients(&learning, &output.square().sum().backward());
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["weight.lora.lora_a", "weight.lora.lora_b"], "nothing else learns");
    case["gradient_a"].assert_close(&found["weight.lora.lora_a"], "gradient of A");
    case["gradient_b"].assert_close(&found["weight.lora.lora_b"], "gradient of B");
    let merged = merge(layer);
    let state = weights::state_dict(&merged);
    assert_eq!(state.len(), 2);
    case["merged"].assert_close(&state["weight"], "merged");
    case["output"].assert_close(&forward(&merged, &device).into_data(), "output, merged");
}

fn unet() -> Unet {
    let config = UnetConfig {
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
    };
    let fresh = config.init(&mut init("unet"));
    // As if trained: a fresh one begins with zeros at its end, which let no gradient through.
    let trained = |(name, data): (String, TensorData)| {
        let noise = Stream::new(1, &name).at(0).normals(data.num_elements());
        let values = data.try_to_vec::<f32>().unwrap().into_iter().zip(noise);
        let values = values.map(|(value, noise)| value + 0.1 * noise).collect();
        (name, TensorData::new::<f32, _>(values, data.shape().clone()))
    };
    let state = weights::state_dict(&fresh).into_iter().map(trained).collect();
    weights::load_state_dict(fresh, &state).unwrap()
}

fn lora() -> Lora {
    let targets = ["*.attn2.to_q.weight", "*.attn2.to_v.weight", "*.conv1.weight"];
    Lora { rank: 2, alpha: 4.0, targets: targets.map(str::to_owned).into() }
}

fn inputs(device: &Device) -> (Tensor<4>, Tensor<3>) {
    let values = |name: &str, count| Stream::new(1, name).at(0).normals(count);
    let noisy = Tensor::from_data(TensorData::new(values("noisy", 128), [1, 2, 8, 8]), device);
    (noisy, Tensor::from_data(TensorData::new(values("seen", 18), [1, 3, 6]), device))
}

fn predict(unet: &Unet, device: &Device) -> Tensor<4> {
    let (noisy, context) = inputs(device);
    unet.forward(noisy, Tensor::from_data([500.0f32], device), context)
}

fn step(learner: &mut Learner<Unet>) {
    let device = Device::flex().autodiff();
    let loss = (predict(learner.model(), &device) - 1.0).square().mean();
    let mut sum = GradientSum::default();
    sum.add(learner.model(), loss.backward());
    let stride = Stride { learning_rate: 1e-2, weight_decay: 0.01, ema_decay: 0.5 };
    assert!(learner.step(sum, stride).read() > 0.0);
}

/// It trains, is saved alone, resumes, and is merged; the U-Net knows nothing of it.
#[test]
fn an_adapter_on_a_unet_lives_as_any_weights_do() {
    let (plain, device) = (unet(), Device::flex());
    let adapted = || lora().attach(unet(), &mut init("lora")).unwrap();
    let same = |a: Tensor<4>, b: Tensor<4>, most: f32| {
        let difference = (a - b).abs().max().into_scalar::<f32>();
        assert!(difference <= most, "{difference}");
    };
    same(predict(&adapted(), &device), predict(&plain, &device), 0.0);

    let plan = Train::default();
    let mut learner = Learner::new(None, adapted(), &plan);
    for _ in 0..3 {
        step(&mut learner);
    }
    let learned = state_dict(learner.ema());
    assert!(learned.len() >= 12, "{} tensors", learned.len());
    let moved = |name: &&String| learned[*name] != state_dict(&adapted())[*name];
    assert_eq!(learned.keys().filter(moved).count(), learned.len(), "all of it has learned");
    for (name, before) in weights::state_dict(&plain) {
        assert_eq!(weights::state_dict(learner.ema())[&name], before, "{name} is frozen");
    }
    let all = weights::num_parameters(learner.ema());
    let alone: usize = learned.values().map(TensorData::num_elements).sum();
    assert!(alone * 4 < all, "{alone} of {all}");

    // Alone, over the weights it was made for.
    let again = load_state_dict(adapted(), &learned).unwrap();
    same(predict(&again, &device), predict(learner.ema(), &device), 0.0);
    let mut lacking = learned.clone();
    lacking.pop_first();
    assert!(load_state_dict(adapted(), &lacking).is_err());
    assert!(load_state_dict(adapted(), &weights::state_dict(&again)).is_err(), "no base in it");

    // As part of a checkpoint, it goes on to the same bits.
    let mut parts = Parts::default();
    learner.save(&mut parts);
    let mut resumed = Learner::new(None, adapted(), &plan);
    resumed.load(&parts).unwrap();
    step(&mut learner);
    step(&mut resumed);
    assert_eq!(state_dict(learner.model()), state_dict(resumed.model()));

    let merged = merge(learner.ema().clone());
    assert_eq!(weights::shapes(&merged), weights::shapes(&plain), "a U-Net as any other");
    same(predict(&merged, &device), predict(learner.ema(), &device), 1e-5);
    let difference = (predict(&merged, &device) - predict(&plain, &device)).abs().max();
    assert!(difference.into_scalar::<f32>() > 1e-3, "and another one");
}

#[test]
fn a_target_that_is_no_matrix_is_refused() {
    let with = |pattern: &str| Lora { targets: vec![pattern.to_owned()], ..lora() };
    let error = |pattern| with(pattern).attach(unet(), &mut init("lora")).unwrap_err().to_string();
    assert!(error("*.attn3.*").starts_with("targets[0] is \"*.attn3.*\"; expected"));
    assert!(error("*.bias").starts_with("targets[0]"));
    assert_eq!(Lora { rank: 0, alpha: f64::NAN, targets: Vec::new() }.check().len(), 2);
    assert!(lora().check().is_empty());
}
