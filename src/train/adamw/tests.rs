use super::*;
use burn::{
    module::Param,
    tensor::{Device, activation::sigmoid},
};

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Two layers and a scale, in torch's layout.
#[derive(Module, Debug)]
struct Net {
    first: Layer,
    second: Layer,
    scale: Param<Tensor<1>>,
}

impl Layer {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }
}

impl Net {
    fn loss(&self, inputs: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        // tanh by way of the logistic function, whose derivative burn also knows.
        let hidden = sigmoid(self.first.forward(inputs).mul_scalar(2.0)).mul_scalar(2.0) - 1.0;
        (self.second.forward(hidden) * self.scale.val().unsqueeze() - targets).square().mean()
    }
}

#[derive(Deserialize)]
struct Golden {
    clip: f64,
    rates: Vec<f64>,
    start: BTreeMap<String, Vec<f32>>,
    inputs: Vec<Vec<f32>>,
    targets: Vec<Vec<f32>>,
    norms: Vec<f64>,
    after: Vec<BTreeMap<String, Vec<f32>>>,
    #[serde(default)]
    groups: Vec<Group>,
}

impl Golden {
    fn read() -> Self {
        serde_json::from_str(include_str!("../../../tests/golden/adamw.json")).unwrap()
    }

    fn with_groups() -> Self {
        serde_json::from_str(include_str!("../../../tests/golden/adamw_groups.json")).unwrap()
    }

    fn optimizer(&self) -> AdamW {
        let config = AdamWConfig {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: Some(self.clip),
            groups: self.groups.clone(),
        };
        AdamW::new(config)
    }

    fn net(&self) -> Net {
        let device = Device::flex().autodiff();
        let matrix = |name: &str, shape: [usize; 2]| {
            Param::from_data(TensorData::new(self.start[name].clone(), shape), &device)
        };
        let vector = |name: &str| {
            let values = self.start[name].clone();
            let len = values.len();
            Param::from_data(TensorData::new(values, [len]), &device)
        };
        Net {
            first: Layer { weight: matrix("first.weight", [5, 3]), bias: vector("first.bias") },
            second: Layer { weight: matrix("second.weight", [2, 5]), bias: vector("second.bias") },
            scale: vector("scale"),
        }
    }

    /// Step `at`, of two rounds of four samples.
    fn step(&self, optimizer: &mut AdamW, net: Net, at: usize) -> (Net, f64) {
        let mut gradients = GradientSum::default();
        for round in 0..2 {
            let part = |values: &[f32], width: usize| {
                let values = values.chunks(4 * width).nth(round).unwrap().to_vec();
                let data = TensorData::new(values, [4, width]);
                Tensor::<2>::from_data(data, &Device::flex().autodiff())
            };
            let loss = net.loss(part(&self.inputs[at], 3), part(&self.targets[at], 2));
            gradients.add(&net, loss.backward());
        }
        let (net, _, norm) = optimizer.step(net, None, gradients, self.rates[at]);
        (net, norm.read())
    }
}

fn values(net: &Net) -> BTreeMap<String, Vec<f32>> {
    flat_values(net)
        .into_iter()
        .map(|(name, value)| (name, value.into_data().try_into_vec::<f32>().unwrap()))
        .collect()
}

/// Reference: tests/golden/adamw.py.
#[test]
fn five_steps_match_torch() {
    assert_as_golden(&Golden::read());
}

/// Reference: tests/golden/adamw.py.
#[test]
fn groups_go_at_their_own_pace_as_in_torch() {
    let golden = Golden::with_groups();
    assert_as_golden(&golden);
    let alike = Golden { groups: Vec::new(), ..Golden::with_groups() };
    let after = |golden: &Golden| values(&golden.step(&mut golden.optimizer(), golden.net(), 0).0);
    assert_ne!(after(&golden)["first.bias"], after(&alike)["first.bias"]);
    assert_eq!(after(&golden)["scale"], golden.start["scale"], "a rate of 0 stands still");
}

fn assert_as_golden(golden: &Golden) {
    let (mut net, mut optimizer) = (golden.net(), golden.optimizer());
    for at in 0..golden.rates.len() {
        let (next, norm) = golden.step(&mut optimizer, net, at);
        net = next;
        // f32 on both sides, sums of up to 15 products.
        assert!((norm / golden.norms[at] - 1.0).abs() < 1e-6, "step {at}: norm {norm}");
        let ours = values(&net);
        assert_eq!(ours.keys().collect::<Vec<_>>(), golden.after[at].keys().collect::<Vec<_>>());
        for (name, theirs) in &golden.after[at] {
            for (ours, theirs) in ours[name].iter().zip(theirs) {
                let error = (ours - theirs).abs() / theirs.abs().max(0.1);
                assert!(error < 1e-6 * (at + 1) as f32, "step {at}, {name}: {ours}, {theirs}");
            }
        }
    }
}

#[test]
fn a_saved_state_goes_on_bit_for_bit() {
    let golden = Golden::with_groups();
    let (mut net, mut optimizer) = (golden.net(), golden.optimizer());
    for at in 0..3 {
        (net, _) = golden.step(&mut optimizer, net, at);
    }
    let state = optimizer.state_dict();
    let mut resumed = golden.optimizer();
    resumed.load_state_dict(&net, &state).unwrap();
    assert_eq!(resumed.state_dict(), state);
    let mut other = net.clone();
    for at in 3..5 {
        (net, _) = golden.step(&mut optimizer, net, at);
        (other, _) = golden.step(&mut resumed, other, at);
    }
    assert_eq!(values(&net), values(&other));
    assert_eq!(optimizer.state_dict(), resumed.state_dict());
}

#[test]
fn states_that_do_not_fit_are_refused_with_their_reason() {
    let golden = Golden::read();
    let (net, mut optimizer) = (golden.net(), golden.optimizer());
    let (net, _) = golden.step(&mut optimizer, net, 0);
    let state = optimizer.state_dict();
    let refused = |change: &dyn Fn(&mut BTreeMap<String, TensorData>)| {
        let mut state = state.clone();
        change(&mut state);
        golden.optimizer().load_state_dict(&net, &state).unwrap_err().to_string()
    };
    let short = || TensorData::new(vec![0f32; 3], [3]);
    assert!(refused(&|state| drop(state.remove("mean.scale"))).contains("scale is incomplete"));
    assert!(
        refused(&|state| drop(state.insert("mean.first.weight".into(), short())))
            .contains("first.weight does not fit: the parameter has 15")
    );
    assert!(
        refused(&|state| drop(state.insert("mean.third".into(), short()))).contains("mean.third")
    );
    assert!(
        refused(&|state| drop(state.insert("steps.scale".into(), short()))).contains("incomplete")
    );
}

#[test]
fn numbers_that_are_none_change_nothing() {
    let golden = Golden::read();
    for bad in [f32::NAN, f32::INFINITY] {
        let (net, mut optimizer) = (golden.net(), golden.optimizer());
        let (net, _) = golden.step(&mut optimizer, net, 0);
        let (weights, state) = (values(&net), optimizer.state_dict());
        let device = Device::flex().autodiff();
        let inputs = Tensor::<2>::from_data([[1.0, 1.0, 1.0]], &device);
        let loss = net.loss(inputs, Tensor::from_data([[bad, 0.0]], &device));
        let mut gradients = GradientSum::default();
        gradients.add(&net, loss.backward());
        let (net, _, norm) = optimizer.step(net, None, gradients, 0.1);
        assert!(!norm.read().is_finite());
        assert_eq!((values(&net), optimizer.state_dict()), (weights, state));
        let (_, norm) = golden.step(&mut optimizer, net, 1);
        assert!(norm.is_finite(), "the next step goes on");
    }
}

#[test]
fn frozen_parameters_stay() {
    let golden = Golden::read();
    let (mut net, mut optimizer) = (golden.net(), golden.optimizer());
    net.first = net.first.no_grad();
    let before = values(&net);
    let (net, _) = golden.step(&mut optimizer, net, 0);
    let after = values(&net);
    for name in before.keys() {
        assert_eq!(before[name] == after[name], name.starts_with("first."), "{name}");
    }
    assert!(!net.first.weight.is_require_grad() && net.second.weight.is_require_grad());
}

#[test]
fn bad_numbers_have_their_sentence() {
    assert!(AdamWConfig::default().check().is_empty());
    let wrong = AdamWConfig {
        beta1: 1.0,
        beta2: -0.1,
        epsilon: 0.0,
        weight_decay: f64::NAN,
        clip_norm: Some(0.0),
        groups: vec![Group { weights: Vec::new(), rate: -1.0, decay: f64::INFINITY }],
    };
    assert_eq!(wrong.check().len(), 8);
}

/// States that were saved under the path through the structs are still read.
#[test]
fn a_state_under_former_names_is_read() {
    use crate::models::denoiser::{ClassEmbedding, UnetConfig};
    use crate::models::{Init, weights};
    use crate::random::Stream;
    let config = UnetConfig {
        block_out_channels: vec![4],
        layers_per_block: 1,
        attention: vec![false],
        attention_head_dim: vec![2],
        cross_attention_dim: 4,
        norm_num_groups: 2,
        class_embedding: Some(ClassEmbedding::SimpleProjection(6)),
        ..UnetConfig::default()
    };
    let unet = config.init(&mut Init::new(Stream::new(1, "unet"), &Device::flex()));
    let former = former_names(&unet);
    let names: Vec<String> = weights::shapes(&unet).into_keys().collect();
    assert_eq!(
        former.keys().cloned().collect::<Vec<_>>(),
        names,
        "the names are those of the weights"
    );
    let changed: Vec<_> = former.iter().filter(|(name, former)| name != former).collect();
    assert!(!changed.is_empty());
    let mut state = std::collections::BTreeMap::new();
    for (name, shape) in weights::shapes(&unet) {
        let (len, former) = (shape.iter().product::<usize>(), &former[&name]);
        for (kind, value) in [("mean", 0.5f32), ("square", 0.25)] {
            state.insert(format!("{kind}.{former}"), TensorData::new(vec![value; len], [len]));
        }
        state.insert(format!("steps.{former}"), TensorData::new(vec![3i64], [1]));
    }
    let mut optimizer = AdamW::new(AdamWConfig::default());
    optimizer.load_state_dict(&unet, &state).unwrap();
    assert!(optimizer.state_dict().contains_key(&format!("mean.{}", changed[0].0)));
    assert_eq!(optimizer.state_dict().len(), state.len());
}
