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
        "error: stage autoencoder failed: no whole checkpoint is left in {}; remove the folder to train again: \
         {}/optimizer.safetensors is damaged: its content does not match its hash",
        stage.display(),
        all[0].display()
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

#[test]
fn a_checkpoint_of_a_newer_umbra_is_refused_by_name() {
    let run = super::binary::finished().join("tiny");
    let text = fs::read_to_string(newest(&run, "encoder").join("state.json")).unwrap();
    let home = tempfile::tempdir().unwrap();
    for (old, new, expected) in [
        (
            "\"schema\": 1",
            "\"schema\": 2",
            "has layout version 2; this umbra reads up to 1: use a newer umbra",
        ),
        ("\"schema\": 1", "\"shema\": 1", "is not a checkpoint's state"),
        ("\"step\"", "\"steps\"", "is damaged"),
    ] {
        assert!(text.contains(old));
        fs::write(home.path().join("state.json"), text.replace(old, new)).unwrap();
        let error = checkpoint::header(home.path()).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error:#}");
    }
}

#[test]
fn as_many_checkpoints_are_kept_as_the_recipe_says() {
    let run = super::binary::finished().join("tiny");
    for stage in ["encoder", "autoencoder", "denoiser"] {
        let folders = checkpoint::list(&run.join(stage)).unwrap();
        assert_eq!(folders.len(), 2, "{stage}");
        assert!(folders[0] > folders[1], "newest first");
        for folder in folders {
            umbra::artifact::verify(&folder).unwrap();
            let saved = checkpoint::load(&folder).unwrap();
            let names = |part| saved.parts.get(part).unwrap().keys().collect::<Vec<_>>();
            assert_eq!(names("model"), names("ema"));
            assert!(folder.ends_with(format!("checkpoint-{:012}", saved.header.images_seen)));
        }
    }
}
