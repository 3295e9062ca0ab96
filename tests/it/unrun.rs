//! Tests that pass because what they need is not here: told once more when all is over, where nobody overlooks it.

use std::io::Write as _;
use std::sync::Mutex;

static UNRUN: Mutex<Vec<(String, &str)>> = Mutex::new(Vec::new());

/// Notes that the calling test did not run, and what it `needs`.
pub(crate) fn unrun(needs: &'static str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut unrun = UNRUN.lock().unwrap();
    if unrun.is_empty() {
        // SAFETY: `tell` is a function of this program, which stays until it ends, and does not unwind.
        #[expect(unsafe_code, reason = "the test harness has no end to hook into")]
        let registered = unsafe { libc::atexit(tell) };
        assert_eq!(registered, 0);
    }
    unrun.push((name, needs));
}

extern "C" fn tell() {
    let Ok(mut unrun) = UNRUN.lock() else { return };
    unrun.sort();
    let mut err = std::io::stderr();
    let _ = writeln!(err, "\npassed without running, for what they need is not here:");
    for (name, needs) in unrun.iter() {
        let _ = writeln!(err, "    {name}: {needs}");
    }
}
