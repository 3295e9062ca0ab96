//! Weights from strangers: folders that lie, each refused in one sentence, and folders in every honest layout.

use super::binary::{Ended, done, ended, umbra};
use super::models::golden::Golden;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::models::weights::StateDict;
use umbra::models::weights::file::{self, NonFinite};

/// A small DINO v1 as transformers writes it.
struct Honest {
    golden: Golden,
    config: String,
    weights: StateDict,
}

impl Honest {
    fn new() -> Self {
        let golden = Golden::read("vit");
        Self { config: golden.config.clone(), weights: golden.weights.clone(), golden }
    }

    /// The folder in one file, and the reference's input beside it.
    fn write(&self, folder: &Path) {
        fs::write(folder.join("config.json"), &self.config).unwrap();
        file::write(&folder.join("model.safetensors"), &self.weights).unwrap();
        self.write_input(folder);
    }

    fn write_input(&self, folder: &Path) {
        let input = [("pixel_values".to_owned(), self.golden.arrays["pixels"].clone())].into();
        file::write(&folder.join("in.safetensors"), &input).unwrap();
    }
}

fn forward(folder: &Path) -> Command {
    let mut command = umbra();
    command.arg("forward").arg(folder);
    command.arg("--input").arg(folder.join("in.safetensors"));
    command.arg("--output").arg(folder.join("out.safetensors"));
    command
}

/// The same with an address space too small for what the hostile files ask for.
fn confined(folder: &Path) -> Ended {
    let command = forward(folder);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("ulimit -v 3000000; exec \"$0\" \"$@\"").arg(command.get_program());
    shell.args(command.get_args());
    ended(&mut shell)
}

/// A safetensors file of `header` and `data`.
fn bytes(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

#[test]
fn every_honest_layout_gives_the_same() {
    let honest = Honest::new();
    let expected = {
        let home = tempfile::tempdir().unwrap();
        honest.write(home.path());
        let ended = ended(&mut forward(home.path()));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("last_hidden_state [2, 17, 16]"), "{}", ended.stdout);
        file::read(&home.path().join("out.safetensors"), NonFinite::Refuse).unwrap()
    };
    let tokens = burn::tensor::Tensor::<3>::from_data(
        expected["last_hidden_state"].clone(),
        &burn::tensor::Device::flex(),
    );
    honest.golden.assert_close("tokens", tokens, super::models::golden::F32);

    // In two shards with an index.
    let home = tempfile::tempdir().unwrap();
    honest.write_input(home.path());
    fs::write(home.path().join("config.json"), &honest.config).unwrap();
    let half = honest.weights.len() / 2;
    let mut map = serde_json::Map::new();
    for (at, name) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        .into_iter()
        .enumerate()
    {
        let part =
            honest.weights.iter().skip(at * half).take(if at == 0 { half } else { usize::MAX });
        let part: StateDict = part.map(|(name, data)| (name.clone(), data.clone())).collect();
        file::write(&home.path().join(name), &part).unwrap();
        map.extend(part.into_keys().map(|tensor| (tensor, name.into())));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    fs::write(home.path().join("model.safetensors.index.json"), index).unwrap();
    let ended = ended(&mut forward(home.path()));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let found = file::read(&home.path().join("out.safetensors"), NonFinite::Refuse).unwrap();
    assert_eq!(found, expected);
}

/// Refused with code 3, in one line that holds `part`; nothing is left behind.
fn refused(folder: &Path, what: &str, part: &str) {
    let ended = confined(folder);
    assert_eq!(ended.code, Some(3), "{what}: {ended:?}");
    assert_eq!(ended.stdout, "", "{what}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{what}: {}", ended.stderr);
    assert!(lines[0].starts_with("error: "), "{what}: {}", lines[0]);
    assert!(lines[0].contains(part), "{what}: {}\nlacks: {part}", lines[0]);
    assert!(!folder.join("out.safetensors").exists(), "{what}");
    assert!(!folder.join("out.tmp").exists(), "{what}");
}

#[test]
fn hostile_files_are_refused_in_one_sentence() {
    let honest = Honest::new();
    let home = tempfile::tempdir().unwrap();
    honest.write(home.path());
    let model = home.path().join("model.safetensors");
    let whole = fs::read(&model).unwrap();
    let with_length = |length: u64| {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let tensor = |dtype: &str, shape: &[u64], offsets: [u64; 2]| json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
    let one = |entry: serde_json::Value, data: &[u8]| bytes(&json!({ "a": entry }), data);
    let with_tensor = |name: &str, dtype: Dtype, data: &[u8], shape: &[usize]| {
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, data) in &honest.weights {
            let bytes = data.as_bytes().to_vec();
            tensors.push((name.clone(), Dtype::F32, data.shape().to_vec(), bytes));
        }
        let at = tensors.iter().position(|at| at.0 == name).unwrap();
        tensors[at] = (name.to_owned(), dtype, shape.to_vec(), data.to_vec());
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    };
    let norm = "layernorm.weight";
    let floats =
        |value: f32| [value; 16].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "shorter than its own length field"),
        ("seven bytes", whole[..7].to_vec(), "shorter than its own length field"),
        ("a length beyond the file", with_length(whole.len() as u64), "bytes in a file of"),
        ("a header of 10 GB", with_length(10 << 30), "header of 10737418240 bytes, at most"),
        ("a header of 2^64", with_length(u64::MAX), "header of 18446744073709551615 bytes"),
        ("a shorter header", with_length(100), "its header cannot be read"),
        ("no header", with_length(0), "its header cannot be read"),
        ("not JSON", [&8u64.to_le_bytes()[..], b"not json"].concat(), "its header cannot be read"),
        (
            "not UTF-8",
            [&4u64.to_le_bytes()[..], b"\xff\xfe\xff\xfe"].concat(),
            "its header cannot be read",
        ),
        (
            "nested",
            [&100_000u64.to_le_bytes()[..], &[b'['; 100_000]].concat(),
            "its header cannot be read",
        ),
        ("cut off", whole[..whole.len() - 1].to_vec(), "bytes of tensors, there are"),
        ("a byte more", [&whole[..], b"x"].concat(), "bytes of tensors, there are"),
        (
            "beyond the end",
            one(tensor("F32", &[1 << 32], [0, 1 << 34]), &[0; 8]),
            "bytes of tensors, there are",
        ),
        (
            "an overflowing shape",
            one(tensor("F32", &[1 << 62, 1 << 62], [0, 8]), &[0; 8]),
            "its header cannot be read",
        ),
        (
            "a shape of other bytes",
            one(tensor("F32", &[3], [0, 8]), &[0; 8]),
            "its header cannot be read",
        ),
        (
            "an end before its start",
            one(tensor("F32", &[2], [8, 0]), &[0; 8]),
            "its header cannot be read",
        ),
        ("a gap before", one(tensor("F32", &[1], [4, 8]), &[0; 8]), "its header cannot be read"),
        (
            "an unknown dtype",
            one(tensor("F99", &[2], [0, 8]), &[0; 8]),
            "its header cannot be read",
        ),
        (
            "overlapping tensors",
            bytes(
                &json!({"a": tensor("F32", &[2], [0, 8]), "b": tensor("F32", &[2], [4, 12])}),
                &[0; 12],
            ),
            "its header cannot be read",
        ),
        (
            "one place twice",
            bytes(
                &json!({"a": tensor("F32", &[2], [0, 8]), "b": tensor("F32", &[2], [0, 8])}),
                &[0; 8],
            ),
            "its header cannot be read",
        ),
        (
            "not a number",
            with_tensor(norm, Dtype::F32, &floats(f32::NAN), &[16]),
            "layernorm.weight holds NaN or infinity",
        ),
        (
            "infinity",
            with_tensor(norm, Dtype::F32, &floats(f32::INFINITY), &[16]),
            "layernorm.weight holds NaN or infinity",
        ),
        (
            "bytes",
            with_tensor(norm, Dtype::U8, &[1; 16], &[16]),
            "layernorm.weight holds U8, expected F64, F32, F16, BF16",
        ),
        (
            "whole numbers",
            with_tensor(norm, Dtype::I64, &[0; 128], &[16]),
            "1 no floats (layernorm.weight I64)",
        ),
        (
            "another shape",
            with_tensor(norm, Dtype::F32, &floats(1.0)[..32], &[8]),
            "1 of another shape (layernorm.weight [8] instead of [16])",
        ),
        ("other tensors", one(tensor("F32", &[2], [0, 8]), &[0; 8]), "1 not in the network (a)"),
    ];
    for (what, bytes, part) in cases {
        fs::write(&model, bytes).unwrap();
        refused(home.path(), what, part);
    }
    fs::remove_file(&model).unwrap();
    refused(home.path(), "no weights", "has no weights; expected model.safetensors");
    fs::write(home.path().join("pytorch_model.bin"), b"\x80\x02.").unwrap();
    refused(
        home.path(),
        "a pickle",
        "is a pickle, which can run code when opened; convert it once with: python -c",
    );
}

#[test]
fn indices_cannot_lead_out_of_their_folder() {
    let honest = Honest::new();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), &honest.config).unwrap();
    honest.write_input(&folder);
    file::write(&home.path().join("secret.safetensors"), &honest.weights).unwrap();
    file::write(&folder.join("a.safetensors"), &honest.weights).unwrap();
    let absolute = home.path().join("secret.safetensors");
    let map_to = |shard: &str| {
        let map: serde_json::Map<_, _> =
            honest.weights.keys().map(|name| (name.clone(), shard.into())).collect();
        json!({ "weight_map": map }).to_string()
    };
    let few = json!({"weight_map": {"layernorm.weight": "a.safetensors"}}).to_string();
    let mut more: serde_json::Value = serde_json::from_str(&map_to("a.safetensors")).unwrap();
    more["weight_map"]["promised"] = "a.safetensors".into();
    let cases = [
        (
            map_to("../secret.safetensors"),
            "expected the plain name of a safetensors file beside the index",
        ),
        (
            map_to(absolute.to_str().unwrap()),
            "expected the plain name of a safetensors file beside the index",
        ),
        (map_to("..\\secret.safetensors"), "expected the plain name"),
        (map_to("sub/a.safetensors"), "expected the plain name"),
        (map_to(".hidden.safetensors"), "expected the plain name"),
        (map_to("a.bin"), "expected the plain name"),
        (map_to("b.safetensors"), "the shard b.safetensors is not there"),
        ("{}".into(), "not an index of shards"),
        ("[".repeat(10_000), "not an index of shards"),
        (json!({"weight_map": {}}).to_string(), "it names no shard"),
        (few, "which the index does not place there"),
        (more.to_string(), "a.safetensors lacks promised that the index promises"),
    ];
    for (index, part) in cases {
        fs::write(folder.join("model.safetensors.index.json"), &index).unwrap();
        refused(&folder, part, part);
    }
}

#[test]
fn hostile_configs_are_refused_in_one_sentence() {
    let honest = Honest::new();
    let home = tempfile::tempdir().unwrap();
    honest.write(home.path());
    let changed = |field: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&honest.config).unwrap();
        config[field] = value;
        config.to_string()
    };
    let cases = [
        ("".to_owned(), "config.json cannot be used"),
        ("[]".to_owned(), "config.json cannot be used"),
        ("{}".to_owned(), "it has neither _class_name nor model_type"),
        (changed("model_type", "llama".into()), "is a llama; expected"),
        (
            changed("num_hidden_layers", 4_000_000_000u64.into()),
            "num_hidden_layers is 4000000000; at most",
        ),
        (
            changed("hidden_size", 1_000_000_000_000u64.into()),
            "hidden_size is 1000000000000; at most",
        ),
        (changed("image_size", 0.into()), "image_size is 0"),
        (changed("patch_size", 0.into()), "patch_size must be at least 1"),
        (
            changed("num_attention_heads", 3.into()),
            "hidden_size is 16, which must be a positive multiple of num_attention_heads (3)",
        ),
        (changed("hidden_size", (-1).into()), "cannot be read"),
        (changed("num_hidden_layers", 3.into()), "missing (encoder.layer.2."),
        (
            changed("hidden_act", "relu".into()),
            "hidden_act \"relu\", which is not supported; expected gelu",
        ),
    ];
    for (config, part) in cases {
        fs::write(home.path().join("config.json"), &config).unwrap();
        refused(home.path(), part, part);
    }
}

#[test]
fn inputs_that_do_not_fit_are_told_before_anything_is_computed() {
    let honest = Honest::new();
    let home = tempfile::tempdir().unwrap();
    honest.write(home.path());
    let pixels = honest.golden.arrays["pixels"].clone();
    let zeros = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        burn::tensor::TensorData::new(vec![0f32; count], shape.to_vec())
    };
    let cases: [(StateDict, &str); 6] = [
        ([].into(), "the input has no tensor pixel_values"),
        (
            [("pixels".to_owned(), pixels.clone())].into(),
            "the input has no tensor pixel_values; it holds: pixels",
        ),
        (
            [("pixel_values".to_owned(), pixels.clone()), ("mask".to_owned(), pixels)].into(),
            "the input has a tensor mask, which this network does not take",
        ),
        (
            [("pixel_values".to_owned(), zeros(&[1, 2, 16, 16]))].into(),
            "is F32 [1, 2, 16, 16]; expected floats [B, 3, H ≥ 4, H ≥ 4]",
        ),
        (
            [("pixel_values".to_owned(), zeros(&[1, 3, 3, 16]))].into(),
            "is F32 [1, 3, 3, 16]; expected",
        ),
        ([("pixel_values".to_owned(), zeros(&[3, 16, 16]))].into(), "is F32 [3, 16, 16]; expected"),
    ];
    for (input, part) in cases {
        file::write(&home.path().join("in.safetensors"), &input).unwrap();
        let ended = ended(&mut forward(home.path()));
        assert_eq!(ended.code, Some(2), "{part}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{}\nlacks: {part}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let mut nowhere = umbra();
    nowhere.args(["forward", "no/such/folder", "--input", "a", "--output", "b"]);
    let ended = ended(&mut nowhere);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

/// A scheduler's folder has no weights; without noise a DDPM takes the mean of every step.
#[test]
fn a_schedulers_folder_gives_its_trajectory() {
    let home = tempfile::tempdir().unwrap();
    let config = json!({
        "_class_name": "DDPMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": false,
        "num_train_timesteps": 1000,
    });
    fs::write(home.path().join("scheduler_config.json"), config.to_string()).unwrap();
    let tensor = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|at| (at as f32 * 0.7).sin()).collect();
        burn::tensor::TensorData::new(values, shape.to_vec())
    };
    let mut input: StateDict = [
        ("sample".to_owned(), tensor(&[1, 2, 3, 5])),
        ("model_output".to_owned(), tensor(&[4, 1, 2, 3, 5])),
    ]
    .into();
    let path = home.path().join("in.safetensors");
    file::write(&path, &input).unwrap();
    let run = || {
        done(&mut forward(home.path()));
        file::read(&home.path().join("out.safetensors"), NonFinite::Refuse).unwrap()
    };
    let quiet = run();
    assert_eq!(quiet["sample"].shape().to_vec(), [4, 1, 2, 3, 5]);
    let zeros = burn::tensor::TensorData::new(vec![0f32; 120], [4, 1, 2, 3, 5]);
    input.insert("noise".to_owned(), zeros);
    file::write(&path, &input).unwrap();
    assert_eq!(run(), quiet);
    input.insert("noise".to_owned(), tensor(&[4, 1, 2, 3, 5]));
    file::write(&path, &input).unwrap();
    assert_ne!(run(), quiet);
}
