//! `umbra generate`: from a run, a checkpoint, an exported folder.

use super::binary::{Ended, copy_of_finished, done, ended, files, newest, umbra};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A phantom as a PNG of 8 bits.
fn picture(folder: &Path, seed: u64) -> PathBuf {
    let phantom = umbra::data::phantom::render(seed, 3, 48).image;
    let bytes = phantom.pixels.iter().map(|value| (value * 255.0).round() as u8).collect();
    let [width, height] = [phantom.width, phantom.height].map(|side| side as u32);
    let image = image::GrayImage::from_raw(width, height, bytes).unwrap();
    let path = folder.join(format!("{seed}.png"));
    image.save(&path).unwrap();
    path
}

fn generate(model: &Path, images: &[PathBuf], out: &Path) -> Command {
    let mut command = umbra();
    command.arg("generate").arg(model).args(images).arg("--out").arg(out);
    command
}

fn pixels(path: &Path) -> Vec<u8> {
    image::open(path).unwrap().to_luma8().into_raw()
}

#[test]
fn a_run_its_checkpoint_and_its_export_draw_the_same_images() {
    let home = copy_of_finished();
    let run = home.path().join("checkpoints/tiny");
    let inputs = [picture(home.path(), 1), picture(home.path(), 2)];
    let exported = home.path().join("exported");
    done(umbra().arg("export").arg(&run).args(["--to", "diffusers"]).arg(&exported));
    let [from_run, from_checkpoint, from_export] =
        [run.clone(), newest(&run, "denoiser"), exported].map(|model| {
            let out = home.path().join(format!("out-{}", model.file_name().unwrap().display()));
            done(generate(&model, &inputs, &out).args([
                "--count",
                "2",
                "--guidance",
                "1.5",
                "--steps",
                "4",
            ]));
            out
        });
    let drawn = files(&from_run);
    let names: Vec<&str> = drawn.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "0000-0000.png",
            "0000-0001.png",
            "0001-0000.png",
            "0001-0001.png",
            "generated.csv",
            "manifest.json"
        ]
    );
    assert_eq!(drawn, files(&from_checkpoint), "the newest checkpoint is the run");
    for name in &names[..4] {
        let (one, other) = (pixels(&from_run.join(name)), pixels(&from_export.join(name)));
        assert_eq!(one.len(), 32 * 32);
        assert_eq!(one, other, "{name}");
        assert!(one.iter().max() > one.iter().min(), "{name} shows something");
    }
    let distinct = |a: &str, b: &str| pixels(&from_run.join(a)) != pixels(&from_run.join(b));
    assert!(distinct("0000-0000.png", "0000-0001.png"), "other noise");
    assert!(distinct("0000-0000.png", "0001-0000.png"), "another embedding");
    let table = fs::read_to_string(from_run.join("generated.csv")).unwrap();
    assert_eq!(table.lines().count(), 5);
    assert!(table.lines().nth(1).unwrap().starts_with("0000-0000.png,true,tiny,0,"), "{table}");
    assert!(!table.contains("1.png,1.png") && !table.contains(home.path().to_str().unwrap()));
}

#[test]
fn what_cannot_be_drawn_is_refused_and_nothing_is_left() {
    let home = copy_of_finished();
    let run = home.path().join("checkpoints/tiny");
    let input = picture(home.path(), 1);
    let out = home.path().join("out");
    let refused = |command: &mut Command, code: i32, sentence: &str| {
        let Ended { code: found, stderr, .. } = ended(command);
        assert_eq!(found, Some(code), "{stderr}");
        assert!(stderr.contains(sentence), "{sentence}: {stderr}");
        assert!(!out.exists());
    };
    let nowhere = home.path().join("nowhere");
    refused(&mut generate(&nowhere, std::slice::from_ref(&input), &out), 2, "is no run");
    refused(
        generate(&run, std::slice::from_ref(&input), &out).args(["--guidance", "-1"]),
        2,
        "'-1'",
    );
    refused(
        generate(&run, std::slice::from_ref(&input), &out).arg("--guidance=-1"),
        2,
        "--guidance is -1; expected a number from 0 up",
    );
    refused(
        generate(&run, std::slice::from_ref(&input), &out).args(["--steps", "0"]),
        2,
        "--steps is 0; expected 1 to 1000",
    );
    let broken = home.path().join("broken.png");
    fs::write(&broken, &fs::read(&input).unwrap()[..60]).unwrap();
    refused(&mut generate(&run, &[input.clone(), broken], &out), 3, "broken.png");

    let exported = home.path().join("exported");
    done(umbra().arg("export").arg(&run).args(["--to", "diffusers"]).arg(&exported));
    let config = exported.join("condition/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"Flow\"", "\"Epsilon\"")).unwrap();
    refused(
        &mut generate(&exported, std::slice::from_ref(&input), &out),
        3,
        "condition/config.json",
    );
    // Networks that do not belong together any more draw nothing, from one checkpoint neither.
    let recipe = fs::read_to_string(run.join("recipe.ron")).unwrap();
    let changed = recipe.replacen("objective: Flow", "objective: Velocity", 1);
    assert_ne!(changed, recipe);
    fs::write(run.join("recipe.ron"), changed).unwrap();
    for model in [run.clone(), newest(&run, "denoiser")] {
        let stale = "denoiser in";
        refused(&mut generate(&model, std::slice::from_ref(&input), &out), 2, stale);
    }
    fs::write(run.join("recipe.ron"), recipe).unwrap();
    fs::remove_dir_all(run.join("denoiser")).unwrap();
    refused(
        &mut generate(&run, std::slice::from_ref(&input), &out),
        2,
        "has no trained denoiser yet",
    );

    fs::create_dir(&out).unwrap();
    let taken = ended(&mut generate(&run, &[input], &out));
    assert_eq!(taken.code, Some(2), "{}", taken.stderr);
}
