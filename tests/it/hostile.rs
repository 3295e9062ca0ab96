//! Files that were made to do harm: none ends the process, takes long or takes much, none stops an ingest.
//!
//! The files are opened in a child of this test: the test's own program once more, told by the environment what to do.
//! `UMBRA_MUTATIONS` says how many random changes of small files are tried (20,000 where it is not set),
//! `UMBRA_MUTATION_SEED` which.

mod codestreams;
mod dicom;
mod ingest;
mod mutate;
mod places;
mod rasters;
mod tables;
mod worst;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use umbra::data::file::{self, FileError, Refusal, Window};

/// A file is opened within this.
const LONGEST: Duration = Duration::from_secs(10);
/// And with this much memory in all, in KiB.
const MOST_MEMORY: u64 = 1 << 20;
/// How the child is told which folder to open.
const FOLDER: &str = "UMBRA_HOSTILE_FOLDER";

/// One file.
struct Hostile {
    name: String,
    bytes: Vec<u8>,
}

impl Hostile {
    fn new(name: String, bytes: Vec<u8>) -> Self {
        Self { name, bytes }
    }
}

/// All files that one can be made of.
fn corpus() -> Vec<Hostile> {
    let all: Vec<Hostile> = dicom::all().into_iter().chain(rasters::all()).collect();
    assert!(all.len() >= 200, "{} files", all.len());
    all
}

/// What came of a file.
#[derive(Debug, PartialEq)]
struct Opened {
    /// `image`, or the sentence that refuses it.
    outcome: String,
    milliseconds: u64,
    /// The most memory that the process had meanwhile, in KiB; 0 where the system does not say.
    memory: u64,
}

/// Opens every file of `folder` as a training does and as `umbra inspect` does, in a process of its own.
fn opened(folder: &Path) -> BTreeMap<String, Opened> {
    let (found, status) = child("hostile::open_in_a_child", FOLDER, folder.as_os_str());
    let mut opened = BTreeMap::new();
    let mut last = String::from("nothing");
    for line in found {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            [.., "opening", name] => name.clone_into(&mut last),
            [.., "opened", name, milliseconds, memory, outcome] => {
                let number = |text: &str| text.parse().unwrap();
                let (milliseconds, memory) = (number(milliseconds), number(memory));
                let outcome = outcome.to_owned();
                opened.insert(name.to_owned(), Opened { outcome, milliseconds, memory });
            }
            _ => {}
        }
    }
    assert!(status.success(), "the process ended with {status} at {last}");
    opened
}

/// The lines that another process of this program says when it runs one of its tests only.
fn child(
    test: &str,
    variable: &str,
    value: &std::ffi::OsStr,
) -> (Vec<String>, std::process::ExitStatus) {
    let mut command = Command::new("sh");
    // Twice what is allowed, so that what asks for all there is ends here and not the machine.
    let limited = format!("ulimit -v {} && exec \"$@\"", 4 * MOST_MEMORY);
    command.args(["-c", &limited, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(variable, value);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let lines =
        BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    (lines, child.wait().unwrap())
}

/// What the child does; nothing where no other test asked.
#[test]
fn open_in_a_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        println!("\topening\t{name}");
        forget_peak();
        let start = Instant::now();
        let trained = file::open(&path, &Window::Auto).map(drop);
        let inspected = file::inspect(&path).map(drop);
        let milliseconds = start.elapsed().as_millis();
        for result in [&trained, &inspected] {
            if let Err(FileError::Refused { reason, .. }) = result {
                assert_ne!(*reason, Refusal::Panicked, "{name}");
            }
        }
        let outcome = trained.err().map_or("image".to_owned(), |error| error.reason());
        println!("\topened\t{name}\t{milliseconds}\t{}\t{outcome}", peak());
    }
}

/// Begins a new peak of memory.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory since, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn every_hostile_file_is_refused_or_read_in_time_and_memory() {
    let home = tempfile::tempdir().unwrap();
    let corpus = corpus();
    for Hostile { name, bytes } in &corpus {
        fs::write(home.path().join(name), bytes).unwrap();
    }
    let opened = opened(home.path());
    assert_eq!(opened.len(), corpus.len(), "two files have one name");
    let (mut slowest, mut largest) = ((0, ""), (0, ""));
    for (name, Opened { outcome, milliseconds, memory }) in &opened {
        assert!(u128::from(*milliseconds) < LONGEST.as_millis(), "{name}: {milliseconds} ms");
        assert!(*memory < MOST_MEMORY, "{name}: {memory} KiB");
        let is_plain = outcome.chars().all(|c| !c.is_control()) && !outcome.contains("CANARY");
        assert!(is_plain && !outcome.contains("DOE"), "{name}: {outcome:?}");
        slowest = slowest.max((*milliseconds, name));
        largest = largest.max((*memory, name));
    }
    let images = opened.values().filter(|opened| opened.outcome == "image").count();
    println!("{} files, {images} of them images; {slowest:?} ms, {largest:?} KiB", opened.len());
    if std::env::var_os("UMBRA_SHOW").is_some() {
        for (name, Opened { outcome, milliseconds, memory }) in &opened {
            println!("{name}\t{milliseconds} ms\t{} MiB\t{outcome}", memory >> 10);
        }
    }
}
