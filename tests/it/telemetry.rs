//! Numbers and events, over restarts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use umbra::telemetry::log::{self, Verbosity};
use umbra::telemetry::metrics::{self, Metrics, MetricsError};

const FOLDER: &str = "UMBRA_TEST_FOLDER";

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("metrics.jsonl")).unwrap()
}

#[test]
fn a_resumed_run_goes_on_where_its_checkpoint_was() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let mut run = Metrics::open(folder, 0).unwrap();
    for images_seen in [16, 32, 48] {
        run.record(images_seen, [("train/loss", 0.1), ("train/learning_rate", 1e-4)]).unwrap();
    }
    run.record(48, [("validation/loss", f64::NAN)]).unwrap();
    run.sync().unwrap();
    let whole = text(folder);
    assert_eq!(
        whole.lines().next().unwrap(),
        r#"{"images_seen":16,"train/loss":0.1,"train/learning_rate":0.0001}"#
    );
    assert_eq!(whole.lines().last().unwrap(), r#"{"images_seen":48,"validation/loss":null}"#);

    // Killed in the middle of a line after the checkpoint at 48, and then at 32.
    fs::write(folder.join("metrics.jsonl"), format!("{whole}{{\"images_seen\":64,\"tra")).unwrap();
    assert_eq!(metrics::read(folder).unwrap().len(), 4);
    drop(Metrics::open(folder, 48).unwrap());
    assert_eq!(text(folder), whole);
    let mut run = Metrics::open(folder, 32).unwrap();
    run.record(48, [("train/loss", 0.2)]).unwrap();
    let records = metrics::read(folder).unwrap();
    assert_eq!(records.iter().map(|record| record.images_seen).collect::<Vec<_>>(), [16, 32, 48]);
    assert_eq!(records[2].values["train/loss"], 0.2);

    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let events = files.filter(|name| name.to_str().unwrap().contains("tfevents"));
    assert_eq!(events.count(), 3);
}

#[test]
fn metrics_that_are_not_ours_are_told_by_line() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("metrics.jsonl");
    fs::write(&path, "{\"images_seen\":16}\nloss 0.3\n{\"images_seen\":32}\n").unwrap();
    let error = Metrics::open(home.path(), 16).unwrap_err();
    assert!(matches!(error, MetricsError::Damaged { line: 2, .. }), "{error}");
    let said = Metrics::open(&home.path().join("nowhere"), 0).unwrap_err().to_string();
    assert!(said.starts_with("cannot write metrics to ") && said.contains("nowhere"), "{said}");
}

/// Run by the test below, with the folder in the environment: the log belongs to a whole process.
#[test]
#[ignore = "takes its process's log"]
fn some_events() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    log::init(Verbosity::Quiet);
    log::init(Verbosity::Normal);
    tracing::warn!(target: "umbra", "no file yet");
    log::to_file(&folder.join("log.txt")).unwrap();
    tracing::info!(target: "umbra::train", "training on {} images", 5);
    tracing::warn!(target: "umbra::data", index = 12, reason = %"cannot\ndecode", "sample replaced");
    tracing::info!(target: "some_library", "chatter");
    tracing::error!(target: "cubecl_runtime::client", "device lost");
    for _ in 0..3 {
        tracing::warn!(target: "dicom_parser::dataset", set = "CANARY^JANE 7351", "unknown");
    }
    tracing::warn!(target: "umbra", "a name of \u{1b}[2J and \u{202e}");
}

#[test]
fn events_reach_the_terminal_and_the_log_file() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["telemetry::some_events", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, home.path())
        .output()
        .unwrap();
    let warning = "warning: sample replaced (index 12, reason cannot decode)";
    // What a library says may be text of a file; what is said moves no terminal.
    let library = "warning: dicom_parser::dataset has something to say, which may be text of a file and is left out";
    let escaped = "warning: a name of \\u{1b}[2J and \\u{202e}";
    let told = [warning, "error: device lost", library, escaped];
    let terminal = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = terminal.lines().collect();
    assert_eq!((lines[0], &lines[1..]), ("warning: no file yet", &told[..]));
    let text = fs::read_to_string(home.path().join("log.txt")).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let said: Vec<_> = lines.iter().map(|(_, said)| *said).collect();
    assert_eq!((said[0], &said[1..]), ("training on 5 images", &told[..]));
    for (time, _) in lines {
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}
