//! The binary, run as a user runs it, and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary, in the project's folder.
pub(crate) fn umbra() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbra"));
    command.current_dir(project()).stdin(Stdio::null());
    // Never in anybody's home.
    let secret = Path::new(env!("CARGO_TARGET_TMPDIR")).join("patient-secret");
    command.env("UMBRA_PATIENT_SECRET", secret);
    command
}

/// `umbra run recipes/tiny.ron` into `checkpoints`, on two threads.
pub(crate) fn tiny(checkpoints: &Path) -> Command {
    let mut command = umbra();
    command.args(["run", "recipes/tiny.ron", "--threads", "2", "--checkpoints"]).arg(checkpoints);
    command
}

/// The settings of a run that has every stage and takes half as long.
pub(crate) const SHORT: [&str; 6] = [
    "--set",
    "encoder.train.images=320",
    "--set",
    "autoencoder.train.images=384",
    "--set",
    "denoiser.train.images=512",
];

/// The settings of a run over a source of some 40 images, which has every stage and is over soon.
pub(crate) fn briefly(command: &mut Command, source: &str) {
    for setting in [
        &format!("data.source={source}")[..],
        "data.max_damaged=0.1",
        "encoder.train.images=64",
        "autoencoder.train.images=64",
        "denoiser.train.images=64",
        "sample[0].images=8",
        "sample[1].images=4",
    ] {
        command.args(["--set", setting]);
    }
}

/// Waits for `command` to end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits for `command`, which must succeed.
pub(crate) fn done(command: &mut Command) -> Ended {
    let ended = ended(command);
    assert_eq!(ended.code, Some(0), "{command:?}\n{}", ended.stderr);
    ended
}

/// The checkpoints folder of a whole run of recipes/tiny.ron, made once for all tests. Not to be changed.
pub(crate) fn finished() -> &'static Path {
    static FINISHED: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("finished");
        let _ = fs::remove_dir_all(&folder);
        done(&mut tiny(&folder));
        folder
    });
    &FINISHED
}

/// A copy of [`finished`] that may be changed.
pub(crate) fn copy_of_finished() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    copy(finished(), &home.path().join("checkpoints"));
    home
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below `folder` by its relative name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What a run has learnt and drawn: weights, averages and optimizer of the newest checkpoints, and all samples.
/// By name, as hashes.
pub(crate) fn results(run: &Path) -> BTreeMap<String, String> {
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let mut results = BTreeMap::new();
    for stage in ["encoder", "autoencoder", "denoiser"] {
        for (name, bytes) in files(&newest(run, stage)) {
            if name.ends_with(".safetensors") {
                results.insert(format!("{stage}/{name}"), hash(&bytes));
            }
        }
    }
    for (name, bytes) in files(&run.join("sample")) {
        results.insert(format!("sample/{name}"), hash(&bytes));
    }
    results
}

/// The newest checkpoint of `stage`.
pub(crate) fn newest(run: &Path, stage: &str) -> PathBuf {
    umbra::train::checkpoint::list(&run.join(stage)).unwrap().swap_remove(0)
}

/// The report, without what a clock decides.
pub(crate) fn report(run: &Path) -> serde_json::Value {
    let mut report: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    report.as_object_mut().unwrap().remove("stages");
    report
}

/// The project's folder.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
