//! The recipes of the repository.

use super::binary::{done, project, umbra};
use std::fs;
use std::path::PathBuf;
use umbra::recipe::{Recipe, RecipeError};

fn recipes() -> Vec<PathBuf> {
    let entries = fs::read_dir(project().join("recipes")).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ron"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 2, "{paths:?}");
    paths
}

#[test]
fn every_recipe_reads_and_reads_back() {
    for path in recipes() {
        let recipe = Recipe::read(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
        let resolved = recipe.resolved();
        let again =
            Recipe::parse(&resolved, &path).unwrap_or_else(|error| panic!("{error}\n{resolved}"));
        assert_eq!(again, recipe, "{}", path.display());
        assert_eq!(again.resolved(), resolved, "{}", path.display());
        assert_eq!(
            path.file_stem().unwrap().to_str(),
            Some(&recipe.name[..]),
            "a recipe is named as its file"
        );
    }
}

/// Whether all that is wrong is that data or weights are elsewhere.
fn is_of_a_place(fault: &str) -> bool {
    ["data.source.path: ", "encoder.from.path: ", "autoencoder.from.path: "]
        .iter()
        .any(|place| fault.starts_with(place))
}

#[test]
fn every_recipe_makes_sense_but_for_data_that_is_not_here() {
    let nowhere = tempfile::tempdir().unwrap();
    for path in recipes() {
        let recipe = Recipe::read(&path, &[]).unwrap();
        match recipe.check(&path, nowhere.path()) {
            Ok(_) => {}
            Err(RecipeError::Faults { faults, .. }) => {
                let others: Vec<&String> =
                    faults.iter().filter(|fault| !is_of_a_place(fault)).collect();
                assert!(others.is_empty(), "{}: {others:#?}", path.display());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn every_field_of_a_recipe_can_be_set() {
    let path = project().join("recipes/tiny.ron");
    let set = |assignments: &[&str]| {
        let assignments: Vec<String> = assignments.iter().map(|it| (*it).to_owned()).collect();
        Recipe::read(&path, &assignments).unwrap_or_else(|error| panic!("{error}"))
    };
    let plain = set(&[]);
    assert_eq!(
        set(&["denoiser.train.images=1280"]),
        plain,
        "setting what is there changes nothing"
    );
    let changed = set(&[
        "denoiser.train.images=200_000",
        "denoiser.train.micro_batch_size=4",
        "encoder.from.depth=3",
        "autoencoder.task.crop=16",
        "autoencoder.task.adversarial=(from: 64)",
        "autoencoder.task.adversarial.layers=2",
        "denoiser.task.schedule=Cosine()",
        "data.source.images=24",
        "sample[0].sampler=Heun(steps: 3)",
        "sample[1].sampler.steps=5",
        "evaluate=[Frechet(), Coverage(neighbours: 3)]",
        "name=\"other\"",
    ]);
    let text = changed.resolved();
    for part in [
        "images: 200000",
        "micro_batch_size: 4",
        "depth: 3",
        "Cosine(",
        "Heun(",
        "images: 24",
        "\"other\"",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let several = set(&["data.source=Several([Phantom(images: 9)])", "data.source[0].images=8"]);
    assert_eq!(several.data.source.expected_images(), 8);
    assert_eq!(changed.evaluate.len(), 2);
    assert_eq!(changed.sample[1].sampler().num_steps(), 5);
    assert_eq!(Recipe::parse(&text, &path).unwrap(), changed);
}

#[test]
fn check_plans_every_stage_and_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let checkpoints = home.path().join("checkpoints");
    for json in [false, true] {
        let mut command = umbra();
        command.args(["check", "recipes/quickstart.ron", "--checkpoints"]).arg(&checkpoints);
        let ended = done(if json { command.arg("--json") } else { &mut command });
        if json {
            let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(plan["stages"].as_array().unwrap().len(), 7);
            assert!(plan["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
            assert!(plan["seconds_to_go"].as_f64().unwrap() > 1.0);
        } else {
            let first = ended.stdout.lines().next().unwrap();
            assert_eq!(first, "quickstart on cpu");
            assert_eq!(ended.stdout.lines().count(), 9, "{}", ended.stdout);
        }
        assert!(!checkpoints.exists());
    }
}

/// At 868,394 images and Stable Diffusion's size the operations go beyond 64 bits.
#[test]
fn a_plan_of_any_length_adds_up() {
    let operations = |images: u64| {
        let home = tempfile::tempdir().unwrap();
        let mut command = umbra();
        command.args(["check", "recipes/tiny.ron", "--json", "--set"]);
        command
            .arg(format!("denoiser.train.images={images}"))
            .arg("--checkpoints")
            .arg(home.path());
        let plan: serde_json::Value = serde_json::from_str(&done(&mut command).stdout).unwrap();
        plan["stages"][4]["operations"].as_f64().unwrap()
    };
    let (few, many) = (operations(1_000), operations(1_000_000_000_000_000));
    assert!((many / few / 1e12 - 1.0).abs() < 1e-9, "{few} {many}");
}

/// Days of training must not end at an export that says no.
#[test]
fn check_warns_of_what_cannot_be_exported() {
    let home = tempfile::tempdir().unwrap();
    let flow = "denoiser.task.schedule=RectifiedFlow()";
    let cosine = "denoiser.task.schedule=Cosine()";
    for (objective, schedule, warning) in [
        ("Flow", flow, None),
        ("Velocity", cosine, None),
        ("Velocity", flow, Some("objective Velocity on schedule RectifiedFlow")),
        ("Flow", cosine, Some("objective Flow on schedule Cosine")),
    ] {
        let objective = format!("denoiser.task.objective={objective}");
        let check = |json: &[&str]| {
            let mut command = umbra();
            command.args(["check", "recipes/tiny.ron", "--set", &objective, "--set", schedule]);
            done(command.arg("--checkpoints").arg(home.path()).args(json)).stdout
        };
        let text = check(&[]);
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("warning: ")).collect();
        let plan: serde_json::Value = serde_json::from_str(&check(&["--json"])).unwrap();
        assert_eq!(plan["warnings"], serde_json::json!(lines));
        assert_eq!(lines.len(), warning.iter().count(), "{text}");
        if let Some(warning) = warning {
            assert!(lines[0].contains(warning) && lines[0].contains("export"), "{text}");
        }
    }
}
