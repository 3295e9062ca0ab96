//! All of it among good images.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat};
use signal_hook::consts::SIGTERM;
use tempfile::TempDir;
use umbra::data::catalog::{Catalog, Location, Split};
use umbra::random::Stream;

use super::{LONGEST, corpus, places};
use crate::binary::{ended, umbra};
use crate::ingest::shaded;
use crate::kill::{ended_within, signal};

const GOOD: usize = 200;
/// Files that are deleted while the ingest runs.
const VANISHING: usize = 40;

/// A data root and how an undisturbed ingest of it ended.
struct Reference {
    root: TempDir,
    _socket: std::os::unix::net::UnixListener,
    code: Option<i32>,
    said: String,
    took: Duration,
    rows: BTreeMap<String, String>,
}

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("set");
    fs::create_dir(&set).unwrap();
    for at in 0..GOOD {
        fs::write(set.join(format!("good-{at:03}.png")), image(at as u8)).unwrap();
    }
    for hostile in corpus() {
        fs::write(set.join(hostile.name), hostile.bytes).unwrap();
    }
    let socket = places::put(&set, &image(250));
    let start = Instant::now();
    // Elsewhere: a link among the files leads up to the root.
    let runs = tempfile::tempdir().unwrap();
    let ended = ended(&mut ingest(root.path(), runs.path()));
    let rows = if ended.code == Some(0) { rows(runs.path()) } else { BTreeMap::new() };
    let said = ended.stdout + &ended.stderr;
    Reference { root, _socket: socket, code: ended.code, said, took: start.elapsed(), rows }
});

/// A PNG that differs from those of other shades.
fn image(shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(shaded(shade)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn ingest(root: &Path, runs: &Path) -> Command {
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--threads", "2", "--data-root"]).arg(root);
    command.arg("--checkpoints").arg(runs);
    command.args(["--set", "data.source=Folder(path: \"set\", patient: File)"]);
    command.args(["--set", "data.max_damaged=1.0"]);
    command
}

/// Every image by its name, and `image` or why it is none.
fn rows(runs: &Path) -> BTreeMap<String, String> {
    let catalog = Catalog::open(&runs.join("tiny/catalog.sqlite")).unwrap();
    let name = |location: &Location| match location {
        Location::File(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
        Location::Phantom { .. } => panic!("a phantom"),
    };
    let entries = Split::ALL.into_iter().flat_map(|split| catalog.entries(split).unwrap());
    let mut rows: BTreeMap<String, String> =
        entries.map(|entry| (name(&entry.location), "image".to_owned())).collect();
    for entry in catalog.quarantined().unwrap() {
        rows.insert(name(&entry.location), entry.quarantine.unwrap());
    }
    rows
}

#[test]
fn an_ingest_names_every_hostile_file_and_keeps_every_good_one() {
    let Reference { code, said, rows, took, .. } = &*REFERENCE;
    assert_eq!(*code, Some(0), "{said}");
    for at in 0..GOOD {
        assert_eq!(rows[&format!("good-{at:03}.png")], "image");
    }
    let mut refused = 0;
    for hostile in corpus() {
        let reason = &rows[&hostile.name];
        refused += u32::from(reason != "image");
        assert!(!reason.contains("CANARY") && !reason.contains(char::is_control), "{reason:?}");
    }
    assert!(said.contains("a pipe, socket or device"), "{said}");
    assert!(said.contains("a link that leads nowhere"), "{said}");
    assert!(said.contains("a name that is not UTF-8"), "{said}");
    let is_plain = said.chars().all(|c| c == '\n' || c == '\t' || !c.is_control());
    assert!(is_plain && !said.contains("CANARY") && !said.contains("DOE"), "{said:?}");
    println!("{} images, {refused} hostile files refused, {} in all, {took:?}", GOOD, rows.len());
}

#[test]
fn a_signal_is_answered_at_any_moment_among_hostile_files() {
    let Reference { root, took, rows: expected, .. } = &*REFERENCE;
    let runs = tempfile::tempdir().unwrap();
    let runs = runs.path();
    let mut moments = Stream::new(1, "hostile stop").at(0);
    let (mut slowest, mut stopped) = (Duration::ZERO, 0);
    for _ in 0..6 {
        let mut child =
            ingest(root.path(), runs).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300) + took.mul_f64(0.5 * moments.uniform()));
        if child.try_wait().unwrap().is_none() {
            signal(&child, SIGTERM);
        }
        let asked = Instant::now();
        let status = ended_within(&mut child, LONGEST);
        slowest = slowest.max(asked.elapsed());
        match status.code() {
            Some(75) => stopped += 1,
            code => assert_eq!(code, Some(0)),
        }
    }
    let last = ended(&mut ingest(root.path(), runs));
    assert_eq!(last.code, Some(0), "{}", last.stderr);
    let found = rows(runs);
    let other = found
        .iter()
        .chain(expected)
        .filter(|(name, why)| found.get(*name) != Some(why) || expected.get(*name) != Some(why));
    assert_eq!(other.collect::<Vec<_>>(), [], "otherwise than in an undisturbed ingest");
    println!("{stopped} of 6 stopped, the slowest answer after {slowest:?}");
}

#[test]
fn files_that_vanish_meanwhile_are_missing_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("set");
    fs::create_dir(&set).unwrap();
    for at in 0..GOOD {
        fs::write(set.join(format!("good-{at:03}.png")), image(at as u8)).unwrap();
    }
    // Slow ones first, so that the others are listed and not yet opened.
    for hostile in corpus().into_iter().filter(|it| it.name.contains("64mp")) {
        fs::write(set.join(format!("a-{}", hostile.name)), hostile.bytes).unwrap();
    }
    let vanishing: Vec<PathBuf> =
        (0..VANISHING).map(|at| set.join(format!("vanish-{at:02}.png"))).collect();
    for (at, path) in vanishing.iter().enumerate() {
        fs::write(path, image(201 + at as u8)).unwrap();
    }
    let runs = root.path().join("runs");
    let child = ingest(root.path(), &runs).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    std::thread::sleep(Duration::from_millis(400));
    vanishing.iter().for_each(|path| fs::remove_file(path).unwrap());
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = rows(&runs);
    let missing = rows.values().filter(|reason| reason.contains("the file is missing")).count();
    for (name, reason) in rows.iter().filter(|(name, _)| !name.starts_with("a-")) {
        let is_known = reason == "image" || reason == "unreadable: the file is missing";
        assert!(is_known, "{name}: {reason}");
    }
    println!("{missing} of {VANISHING} were listed and gone when they were to be opened");
}
