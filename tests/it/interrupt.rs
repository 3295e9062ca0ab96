//! Signals, in a process of their own.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::raise;
use std::process::Command;
use umbra::interrupt;

/// Run by the test below: ends the process.
#[test]
#[ignore = "ends its process"]
fn two_signals() {
    interrupt::install().unwrap();
    interrupt::install().unwrap();
    assert!(!interrupt::requested());
    raise(SIGTERM).unwrap();
    assert!(interrupt::requested());
    raise(SIGINT).unwrap();
    std::process::exit(99);
}

#[test]
fn the_first_signal_asks_and_the_second_ends_the_process() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["interrupt::two_signals", "--exact", "--ignored", "--quiet"])
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(interrupt::EXIT_AT_ONCE));
}
