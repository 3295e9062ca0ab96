//! Wrong recipes and arguments: one message that names the place, exit code 2, nothing written.

mod text;

use super::binary::{Ended, ended, project};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// An empty working folder with one recipe in it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(recipe: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("wrong.ron"), recipe).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `umbra` with `args` here; it must refuse, and leave everything as it was.
    fn refused(&self, args: &[&str]) -> Ended {
        let before = names(self.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbra"));
        let ended = ended(command.args(args).current_dir(self.path()));
        let context = format!("umbra {}\n{}{}", args.join(" "), ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(2), "{context}");
        assert_eq!(ended.stdout, "", "{context}");
        assert!(ended.stderr.starts_with("error: "), "{context}");
        assert_eq!(ended.stderr.matches("error: ").count(), 1, "{context}");
        for panic in ["panicked", "RUST_BACKTRACE", "src/"] {
            assert!(!ended.stderr.contains(panic), "{context}");
        }
        assert_eq!(names(self.path()), before, "something was written: {context}");
        ended
    }
}

fn names(folder: &Path) -> Vec<String> {
    super::binary::files(folder).into_keys().chain(folders(folder)).collect()
}

fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// recipes/tiny.ron with `old`, which occurs in it, replaced.
fn tiny_with(old: &str, new: &str) -> String {
    let tiny = fs::read_to_string(project().join("recipes/tiny.ron")).unwrap();
    assert!(tiny.contains(old), "recipes/tiny.ron has no `{old}`");
    tiny.replacen(old, new, 1)
}

/// Sections that do not make sense, alone or together: a change, and what the message must say.
const FAULTS: &[(&str, &str, &str)] = &[
    ("name: \"tiny\"", "name: \"a/b\"", "name is \"a/b\""),
    ("name: \"tiny\"", "name: \"\"", "name is \"\""),
    ("name: \"tiny\"", "name: \"..\"", "name is \"..\""),
    ("name: \"tiny\"", "name: \"stores\"", "where stores are kept"),
    ("schema: 2", "schema: 99", "schema is 99"),
    ("size: 32", "size: 36", "data.size is 36"),
    ("size: 32", "size: 0", "data.size is 0"),
    ("size: 32", "size: 65536", "data.size is 65536"),
    ("size: 32", "size: 32, max_damaged: 2.0", "data.max_damaged is 2"),
    ("size: 32", "size: 32, window: Percentile(low: 90, high: 10)", "data.window"),
    ("size: 32", "size: 32, split: (train: 0.5)", "sums to 0.7"),
    ("Phantom(images: 160)", "Phantom(images: 0)", "data.source.images is 0; expected at least 1"),
    ("Phantom(images: 160)", "Several([])", "at least one source"),
    ("Phantom(images: 160)", "Manifest(path: \"missing.csv\")", "cannot read missing.csv"),
    ("Phantom(images: 160)", "Folder(path: \"missing\")", "no folder missing"),
    ("Phantom(images: 160)", "Folder(path: \"../..\")", "outside the data root"),
    ("Phantom(images: 160)", "Manifest(path: \"/etc/passwd\")", "outside the data root"),
    ("patch: 8, width: 32", "patch: 5, width: 32", "encoder.from.patch (5) does not divide"),
    ("patch: 8, width: 32", "patch: 0, width: 32", "encoder.from"),
    ("depth: 2, heads: 2", "depth: 2, heads: 3", "encoder.from"),
    ("depth: 2, heads: 2", "depth: 0, heads: 2", "encoder.from"),
    ("local_size: 16", "local_size: 12", "encoder.task.views.local_size is 12"),
    ("local_size: 16", "local_size: 16, global_size: 20", "encoder.task.views.global_size is 20"),
    ("prototypes: 64", "prototypes: 0", "head.prototypes is 0"),
    ("iterations: 3", "iterations: 0", "centering.iterations is 0"),
    ("koleo: 0.1", "koleo: NaN", "koleo is NaN"),
    ("koleo: 0.1", "koleo: inf", "koleo is inf"),
    ("koleo: 0.1", "koleo: 0.1, teacher_temperature: (0.04, inf)", "teacher_temperature[1] is inf"),
    ("channels: [8, 16, 16]", "channels: [8, 18, 16]", "autoencoder.from"),
    ("channels: [8, 16, 16]", "channels: []", "autoencoder.from"),
    ("channels: [8, 16, 16]", "channels: [4, 4, 4, 4, 4, 4, 4]", "autoencoder's factor of 64"),
    ("latent_channels: 4", "latent_channels: 0", "autoencoder.from"),
    ("groups: 4, attention: false", "groups: 0, attention: false", "autoencoder.from"),
    (
        "attention: false),",
        "attention: false), task: Reconstruct(crop: 64),",
        "autoencoder.task.crop is 64",
    ),
    (
        "attention: false),",
        "attention: false), task: Reconstruct(kl_weight: NaN),",
        "kl_weight is NaN",
    ),
    ("channels: [16, 32]", "channels: [16, 30]", "denoiser"),
    ("channels: [16, 32]", "channels: [16, 16, 16, 16, 32]", "cannot be halved 4 times"),
    ("attention: [1]", "attention: [2]", "denoiser.from.attention names level 2"),
    ("heads: [1, 2]", "heads: [1, 5]", "denoiser"),
    ("heads: [1, 2]", "heads: [1, 2, 4]", "denoiser"),
    ("context_width: 32", "context_width: 0", "denoiser"),
    (
        "objective: Flow",
        "objective: Epsilon",
        "objective is Epsilon, which cannot start from schedule RectifiedFlow",
    ),
    (
        "RectifiedFlow(shift: 3.0)",
        "RectifiedFlow(shift: -1.0)",
        "denoiser.task.schedule.shift is -1",
    ),
    ("weighting: Uniform", "weighting: MinSnr(gamma: 0.0)", "denoiser.task.weighting.gamma is 0"),
    (
        "objective: Flow, weighting: Uniform",
        "objective: Clean, weighting: MinSnr(gamma: 10000.0)",
        "t = 1, where sampling starts",
    ),
    ("tokens: Class,", "tokens: ClassAndRegisters,", "encoder.from.registers is 0"),
    ("dropout: 0.1", "dropout: 1.5", "condition.dropout is 1.5"),
    ("dropout: 0.1", "dropout: NaN", "condition.dropout is NaN"),
    (
        "images: 1_280,\n            batch_size: 16",
        "images: 1_280,\n            batch_size: 0",
        "denoiser.train.batch_size is 0",
    ),
    ("images: 1_280,", "images: 0,", "denoiser.train.images is 0"),
    ("images: 1_280,", "images: 1_280, keep: 1,", "denoiser.train.keep is 1"),
    (
        "images: 1_280,",
        "images: 1_280, micro_batch_size: 17,",
        "denoiser.train.micro_batch_size is 17",
    ),
    (
        "peak: 2e-3, warm_up: 64",
        "peak: 2e-3, warm_up: 6_400",
        "warm_up is 6400; expected at most the training's 1280 images",
    ),
    ("peak: 2e-3", "peak: -2e-3", "denoiser.train.learning_rate.peak is -0.002; expected"),
    ("peak: 2e-3", "peak: inf", "denoiser.train.learning_rate.peak is inf"),
    ("save_every: 96", "save_every: 0", "autoencoder.train.save_every is 0"),
    ("ema: (decay: 0.98)", "ema: (decay: 1.5)", "autoencoder.train.ema.decay is 1.5"),
    (
        "ema: (decay: 0.98)",
        "ema: (sigma_rel: [0.05, 0.4])",
        "autoencoder.train.ema.sigma_rel[1] is 0.4; expected above 0 and at most 0.2886",
    ),
    (
        "ema: (decay: 0.98)",
        "ema: (decay: 0.98, half_life: 500)",
        "autoencoder.train.ema.decay is 0.98; expected nothing beside half_life",
    ),
    (
        "weight_decay: 0.04, clip_norm: 3.0)",
        "weight_decay: 0.04, clip_norm: 3.0), ema: (half_life: 500)",
        "encoder.task.teacher_momentum is 0.996; expected train.ema without half_life",
    ),
    (
        "weighting: Uniform)",
        "weighting: Uniform, times: LogitNormal(mean: -4.0, std: 1.0))",
        "denoiser.task.times.mean is -4 with std 1; expected a mean and std with at least",
    ),
    (
        "Reconstruct(images: 64",
        "Reconstruct(guidance: Scale(scale: -1.0), images: 64",
        "sample[0].guidance.scale is -1",
    ),
    (
        "Reconstruct(images: 64",
        "Reconstruct(guidance: Scale(scale: 2.0, interval: (0.9, 0.1)), images: 64",
        "sample[0].guidance.interval is (0.9, 0.1); expected a range within 0 to 1",
    ),
    (
        "Reconstruct(images: 64",
        "Reconstruct(guidance: Auto(scale: 2.0, images: 100), images: 64",
        "sample[0].guidance.images is 100; expected one of denoiser.train.milestones ([])",
    ),
    (
        "Reconstruct(images: 64, sampler: Ddim(steps: 8)",
        "Reconstruct(guidance: PlusPlus(), images: 64, sampler: Heun(steps: 8)",
        "sample[0].guidance is PlusPlus, which goes on with another noise than Heun finds",
    ),
    ("Ddim(steps: 8)", "Ddim(steps: 8, spacing: Karras(rho: 0.0))", "sampler.spacing.rho is 0"),
    (
        "Reconstruct(images: 64, sampler: Ddim(steps: 8)",
        "Reconstruct(images: 64, sampler: Shortcut(steps: 4)",
        "sample[0].sampler is Shortcut, but denoiser.task.self_consistency is missing",
    ),
    (
        "Reconstruct(images: 64, sampler: Ddim(steps: 8)",
        "Reconstruct(images: 64, sampler: Shortcut(steps: 3)",
        "sample[0].sampler.steps is 3; expected a power of two from 1 to 128",
    ),
    (
        "objective: Flow, weighting: Uniform",
        "objective: Velocity, weighting: Uniform, self_consistency: ()",
        "denoiser.task.self_consistency is there, with objective Velocity on schedule RectifiedFlow; expected objective \
         Flow",
    ),
    (
        "weighting: Uniform)",
        "weighting: Uniform, alignment: ())",
        "denoiser.task.alignment is there, but a U-Net has no blocks of equal tokens",
    ),
    ("save_every: 64", "save_every: 64, milestones: [2_000]", "milestones is 2000; expected 1 to"),
    (
        "tokens: Class,",
        "tokens: ClassAndGrid(3),",
        "condition.tokens.ClassAndGrid is 3; expected a divisor of",
    ),
    (
        "Interpolate(images: 8",
        "Interpolate(weight: (0.9, 0.1), images: 8",
        "sample[1].weight is (0.9, 0.1)",
    ),
    ("Ddim(steps: 8)", "Ddim(steps: 0)", "sample[0].sampler.steps is 0"),
    ("Kernel(subset_size: 32)", "Kernel(subset_size: 1)", "evaluate[1].subset_size is 1"),
    ("candidates: 16", "candidates: 1", "evaluate[4].candidates is 1; expected at least 2"),
    ("Frechet()", "Frechet(), Frechet()", "evaluate[1] is Frechet again"),
    (
        "depth: 2, heads: 2)",
        "depth: 2, heads: 2, layer_scale: 0.0)",
        "encoder.from.layer_scale is 0",
    ),
    ("koleo: 0.1,", "koleo: 0.1, drop_path: 1.0,", "encoder.task.drop_path is 1"),
    ("koleo: 0.1,", "koleo: 0.1, layer_decay: 1.5,", "encoder.task.layer_decay is 1.5"),
    ("koleo: 0.1,", "koleo: 0.1, ibot: (weight: 0.0),", "encoder.task.ibot.weight is 0"),
    (
        "koleo: 0.1,",
        "koleo: 0.1, ibot: (share: (0.5, 0.1)),",
        "encoder.task.ibot.share is (0.5, 0.1)",
    ),
    (
        "koleo: 0.1,",
        "koleo: 0.1, ibot: (head: Own(prototypes: 0)),",
        "encoder.task.ibot.head.prototypes is 0",
    ),
    (
        "num_local: 2)",
        "num_local: 2, late: (from: 320, global_size: 48, local_size: 20))",
        "encoder.task.views.late.local_size is 20; expected a multiple of the patch (8)",
    ),
    (
        "optimizer: (weight_decay: 0.04, clip_norm: 3.0)",
        "optimizer: (groups: [(weights: [\"backbone.*\"], rate: -1.0)])",
        "encoder.train.optimizer.groups[0].rate is -1",
    ),
    (
        "ema: (decay: 0.98)",
        "optimizer: (groups: [(weights: [\"*.nothing.*\"])]), ema: (decay: 0.98)",
        "autoencoder.train.optimizer.groups[0].weights[0] is \"*.nothing.*\"",
    ),
    (
        "Frechet()",
        "Frechet(features: XrayDenseNet(folder: \"nowhere\"))",
        "evaluate[0].features.folder: ./nowhere is not a folder",
    ),
    (
        "Coverage()",
        "Coverage(features: InceptionV3(folder: \".\", images: 1))",
        "evaluate[2].features.images is 1",
    ),
    (
        "Coverage()",
        "Coverage(features: InceptionV3(folder: \".\"))",
        "evaluate[2].features.folder: ./. has no config.json",
    ),
];

#[test]
fn sections_that_make_no_sense_are_told_by_name() {
    assert!(FAULTS.len() >= 40);
    for (old, new, expected) in FAULTS {
        let desk = Desk::new(tiny_with(old, new).as_bytes());
        let ended = desk.refused(&["run", "wrong.ron"]);
        assert!(ended.stderr.contains(expected), "{new}: expected `{expected}`\n{}", ended.stderr);
        assert!(
            ended.stderr.starts_with("error: wrong.ron cannot be run:\n  - "),
            "{new}\n{}",
            ended.stderr
        );
        assert_eq!(desk.refused(&["check", "wrong.ron"]), ended, "check and run differ");
        // Every path is one that `--set` takes: it may refuse the value, but finds the place.
        for path in ended.stderr.lines().filter_map(|line| line.strip_prefix("  - ")) {
            let path = path.split([' ', ':']).next().unwrap();
            let set =
                umbra::recipe::Recipe::read(&desk.path().join("wrong.ron"), &[format!("{path}=0")]);
            let told = set.err().map(|error| error.to_string()).unwrap_or_default();
            for lost in ["no field", "no entry", "not a list", "has no fields", "not a path"] {
                assert!(!told.contains(lost), "{path}: {told}");
            }
        }
    }
}

/// What was a recipe of the first schema, and what makes no network: a change, and what the message must say.
const SHAPES: &[(&str, &str, &str)] = &[
    ("schema: 2", "schema: 1", "`diffusion` is the denoiser's task"),
    ("from: Vit(", "vit: (", "`vit`"),
    ("task: Dino(", "dino: (", "`dino`"),
    ("from: Kl(", "kl: (", "`kl`"),
    ("encoder: (", "encoder: Train(", "`Train` is of schema 1; expected schema 2, in which"),
    ("denoiser: (", "denoiser: Unet(", "`Unet` is of schema 1"),
    ("from: Unet(", "from: Dit(", "`Dit`"),
    ("from: Vit(", "from: Unet(", "`Unet`"),
    ("task: Dino(", "task: Denoise(", "`Denoise`"),
    ("task: Denoise(", "task: Dino(", "`Dino`"),
    ("    seed: 1,", "    seed: 1, train: (images: 64),", "`train`"),
    ("    seed: 1,", "    seed: 1, diffusion: (objective: Flow),", "`diffusion`"),
    ("from: Vit(", "from: Folder(folder: \"a\"), learns: [\"*\"], task: Dino(), x: (", "`folder`"),
    ("from: Vit(", "learns: \"*\", from: Vit(", "Expected opening"),
    ("from: Vit(", "learns: [\"*.attn2.*\"], from: Vit(", "encoder.learns is [\"*.attn2.*\"]"),
    ("from: Kl(", "learns: [\"decoder.*\"], from: Kl(", "autoencoder.learns is [\"decoder.*\"]"),
    ("from: Unet(", "learns: [], from: Unet(", "denoiser.learns is []"),
    ("train: (\n            images: 640", "task_: (\n            images: 640", "`task_`"),
    (
        "from: Vit(patch: 8, width: 32, depth: 2, heads: 2)",
        "from: Folder(path: \"nowhere\")",
        "encoder.from.path: ",
    ),
    (
        "from: Kl(channels: [8, 16, 16], layers: 1, latent_channels: 4, groups: 4, attention: false)",
        "from: Folder(path: \"nowhere\", blake3: \"12\")",
        "autoencoder.from.blake3 is \"12\"",
    ),
    (
        "from: Kl(channels: [8, 16, 16], layers: 1, latent_channels: 4, groups: 4, attention: false)",
        "from: Folder(path: \"nowhere\", side: 3)",
        "`side`",
    ),
];

#[test]
fn networks_of_another_shape_are_told_with_what_to_write() {
    assert!(SHAPES.len() >= 20);
    for (old, new, expected) in SHAPES {
        let desk = Desk::new(tiny_with(old, new).as_bytes());
        let ended = desk.refused(&["run", "wrong.ron"]);
        assert!(ended.stderr.contains(expected), "{new}: expected `{expected}`\n{}", ended.stderr);
        assert_eq!(desk.refused(&["check", "wrong.ron"]), ended, "check and run differ");
    }
}

/// A network that is trained must say how long.
#[test]
fn a_new_network_without_training_is_refused() {
    let tiny = tiny_with("", "");
    for network in ["encoder", "autoencoder", "denoiser"] {
        let at = tiny.find(&format!("    {network}: (\n")).unwrap();
        let start = at + tiny[at..].find("        train: (\n").unwrap();
        let end = start + tiny[start..].find("        ),\n").unwrap() + "        ),\n".len();
        let text = format!("{}{}", &tiny[..start], &tiny[end..]);
        let ended = Desk::new(text.as_bytes()).refused(&["run", "wrong.ron"]);
        let sentence = format!("{network}.train is missing; say how long");
        assert!(ended.stderr.contains(&sentence), "{}", ended.stderr);
    }
}

#[test]
fn an_evaluation_of_samples_needs_samples() {
    let tiny = fs::read_to_string(project().join("recipes/tiny.ron")).unwrap();
    let (before, rest) = tiny.split_once("    sample: [").unwrap();
    let (_, after) = rest.split_once("    ],\n").unwrap();
    let desk = Desk::new(format!("{before}{after}").as_bytes());
    let ended = desk.refused(&["run", "wrong.ron"]);
    expect_test::expect![[r#"
        error: wrong.ron cannot be run:
          - sample is empty; expected images, which Frechet in evaluate looks at
    "#]]
    .assert_eq(&ended.stderr);
}

#[test]
fn a_figure_looks_at_a_strategy_that_is_there() {
    for (old, new, expected) in [
        (
            "Frechet(),",
            "Frechet(strategy: 2),",
            "evaluate[0].strategy is 2; expected the number of one in sample, below 2",
        ),
        (
            "Coverage(),",
            "Coverage(strategy: 0), Coverage(strategy: 0),",
            "evaluate[3] is Coverage again; expected one of each",
        ),
        (
            "Reconstruct(images: 64,",
            "Reconstruct(split: Valid, images: 64,",
            "evaluate[0].strategy is None; expected the number of one in sample: none there starts from training images",
        ),
        (
            "Frechet(),",
            "Frechet(features: Radiomics(images: 1)),",
            "evaluate[0].features.images is 1; expected at least 2",
        ),
        (
            "Frechet(),",
            "Frechet(features: Dino(folder: \"missing\")),",
            "evaluate[0].features.folder: ./missing is not a folder",
        ),
        ("Frechet(),", "DataCopying(cells: 0),", "evaluate[0].cells is 0; expected at least 1"),
    ] {
        let text = tiny_with(old, new).replace(
            "Interpolate(images: 8,",
            if new.contains("Valid") {
                "Interpolate(split: Test, images: 8,"
            } else {
                "Interpolate(images: 8,"
            },
        );
        let ended = Desk::new(text.as_bytes()).refused(&["check", "wrong.ron"]);
        assert!(ended.stderr.contains(expected), "expected `{expected}`\n{}", ended.stderr);
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = tiny_with("patch: 8, width: 32", "patch: 5, width: 32")
        .replace("objective: Flow", "objective: Epsilon")
        .replace("attention: [1]", "attention: [2]")
        .replace("Phantom(images: 160)", "Manifest(path: \"missing.csv\")")
        .replace("keep: 2", "keep: 1")
        .replace("warm_up: 64", "warm_up: 64_000");
    let ended = Desk::new(text.as_bytes()).refused(&["run", "wrong.ron"]);
    expect_test::expect![[r#"
        error: wrong.ron cannot be run:
          - data.source.path: cannot read missing.csv below .: No such file or directory (os error 2)
          - encoder.from: vision transformer: image_size is 32, which must be a positive multiple of patch_size (5)
          - encoder.task.views.local_size is 16; expected a multiple of the patch (5)
          - encoder.train.learning_rate.warm_up is 64000; expected at most the training's 640 images
          - data.size is 32, which encoder.from.patch (5) does not divide
          - autoencoder.train.learning_rate.warm_up is 64000; expected at most the training's 960 images
          - denoiser.from.attention names level 2; there are 2 levels, numbered from 0
          - denoiser.task.objective is Epsilon, which cannot start from schedule RectifiedFlow: its last timestep keeps 0.0000 % of the signal, and the noise alone does not tell the image; expected Velocity, Flow or Clean
          - denoiser.train.learning_rate.warm_up is 64000; expected at most the training's 1280 images
    "#]].assert_eq(&ended.stderr);
}
