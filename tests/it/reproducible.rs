//! What decides the bits of a run on the CPU.

use super::binary::{SHORT, done, report, results, umbra};
use std::collections::BTreeMap;
use std::path::Path;

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
