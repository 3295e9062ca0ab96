//! Distances measured with a network that is not the run's own.

use crate::binary::{copy_of_finished, done, ended, umbra};
use burn::tensor::Device;
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::models::Init;
use umbra::models::features::XrayDenseNetConfig;
use umbra::models::weights::folder::ModelFolder;
use umbra::models::weights::{file, state_dict};
use umbra::random::Stream;

/// A small network with random weights, in a folder as docs/weights.md describes it.
fn write(folder: &Path, seed: u64) {
    let config = XrayDenseNetConfig {
        growth_rate: 4,
        block_config: vec![1, 1],
        num_init_features: 8,
        bn_size: 2,
        num_classes: 3,
        ..Default::default()
    };
    let network = config.init(&mut Init::new(Stream::new(seed, "densenet"), &Device::flex()));
    let mut json = serde_json::to_value(&config).unwrap();
    json["_class_name"] = "XrayDenseNet".into();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    file::write(&folder.join("model.safetensors"), &state_dict(&network)).unwrap();
}

fn evaluate(home: &Path) -> Command {
    let features =
        format!("features: XrayDenseNet(folder: \"{}\")", home.join("densenet").display());
    let list = format!(
        "evaluate=[Frechet(), Frechet({features}), Kernel(subset_size: 32, {features}), Coverage()]"
    );
    let mut command = umbra();
    command.args(["evaluate", "recipes/tiny.ron", "--set", &list, "--checkpoints"]);
    command.arg(home.join("checkpoints"));
    command
}

#[test]
fn a_foreign_network_judges_and_is_named() {
    let home = copy_of_finished();
    let folder = home.path().join("densenet");
    let report = || -> serde_json::Value {
        let path = home.path().join("checkpoints/tiny/report.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    write(&folder, 1);
    let ended_first = done(&mut evaluate(home.path()));
    assert_eq!(ended_first.stderr.matches("up to date").count(), 6, "{}", ended_first.stderr);
    let first = report();
    for figure in ["frechet_distance_xray_densenet", "kernel_distance_xray_densenet"] {
        let hash = ModelFolder::open(&folder).unwrap().hash().unwrap();
        assert_eq!(first[figure]["extractor"], format!("xray-densenet7:{}", &hash[..12]));
        assert_eq!(first[figure]["self_referential"], false);
        assert!(first[figure]["value"].is_number(), "{first:#}");
    }
    // Two networks, two rows.
    assert_eq!(first["frechet_distance"]["self_referential"], true);
    assert!(first["coverage"]["extractor"].as_str().unwrap().starts_with("dino:"));
    assert_eq!(first["coverage"]["self_referential"], true);

    // Nothing stale: the same network is up to date, other weights are not.
    let again = done(&mut evaluate(home.path()));
    assert_eq!(again.stderr.matches("up to date").count(), 7, "{}", again.stderr);
    write(&folder, 2);
    let ended_other = done(&mut evaluate(home.path()));
    assert_eq!(ended_other.stderr.matches("up to date").count(), 6, "{}", ended_other.stderr);
    let other = report();
    let figure = "frechet_distance_xray_densenet";
    assert_ne!(other[figure]["extractor"], first[figure]["extractor"]);
    assert_ne!(other[figure]["value"], first[figure]["value"]);
    assert_eq!(other["frechet_distance"], first["frechet_distance"]);

    // Damaged: told before any stage. Gone: a fault of the recipe.
    let weights = folder.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let damaged = ended(&mut evaluate(home.path()));
    assert_eq!(damaged.code, Some(3), "{}", damaged.stderr);
    assert!(damaged.stderr.contains(weights.to_str().unwrap()), "{}", damaged.stderr);
    fs::remove_file(&weights).unwrap();
    let gone = ended(&mut evaluate(home.path()));
    assert_eq!(gone.code, Some(2), "{}", gone.stderr);
    let folder = weights.parent().unwrap().display();
    let expected = format!("evaluate[1].features.folder: {folder} has no weights");
    assert!(gone.stderr.contains(&expected), "{}", gone.stderr);
}
