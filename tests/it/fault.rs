//! Disks and file servers that fail: a shim between the binary and the system, for any test to use.
//!
//! [`faulty`] runs a command with `fault/shim.c` in `LD_PRELOAD`. Its rules, `;` between them, are five words each:
//!
//! ```text
//! read EIO 0 2 set/07.png      the first two reads of files with that in their path fail, all later ones succeed
//! open EACCES 0 -1 set/21.png  it never opens
//! write ENOSPC 40 -1 /stores/  forty writes below stores/ succeed, then the disk is full
//! sync EIO 3 1 .safetensors    the fourth fsync of a shard fails
//! ```
//!
//! The call (`open`, `read`, `write`, `sync`), the error, how many matching calls pass first, how many then fail (-1:
//! all), and a part of the path as the program gave it. Counts are the process's own. Maps of files are not seen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Lets calls of `command` fail as `rules` say. False, and said, where that cannot be had: the test has to pass then.
#[must_use]
pub(crate) fn faulty(command: &mut Command, rules: &str) -> bool {
    let Some(shim) = &*SHIM else {
        crate::unrun::unrun("Linux and a C compiler called cc");
        return false;
    };
    command.env("LD_PRELOAD", shim).env("UMBRA_FAULTS", rules);
    true
}

static SHIM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    if !cfg!(target_os = "linux") || Command::new("cc").arg("--version").output().is_err() {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fault/shim.c");
    // Of this process: another run of the tests may have it loaded.
    let name = format!("fault-{}.so", std::process::id());
    let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-o"]);
    let built = command.arg(&shim).arg(&source).arg("-ldl").output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{} does not compile:\n{said}", source.display());
    Some(shim)
});

/// A program that reads and writes in known steps: the test's own tools must be right first.
#[test]
fn the_shim_does_what_its_rules_say() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("image"), "pixels").unwrap();
    let run = |rules: &str, script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(home.path());
        faulty(&mut command, rules).then(|| command.output().unwrap())
    };
    let Some(read) = run("read EIO 0 1 image", "cat image image") else { return };
    assert_eq!(String::from_utf8_lossy(&read.stdout), "pixels", "the second time: {read:?}");
    assert!(!read.status.success(), "{read:?}");
    let open = run("open EACCES 0 -1 image", "cat image").unwrap();
    assert!(!open.status.success(), "{open:?}");
    let full = run("write ENOSPC 0 -1 out", "cp image out").unwrap();
    assert!(!full.status.success(), "{full:?}");
    assert_eq!(std::fs::read_to_string(home.path().join("out")).unwrap(), "");
    let wrong = run("read ENOTHING 0 1 image", "cat image").unwrap();
    assert!(!wrong.status.success(), "a rule that is not understood is an error: {wrong:?}");
}
