//! What decides the bits of a run on the CPU.

use super::binary::{SHORT, copy_of_finished, done, newest, report, results, umbra};
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

/// Trains `stage` of `tiny` anew, beside finished upstream stages; the last records and the newest checkpoint.
fn trained(stage: &str, settings: &[String]) -> (metrics::Record, Checkpoint) {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    fs::remove_dir_all(checkpoints.join("tiny").join(stage)).unwrap();
    let mut command = umbra();
    command.args(["train", stage, "recipes/tiny.ron", "--threads", "2"]);
    settings.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
    done(command.arg("--checkpoints").arg(&checkpoints));
    let records = metrics::read(&checkpoints.join("tiny").join(stage)).unwrap();
    let newest = newest(&checkpoints.join("tiny"), stage);
    let state = fs::read(newest.join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let inputs_hash = state["inputs_hash"].as_str().unwrap().to_owned();
    let ema = fs::read(newest.join("ema.safetensors")).unwrap();
    (records.into_iter().last().unwrap(), Checkpoint { inputs_hash, ema })
}

struct Checkpoint {
    inputs_hash: String,
    ema: Vec<u8>,
}

#[test]
fn rounds_of_any_size_take_the_same_step() {
    for (stage, section, figure) in [
        ("denoiser", "denoiser.train", "validation/loss"),
        ("autoencoder", "autoencoder.train", "validation/psnr_db"),
        // Sinkhorn-Knopp and KoLeo look at the whole batch.
        ("encoder", "encoder.train", "validation/effective_rank"),
    ] {
        let [(whole, one), (same, _), (parts, several)] = ["None", "8", "3"].map(|rounds| {
            trained(
                stage,
                &[
                    format!("{section}.images=64"),
                    format!("{section}.batch_size=8"),
                    format!("{section}.learning_rate.warm_up=16"),
                    format!("{section}.micro_batch_size={rounds}"),
                ],
            )
        });
        let figures = [whole, same, parts].map(|record| record.values[figure]);
        assert_eq!(figures[0], figures[1], "{stage}: one round is no round");
        // Rounds of 3, 3 and 2: the same mean gradient, its sum in another order, over 8 steps in f32.
        assert!((figures[2] / figures[0] - 1.0).abs() < 1e-4, "{stage}: {figures:?}");
        assert_eq!(one.inputs_hash, several.inputs_hash, "{stage}: so it may go on with another");
    }
}

#[test]
fn every_network_trains_in_the_number_format_that_is_asked_for() {
    for (stage, section) in [
        ("encoder", "encoder.train"),
        ("autoencoder", "autoencoder.train"),
        ("denoiser", "denoiser.train"),
    ] {
        let [(full, exact), (half, rounded)] = ["F32", "Bf16"].map(|compute| {
            trained(
                stage,
                &[
                    format!("{section}.images=32"),
                    format!("{section}.learning_rate.warm_up=16"),
                    format!("{section}.compute={compute}"),
                ],
            )
        });
        assert!(exact.ema != rounded.ema, "{stage} pays no attention to compute");
        for (name, value) in &full.values {
            let half = half.values[name];
            // bfloat16 has 8 bits: figures of a network that has hardly begun move by a few percent, not by factors.
            assert!(
                (half - value).abs() <= 0.2 * value.abs() + 0.05,
                "{stage} {name}: {value} {half}"
            );
        }
    }
}
