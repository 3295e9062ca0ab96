//! `umbra export`: the folder, what is refused, and being killed. What Python makes of it is in `python`.

mod python;

use super::binary::{copy_of_finished, done, ended, files, finished, newest, umbra};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use umbra::artifact;
use umbra::diffusion::Objective;
use umbra::interop::export::{self, ExportError, Weights};
use umbra::models::weights::StateDict;
use umbra::models::weights::file::{self as weights_file, NonFinite};
use umbra::random::Stream;
use umbra::stages::Run;

const FILES: [&str; 14] = [
    "README.md",
    "condition/config.json",
    "condition/model.safetensors",
    "encoder/config.json",
    "encoder/model.safetensors",
    "encoder/preprocessor_config.json",
    "manifest.json",
    "model_index.json",
    "sample.py",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

fn run() -> PathBuf {
    finished().join("tiny")
}

/// `umbra export RUN --to diffusers FOLDER`.
fn export(run: &Path, folder: &Path) -> Command {
    let mut command = umbra();
    command.arg("export").arg(run).args(["--to", "diffusers"]).arg(folder);
    command
}

fn read(path: &Path) -> StateDict {
    weights_file::read(path, NonFinite::Refuse).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The tensors below `prefix`, without it, as bytes with their shapes.
fn below(state: &StateDict, prefix: &str) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let named = |(name, data): (&String, &burn::tensor::TensorData)| {
        let name = name.strip_prefix(prefix)?.to_owned();
        Some((name, (data.shape().to_vec(), data.as_bytes().to_vec())))
    };
    state.iter().filter_map(named).collect()
}

#[test]
fn the_folder_is_complete_and_says_what_it_is() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("model");
    let before = files(&run());
    let said = done(&mut export(&run(), &folder));
    assert!(said.stdout.contains("1280 images") && said.stdout.contains("sample.py"), "{said:?}");
    assert_eq!(files(&run()), before, "the run is only read");
    artifact::verify(&folder).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left beside it");
    let names: BTreeSet<String> = files(&folder).into_keys().collect();
    assert_eq!(names, FILES.map(str::to_owned).into());

    let index = json_of(&folder.join("model_index.json"));
    assert_eq!(index["unet"], json!(["diffusers", "UNet2DConditionModel"]));
    assert_eq!(index["vae"], json!(["diffusers", "AutoencoderKL"]));
    assert_eq!(index["scheduler"], json!(["diffusers", "FlowMatchEulerDiscreteScheduler"]));
    assert_eq!(index["encoder"], json!(["transformers", "ViTModel"]));

    let state = umbra::train::checkpoint::header(&newest(&run(), "denoiser")).unwrap().config;
    let scale = state.pointer("/latent/scale").unwrap();
    let vae = json_of(&folder.join("vae/config.json"));
    assert_eq!([&vae["latents_mean"], &vae["latents_std"]], [&scale["mean"], &scale["std"]]);
    assert_eq!(vae["latents_std"].as_array().unwrap().len(), 4);
    assert_eq!((&vae["shift_factor"], &vae["scaling_factor"]), (&Value::Null, &json!(1.0)));
    assert_eq!((&vae["sample_size"], &vae["in_channels"]), (&json!(32), &json!(1)));
    assert_eq!(vae["mid_block_add_attention"], false);

    let unet = json_of(&folder.join("unet/config.json"));
    assert_eq!(unet["sample_size"], 8);
    assert_eq!(unet["down_block_types"], json!(["DownBlock2D", "CrossAttnDownBlock2D"]));
    assert_eq!(unet["up_block_types"], json!(["CrossAttnUpBlock2D", "UpBlock2D"]));
    assert_eq!(unet["attention_head_dim"], json!([1, 2]));
    assert_eq!(unet["class_embed_type"], "simple_projection");
    assert_eq!(unet["projection_class_embeddings_input_dim"], 32);

    let scheduler = json_of(&folder.join("scheduler/scheduler_config.json"));
    assert_eq!(scheduler["shift"], 3.0);
    let condition = json_of(&folder.join("condition/config.json"));
    assert_eq!(&condition["latents"], scale);
    assert_eq!((&condition["tokens"], &condition["num_tokens"]), (&json!("Class"), &json!(1)));
    let encoder = json_of(&folder.join("encoder/config.json"));
    assert_eq!((&encoder["model_type"], &encoder["image_size"]), (&json!("vit"), &json!(32)));
    let preprocessor = json_of(&folder.join("encoder/preprocessor_config.json"));
    assert_eq!(preprocessor["image_mean"], json!([0.5]));
    assert_eq!(preprocessor["image_std"], json!([0.25]));
}

#[test]
fn the_card_has_counts_recipe_figures_and_no_audit() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("model");
    done(&mut export(&run(), &folder));
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    let recipe = fs::read_to_string(run().join("recipe.ron")).unwrap();
    assert!(card.contains(recipe.trim_end()), "the recipe in full");
    let counts = umbra::data::catalog::Catalog::open(&run().join("catalog.sqlite"))
        .unwrap()
        .counts()
        .unwrap();
    for (split, images) in &counts.images {
        let patients = counts.patients[split];
        assert!(card.contains(&format!("| {} | {images} | {patients} |", split.name())), "{card}");
    }
    assert!(card.contains("| phantom | 160 |"), "{card}");
    let report = json_of(&run().join("report.json"));
    let psnr = report["autoencoder"]["psnr_db"].as_f64().unwrap();
    for line in [
        "**Images made with this model are synthetic. Not for clinical use.**".to_owned(),
        format!("| autoencoder.psnr_db | {psnr:.4} |"),
        "| unet and condition | 1,280 | trained here, from random weights | for its makers to choose |".to_owned(),
    ] {
        assert!(card.lines().any(|found| found == line), "{line}\n{card}");
    }
    for words in
        ["umbra 0.", "exponential averages (EMA), after 1,280 images", "**No audit was made.**"]
    {
        assert!(card.contains(words), "{words}\n{card}");
    }
    // Every figure is there, as a number or with its reason.
    assert!(!card.contains("no reason is given"), "{card}");
    assert!(card.contains("| nearest_train.max_pearson | "), "{card}");
}

#[test]
fn weights_are_the_checkpoints_bit_for_bit() {
    let home = tempfile::tempdir().unwrap();
    for (which, file) in [("ema", "ema.safetensors"), ("raw", "model.safetensors")] {
        let folder = home.path().join(which);
        let said = done(export(&run(), &folder).args(["--weights", which, "--json"]));
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(said["weights"], which);
        assert_eq!((&said["images_seen"], &said["synthetic"]), (&json!(1280), &json!(true)));

        let unet = read(&folder.join("unet/diffusion_pytorch_model.safetensors"));
        let condition = read(&folder.join("condition/model.safetensors"));
        let denoiser = read(&newest(&run(), "denoiser").join(file));
        assert_eq!(below(&unet, ""), below(&denoiser, "unet."), "{which}");
        assert_eq!(below(&condition, ""), below(&denoiser, "condition."), "{which}");
        assert_eq!(unet.len() + condition.len(), denoiser.len());

        // What the store was made with, whatever the denoiser's weights.
        let vae = read(&folder.join("vae/diffusion_pytorch_model.safetensors"));
        let autoencoder = read(&newest(&run(), "autoencoder").join("ema.safetensors"));
        assert_eq!(below(&vae, ""), below(&autoencoder, ""));
        let encoder = read(&folder.join("encoder/model.safetensors"));
        let teacher = below(&read(&newest(&run(), "encoder").join("ema.safetensors")), "backbone.");
        let mut same = 0;
        for (name, value) in below(&encoder, "") {
            let ours = [
                (".layernorm_before.", ".norm1."),
                (".layernorm_after.", ".norm2."),
                (".intermediate.dense.", ".mlp.fc1."),
                (".output.dense.", ".mlp.fc2."),
            ];
            let known = ours
                .iter()
                .find(|(theirs, _)| name.contains(theirs) && !name.contains(".attention.output."))
                .map_or_else(|| name.clone(), |(theirs, ours)| name.replace(theirs, ours));
            if name.starts_with("pooler.") {
                continue; // Hands on the class token; no network here has one.
            }
            assert_eq!(value, teacher[&known], "{name}");
            same += 1;
        }
        assert_eq!(same, teacher.len());
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        assert_eq!(card.contains("not of the raw ones in this folder"), which == "raw");
    }
}

#[test]
fn what_cannot_be_exported_is_one_sentence_and_writes_nothing() {
    let home = copy_of_finished();
    let tiny = home.path().join("checkpoints/tiny");
    let folder = home.path().join("model");
    let refused = |run: &Path, folder: &Path, words: &[&str]| {
        let ended = ended(&mut export(run, folder));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    };
    refused(&home.path().join("nobody"), &folder, &["nobody is no run", "checkpoints/quickstart"]);
    refused(home.path(), &folder, &["is no run"]);

    // There already, be it empty; and what a person keeps beside it is theirs.
    for (name, text) in [("model/mine", "1"), ("model.old/mine", "2"), ("model.tmp/mine", "3")] {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let kept = files(home.path());
    refused(&tiny, &folder, &["model is already there", "remove that one first"]);
    assert_eq!(files(home.path()), kept);
    fs::remove_dir_all(&folder).unwrap();
    done(&mut export(&tiny, &folder));
    for (name, text) in [("model.old/mine", "2"), ("model.tmp/mine", "3")] {
        assert_eq!(fs::read_to_string(home.path().join(name)).unwrap(), text);
    }
    fs::remove_dir_all(&folder).unwrap();

    // A recipe that has changed, and nobody has trained it.
    let recipe = fs::read_to_string(tiny.join("recipe.ron")).unwrap();
    let changed = recipe.replacen("objective: Flow", "objective: Velocity", 1);
    assert_ne!(changed, recipe);
    fs::write(tiny.join("recipe.ron"), changed).unwrap();
    refused(&tiny, &folder, &["denoiser", "has changed since it was trained"]);
    fs::write(tiny.join("recipe.ron"), recipe).unwrap();

    fs::rename(tiny.join("denoiser"), home.path().join("aside")).unwrap();
    refused(&tiny, &folder, &["has no trained denoiser yet", "umbra run"]);
    fs::rename(home.path().join("aside"), tiny.join("denoiser")).unwrap();

    // A recipe with other numbers of images is still the same model.
    done(&mut export(&tiny, &folder));
    fs::remove_dir_all(&folder).unwrap();
    for checkpoint in umbra::train::checkpoint::list(&tiny.join("denoiser")).unwrap() {
        let path = checkpoint.join("ema.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let damaged = ended(&mut export(&tiny, &folder));
    assert_eq!(damaged.code, Some(3), "{}", damaged.stderr);
    assert!(!folder.exists());
}

#[test]
fn what_diffusers_cannot_sample_is_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let mut model = Run::look(&run(), Path::new(".")).unwrap().model(Weights::Ema, None).unwrap();
    for objective in [Objective::Velocity, Objective::Clean] {
        model.diffusion.objective = objective;
        let error = export::diffusers(&model, &home.path().join("model")).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ExportError::NoScheduler { .. })), "{error}");
        assert!(error.to_string().contains("RectifiedFlow"), "{error}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_run_without_its_report_says_so() {
    let home = copy_of_finished();
    let tiny = home.path().join("checkpoints/tiny");
    fs::remove_dir_all(tiny.join("evaluate")).unwrap();
    let folder = home.path().join("model");
    done(&mut export(&tiny, &folder));
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains("Nothing: the run was not evaluated"), "{card}");
    assert!(!card.contains("psnr_db"), "{card}");
}

#[test]
fn killed_in_between_it_leaves_no_half_folder() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("model");
    let temporary = home.path().join("model.umbra.tmp");
    let run = run();
    let start = Instant::now();
    done(&mut export(&run, &folder));
    let duration = start.elapsed();
    let mut moments = Stream::new(1, "export/kill").at(0);
    let (mut half, mut whole) = (0, 0);
    for round in 0..24 {
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let mut command = export(&run, &folder);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Every other one while it writes, the others at any moment.
        let longest = if round % 2 == 0 {
            while !temporary.exists() && child.try_wait().unwrap().is_none() {
                thread::sleep(Duration::from_micros(50));
            }
            duration / 10
        } else {
            duration
        };
        thread::sleep(longest.mul_f64(moments.uniform()));
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.exists() {
            whole += 1;
            artifact::verify(&folder).unwrap();
        }
        half += u32::from(temporary.exists());
    }
    println!("{half} of 24 kills left a temporary folder, {whole} came after the end");
    assert!(half > 0, "no kill came while it was writing");
    // What the last kill left is taken away by the next export.
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(temporary.join("unet")).unwrap();
    fs::write(temporary.join("unet/half"), "half").unwrap();
    done(&mut export(&run, &folder));
    artifact::verify(&folder).unwrap();
    assert!(!folder.join("unet/half").exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn the_help_teaches() {
    let help = done(umbra().args(["export", "--help"])).stdout;
    for words in
        ["--to", "--weights", "sample.py", "Example:", "Exit code 2", "checkpoints/quickstart"]
    {
        assert!(help.contains(words), "{words}\n{help}");
    }
    let wrong = ended(umbra().args(["export", "a", "b"]));
    assert_eq!(wrong.code, Some(2));
}
