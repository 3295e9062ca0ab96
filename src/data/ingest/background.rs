//! Work on a thread of its own, which nobody has to wait for.
//!
//! A read from a file system that does not answer cannot be broken off. So whoever must answer a signal does not
//! read: another thread does, and is left behind if need be. It ends with the process.

use std::io;
use std::ops::ControlFlow;
use std::panic;
use std::thread::Builder;
use std::time::Duration;

/// How often somebody is asked whether to go on.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What `work` gives; `None` where `keep_on` broke off before that.
pub(super) fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    keep_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> io::Result<Option<T>> {
    let (give, result) = crossbeam_channel::bounded(1);
    let work = move || {
        // Nobody takes it where the caller has left.
        let _ = give.send(panic::catch_unwind(panic::AssertUnwindSafe(work)));
    };
    Builder::new().name("ingest-list".to_owned()).spawn(work)?;
    loop {
        match result.recv_timeout(LOOK) {
            Ok(Ok(value)) => return Ok(Some(value)),
            Ok(Err(panic)) => panic::resume_unwind(panic),
            Err(_) if keep_on().is_break() => return Ok(None),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_never_ends_is_left_behind() {
        let (_never, forever) = crossbeam_channel::bounded::<()>(0);
        let start = Instant::now();
        let mut looks = 0;
        let given = run(move || forever.recv(), &mut || {
            looks += 1;
            if looks == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(given.unwrap().is_none());
        assert!(start.elapsed() < Duration::from_secs(5));
        let given = run(|| 7, &mut || ControlFlow::Break(()));
        assert!(matches!(given, Ok(Some(7) | None)));
    }
}
