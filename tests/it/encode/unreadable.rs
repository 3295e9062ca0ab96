//! Images that ingest could open and encode cannot; disks that are full.

use super::*;
use crate::binary::ended;
use crate::fault::faulty;

/// Two of 48 images; 0.05 of 48 are two.
const TWO: &str = "open EACCES 0 -1 set/07.png;read EIO 0 -1 set/21.png";

#[test]
fn images_that_cannot_be_opened_are_left_out_and_all_stages_do_without_them() {
    let whole = Place::of_files(48);
    done(&mut whole.umbra("encode", "a"));
    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let mut command = place.umbra("run", "a");
    if !faulty(&mut command, TWO) {
        return;
    }
    let first = done(&mut command);
    let left_out: Vec<&str> =
        first.stderr.lines().filter(|line| line.contains("left out of the store")).collect();
    assert_eq!(left_out.len(), 2, "{}", first.stderr);
    for reason in ["Permission denied (os error 13)", "Input/output error (os error 5)"] {
        let line = left_out.iter().find(|line| line.contains(reason)).expect(reason);
        assert!(line.starts_with("warning: image left out of the store (image "), "{line}");
        assert!(!line.contains("png"), "a path is no business of the log: {line}");
    }
    let numbers = "warning: 2 of 48 images cannot be opened: the store and all that is made from it do without them";
    assert!(first.stderr.contains(numbers), "{}", first.stderr);
    let index = place.index();
    assert_eq!(
        (&index["rows"], index["shards"][0]["missing"].as_array().unwrap().len()),
        (&46.into(), 2)
    );
    let report = place.checkpoints().join("a/report.json");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert!(report["condition_fidelity"]["top1"].is_number(), "{report:#}");
    let denoiser = || {
        fs::read(
            crate::binary::newest(&place.checkpoints().join("a"), "denoiser").join("state.json"),
        )
    };
    let trained = denoiser().unwrap();

    // As long as nothing has changed, all is up to date, and the numbers are said again.
    let mut command = place.umbra("run", "a");
    assert!(faulty(&mut command, TWO));
    let again = done(&mut command);
    assert_eq!(again.stderr.matches("up to date").count(), 7, "{}", again.stderr);
    assert!(again.stderr.contains(numbers), "{}", again.stderr);
    assert_eq!(denoiser().unwrap(), trained);

    // One of them comes back: the store has it, and the denoiser is told that it stands on other data.
    let mut command = place.umbra("run", "a");
    assert!(faulty(&mut command, "read EIO 0 -1 set/21.png"));
    let one = done(&mut command);
    assert!(one.stderr.contains("encode       done in"), "{}", one.stderr);
    assert!(one.stderr.contains("what denoiser depends on has changed"), "{}", one.stderr);
    assert_eq!(place.index()["rows"], 47);

    // All of them: the store is the one that was never disturbed.
    let last = done(&mut place.umbra("run", "a"));
    assert!(last.stderr.contains("denoiser     done in"), "{}", last.stderr);
    assert!(!last.stderr.contains("cannot be opened"), "{}", last.stderr);
    assert_same(&place.store(), &whole.store(), "completed");
    let up_to_date = done(&mut place.umbra("run", "a"));
    assert_eq!(up_to_date.stderr.matches("up to date").count(), 7, "{}", up_to_date.stderr);
}

#[test]
fn a_damaged_file_is_left_out_like_one_that_cannot_be_read() {
    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let path = place.home.path().join("set/30.png");
    let (bytes, time) =
        (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    // As bits rot: the size and the time stay.
    let mut rotten = bytes.clone();
    rotten[bytes.len() / 2] ^= 0x10;
    let write = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    write(&rotten);
    let first = done(&mut place.umbra("encode", "a"));
    assert!(first.stderr.contains("left out of the store (image "), "{}", first.stderr);
    assert_eq!(place.index()["rows"], 47);
    write(&bytes);
    done(&mut place.umbra("encode", "a"));
    assert_eq!(place.index()["rows"], 48);
}

#[test]
fn more_than_the_limit_ends_encode_in_one_sentence() {
    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let mut command = place.umbra("encode", "a");
    if !faulty(&mut command, &format!("{TWO};read EIO 0 -1 set/33.png")) {
        return;
    }
    let failed = ended(&mut command);
    assert!(failed.code == Some(1) || failed.code == Some(3), "{failed:?}");
    let last = failed.stderr.lines().last().unwrap();
    assert!(
        last.starts_with(
            "error: stage encode failed: 3 of 48 images can no longer be opened, data.max_damaged allows 2; the log \
             names them; the last: cannot open image "
        ),
        "{last}"
    );
    assert!(!last.contains("png"), "{last}");
    // Nothing is stuck: what can be read again is there.
    done(&mut place.umbra("encode", "a"));
    assert_eq!(place.index()["rows"], 48);
}

#[test]
fn errors_that_pass_leave_no_trace() {
    let whole = Place::of_files(48);
    done(&mut whole.umbra("encode", "a"));
    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let mut command = place.umbra("encode", "a");
    let rules = "read EIO 0 2 set/07.png;open ESTALE 0 2 set/21.png;open EMFILE 0 3 set/22.png;read EIO 0 2 set/40.png";
    if !faulty(&mut command, rules) {
        return;
    }
    let said = done(&mut command).stderr;
    assert!(!said.contains("warning"), "{said}");
    assert_same(&place.store(), &whole.store(), "errors that passed");
}

#[test]
fn training_waits_for_a_file_that_comes_back_and_names_one_that_does_not() {
    let encoder_less = |place: &Place| {
        let kl = "(from: Kl(channels: [8, 8], layers: 1, latent_channels: 4, groups: 4, attention: false), \
                  train: (images: 96, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 48, \
                  preview_every: 48, save_every: 48))";
        let path = place.home.path().join("a.ron");
        let text = fs::read_to_string(&path).unwrap().replace("(from: Folder(path: \"vae\"))", kl);
        fs::write(path, text).unwrap();
        let mut command = umbra();
        let home = place.home.path();
        command.args(["train", "autoencoder"]).arg(home.join("a.ron")).arg("--data-root").arg(home);
        command.args(["--threads", "2", "--checkpoints"]).arg(place.checkpoints());
        command
    };
    let weights = |place: &Place| {
        let newest = crate::binary::newest(&place.checkpoints().join("a"), "autoencoder");
        fs::read(newest.join("model.safetensors")).unwrap()
    };
    let whole = Place::of_files(48);
    done(&mut encoder_less(&whole));

    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let mut command = encoder_less(&place);
    let passing: Vec<String> =
        (0..48).map(|at| format!("read EIO {} 2 set/{at:02}.png", at % 3)).collect();
    if !faulty(&mut command, &passing[8..24].join(";")) {
        return;
    }
    let said = done(&mut command).stderr;
    assert!(!said.contains("warning"), "{said}");
    assert!(weights(&place) == weights(&whole), "the samples depend on the weather");

    let place = Place::of_files(48);
    done(&mut place.umbra("ingest", "a"));
    let mut command = encoder_less(&place);
    // Of every split at least one.
    assert!(faulty(&mut command, "read EIO 0 -1 set/07.png;read EIO 0 -1 set/21.png"));
    command.args(["--set", "data.max_damaged=0.5"]);
    let said = ended(&mut command);
    let lines: Vec<&str> =
        said.stderr.lines().filter(|line| line.contains("sample replaced")).collect();
    assert!(!lines.is_empty(), "{}", said.stderr);
    for line in lines {
        assert!(line.starts_with("warning: sample replaced (image "), "{line}");
        assert!(line.contains(", reason Input/output error (os error 5))"), "{line}");
        assert!(!line.contains("index") && !line.contains("png"), "{line}");
    }
}

#[test]
fn a_full_disk_is_one_sentence_and_once_there_is_room_the_store_is_the_same() {
    for rules in [
        "write ENOSPC 0 -1 00001.safetensors",
        "write ENOSPC 2 -1 index.json",
        "open ENOSPC 0 -1 00002.safetensors",
        "sync EIO 0 -1 00001.safetensors",
    ] {
        let place = ingested(&["a"]);
        let mut command = place.umbra("encode", "a");
        if !faulty(&mut command, rules) {
            return;
        }
        let failed = ended(&mut command);
        assert_eq!(failed.stderr.matches("error: ").count(), 1, "{rules}: {}", failed.stderr);
        let last = failed.stderr.lines().last().unwrap();
        assert!(last.starts_with("error: stage encode failed: cannot "), "{rules}: {last}");
        let reason = if rules.contains("EIO") { "(os error 5)" } else { "(os error 28)" };
        assert!(last.ends_with(reason), "{rules}: {last}");
        assert_eq!(failed.code, Some(1), "{rules}: {last}");
        done(&mut place.umbra("encode", "a"));
        assert_same(&place.store(), &UNDISTURBED.store, rules);
    }
}
