//! A finished recipe, run again as it is, made longer, or changed.

use crate::binary::{copy_of_finished, done, ended, files, newest, results, tiny};
use std::fs;
use std::path::Path;
use umbra::telemetry::metrics;

#[test]
fn a_finished_recipe_is_up_to_date() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let before = lasting(&checkpoints);
    let ended = done(&mut tiny(&checkpoints));
    let expected: String =
        ["ingest", "encoder", "autoencoder", "encode", "denoiser", "sample", "evaluate"]
            .iter()
            .map(|stage| format!("{stage:<12} up to date\n"))
            .collect();
    assert_eq!(ended.stderr, expected);
    assert!(ended.stdout.contains("condition fidelity") && ended.stdout.contains("report.html"));
    assert_eq!(lasting(&checkpoints), before);
}

#[test]
fn parts_of_it_are_up_to_date_too() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    for (verb, stages) in [
        (&["ingest"][..], 1),
        (&["train", "encoder"], 2),
        (&["train", "autoencoder"], 2),
        (&["encode"], 4),
        (&["train"], 5),
        (&["sample"], 6),
        (&["evaluate"], 7),
    ] {
        let mut command = crate::binary::umbra();
        command.args(verb).args(["recipes/tiny.ron", "--json", "--checkpoints"]).arg(&checkpoints);
        let ended = done(&mut command);
        assert_eq!(
            ended.stderr.matches("up to date").count(),
            stages,
            "{verb:?}\n{}",
            ended.stderr
        );
        let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(document["ended"], "up to date", "{verb:?}");
        assert_eq!(document["recipe"], "tiny");
    }
}

/// What a stopped evaluation had found is not measured again, and what it had not is.
#[test]
fn a_stopped_evaluation_goes_on_where_it_was() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    let before = crate::binary::report(&run);
    let stamp = fs::read(run.join("evaluate/stamp.json")).unwrap();
    let stamp: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
    let hash = &stamp["inputs_hash"].as_str().unwrap()[..8];
    let partial = run.join(format!("evaluate-{hash}.partial"));
    fs::create_dir(&partial).unwrap();
    fs::remove_file(run.join("report.html")).unwrap();
    let found = serde_json::json!({
        "key": "frechet_distance",
        "title": "Samples against training images",
        "entries": [{"key": "value", "value": {"Figure": {"Known": 0.1234567890123456}}, "words": null}],
        "tiles": [],
        "pictures": [],
        "verdict": {"passed": false, "reason": "made up & marked"},
    });
    fs::write(partial.join("03-frechet_distance.json"), found.to_string()).unwrap();
    fs::write(partial.join("04-kernel_distance.json"), "{\"key\": \"kernel_dist").unwrap();

    let plan = done(tiny_verb("check", &checkpoints).arg("--json")).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["stages"][6]["state"], "resume");
    let told = done(tiny_verb("run", &checkpoints).arg("--json")).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["stages"][6]["did"], "resumed");

    let after = crate::binary::report(&run);
    assert_eq!(after["frechet_distance"]["value"], 0.1234567890123456);
    assert_eq!(after["frechet_distance"]["verdict"]["passed"], false);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Failed.</strong> made up &amp; marked"), "the page has the verdict");
    for measured in ["kernel_distance", "condition_fidelity", "encoder"] {
        assert_eq!(after[measured], before[measured], "{measured}");
    }
    assert!(!partial.exists());
}

fn tiny_verb(verb: &str, checkpoints: &Path) -> std::process::Command {
    let mut command = crate::binary::umbra();
    command.args([verb, "recipes/tiny.ron", "--checkpoints"]).arg(checkpoints);
    command
}

#[test]
fn a_longer_recipe_goes_on_from_the_checkpoint() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    let numbers = fs::read_to_string(run.join("denoiser/metrics.jsonl")).unwrap();
    let before = results(&run);
    let ended = done(tiny(&checkpoints).args(["--set", "denoiser.train.images=1408"]));
    for stage in ["ingest", "encoder", "autoencoder", "encode"] {
        assert!(ended.stderr.contains(&format!("{stage:<12} up to date")), "{}", ended.stderr);
    }
    let longer = fs::read_to_string(run.join("denoiser/metrics.jsonl")).unwrap();
    // Had it begun again, the learning rate's longer cosine would have changed the numbers on the way.
    assert!(longer.starts_with(&numbers), "what was recorded has changed");
    let added: Vec<u64> = metrics::read(&run.join("denoiser"))
        .unwrap()
        .iter()
        .map(|record| record.images_seen)
        .filter(|&images| images > 1280)
        .collect();
    assert_eq!((added.first(), added.last()), (Some(&1344), Some(&1408)));
    assert!(newest(&run, "denoiser").ends_with("checkpoint-000000001408"));
    let after = results(&run);
    assert_eq!(after["encoder/ema.safetensors"], before["encoder/ema.safetensors"]);
    assert_ne!(after["denoiser/ema.safetensors"], before["denoiser/ema.safetensors"]);
    assert_ne!(
        after["sample/images/0-reconstruct-000000.png"],
        before["sample/images/0-reconstruct-000000.png"]
    );

    // A recipe that is shorter than what is there keeps what is there.
    let ended = done(&mut tiny(&checkpoints));
    assert!(ended.stderr.contains(&format!("{:<12} up to date", "denoiser")), "{}", ended.stderr);
}

#[test]
fn another_diffusion_trains_only_the_denoiser_again_and_keeps_the_old_one() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    let before = files(&run);
    let change = [
        "--set",
        "denoiser.task.objective=Velocity",
        "--set",
        "denoiser.train.images=128",
        "--set",
        "denoiser.train.warm_up=64",
    ];
    let wrong = ended(tiny(&checkpoints).args(change));
    assert_eq!(wrong.code, Some(2), "denoiser.train.warm_up is no field: {}", wrong.stderr);
    let ended = done(tiny(&checkpoints).args(&change[..4]));
    for (stage, is_kept) in [
        ("ingest", true),
        ("encoder", true),
        ("autoencoder", true),
        ("encode", true),
        ("denoiser", false),
        ("sample", false),
        ("evaluate", false),
    ] {
        let is_up_to_date = ended.stderr.contains(&format!("{stage:<12} up to date"));
        assert_eq!(is_up_to_date, is_kept, "{stage}\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("warning: ").count(), 1, "{}", ended.stderr);
    let aside = fs::read_dir(&run)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name().unwrap().to_str().unwrap().starts_with("denoiser-superseded-")
        })
        .expect("the old checkpoints are kept aside");
    for (name, bytes) in files(&aside) {
        assert_eq!(
            before[&format!("denoiser/{name}")],
            bytes,
            "{name} of the old denoiser has changed"
        );
    }
    let after = files(&run);
    let same = |stage: &str| {
        let of = |all: &std::collections::BTreeMap<String, Vec<u8>>| {
            all.iter()
                .filter(|(name, _)| name.starts_with(&format!("{stage}/")))
                .map(|(name, bytes)| (name.clone(), bytes.clone()))
                .collect::<Vec<_>>()
        };
        of(&before) == of(&after)
    };
    assert!(same("encoder") && same("autoencoder") && !same("denoiser"));
    assert!(newest(&run, "denoiser").ends_with("checkpoint-000000000128"));
}

/// All files but the log and the lock, with their times: what a run that is up to date must leave alone.
fn lasting(folder: &Path) -> Vec<(String, Vec<u8>, Option<std::time::SystemTime>)> {
    files(folder)
        .into_iter()
        .filter(|(name, _)| !name.ends_with("log.txt") && !name.ends_with("lock"))
        .map(|(name, bytes)| {
            let is_weights = name.ends_with(".safetensors") || name.ends_with(".png");
            let time =
                is_weights.then(|| fs::metadata(folder.join(&name)).unwrap().modified().unwrap());
            (name, bytes, time)
        })
        .collect()
}
