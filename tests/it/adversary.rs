//! Autoencoders of any kind and size that learn pixels, looks, and to deceive a discriminator.

use super::binary::{copy_of_finished, done, ended, files, newest, report, tiny, umbra};
use super::foreign::{FROM_SCRATCH, write};
use super::kill::killed_at_random_moments;
use super::models::formula;
use super::models::golden::Golden;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use umbra::models::Init;
use umbra::models::features::LpipsConfig;
use umbra::models::weights::file::{self, NonFinite};
use umbra::random::Stream;
use umbra::telemetry::metrics;
use umbra::train::CLOCKED;

/// LPIPS with weights by a formula, in the folder that recipes name.
fn write_lpips(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let init = &mut Init::new(Stream::new(1, "lpips"), &burn::tensor::Device::flex()).hollow();
    let state = formula::state(&LpipsConfig::default().init(init), str::to_owned);
    file::write(&folder.join("model.safetensors"), &state).unwrap();
    let config = r#"{"_class_name": "Lpips", "net": "alex", "version": "0.1"}"#;
    fs::write(folder.join("config.json"), config).unwrap();
}

/// The newest tensors of a stage, file by file.
fn tensors(run: &Path, stage: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(&newest(run, stage));
    found.retain(|name, _| name.ends_with(".safetensors"));
    found
}

/// `umbra train autoencoder` of recipes/tiny.ron below `home`, against a discriminator from image 64 on.
fn duel(home: &Path, more: &[&str]) -> Command {
    let mut command = umbra();
    command.args(["train", "autoencoder", "recipes/tiny.ron", "--threads", "2"]);
    for setting in [
        "autoencoder.task=Reconstruct(crop: 16, adversarial: (from: 64, channels: 8, layers: 2))",
        "autoencoder.train.images=256",
        "autoencoder.train.save_every=32",
    ]
    .iter()
    .chain(more)
    {
        command.args(["--set", setting]);
    }
    command.arg("--checkpoints").arg(home.join("checkpoints"));
    command
}

fn untrained() -> tempfile::TempDir {
    let home = copy_of_finished();
    fs::remove_dir_all(home.path().join("checkpoints/tiny/autoencoder")).unwrap();
    home
}

#[test]
fn killed_at_random_moments_both_learners_end_with_the_same_bits() {
    let reference = untrained();
    let start = Instant::now();
    done(&mut duel(reference.path(), &[]));
    let duration = start.elapsed();
    let run = |home: &tempfile::TempDir| home.path().join("checkpoints/tiny");
    let expected = tensors(&run(&reference), "autoencoder");
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let learners = ["discriminator-ema", "discriminator-model", "discriminator-optimizer"];
    let all = learners.iter().chain(&["ema", "model", "optimizer", "task"]);
    assert_eq!(names, all.map(|name| format!("{name}.safetensors")).collect::<Vec<_>>());
    let records = metrics::read(&run(&reference).join("autoencoder")).unwrap();
    let last = records.iter().rev().find(|it| it.values.contains_key("train/loss")).unwrap();
    for name in ["reconstruction", "kl", "adversarial", "adversarial_weight", "discriminator"] {
        let value = last.values.get(&format!("train/{name}"));
        assert!(value.is_some_and(|value| value.is_finite()), "train/{name}: {value:?}");
    }
    killed_at_random_moments(
        "adversary",
        duration,
        untrained,
        |home| duel(home.path(), &[]),
        |home, when| assert_eq!(tensors(&run(home), "autoencoder"), expected, "{when}"),
    );
}

#[test]
fn rounds_of_any_size_take_the_same_step_of_both() {
    let [whole, one, several] = ["None", "8", "3"].map(|rounds| -> BTreeMap<String, f64> {
        let home = untrained();
        let rounds = format!("autoencoder.train.micro_batch_size={rounds}");
        done(&mut duel(home.path(), &["autoencoder.train.images=96", &rounds]));
        let folder = home.path().join("checkpoints/tiny/autoencoder");
        let records = metrics::read(&folder).unwrap();
        let figures: BTreeMap<String, f64> =
            records.into_iter().flat_map(|record| record.values).collect();
        // A clock decides these.
        figures.into_iter().filter(|(name, _)| !CLOCKED.contains(&name.as_str())).collect()
    });
    assert_eq!(whole, one, "one round is no round");
    for name in ["validation/psnr_db", "train/adversarial_weight", "train/discriminator"] {
        let (whole, several) = (whole[name], several[name]);
        // The same mean gradients, their sums in another order, over twelve steps in f32.
        assert!((several / whole - 1.0).abs() < 1e-3, "{name}: {whole} {several}");
    }
}

#[test]
fn a_tiny_autoencoder_is_trained_by_all_losses_through_to_its_export() {
    let home = tempfile::tempdir().unwrap();
    write_lpips(&home.path().join("lpips"));
    let checkpoints = home.path().join("checkpoints");
    let run = |verb: &str, more: &[&str]| {
        let mut command = tiny(&checkpoints);
        if verb != "run" {
            command = umbra();
            command.args([verb, "recipes/tiny.ron", "--checkpoints"]).arg(&checkpoints);
        }
        command.arg("--data-root").arg(home.path());
        for setting in [
            "autoencoder.from=Tiny(channels: 8, levels: 3, blocks: 1, latent_channels: 8)",
            "autoencoder.task=Reconstruct(reconstruction: Absolute, perceptual: (weight: 0.1, network: Lpips(\"lpips\")), \
             adversarial: (channels: 8, layers: 2, from: 48))",
            "autoencoder.train.images=96",
            "encoder.train.images=64",
            "denoiser.train.images=64",
            "sample[0].images=4",
            "sample[1].images=4",
        ]
        .iter()
        .chain(more)
        {
            command.args(["--set", setting]);
        }
        command
    };
    let plan = done(&mut run("check", &[]));
    let line = plan.stdout.lines().find(|line| line.contains("autoencoder ")).unwrap();
    assert!(line.contains("against a discriminator of 10,985"), "{line}");
    done(&mut run("run", &[]));
    let run_folder = checkpoints.join("tiny");
    let records = metrics::read(&run_folder.join("autoencoder")).unwrap();
    let last = records.iter().rev().find(|it| it.values.contains_key("train/loss")).unwrap();
    for name in ["train/perceptual", "train/adversarial", "train/discriminator"] {
        assert!(last.values.contains_key(name), "{name}: {last:?}");
    }
    assert!(!last.values.contains_key("train/kl"), "its latents have no variances");
    let report = report(&run_folder);
    let section = &report["autoencoder"];
    // Of 32 pixels the middle has 16, which hold two octaves.
    assert!(section["power_ratio"]["waves_2_4_px"].as_f64().unwrap() > 0.0, "{section:#}");
    assert!(section["power_ratio"]["waves_4_8_px"].is_number(), "{section:#}");
    assert!(section["power_ratio"]["waves_8_16_px"].is_null(), "{section:#}");
    let page = fs::read_to_string(run_folder.join("report.html")).unwrap();
    for words in ["What the autoencoder restores worst", "Autoencoder: power of validation images"]
    {
        assert!(page.contains(words), "{words}");
    }

    // Other weights of LPIPS are another loss.
    let path = home.path().join("lpips/model.safetensors");
    let mut state = file::read(&path, NonFinite::Refuse).unwrap();
    let bias = state.get_mut("net.slice1.0.bias").unwrap();
    *bias = burn::tensor::TensorData::new(vec![0.25f32; 64], [64]);
    file::write(&path, &state).unwrap();
    let changed = done(&mut run("check", &[]));
    let line = changed.stdout.lines().find(|line| line.contains("autoencoder ")).unwrap();
    assert!(line.contains("to do"), "{line}");
    *state.get_mut("net.slice1.0.bias").unwrap() = formula_bias();
    file::write(&path, &state).unwrap();

    let model = home.path().join("model");
    let mut export = umbra();
    export.arg("export").arg(&run_folder).args(["--to", "diffusers"]).arg(&model);
    done(export.arg("--data-root").arg(home.path()));
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(model.join("vae/config.json")).unwrap()).unwrap();
    assert_eq!(config["_class_name"], "AutoencoderTiny");
    assert_eq!(config["latent_channels"], 8);
    let state = fs::read(newest(&run_folder, "denoiser").join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    // Its class has one number for all channels, the denoiser one for each.
    let scale = state.pointer("/config/latent/scale").unwrap();
    assert_eq!(scale["mean"].as_array().map(Vec::len), Some(8));
    let condition = fs::read(model.join("condition/config.json")).unwrap();
    let condition: serde_json::Value = serde_json::from_slice(&condition).unwrap();
    assert_eq!(condition["latents"], *scale);
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(card.contains("vae = AutoencoderTiny.from_pretrained"), "{card}");
    umbra::interop::export::open(&model, &burn::tensor::Device::flex()).unwrap();
    if let Ok(python) = std::env::var("UMBRA_PYTHON") {
        let script = "import sys, diffusers\n\
                      vae = diffusers.AutoencoderTiny.from_pretrained(sys.argv[1])\n\
                      print(sum(p.numel() for p in vae.parameters()))";
        let output = Command::new(python).args(["-c", script]).arg(model.join("vae")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn formula_bias() -> burn::tensor::TensorData {
    let init = &mut Init::new(Stream::new(1, "lpips"), &burn::tensor::Device::flex()).hollow();
    let mut state = formula::state(&LpipsConfig::default().init(init), str::to_owned);
    state.remove("net.slice1.0.bias").unwrap()
}

/// A recipe of a few steps that tunes the autoencoder in `vae`.
fn tuning(home: &Path, learns: &str, task: &str) -> Command {
    let text = format!(
        "(
            name: \"tuned\",
            data: (source: Phantom(images: 48), size: 32),
            encoder: (from: Vit(patch: 8, width: 16, depth: 1, heads: 2), train: (images: 16, batch_size: 8, learning_rate: (warm_up: 0))),
            autoencoder: (
                from: Folder(path: \"vae\"),
                learns: {learns},
                task: Reconstruct({task}),
                train: (images: 32, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32),
            ),
            denoiser: (from: {FROM_SCRATCH}, train: (images: 16, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32)),
        )"
    );
    fs::write(home.join("tuned.ron"), text).unwrap();
    let mut command = umbra();
    command.args(["train", "autoencoder"]).arg(home.join("tuned.ron"));
    command.arg("--data-root").arg(home).arg("--checkpoints").arg(home.join("checkpoints"));
    command
}

#[test]
fn given_autoencoders_of_both_kinds_are_tuned_whole_or_decoder_only_against_a_discriminator() {
    const AGAINST: &str = "adversarial: (channels: 8, layers: 2, learning_rate: 1e-3)";
    for (name, learns) in [
        ("autoencoder", "[\"decoder.*\", \"post_quant_conv.*\"]"),
        ("autoencoder", "[\"*\"]"),
        ("tiny", "[\"decoder.*\"]"),
        ("tiny", "[\"*\"]"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let golden = Golden::read(name);
        write(&golden, &home.path().join("vae"), "diffusion_pytorch_model.safetensors");
        done(&mut tuning(home.path(), learns, AGAINST));
        let folder = newest(&home.path().join("checkpoints/tuned"), "autoencoder");
        for which in ["model", "ema"] {
            let path = folder.join(format!("{which}.safetensors"));
            let state = file::read(&path, NonFinite::Refuse).unwrap();
            assert_eq!(state.len(), golden.weights.len());
            for (tensor, before) in &golden.weights {
                let is_decoder =
                    tensor.starts_with("decoder.") || tensor.starts_with("post_quant_conv.");
                let is_moved = state[tensor] != *before;
                let learns_it = is_decoder || learns == "[\"*\"]";
                // A weight that no gradient reaches, behind a nonlinearity that is off, may stay.
                assert!(learns_it || !is_moved, "{tensor} of {name} is frozen, and moved");
                if tensor.ends_with("weight") && tensor.contains("conv_out") {
                    assert_eq!(is_moved, learns_it, "{tensor} of {name}");
                }
            }
            let moved = golden.weights.iter().filter(|(tensor, it)| state[*tensor] != **it);
            assert!(moved.count() > golden.weights.len() / 3, "{name} {learns}");
        }
    }
    // What the loss is balanced at must learn.
    let home = tempfile::tempdir().unwrap();
    let golden = Golden::read("tiny");
    write(&golden, &home.path().join("vae"), "diffusion_pytorch_model.safetensors");
    let refused = ended(&mut tuning(home.path(), "[\"encoder.*\"]", AGAINST));
    let last = golden
        .weights
        .keys()
        .filter(|name| name.starts_with("decoder.layers."))
        .map(|name| name.split('.').nth(2).unwrap().parse::<usize>().unwrap());
    let last = format!("which freezes decoder.layers.{}.weight", last.max().unwrap());
    assert!(refused.code == Some(2) && refused.stderr.contains(&last), "{}", refused.stderr);
}

#[test]
fn every_factor_and_number_of_channels_is_said_and_built() {
    let home = tempfile::tempdir().unwrap();
    for (levels, factor) in [(3, 4), (4, 8), (5, 16)] {
        for channels in [4, 8, 16] {
            let widths = vec!["4"; levels].join(", ");
            for from in [
                format!(
                    "Kl(channels: [{widths}], layers: 1, groups: 4, latent_channels: {channels})"
                ),
                format!(
                    "Tiny(channels: 4, levels: {levels}, blocks: 1, latent_channels: {channels})"
                ),
            ] {
                let mut command = umbra();
                command.args(["check", "recipes/tiny.ron", "--checkpoints"]).arg(home.path());
                command.args([
                    "--set",
                    &format!("autoencoder.from={from}"),
                    "--set",
                    "data.size=64",
                ]);
                let plan = done(&mut command).stdout;
                let line = plan.lines().find(|line| line.contains("autoencoder ")).unwrap();
                assert!(line.contains(&format!(", factor {factor} ")), "{from}: {line}");
            }
        }
    }
}

#[test]
fn what_cannot_be_trained_is_refused_in_words() {
    let home = tempfile::tempdir().unwrap();
    write_lpips(&home.path().join("lpips"));
    write(&Golden::read("autoencoder"), &home.path().join("vae"), "model.safetensors");
    for (settings, expected) in [
        (
            &["autoencoder.task=Reconstruct(adversarial: (from: 960))"][..],
            "autoencoder.task.adversarial.from is 960; expected fewer than the training's 960 images",
        ),
        (
            &["autoencoder.task=Reconstruct(crop: 16, adversarial: ())"],
            "autoencoder.task.adversarial.layers is 3, which needs images of at least 24 pixels; they have 16",
        ),
        (
            &["autoencoder.task=Reconstruct(adversarial: (weight: -1.0))"],
            "autoencoder.task.adversarial.weight is -1; expected a number from 0 up",
        ),
        (
            &["autoencoder.task=Reconstruct(perceptual: (network: Lpips(\"none\")))"],
            "none is not a folder",
        ),
        (
            &["autoencoder.task=Reconstruct(perceptual: (network: Lpips(\"vae\")))"],
            "_class_name \"AutoencoderKL\"",
        ),
        (
            &["autoencoder.task=Reconstruct(crop: 16, perceptual: (network: Lpips(\"lpips\")))"],
            "autoencoder.task.perceptual.network sees images of 16 pixels; expected at least 31",
        ),
        (
            &[
                "autoencoder.from=Tiny(channels: 8, levels: 3)",
                "autoencoder.task=Reconstruct(kl_weight: 0.1)",
            ],
            "autoencoder.task.kl_weight is 0.1, but a tiny autoencoder's latents have no variances",
        ),
        (
            &["autoencoder.from=Tiny(channels: 8, levels: 7)"],
            "the autoencoder's factor of 64 does not divide (autoencoder.from.levels is 7)",
        ),
        (&["autoencoder.from=Tiny(channels: 0)"], "must be at least 1"),
        (
            &["autoencoder.from=Tiny(levels: 0)"],
            "number of encoder_block_out_channels must be at least 1",
        ),
    ] {
        let mut command = umbra();
        command.args(["check", "recipes/tiny.ron", "--data-root"]).arg(home.path());
        command.arg("--checkpoints").arg(home.path().join("checkpoints"));
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        let refused = ended(&mut command);
        assert_eq!(refused.code, Some(2), "{settings:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{settings:?}: {}", refused.stderr);
    }
}
