//! Killed anywhere and run again, a run ends with the same bits.
//!
//! `UMBRA_KILLS` says how often (`just kill` says 50), `UMBRA_KILL_SEED` which moments.

use super::binary::{SHORT, done, ended, report, results, tiny};
use signal_hook::consts::SIGTERM;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};
use umbra::random::Stream;

/// An undisturbed run.
struct Reference {
    duration: Duration,
    results: BTreeMap<String, String>,
    report: serde_json::Value,
}

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let home = tempfile::tempdir().unwrap();
    let start = Instant::now();
    done(&mut short(home.path()));
    let run = home.path().join("tiny");
    Reference { duration: start.elapsed(), results: results(&run), report: report(&run) }
});

fn short(checkpoints: &Path) -> Command {
    let mut command = tiny(checkpoints);
    command.args(SHORT);
    command
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bits() {
    killed_at_random_moments(
        "kill",
        REFERENCE.duration,
        || tempfile::tempdir().unwrap(),
        |home| short(home.path()),
        |home, when| assert_same(home.path(), when),
    );
}

/// Kills `command` at random moments of its `duration` and starts it again, in a `fresh` place wherever it was done
/// before its moment came, until it has been killed often enough and is done; `assert_same` looks at each that is. The
/// last place.
pub(crate) fn killed_at_random_moments<Place>(
    stream: &str,
    duration: Duration,
    fresh: impl Fn() -> Place,
    command: impl Fn(&Place) -> Command,
    assert_same: impl Fn(&Place, &str),
) -> Place {
    let kills: u32 = setting("UMBRA_KILLS").unwrap_or(5);
    let seed: u64 = setting("UMBRA_KILL_SEED").unwrap_or(1);
    let mut place = fresh();
    let mut moments = Stream::new(seed, stream).at(0);
    let (mut killed, mut lives) = (0, 0);
    while killed < kills {
        let moment = duration.mul_f64(moments.uniform());
        let mut child = start(&mut command(&place));
        lives += 1;
        thread::sleep(moment);
        let is_running = child.try_wait().unwrap().is_none();
        if is_running {
            child.kill().unwrap();
            killed += 1;
        }
        let is_done = child.wait().unwrap().success();
        assert!(is_running || is_done, "after {killed} kills, seed {seed}");
        if is_done {
            assert_same(&place, &format!("{killed} kills, seed {seed}"));
            place = fresh();
        }
    }
    done(&mut command(&place));
    assert_same(&place, &format!("{killed} kills in {lives} lives, seed {seed}"));
    place
}

#[test]
fn asked_to_stop_it_says_75_and_goes_on_to_the_same_bits() {
    // Measured before anything runs beside it.
    let duration = REFERENCE.duration;
    let home = tempfile::tempdir().unwrap();
    let mut moments = Stream::new(2, "stop").at(0);
    let mut stopped = 0;
    for _ in 0..3 {
        let mut child = start(&mut short(home.path()));
        // Handlers are there once the run's log is: a signal before that ends any program.
        wait_for(&home.path().join("tiny/log.txt"));
        thread::sleep(duration.mul_f64(0.4 * moments.uniform()));
        if child.try_wait().unwrap().is_none() {
            signal(&child, SIGTERM);
        }
        match child.wait().unwrap().code() {
            Some(75) => stopped += 1,
            // The last stage was over before it looked for a signal.
            code => assert_eq!(code, Some(0)),
        }
    }
    assert!(stopped >= 2, "only {stopped} of 3 signals met a running stage");
    let last = done(&mut short(home.path()));
    assert!(!last.stderr.contains("damaged"), "{}", last.stderr);
    assert_same(home.path(), "after SIGTERM");
}

#[test]
fn a_second_process_in_the_same_run_is_refused_in_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    let mut first = start(&mut short(home.path()));
    wait_for(&home.path().join("tiny/log.txt"));
    let second = ended(&mut short(home.path()));
    let is_first_running = first.try_wait().unwrap().is_none();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(is_first_running, "the first run was over too soon to say anything");
    assert_eq!(second.code, Some(1));
    let folder = home.path().join("tiny");
    let expected = format!(
        "error: {} is in use by another umbra process (process {}); wait for it or stop it\n",
        folder.display(),
        first.id()
    );
    assert_eq!(second.stderr, expected);
    assert_eq!(second.stdout, "");
}

fn assert_same(checkpoints: &Path, when: &str) {
    let run = checkpoints.join("tiny");
    let (found, expected) = (results(&run), &REFERENCE.results);
    let differing: Vec<&String> =
        expected.keys().filter(|name| found.get(*name) != expected.get(*name)).collect();
    assert!(differing.is_empty(), "{when}: other bits in {differing:?}");
    assert_eq!(found.len(), expected.len(), "{when}: more files than without a disturbance");
    assert_eq!(report(&run), REFERENCE.report, "{when}");
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub(crate) fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} does not come", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

/// How `child` ends within `limit`; one that takes longer is killed and fails the test.
pub(crate) fn ended_within(child: &mut Child, limit: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > limit {
            child.kill().unwrap();
            panic!("it has not ended after {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(child: &Child, signal: i32) {
    let status =
        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}, which is not a number")))
}
