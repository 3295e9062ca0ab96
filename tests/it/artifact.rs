//! Atomic files and folders, against damage and interruption.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use umbra::artifact::{self, ArtifactError, Hasher, Lock, Stamp};

fn write(path: &Path, weights: &[u8]) -> Result<(), ArtifactError> {
    artifact::write_folder(path, |folder| {
        fs::create_dir_all(folder.join("denoiser")).unwrap();
        fs::write(folder.join("denoiser/weights.safetensors"), weights).unwrap();
        fs::write(folder.join("state.json"), b"{}").unwrap();
        fs::write(folder.join("empty"), b"").unwrap();
        Ok(())
    })
}

fn weights(path: &Path) -> Vec<u8> {
    fs::read(path.join("denoiser/weights.safetensors")).unwrap()
}

#[test]
fn a_folder_is_whole_and_nothing_is_left_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    write(&path, b"one").unwrap();
    artifact::verify(&path).unwrap();
    write(&path, b"two").unwrap();
    artifact::verify(&path).unwrap();
    assert_eq!(weights(&path), b"two");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_flipped_bit_anywhere_is_seen() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    write(&path, b"sixteen bytes of").unwrap();
    for name in ["denoiser/weights.safetensors", "state.json", "manifest.json"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &damaged).unwrap();
            assert!(artifact::verify(&path).is_err(), "{name}: bit {bit} was not seen");
        }
        fs::write(&file, whole).unwrap();
    }
    artifact::verify(&path).unwrap();
}

#[test]
fn a_truncated_or_missing_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    write(&path, b"weights").unwrap();
    let file = path.join("denoiser/weights.safetensors");
    fs::write(&file, b"weig").unwrap();
    let said = artifact::verify(&path).unwrap_err().to_string();
    assert!(said.ends_with("weights.safetensors is damaged: 4 bytes, expected 7"), "{said}");
    fs::remove_file(&file).unwrap();
    let said = artifact::verify(&path).unwrap_err().to_string();
    assert!(said.ends_with("weights.safetensors is missing: the folder is not complete"), "{said}");
    fs::remove_file(path.join("manifest.json")).unwrap();
    let said = artifact::verify(&path).unwrap_err().to_string();
    assert!(said.ends_with("manifest.json is missing: the folder is not complete"), "{said}");
    assert!(matches!(
        artifact::verify(&home.path().join("nothing")),
        Err(ArtifactError::Missing { .. })
    ));
}

#[test]
fn what_an_interrupted_write_left_does_no_harm() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    write(&path, b"old").unwrap();
    let leftover = home.path().join("checkpoint.tmp");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("half"), b"ha").unwrap();
    artifact::verify(&path).unwrap();
    write(&path, b"new").unwrap();
    assert!(!leftover.exists() && !path.join("half").exists());
    assert_eq!(weights(&path), b"new");
}

/// Every state that the renames of a replacement go through, as a crash would leave it.
#[test]
fn a_reader_finds_old_or_new_wherever_a_replacement_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    let aside = home.path().join("checkpoint.old");
    let found = || weights(&artifact::current(&path).unwrap());

    write(&path, b"old").unwrap();
    fs::rename(&path, &aside).unwrap();
    assert_eq!(found(), b"old");
    artifact::verify(&path).unwrap();
    // The next write begins by mending.
    write(&path, b"new").unwrap();
    assert_eq!(found(), b"new");
    assert!(!aside.exists());

    fs::create_dir(&aside).unwrap();
    assert_eq!(found(), b"new");
    write(&path, b"newer").unwrap();
    assert_eq!(found(), b"newer");
    assert!(!aside.exists());

    // Cut off after moving aside, and the next write fails too: the old one is still found.
    fs::rename(&path, &aside).unwrap();
    let failed = artifact::write_folder(&path, |_| {
        Err(ArtifactError::Missing { path: "the graphics card".into() })
    });
    assert!(failed.is_err());
    assert_eq!(found(), b"newer");
    assert!(!home.path().join("checkpoint.tmp").exists());
}

#[test]
fn a_reader_beside_a_busy_writer_always_finds_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    write(&path, b"first").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..30).for_each(|_| write(&path, b"again").unwrap()));
        while !writer.is_finished() {
            assert!(artifact::current(&path).is_some());
        }
    });
}

#[test]
fn a_file_is_replaced_at_once_and_errors_name_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("report.json");
    fs::write(home.path().join("report.json.tmp"), b"half").unwrap();
    artifact::write_file(&path, b"one").unwrap();
    artifact::write_file(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);

    let said = artifact::write_file(&path.join("below"), b"x").unwrap_err().to_string();
    assert!(said.contains("report.json"), "{said}");
    let said = write(&path.join("below"), b"x").unwrap_err().to_string();
    assert!(said.starts_with("cannot create") && said.contains("report.json"), "{said}");
}

#[test]
fn a_run_folder_has_one_owner() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let lock = Lock::acquire(&run).unwrap();
    let said = Lock::acquire(&run).unwrap_err().to_string();
    let id = std::process::id();
    assert!(said.ends_with(&format!(
        "run is in use by another umbra process (process {id}); wait for it or stop it"
    )));
    drop(lock);
    Lock::acquire(&run).unwrap();
}

#[test]
fn a_stamp_says_whether_a_stage_is_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let stamp = |section: &str| Stamp {
        stage: "encode".into(),
        version: 3,
        inputs_hash: Hasher::new("encode", 3).section(section).upstream("abc").finish(),
    };
    assert_eq!(Stamp::read(home.path()).unwrap(), None);
    stamp("(size: 64)").write(home.path()).unwrap();
    assert_eq!(Stamp::read(home.path()).unwrap(), Some(stamp("(size: 64)")));
    assert!(stamp("(size: 64)").is_left_in(home.path()).unwrap());
    assert!(!stamp("(size: 128)").is_left_in(home.path()).unwrap());
    fs::write(home.path().join("stamp.json"), b"{").unwrap();
    assert!(matches!(Stamp::read(home.path()), Err(ArtifactError::Damaged { .. })));
}

const FOLDER: &str = "UMBRA_TEST_FOLDER";

/// Run by the test below, with the folder in the environment: writes until it is killed.
#[test]
#[ignore = "takes minutes, if nobody kills it"]
fn writing_for_ever() {
    let path = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    (0..100_000u64).for_each(|number| write(&path, &number.to_le_bytes().repeat(10_000)).unwrap());
}

#[test]
fn a_killed_writer_leaves_a_whole_folder() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("checkpoint");
    let is_written = || {
        let file = path.join("denoiser/weights.safetensors");
        fs::metadata(file).is_ok_and(|metadata| metadata.len() == 80_000)
    };
    for kill in 0..20 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["artifact::writing_for_ever", "--exact", "--ignored", "--quiet"])
            .env(FOLDER, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !is_written() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(kill * 5));
        writer.kill().unwrap();
        writer.wait().unwrap();
        artifact::verify(&path).unwrap();
    }
}
