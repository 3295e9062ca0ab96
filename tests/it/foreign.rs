//! Networks that were trained elsewhere, named by folder in a recipe.

use super::binary::{done, ended, newest, umbra};
use super::models::golden::Golden;
use safetensors::tensor::{Dtype, TensorView};
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::models::weights::file::{self, NonFinite};

/// A small DINOv2 and a small autoencoder, as transformers and diffusers write them.
pub(crate) fn write(golden: &Golden, folder: &Path, weights: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), &golden.config).unwrap();
    file::write(&folder.join(weights), &golden.weights).unwrap();
}

/// Writes a recipe of a few steps over both, and is ready to run it.
pub(crate) fn recipe(home: &Path, denoiser: &str) -> Command {
    let text = format!(
        "(
            name: \"foreign\",
            data: (source: Phantom(images: 64), size: 32),
            encoder: (from: Folder(path: \"dino\", side: 28)),
            autoencoder: (from: Folder(path: \"vae\")),
            denoiser: (
                from: {denoiser},
                task: Denoise(schedule: ScaledLinear(), objective: Epsilon),
                train: (images: 32, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32, save_every: 16),
            ),
            sample: [Reconstruct(images: 2, sampler: Ddim(steps: 2))],
            evaluate: [ConditionFidelity(candidates: 4, sampler: Ddim(steps: 2)), NearestTrain()],
        )"
    );
    fs::write(home.join("foreign.ron"), text).unwrap();
    command(home, "run")
}

fn command(home: &Path, verb: &str) -> Command {
    let mut command = umbra();
    command.arg(verb).arg(home.join("foreign.ron")).arg("--data-root").arg(home);
    command.arg("--checkpoints").arg(home.join("checkpoints"));
    command
}

pub(crate) fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    write(&Golden::read("dinov2"), &home.path().join("dino"), "model.safetensors");
    let vae = home.path().join("vae");
    write(&Golden::read("autoencoder"), &vae, "diffusion_pytorch_model.safetensors");
    home
}

pub(crate) const FROM_SCRATCH: &str =
    "Unet(channels: [8, 16], attention: [1], layers: 1, heads: [2], context_width: 8, groups: 4)";

#[test]
fn a_recipe_trains_over_folders_of_the_reference() {
    let home = home();
    recipe(home.path(), FROM_SCRATCH);
    let plan = done(&mut command(home.path(), "check"));
    assert!(plan.stdout.contains("weights of "), "{}", plan.stdout);
    assert!(plan.stdout.contains("blake3 "), "{}", plan.stdout);
    done(&mut recipe(home.path(), FROM_SCRATCH));
    let run = home.path().join("checkpoints/foreign");
    // A denoiser from scratch sees latents as they are measured, channel by channel, whatever the config says.
    let measured = scale_of_latents(&run);
    assert_eq!(measured.len(), 4);
    assert!(measured.iter().all(|std| *std > 0.0 && *std != measured_by_reference()));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    assert!(report["condition_fidelity"]["top1"].is_number(), "{report:#}");
    let untrained = &report["encoder"]["knn_accuracy_untrained"];
    assert!(untrained.is_null(), "{untrained}");
    let again = done(&mut recipe(home.path(), FROM_SCRATCH));
    assert!(again.stderr.contains("denoiser     up to date"), "{}", again.stderr);

    // Another encoder in the same place is another store and another denoiser.
    let weights = home.path().join("dino/model.safetensors");
    let mut state = file::read(&weights, NonFinite::Refuse).unwrap();
    let norm = state.get_mut("layernorm.bias").unwrap();
    *norm = burn::tensor::TensorData::new(vec![0.5f32; norm.num_elements()], norm.shape().to_vec());
    file::write(&weights, &state).unwrap();
    let changed = done(&mut recipe(home.path(), FROM_SCRATCH));
    assert!(changed.stderr.contains("encode       done in"), "{}", changed.stderr);
    assert!(changed.stderr.contains("denoiser     done in"), "{}", changed.stderr);
}

#[test]
fn a_decoder_of_the_reference_is_tuned_over_its_frozen_encoder() {
    let home = home();
    recipe(home.path(), FROM_SCRATCH);
    let path = home.path().join("foreign.ron");
    let tuned = "(from: Folder(path: \"vae\"), learns: [\"decoder.*\", \"post_quant_conv.*\"], \
                 train: (images: 32, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32))";
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("(from: Folder(path: \"vae\"))", tuned)).unwrap();
    done(&mut command(home.path(), "run"));
    let run = home.path().join("checkpoints/foreign");
    let weights = newest(&run, "autoencoder").join("ema.safetensors");
    let state = file::read(&weights, NonFinite::Refuse).unwrap();
    let mut moved = 0;
    for (name, before) in &Golden::read("autoencoder").weights {
        match name.starts_with("decoder.") || name.starts_with("post_quant_conv.") {
            true => moved += usize::from(state[name] != *before),
            false => assert_eq!(state[name], *before, "{name}"),
        }
    }
    assert!(moved > 10, "{moved} tensors have learned");
    // Its latents are measured: what the folder's config says is of other weights.
    let report = fs::read(run.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert!(report["condition_fidelity"]["top1"].is_number(), "{report:#}");
    // Whose weights it began with, and under which licence, is not forgotten.
    let model = home.path().join("model");
    let mut export = umbra();
    export.arg("export").arg(&run).args(["--to", "diffusers"]).arg(&model);
    done(export.arg("--data-root").arg(home.path()));
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    let row = card.lines().find(|line| line.starts_with("| vae | ")).unwrap();
    assert!(row.starts_with("| vae | 32 | the folder vae | not stated in the folder"), "{row}");
    let wrong = fs::read_to_string(&path).unwrap().replace("post_quant_conv.*", "post_quant.*");
    fs::write(&path, wrong).unwrap();
    let refused = ended(&mut command(home.path(), "check"));
    let sentence = "autoencoder.learns: no weight is named \"post_quant.*\"; expected a pattern";
    assert!(refused.code == Some(2) && refused.stderr.contains(sentence), "{}", refused.stderr);
}

#[test]
fn an_encoder_of_the_reference_is_trained_on_and_what_does_not_learn_stays_to_the_bit() {
    let home = home();
    recipe(home.path(), FROM_SCRATCH);
    let path = home.path().join("foreign.ron");
    let tuned = "(from: Folder(path: \"dino\", side: 28), learns: [\"encoder.layer.1.*\"], \
                 task: Dino(views: (local_size: 14, num_local: 1), ibot: (probability: 1.0), \
                 head: (hidden: 16, bottleneck: 8, prototypes: 16), drop_path: 0.2, layer_decay: 0.9), \
                 train: (images: 32, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32, \
                 optimizer: (groups: [(weights: [\"*layer_scale*\"], rate: 0.0)])))";
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("(from: Folder(path: \"dino\", side: 28))", tuned);
    fs::write(&path, &text).unwrap();
    done(&mut command(home.path(), "run"));
    let run = home.path().join("checkpoints/foreign");
    let weights = newest(&run, "encoder").join("ema.safetensors");
    let state = file::read(&weights, NonFinite::Refuse).unwrap();
    let given = Golden::read("dinov2").weights;
    let learns = |name: &str| {
        name == "embeddings.mask_token"
            || name.starts_with("encoder.layer.1.") && !name.contains("layer_scale")
    };
    for (name, before) in &given {
        let after = &state[&format!("backbone.{name}")];
        // A bias of the keys moves nothing, and rounding may leave it where it is.
        match learns(name) {
            true => assert!(after != before || name.ends_with("key.bias"), "{name} has learned"),
            false => assert_eq!(after, before, "{name}"),
        }
    }
    // It is measured beside what it began with, under the folder's own side and channels.
    let report = fs::read(run.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let encoder = &report["encoder"];
    assert_ne!(encoder["effective_rank"], serde_json::Value::Null, "{encoder}");
    // What is exported is what it learned, in the folder's layout; whose weights it began with is not forgotten.
    let model = home.path().join("model");
    let mut export = umbra();
    export.arg("export").arg(&run).args(["--to", "diffusers"]).arg(&model);
    done(export.arg("--data-root").arg(home.path()));
    let exported = file::read(&model.join("encoder/model.safetensors"), NonFinite::Refuse).unwrap();
    assert_eq!(exported.keys().collect::<Vec<_>>(), given.keys().collect::<Vec<_>>());
    assert!(exported.iter().all(|(name, data)| *data == state[&format!("backbone.{name}")]));
    let config = fs::read_to_string(model.join("encoder/config.json")).unwrap();
    assert!(config.contains("\"Dinov2Model\""), "{config}");
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(
        card.lines().any(|line| line.starts_with("| encoder | 32 | the folder dino |")),
        "{card}"
    );

    for (old, new, sentence) in [
        ("layer.1.*", "layer.7.*", "encoder.learns: no weight is named \"encoder.layer.7.*\""),
        ("*layer_scale*", "*gamma*", "encoder.train.optimizer.groups[0].weights[0] is \"*gamma*\""),
        (
            "local_size: 14",
            "local_size: 16",
            "encoder.task.views.local_size is 16; expected a multiple",
        ),
        ("drop_path: 0.2", "drop_path: 1.0", "encoder.task.drop_path is 1; expected"),
        ("layer_decay: 0.9", "layer_decay: 0.0", "encoder.task.layer_decay is 0; expected"),
        (
            "probability: 1.0",
            "share: (0.5, 0.1)",
            "encoder.task.ibot.share is (0.5, 0.1); expected",
        ),
    ] {
        fs::write(&path, text.replace(old, new)).unwrap();
        let refused = ended(&mut command(home.path(), "check"));
        assert!(refused.code == Some(2) && refused.stderr.contains(sentence), "{}", refused.stderr);
    }
}

#[test]
fn a_unet_of_the_reference_is_tuned_and_what_does_not_learn_stays_to_the_bit() {
    let home = home();
    let unet = Golden::read("unet");
    write(&unet, &home.path().join("unet"), "diffusion_pytorch_model.safetensors");
    // As published weights often are: in half precision.
    let base = home.path().join("unet/diffusion_pytorch_model.safetensors");
    fs::write(&base, halves(&unet)).unwrap();
    // Its latents have four channels, as the autoencoder's.
    let learns = |patterns: &str| format!("Folder(path: \"unet\"), learns: [{patterns}]");
    let refused = ended(&mut recipe(home.path(), &learns("\"*.attn2.*\", \"*.attn3.*\"")));
    assert_eq!(refused.code, Some(2));
    let sentence = "denoiser.learns: no weight is named \"*.attn3.*\"; expected a pattern";
    assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
    done(&mut recipe(home.path(), &learns("\"*.attn2.*\"")));
    let run = home.path().join("checkpoints/foreign");
    // It has seen latents as the autoencoder's config says.
    assert_eq!(scale_of_latents(&run), [measured_by_reference(); 4]);
    let checkpoint = newest(&run, "denoiser");
    for which in ["model", "ema"] {
        let path = checkpoint.join(format!("{which}.safetensors"));
        let state = file::read(&path, NonFinite::Refuse).unwrap();
        let mut moved = 0;
        for (name, before) in &unet.weights {
            let after = &state[&format!("unet.{name}")];
            match name.contains(".attn2.") {
                true => moved += usize::from(after != before),
                false => assert_eq!(after, before, "{name} of {which}"),
            }
        }
        assert!(moved > 4, "{moved} tensors of {which} have learned");
    }

    // Exported, it is in half precision still, to the byte; what learned is in single.
    let folder = home.path().join("model");
    let mut export = umbra();
    export.arg("export").arg(&run).args(["--to", "diffusers"]).arg(&folder);
    done(export.arg("--data-root").arg(home.path()));
    let read = |path: &Path| fs::read(path).unwrap();
    let (before, after) =
        (read(&base), read(&folder.join("unet/diffusion_pytorch_model.safetensors")));
    let before = safetensors::SafeTensors::deserialize(&before).unwrap();
    let after = safetensors::SafeTensors::deserialize(&after).unwrap();
    assert_eq!(before.len(), after.len());
    for (name, before) in before.iter() {
        let after = after.tensor(name).unwrap();
        match name.contains(".attn2.") {
            true => assert_eq!(after.dtype(), Dtype::F32, "{name}"),
            false => assert_eq!(
                (after.dtype(), after.shape(), after.data()),
                (before.dtype(), before.shape(), before.data()),
                "{name}"
            ),
        }
    }
    for (theirs, part, file) in [
        ("vae", "vae", "diffusion_pytorch_model.safetensors"),
        ("vae", "vae", "config.json"),
        ("dino", "encoder", "model.safetensors"),
        ("dino", "encoder", "config.json"),
    ] {
        let given = home.path().join(theirs).join(file);
        assert_eq!(read(&folder.join(part).join(file)), read(&given), "{part}/{file}");
    }
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    for from in ["the folder dino", "the folder vae", "the folder unet"] {
        assert!(card.contains(from), "{card}");
    }
}

/// The standard deviation of each latent channel, as the run's denoiser sees them.
fn scale_of_latents(run: &Path) -> Vec<f64> {
    let state = fs::read(newest(run, "denoiser").join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    serde_json::from_value(state.pointer("/config/latent/scale/std").unwrap().clone()).unwrap()
}

/// What the reference's autoencoder says of all its channels.
fn measured_by_reference() -> f64 {
    let config: serde_json::Value =
        serde_json::from_str(&Golden::read("autoencoder").config).unwrap();
    1.0 / config["scaling_factor"].as_f64().unwrap()
}

/// The network's weights as a file of f16.
fn halves(golden: &Golden) -> Vec<u8> {
    let tensors: Vec<(&String, Vec<usize>, Vec<u8>)> = golden
        .weights
        .iter()
        .map(|(name, data)| {
            let half =
                data.iter::<f32>().flat_map(|value| half::f16::from_f32(value).to_le_bytes());
            (name, data.shape().to_vec(), half.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn folders_that_do_not_fit_are_faults_of_the_recipe() {
    let home = home();
    let faults = |denoiser: &str, change: &[&str]| {
        recipe(home.path(), denoiser);
        let mut command = command(home.path(), "check");
        command.args(change.iter().flat_map(|change| ["--set", change]));
        let ended = ended(&mut command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(!home.path().join("checkpoints").exists());
        ended.stderr
    };
    let two = faults(
        FROM_SCRATCH,
        &["encoder.from.path=\"no\"", "autoencoder.from.path=\"vae/config.json\""],
    );
    assert!(two.contains("encoder.from.path: ") && two.contains("no is not a folder"), "{two}");
    assert!(two.contains("autoencoder.from.path: ") && two.contains("is not a folder"), "{two}");
    let swapped = faults(FROM_SCRATCH, &["encoder.from.path=\"vae\""]);
    assert!(swapped.contains("encoder.from.path"), "{swapped}");
    let side = faults(FROM_SCRATCH, &["encoder.from.side=30"]);
    assert!(
        side.contains("encoder.from.side: ") && side.contains("multiple of patch_size (7)"),
        "{side}"
    );
    let hash = faults(FROM_SCRATCH, &["encoder.from.blake3=\"12\""]);
    assert!(
        hash.contains("encoder.from.blake3 is \"12\"; expected 64 hexadecimal digits"),
        "{hash}"
    );
    let registers = faults(FROM_SCRATCH, &["condition.tokens=ClassAndRegisters"]);
    assert!(registers.contains("has no registers"), "{registers}");
    write(&Golden::read("unet_other"), &home.path().join("unet"), "model.safetensors");
    let unet = faults("Folder(path: \"unet\")", &[]);
    assert!(unet.contains("denoiser.from.path: in_channels is 3, but"), "{unet}");
    assert!(unet.contains("which does not go with condition.pooled: false"), "{unet}");
}

#[test]
fn a_pinned_folder_is_no_other() {
    let home = home();
    let mut run = recipe(home.path(), FROM_SCRATCH);
    let zeros = format!("encoder.from.blake3=\"{}\"", "0".repeat(64));
    let ended = ended(run.args(["--set", &zeros]));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("encoder.from.blake3 in the recipe is 000"), "{}", ended.stderr);
}
