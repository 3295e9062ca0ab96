//! `umbra ema`: averages of other lengths, and who takes them.

use super::binary::{copy_of_finished, done, ended, files, newest, umbra};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Trains tiny's denoiser with two power-function averages, and their snapshots.
fn trained(checkpoints: &Path, settings: &[&str]) {
    let mut command = umbra();
    command.args(["train", "denoiser", "recipes/tiny.ron", "--checkpoints"]).arg(checkpoints);
    for setting in ["denoiser.train.images=640", "denoiser.train.ema=(sigma_rel: [0.05, 0.1])"] {
        command.args(["--set", setting]);
    }
    done(command.args(settings));
}

fn ema(run: &Path, sigma_rel: &str) -> Command {
    let mut command = umbra();
    command.arg("ema").arg(run).args(["--sigma-rel", sigma_rel]);
    command
}

#[test]
fn an_average_of_another_length_draws_and_is_exported() {
    let home = copy_of_finished();
    let run = home.path().join("checkpoints/tiny");
    let told = ended(&mut ema(&run, "0.1"));
    assert_eq!(told.code, Some(2));
    assert!(told.stderr.contains("the denoiser in") && told.stderr.contains("has no snapshots"));

    trained(&home.path().join("checkpoints"), &[]);
    let before = files(&run);
    // A length that was kept is itself, to the bit.
    for (length, kept) in [("0.05", "ema.safetensors"), ("0.1", "ema-0.100.safetensors")] {
        done(&mut ema(&run, length));
        let made = run.join(format!("denoiser/average-{length:0<5}-000000000640"));
        let bytes = |path: &Path| fs::read(path).unwrap();
        let kept = newest(&run, "denoiser").join(kept);
        assert_eq!(bytes(&made.join("ema.safetensors")), bytes(&kept), "{length}");
    }
    let told = done(ema(&run, "0.08").arg("--json")).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["network"], &told["images_seen"]), (&"denoiser".into(), &640.into()));
    assert_eq!(told["snapshots"], 20);
    let error = told["error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.02, "{error}");
    let made = Path::new(told["folder"].as_str().unwrap()).to_owned();
    for (name, bytes) in before {
        assert_eq!(fs::read(run.join(&name)).unwrap(), bytes, "{name} was only read");
    }

    let image = newest_preview(&run);
    let draw = |model: &Path, out: &str| {
        let out = home.path().join(out);
        let mut command = umbra();
        command.arg("generate").arg(model).arg(&image).args(["--steps", "4", "--out"]).arg(&out);
        done(&mut command);
        fs::read(out.join("0000-0000.png")).unwrap()
    };
    let exported = home.path().join("exported");
    done(umbra().arg("export").arg(&made).args(["--to", "diffusers"]).arg(&exported));
    let (from_average, from_run) = (draw(&made, "average"), draw(&run, "run"));
    assert_ne!(from_average, from_run, "other weights");
    assert_eq!(from_run, draw(&run.join("denoiser/average-0.050-000000000640"), "first"));
    draw(&exported, "exported-average");
    let card = fs::read_to_string(exported.join("README.md")).unwrap();
    assert!(card.contains("measured with other weights"), "{card}");

    for (arguments, expected) in [
        (&["--sigma-rel", "0.3"][..], "--sigma-rel is 0.3; expected above 0 and at most"),
        (&["--sigma-rel", "0.01"], "snapshots cannot make an average of length 0.01 at 640"),
        (&["--sigma-rel", "0.1", "--images", "641"], "--images is 641; expected 1 to 640"),
        (&["--sigma-rel", "0.1", "--network", "encoder"], "the encoder in"),
    ] {
        let told = ended(umbra().arg("ema").arg(&run).args(arguments));
        assert_eq!(told.code, Some(2), "{}", told.stderr);
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    }
    let raw = ["--to", "diffusers", "--weights", "raw"];
    let told = ended(umbra().arg("export").arg(&made).args(raw).arg(home.path().join("raw")));
    assert_eq!(told.code, Some(2));
    assert!(told.stderr.contains("expected --weights ema"), "{}", told.stderr);
}

/// A picture to be guided by: what the training drew last.
fn newest_preview(run: &Path) -> std::path::PathBuf {
    let previews = fs::read_dir(run.join("denoiser/previews")).unwrap();
    previews.map(|entry| entry.unwrap().path()).max().unwrap()
}
