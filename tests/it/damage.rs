//! Checkpoints with a flipped bit.

use super::binary::{copy_of_finished, ended, newest, results, tiny};
use std::fs;
use std::path::Path;
use umbra::train::checkpoint;

/// Flips one bit in the middle of `file`.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    let whole = results(&run);
    let damaged = newest(&run, "denoiser");
    flip(&damaged.join("model.safetensors"));
    let ended = ended(&mut tiny(&checkpoints));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let warning =
        ended.stderr.lines().find(|line| line.starts_with("warning: ")).expect("a warning");
    assert!(warning.contains("passing over a damaged checkpoint"), "{warning}");
    assert!(warning.contains(damaged.join("model.safetensors").to_str().unwrap()), "{warning}");
    assert!(ended.stderr.contains("denoiser     done in"), "{}", ended.stderr);
    // It went on from the one before and came to the same end.
    assert_eq!(results(&run), whole);
}

#[test]
fn where_no_checkpoint_is_whole_one_sentence_says_so() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let stage = checkpoints.join("tiny/autoencoder");
    let all = checkpoint::list(&stage).unwrap();
    assert!(all.len() >= 2, "{all:?}");
    for folder in &all {
        flip(&folder.join("optimizer.safetensors"));
    }
    let ended = ended(&mut tiny(&checkpoints));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let errors: Vec<&str> =
        ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let expected = format!(
        "error: stage autoencoder failed: no whole checkpoint is left in {}; remove the folder to train again",
        stage.display()
    );
    assert_eq!(errors, [expected]);
    assert_eq!(checkpoint::list(&stage).unwrap(), all, "nothing was removed");
}

#[test]
fn a_damaged_store_is_told_and_not_used() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let shard = super::binary::files(&checkpoints)
        .into_keys()
        .find(|name| name.starts_with("stores/") && name.ends_with(".safetensors"))
        .unwrap();
    flip(&checkpoints.join(shard));
    let ended = ended(&mut tiny(&checkpoints));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("error: stage encode failed: the store is damaged; remove its folder"),
        "{last}"
    );
}
