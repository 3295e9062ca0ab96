//! Ctrl-C and SIGTERM: the first asks, the second ends.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What the shell is told when a second signal ended the process: 128 + SIGINT.
pub const EXIT_AT_ONCE: i32 = 130;

/// From now on, the first signal makes [`requested`] true, and a second one ends the process at once with
/// [`EXIT_AT_ONCE`]. Checkpoints bear that: they are complete or absent at any moment.
///
/// Later calls do nothing.
pub fn install() -> io::Result<()> {
    let mut installed = Ok(());
    REQUESTED.get_or_init(|| {
        let requested = Arc::new(AtomicBool::new(false));
        // In this order: a signal first looks whether one came before, then says that it came.
        installed = [SIGINT, SIGTERM].into_iter().try_for_each(|signal| {
            flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(&requested))?;
            flag::register(signal, Arc::clone(&requested)).map(|_| ())
        });
        requested
    });
    installed
}

/// True once the process was asked to end: save what there is and stop.
pub fn requested() -> bool {
    REQUESTED.get().is_some_and(|requested| requested.load(Ordering::Relaxed))
}

/// A signal came; what was done is saved. Not a fault: it ends in the exit code 75.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Interrupted;

/// Fails once the process was asked to end.
pub fn unless_requested() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
