//! A transformer in the place of the U-Net, through everything that a run does with its denoiser.

use super::binary::{copy_of_finished, done, ended, files, newest, results, umbra};
use super::foreign::{self, write};
use super::models::golden::Golden;
use burn::tensor::TensorData;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::models::weights::StateDict;
use umbra::models::weights::file::{self, NonFinite};
use umbra::telemetry::metrics;

/// What makes of recipes/tiny.ron one with a small transformer, of which only the denoiser is trained anew.
const SETTINGS: [&str; 6] = [
    "denoiser.from=Transformer(width: 32, depth: 2, heads: 2)",
    "denoiser.train.images=768",
    "sample[0].images=8",
    "sample[1].images=4",
    "evaluate=[ConditionFidelity(candidates: 8, sampler: Ddim(steps: 2))]",
    "denoiser.train.validate_every=256",
];

fn tiny(verb: &str, checkpoints: &Path) -> Command {
    let mut command = umbra();
    command.args([verb, "recipes/tiny.ron", "--threads", "2"]);
    command.args(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    command.arg("--checkpoints").arg(checkpoints);
    command
}

fn read(path: &Path) -> StateDict {
    file::read(path, NonFinite::Refuse).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn it_trains_resumes_to_the_bit_draws_and_is_exported() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    let plan: Value =
        serde_json::from_str(&done(tiny("check", &checkpoints).arg("--json")).stdout).unwrap();
    assert!(plan["stages"][4]["parameters"].as_u64().unwrap() > 50_000, "{plan:#}");
    let told = done(&mut tiny("run", &checkpoints));
    assert!(told.stderr.contains(&format!("{:<12} up to date", "encode")), "{}", told.stderr);
    let records = metrics::read(&run.join("denoiser")).unwrap();
    let losses: Vec<f64> =
        records.iter().filter_map(|record| record.values.get("validation/loss").copied()).collect();
    assert!(losses.len() == 4 && losses[3] < 0.8 * losses[0], "{losses:?}");
    assert_eq!(fs::read_dir(run.join("sample/images")).unwrap().count(), 12);

    // From the last checkpoint but one it comes to the same end.
    let whole = results(&run);
    fs::remove_dir_all(newest(&run, "denoiser")).unwrap();
    fs::remove_dir_all(run.join("sample")).unwrap();
    let plan = done(tiny("check", &checkpoints).arg("--json")).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["stages"][4]["state"], "resume");
    done(&mut tiny("run", &checkpoints));
    assert_eq!(results(&run), whole);

    // Weights as they are in the checkpoint, under diffusers' names.
    let folder = home.path().join("model");
    done(umbra().arg("export").arg(&run).args(["--to", "diffusers"]).arg(&folder));
    let index = json_of(&folder.join("model_index.json"));
    assert_eq!(index["transformer"], json!(["diffusers", "SD3Transformer2DModel"]));
    assert_eq!(index.get("unet"), None);
    let config = json_of(&folder.join("transformer/config.json"));
    assert_eq!((&config["sample_size"], &config["patch_size"]), (&json!(8), &json!(2)));
    assert_eq!(
        (&config["pooled_projection_dim"], &config["qk_norm"]),
        (&json!(32), &json!("rms_norm"))
    );
    let exported = read(&folder.join("transformer/diffusion_pytorch_model.safetensors"));
    let checkpoint = read(&newest(&run, "denoiser").join("ema.safetensors"));
    for (name, data) in &exported {
        assert_eq!(checkpoint[&format!("transformer.{name}")], *data, "{name}");
    }
    let condition = read(&folder.join("condition/model.safetensors"));
    assert_eq!(exported.len() + condition.len(), checkpoint.len());
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    for words in [
        "from diffusers import AutoencoderKL, SD3Transformer2DModel",
        "transformer = SD3Transformer2DModel.from_pretrained(folder, subfolder=\"transformer\")",
        "guides the transformer",
        "| transformer and condition | 768 | trained here",
    ] {
        assert!(card.contains(words), "{words}\n{card}");
    }
    assert!(!card.to_lowercase().contains("u-net") && !card.contains("UNet"), "{card}");

    // The run and its export draw the same.
    let picture = fs::read_dir(run.join("sample/images")).unwrap().next().unwrap().unwrap().path();
    let [from_run, from_export] = [("a", &run), ("b", &folder)].map(|(name, model)| {
        let out = home.path().join(name);
        let mut command = umbra();
        command.arg("generate").arg(model).arg(&picture).arg("--out").arg(&out);
        done(command.args(["--steps", "3", "--guidance", "1.5"]));
        files(&out)["0000-0000.png"].clone()
    });
    assert_eq!(
        image::load_from_memory(&from_run).unwrap(),
        image::load_from_memory(&from_export).unwrap()
    );

    // `umbra forward` opens it.
    let input = home.path().join("in.safetensors");
    let zeros = |shape: &[usize]| TensorData::zeros::<f32, _>(shape.to_vec());
    let inputs: StateDict = [
        ("hidden_states", zeros(&[1, 4, 8, 8])),
        ("timestep", zeros(&[1])),
        ("encoder_hidden_states", zeros(&[1, 2, 32])),
        ("pooled_projections", zeros(&[1, 32])),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into();
    file::write(&input, &inputs).unwrap();
    let mut forward = umbra();
    forward.arg("forward").arg(folder.join("transformer")).arg("--input").arg(&input);
    let told = done(forward.arg("--output").arg(home.path().join("out.safetensors")));
    assert_eq!(told.stdout, "sample [1, 4, 8, 8]\n");
}

#[test]
fn sizes_that_do_not_fit_are_faults_of_the_recipe() {
    let home = tempfile::tempdir().unwrap();
    for (from, sentence) in [
        (
            "Transformer(patch: 3)",
            "denoiser: latents are 8 × 8 (data.size over the autoencoder's factor), which cannot be cut into patches of \
             3 × 3",
        ),
        ("Transformer(patch: 0)", "denoiser: transformer: patch_size must be at least 1"),
        ("Transformer(patch: 16)", "which cannot be cut into patches of 16 × 16"),
        (
            "Transformer(width: 100)",
            "denoiser.from.width is 100; expected a positive multiple of heads (6)",
        ),
        (
            "Transformer(heads: 0)",
            "denoiser.from.width is 384; expected a positive multiple of heads (0)",
        ),
        (
            "Transformer(width: 6, heads: 3)",
            "denoiser: transformer: attention_head_dim times num_attention_heads is 6, which must be a positive multiple \
             of 4 (4)",
        ),
        ("Transformer(depth: 0)", "denoiser: transformer: num_layers must be at least 1"),
        ("Transformer(layers: 2)", "`layers`"),
        (
            "Transformer(context_width: 0)",
            "denoiser: transformer: joint_attention_dim must be at least 1",
        ),
    ] {
        let mut command = umbra();
        command.args(["check", "recipes/tiny.ron", "--set", &format!("denoiser.from={from}")]);
        let ended = ended(command.arg("--checkpoints").arg(home.path()));
        assert_eq!(ended.code, Some(2), "{from}: {}", ended.stderr);
        assert!(ended.stderr.contains(sentence), "{from}: {}", ended.stderr);
    }
}

#[test]
fn one_of_the_reference_is_tuned_and_what_does_not_learn_stays_to_the_bit() {
    let home = foreign::home();
    let golden = Golden::read("mmdit");
    let place = home.path().join("transformer");
    write(&golden, &place, "diffusion_pytorch_model.safetensors");
    let recipe = |learns: &str, size: &str| {
        let from = format!("Folder(path: \"transformer\"), learns: [\"{learns}\"]");
        let mut command = foreign::recipe(home.path(), &from);
        command.args(["--set", &format!("data.size={size}")]);
        command
    };
    // 16 × 16 latents are 8 × 8 patches, and the table has four to a side.
    let large = ended(&mut recipe("*.attn.*", "32"));
    assert_eq!(large.code, Some(2));
    let sentence = "which are 8 × 8 patches; pos_embed_max_size is 4";
    assert!(large.stderr.contains(sentence), "{}", large.stderr);
    let pooled = ended(recipe("*.attn.*", "16").args(["--set", "condition.pooled=true"]));
    let sentence = "denoiser.from.path takes pooled_projections 5 wide and the pooled condition is 6 wide, which does \
                    not go with condition.pooled: true";
    assert!(pooled.stderr.contains(sentence), "{}", pooled.stderr);

    done(&mut recipe("*.attn.*", "16"));
    let run = home.path().join("checkpoints/foreign");
    for which in ["model", "ema"] {
        let state = read(&newest(&run, "denoiser").join(format!("{which}.safetensors")));
        let mut moved = 0;
        for (name, before) in &golden.weights {
            let after = &state[&format!("transformer.{name}")];
            match name.contains(".attn.") {
                true => moved += usize::from(after != before),
                false => assert_eq!(after, before, "{name} of {which}"),
            }
        }
        assert!(moved > 20, "{moved} tensors of {which} have learned");
    }
    let folder = home.path().join("model");
    let mut export = umbra();
    export.arg("export").arg(&run).args(["--to", "diffusers"]).arg(&folder);
    done(export.arg("--data-root").arg(home.path()));
    let exported = read(&folder.join("transformer/diffusion_pytorch_model.safetensors"));
    assert_eq!(exported["proj_out.weight"], golden.weights["proj_out.weight"]);
    let written = json_of(&folder.join("transformer/config.json"));
    let theirs: Value = serde_json::from_str(&golden.config).unwrap();
    assert_eq!(written["pos_embed_max_size"], theirs["pos_embed_max_size"]);
}
