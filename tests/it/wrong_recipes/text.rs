//! What is not a recipe, and arguments that fit no recipe.

use super::{Desk, tiny_with};
use crate::binary::project;
use std::fs;

/// Changes of the text after which it is no recipe any more, and what the message must say.
const MISTAKES: &[(&str, &str, &str)] = &[
    // Names that are not known.
    ("seed: 1", "sed: 1", "`sed`"),
    ("size: 32", "sise: 32", "`sise`"),
    ("warm_up: 64", "warmup: 64", "`warmup`"),
    ("from: Vit(", "from: Weights(", "`Weights`"),
    ("from: Unet(", "from: Dit(", "`Dit`"),
    ("RectifiedFlow(shift: 3.0)", "Sigmoid()", "`Sigmoid`"),
    ("objective: Flow", "objective: Noise", "`Noise`"),
    ("weighting: Uniform", "weighting: Snr", "`Snr`"),
    ("tokens: Class", "tokens: Clas", "`Clas`"),
    ("Reconstruct(", "Reconstrukt(", "`Reconstrukt`"),
    ("Ddim(steps: 8)", "Ddpm(steps: 8)", "`Ddpm`"),
    ("Frechet()", "Fid()", "`Fid`"),
    ("Frechet()", "Frechet(features: Clip(folder: \"a\"))", "`Clip`"),
    ("Frechet()", "Frechet(features: XrayDenseNet(path: \"a\"))", "`path`"),
    ("Phantom(images: 160)", "Phantoms(images: 160)", "`Phantoms`"),
    ("images: 1_280,", "images: 1_280, compute: F64,", "`F64`"),
    // Values of another kind.
    ("seed: 1", "seed: -1", ""),
    ("seed: 1", "seed: 1.5", ""),
    ("seed: 1", "seed: one", ""),
    ("size: 32", "size: \"32\"", ""),
    ("batch_size: 16", "batch_size: -16", ""),
    ("batch_size: 16", "batch_size: 99999999999999999999999999", ""),
    ("channels: [8, 16, 16]", "channels: 8", ""),
    ("attention: false", "attention: 0", ""),
    ("pooled: true", "pooled: yes", ""),
    ("name: \"tiny\"", "name: tiny", ""),
    (
        "Reconstruct(images: 64",
        "Reconstruct(guidance: 2.0, images: 64",
        "guidance is no way of guiding; expected None, Scale(scale: 2.0)",
    ),
    // Missing and superfluous.
    ("weighting: Uniform)", "weighting: Uniform, times: LogitNormal(mean: 0.0))", "`std`"),
    ("    name: \"tiny\",\n", "", "`name`"),
    ("seed: 1,", "seed: 1, seed: 2,", "`seed`"),
    ("seed: 1,", "seed: 1", ""),
    ("seed: 1,", "seed 1,", ""),
    ("name: \"tiny\"", "name: \"tiny", ""),
    ("    ],\n)\n", "    ],\n", ""),
    ("    ],\n)\n", "    ],\n))\n", ""),
];

#[test]
fn what_is_no_recipe_is_shown_with_line_and_column() {
    for (old, new, expected) in MISTAKES {
        let ended = Desk::new(tiny_with(old, new).as_bytes()).refused(&["run", "wrong.ron"]);
        shows_a_place(&ended.stderr);
        assert!(ended.stderr.contains(expected), "{new}: expected {expected}\n{}", ended.stderr);
    }
    for text in
        ["", "\n\n", "// only a comment", "()", "tiny", "[]", "{\"name\": \"tiny\"}", "\u{feff}("]
    {
        shows_a_place(&Desk::new(text.as_bytes()).refused(&["run", "wrong.ron"]).stderr);
    }
}

#[test]
fn endless_nesting_is_refused() {
    let nested = |depth: usize| format!("{}{}", "Several([".repeat(depth), "])".repeat(depth));
    for depth in [200, 100_000] {
        let text = tiny_with("Phantom(images: 160)", &nested(depth));
        shows_a_place(&Desk::new(text.as_bytes()).refused(&["check", "wrong.ron"]).stderr);
    }
    let desk = Desk::new("(".repeat(1_000_000).as_bytes());
    desk.refused(&["check", "wrong.ron"]);
}

#[test]
fn files_that_are_no_text_are_refused() {
    let desk = Desk::new(b"(name: \"t\xff\xfe\")");
    shows_a_place(&desk.refused(&["run", "wrong.ron"]).stderr);
    desk.refused(&["run", "missing.ron"]);
    fs::create_dir(desk.path().join("folder.ron")).unwrap();
    let ended = desk.refused(&["run", "folder.ron"]);
    assert!(
        ended.stderr.starts_with("error: cannot read the recipe folder.ron: "),
        "{}",
        ended.stderr
    );
    desk.refused(&["run", ""]);
}

/// What can be wrong with `--set`, and what the message must say.
const OVERRIDES: &[(&str, &str)] = &[
    ("denoiser.train.images", "equals sign"),
    ("=3", "not a path"),
    ("denoiser.train.=3", "not a path"),
    ("denoiser.train.images=", "a value is missing"),
    ("denoiser.train.images=1 2", "unexpected `2`"),
    ("denoiser.train.images=many", "u64"),
    ("denoiser.train.images=-5", "u64"),
    ("denoiser.train.images=1.5", "u64"),
    ("denoiser.train.images=NaN", "NaN"),
    ("denoiser.train=5", "Train"),
    ("denoiser.train.image=5", "no field `image`; expected one of images, "),
    ("trian.images=5", "no field `trian`"),
    ("denoiser.train.images.more=5", "has no fields"),
    ("sample[9].images=5", "no entry [9]; the list has 2"),
    ("sample[-1].images=5", "not a list position"),
    ("sample[0.images=5", "no `]`"),
    ("sample[0]images=5", "unexpected `images`"),
    ("denoiser.train[0]=5", "not a list"),
    ("sample[0]=Reconstrukt()", "Reconstrukt"),
    ("denoiser.task.schedule=Sigmoid()", "Sigmoid"),
    ("data.source=Phantom(image: 3)", "image"),
    ("name=\"a", "does not end"),
];

#[test]
fn a_wrong_override_is_told_with_what_was_typed() {
    for (assignment, expected) in OVERRIDES {
        let desk = Desk::new(tiny_with("", "").as_bytes());
        let ended = desk.refused(&["run", "wrong.ron", "--set", assignment]);
        assert!(
            ended.stderr.starts_with(&format!("error: --set {assignment}: ")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(expected), "expected {expected}\n{}", ended.stderr);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn an_override_is_checked_like_the_file() {
    let desk = Desk::new(tiny_with("", "").as_bytes());
    let ended = desk.refused(&[
        "run",
        "wrong.ron",
        "--set",
        "denoiser.train.keep=1",
        "--set",
        "data.size=36",
    ]);
    assert!(
        ended.stderr.contains("denoiser.train.keep is 1")
            && ended.stderr.contains("data.size is 36")
    );
}

#[test]
fn wrong_arguments_are_refused() {
    for (args, expected) in [
        (&["--device", "gpu"][..], "device \"gpu\" is not known"),
        (&["--device", "cuda:x"], "device \"cuda:x\" is not known"),
        (&["--device", ""], "device \"\" is not known"),
        (&["--threads", "0"], "--threads is 0"),
        (&["--threads", "100000"], "--threads is 100000"),
        (&["--threads", "-1"], "'-1'"),
        (&["--threads", "two"], "--threads"),
        (&["--data-rot", "x"], "--data-rot"),
        (&["another.ron"], "another.ron"),
        (
            &["--data-root", "missing", "--set", "data.source=Folder(path: \"x\")"],
            "no folder x below missing",
        ),
    ] {
        let desk = Desk::new(tiny_with("", "").as_bytes());
        let ended = desk.refused(&[&["run", "wrong.ron"], args].concat());
        assert!(ended.stderr.contains(expected), "expected {expected}\n{}", ended.stderr);
    }
    let desk = Desk::new(b"");
    for args in
        [&[][..], &["run"], &["rnu", "wrong.ron"], &["train", "decoder", "wrong.ron"], &["inspect"]]
    {
        // With no verb at all, clap prints the help instead of an error.
        let ended = crate::binary::ended(
            std::process::Command::new(env!("CARGO_BIN_EXE_umbra"))
                .args(args)
                .current_dir(desk.path()),
        );
        assert_eq!(ended.code, Some(2), "{args:?}\n{}", ended.stderr);
    }
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_cpu_build_refuses_cuda() {
    let desk = Desk::new(tiny_with("", "").as_bytes());
    let ended = desk.refused(&["run", "wrong.ron", "--device", "cuda:0"]);
    expect_test::expect![[r#"
        error: device "cuda:0" needs a build with CUDA; build with `cargo build --release --features cuda`, or use --device cpu
    "#]].assert_eq(&ended.stderr);
}

#[test]
fn messages_point_at_the_letter() {
    let first = |old: &str, new: &str| {
        Desk::new(tiny_with(old, new).as_bytes()).refused(&["run", "wrong.ron"]).stderr
    };
    expect_test::expect![[r#"
        error: wrong.ron:7:42: Unexpected field named `sise` in `Data`, expected one of `source`, `size`, `window`, `split`, `split_conflict`, `seed`, `max_damaged`, or `cache_mib` instead
          |     data: (source: Phantom(images: 160), sise: 32),
          |                                          ^
    "#]].assert_eq(&first("size: 32", "sise: 32"));
    expect_test::expect![[r#"
        error: wrong.ron:48:33: Unexpected variant named `Sigmoid` in enum `Schedule`, expected one of `Linear`, `ScaledLinear`, `Cosine`, or `RectifiedFlow` instead
          |         task: Denoise(schedule: Sigmoid(), objective: Flow, weighting: Uniform),
          |                                 ^
    "#]].assert_eq(&first("RectifiedFlow(shift: 3.0)", "Sigmoid()"));
    expect_test::expect![[r#"
        error: wrong.ron:7:5: Expected comma
          |     data: (source: Phantom(images: 160), size: 32),
          |     ^
    "#]]
    .assert_eq(&first("seed: 1,", "seed: 1"));
    expect_test::expect![[r#"
        error: wrong.ron:18:26: Integer is out of bounds
          |             batch_size: -16,
          |                          ^
    "#]]
    .assert_eq(&first("batch_size: 16", "batch_size: -16"));
    let desk = Desk::new(tiny_with("", "").as_bytes());
    let ended = desk.refused(&["run", "wrong.ron", "--set", "denoiser.train.image=5"]);
    expect_test::expect![[r#"
        error: --set denoiser.train.image=5: no field `image`; expected one of images, batch_size, micro_batch_size, learning_rate, optimizer, ema, compute, log_every, validate_every, preview_every, save_every, keep, milestones, max_skipped_steps
    "#]].assert_eq(&ended.stderr);
}

/// Every place in the text is real: the repository's own recipes stay as they are.
#[test]
fn the_recipe_that_is_changed_here_is_right() {
    let tiny = project().join("recipes/tiny.ron");
    let place = tempfile::tempdir().unwrap();
    let mut command = crate::binary::umbra();
    command.arg("check").arg(tiny).arg("--checkpoints").arg(place.path().join("none"));
    crate::binary::done(&mut command);
    assert!(!place.path().join("none").exists(), "check wrote something");
}

/// `error: wrong.ron:3:7: …`, the line, and a caret below it.
fn shows_a_place(stderr: &str) {
    let place =
        stderr.strip_prefix("error: wrong.ron:").unwrap_or_else(|| panic!("no place: {stderr}"));
    let mut numbers = place.splitn(3, ':');
    for number in [numbers.next(), numbers.next()] {
        assert!(number.unwrap().parse::<u32>().unwrap() >= 1, "{stderr}");
    }
    assert!(numbers.next().unwrap().starts_with(' '), "{stderr}");
    assert!(stderr.lines().skip(1).all(|line| line.starts_with("  | ")), "{stderr}");
    assert!(stderr.trim_end().ends_with('^'), "no caret: {stderr}");
}
