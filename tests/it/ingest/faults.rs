//! Disks and file servers that fail under an ingest: equal to an undisturbed one, at once or at the next try.

use super::*;
use crate::binary::{done, ended, umbra};
use crate::fault::faulty;
use std::process::Command;

/// Twenty images, and an ingest of them.
fn twenty() -> (Place, impl Fn(&Path) -> Command) {
    let place = Place::new();
    (0..20).for_each(|shade| place.image(&format!("{shade:02}.png"), shade));
    let root = place.root();
    let ingest = move |runs: &Path| {
        let mut command = umbra();
        command.args(["ingest", "recipes/tiny.ron", "--threads", "2", "--data-root"]).arg(&root);
        command.arg("--checkpoints").arg(runs).args(["--set", "data.source=Folder(path: \"set\")"]);
        command
    };
    (place, ingest)
}

#[test]
fn an_error_that_passes_leaves_no_trace() {
    let (_place, ingest) = twenty();
    let runs = tempfile::tempdir().unwrap();
    done(&mut ingest(&runs.path().join("undisturbed")));
    let expected = super::kill::rows(&runs.path().join("undisturbed"));
    for (at, rules) in [
        "read EIO 0 2 set/07.png",
        "open EIO 0 2 set/00.png;read EIO 0 1 set/19.png",
        "open ESTALE 0 1 .png",
        "read EIO 3 2 .png",
    ]
    .iter()
    .enumerate()
    {
        let runs = runs.path().join(at.to_string());
        let mut command = ingest(&runs);
        if !faulty(&mut command, rules) {
            return;
        }
        done(&mut command);
        assert!(super::kill::rows(&runs) == expected, "other rows after {rules}");
    }
}

#[test]
fn an_error_that_stays_is_no_damage_and_the_image_comes_in_when_it_is_gone() {
    let (_place, ingest) = twenty();
    let runs = tempfile::tempdir().unwrap();
    done(&mut ingest(&runs.path().join("undisturbed")));
    let mut command = ingest(&runs.path().join("disturbed"));
    if !faulty(&mut command, "read EIO 0 -1 set/07.png") {
        return;
    }
    let said = done(&mut command);
    assert!(said.stderr.contains("1 unreadable"), "{}", said.stderr);
    assert!(!said.stderr.contains("damaged"), "{}", said.stderr);
    done(&mut ingest(&runs.path().join("disturbed")));
    let all = |name: &str| super::kill::rows(&runs.path().join(name));
    assert!(all("disturbed") == all("undisturbed"), "equal once it is back");
}

/// The disk is full after some writes to the catalog; once there is room, the same command goes on.
#[test]
fn a_full_disk_ends_an_ingest_in_one_sentence_and_nothing_is_lost() {
    let (_place, ingest) = twenty();
    let runs = tempfile::tempdir().unwrap();
    done(&mut ingest(&runs.path().join("undisturbed")));
    let expected = super::kill::rows(&runs.path().join("undisturbed"));
    let mut failed = 0;
    for writes in [0, 1, 5, 20, 40, 80, 160] {
        for call in ["write ENOSPC", "write EIO", "sync EIO"] {
            let runs = runs.path().join(format!("{call}-{writes}"));
            let mut command = ingest(&runs);
            let rules = format!("{call} {writes} -1 catalog.sqlite");
            if !faulty(&mut command, &rules) {
                return;
            }
            let ended = ended(&mut command);
            if ended.code != Some(0) {
                failed += 1;
                assert_eq!(ended.code, Some(1), "{rules}: {}", ended.stderr);
                let errors = ended.stderr.lines().filter(|it| it.starts_with("error: ")).count();
                assert_eq!(errors, 1, "{rules}: {}", ended.stderr);
                assert!(ended.stderr.contains("catalog.sqlite"), "{rules}: {}", ended.stderr);
            }
            done(&mut ingest(&runs));
            assert!(super::kill::rows(&runs) == expected, "other rows after {rules}");
        }
    }
    assert!(failed >= 6, "only {failed} of 21 disturbed ones failed");
}
