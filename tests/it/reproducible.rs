//! What decides the bits of a run on the CPU.

use super::binary::{SHORT, copy_of_finished, done, report, results, umbra};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use umbra::telemetry::metrics;

fn run(home: &Path, threads: &str) -> (BTreeMap<String, String>, serde_json::Value) {
    let mut command = umbra();
    command
        .args(["run", "recipes/tiny.ron", "--threads", threads, "--checkpoints"])
        .arg(home)
        .args(SHORT);
    done(&mut command);
    (results(&home.join("tiny")), report(&home.join("tiny")))
}

#[test]
fn the_same_recipe_on_as_many_threads_gives_the_same_bits() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [(first, first_report), (second, second_report)] =
        [0, 1].map(|at| run(homes[at].path(), "2"));
    assert_eq!(first, second);
    assert_eq!(first_report, second_report);
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let home = tempfile::tempdir().unwrap();
    let counts = ["1", "2", "3"];
    let runs = counts.map(|threads| run(&home.path().join(threads), threads));
    for (count, (results, report)) in counts.iter().zip(&runs).skip(1) {
        assert_eq!(results, &runs[0].0, "1 and {count} threads");
        assert_eq!(report, &runs[0].1, "1 and {count} threads");
    }
}

#[test]
fn rounds_of_any_size_take_the_same_step() {
    let losses = ["None", "16", "5"].map(|rounds| {
        let home = copy_of_finished();
        let checkpoints = home.path().join("checkpoints");
        fs::remove_dir_all(checkpoints.join("tiny/denoiser")).unwrap();
        let mut command = umbra();
        command.args(["train", "denoiser", "recipes/tiny.ron", "--threads", "2"]);
        command.args([
            "--set",
            "train.images=128",
            "--set",
            &format!("train.micro_batch_size={rounds}"),
        ]);
        done(command.arg("--checkpoints").arg(&checkpoints));
        let records = metrics::read(&checkpoints.join("tiny/denoiser")).unwrap();
        records.last().unwrap().values["validation/loss"]
    });
    assert_eq!(losses[0], losses[1], "one round is no round");
    // Rounds of 5, 5, 5 and 1: the same mean gradient, its sum in another order, over 8 steps in f32.
    assert!((losses[2] / losses[0] - 1.0).abs() < 1e-4, "{losses:?}");
}
