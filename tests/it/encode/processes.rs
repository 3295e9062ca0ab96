//! Processes that are killed, and several at once over one store.

use super::*;
use crate::binary::ended;
use crate::kill::{killed_at_random_moments, signal, wait_for};
use signal_hook::consts::SIGTERM;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread;

/// `UMBRA_KILLS` says how often (`just kill` says 50), `UMBRA_KILL_SEED` which moments.
#[test]
fn killed_at_random_moments_encode_ends_with_the_same_store() {
    let Undisturbed { store, duration, .. } = &*UNDISTURBED;
    killed_at_random_moments(
        "kill/encode",
        *duration,
        || ingested(&["a"]),
        |place| place.umbra("encode", "a"),
        |place, when| assert_same(&place.store(), store, when),
    );
}

#[test]
fn two_runs_with_one_store_make_it_once() {
    for attempt in 0..4 {
        let place = ingested(&["a", "b"]);
        let mut children =
            [start(&mut place.umbra("encode", "a")), start(&mut place.umbra("encode", "b"))];
        let said = children.each_mut().map(finish);
        for (code, stderr) in &said {
            assert_eq!(*code, Some(0), "attempt {attempt}: {stderr}");
        }
        let all = said.map(|(_, stderr)| stderr).join("");
        assert_eq!(all.matches("encode       done in").count(), 1, "attempt {attempt}: {all}");
        assert_eq!(all.matches("encode       up to date").count(), 1, "attempt {attempt}: {all}");
        assert!(all.matches("encode waits for another umbra process").count() <= 1, "{all}");
        assert_same(&place.store(), &UNDISTURBED.store, "two at once");
    }
}

#[test]
fn who_waits_says_for_whom_and_takes_over_when_it_dies() {
    let place = ingested(&["a", "b"]);
    let mut first = start(&mut place.umbra("encode", "a"));
    let lock = lock(&place);
    let second = start(&mut place.umbra("encode", "b"));
    wait_for_word(&place, "b", "encode waits");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(lock.exists());
    let (code, stderr) = finish(&mut { second });
    assert_eq!(code, Some(0), "{stderr}");
    let waits = format!(
        "encode waits for another umbra process (process {}), which makes the same store",
        first.id()
    );
    assert_eq!(stderr.matches(&waits).count(), 1, "{stderr}");
    assert!(stderr.contains("encode       done in"), "{stderr}");
    assert_same(&place.store(), &UNDISTURBED.store, "taken over");
}

#[test]
fn who_waits_ends_when_asked_to() {
    let place = ingested(&["a", "b"]);
    let mut first = start(&mut place.umbra("encode", "a"));
    lock(&place);
    let mut second = start(&mut place.umbra("encode", "b"));
    wait_for_word(&place, "b", "encode waits");
    signal(&second, SIGTERM);
    let start = Instant::now();
    let (code, stderr) = finish(&mut second);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn clean_spares_the_lock_of_a_store_in_use_and_removes_that_of_none() {
    let place = ingested(&["a"]);
    done(&mut place.umbra("encode", "a"));
    let clean = || {
        let mut command = umbra();
        command.args(["clean", "--yes", "--checkpoints"]).arg(place.checkpoints());
        done(&mut command).stdout
    };
    assert!(clean().contains("Nothing to clean"));
    let lock = lock(&place);
    fs::remove_dir_all(place.checkpoints().join("a")).unwrap();
    assert!(clean().contains("no run refers to this store"));
    assert!(!lock.exists());
    let left = fs::read_dir(place.checkpoints().join("stores")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["known.txt"], "what results were stays known");
    assert_eq!(ended(&mut place.umbra("encode", "a")).code, Some(0), "and it is made anew");
}

/// The store's lock, once somebody has it.
fn lock(place: &Place) -> PathBuf {
    let stores = place.checkpoints().join("stores");
    wait_for(&stores);
    let begin = Instant::now();
    loop {
        let mut paths = fs::read_dir(&stores).unwrap().map(|entry| entry.unwrap().path());
        if let Some(lock) = paths.find(|path| path.extension().is_some_and(|it| it == "lock")) {
            return lock;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody takes the lock");
        thread::sleep(Duration::from_millis(2));
    }
}

fn wait_for_word(place: &Place, run: &str, word: &str) {
    let log = place.checkpoints().join(run).join("log.txt");
    let begin = Instant::now();
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains(word)) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} does not say {word}", log.display());
        thread::sleep(Duration::from_millis(2));
    }
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: &mut Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}
