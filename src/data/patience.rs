//! Trying again what may pass: a file server that stumbles is no damage.

use std::io;
use std::thread;
use std::time::Duration;

/// How long to wait before the next try: all tries end within half a second.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(300)];

/// Does `attempt` again, after pauses, where it fails for a reason that may pass.
pub(super) fn patiently<T, E>(
    attempt: impl Fn() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for pause in PAUSES {
        match attempt() {
            Err(error) if may_pass(&error) => thread::sleep(pause),
            other => return other,
        }
    }
    attempt()
}

/// A file that is not there is not waited for.
pub(super) fn may_pass(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_may_pass_is_tried_four_times_and_what_may_not_once() {
        let tries = Cell::new(0);
        let failing = |times: u32, passes: bool| {
            tries.set(0);
            patiently(
                || {
                    tries.set(tries.get() + 1);
                    if tries.get() > times { Ok(()) } else { Err(()) }
                },
                |()| passes,
            )
        };
        assert_eq!((failing(3, true), tries.get()), (Ok(()), 4));
        assert_eq!((failing(4, true), tries.get()), (Err(()), 4));
        assert_eq!((failing(1, false), tries.get()), (Err(()), 1));
    }

    #[test]
    fn a_file_that_comes_back_is_read_and_one_that_is_missing_is_not_waited_for() {
        let tries = Cell::new(0);
        let failing = |times: u32, kind: io::ErrorKind| {
            tries.set(0);
            patiently(
                || {
                    tries.set(tries.get() + 1);
                    if tries.get() > times { Ok(()) } else { Err(io::Error::from(kind)) }
                },
                may_pass,
            )
        };
        assert!(failing(3, io::ErrorKind::StaleNetworkFileHandle).is_ok());
        assert_eq!(tries.get(), 4);
        assert!(failing(4, io::ErrorKind::PermissionDenied).is_err());
        assert_eq!(tries.get(), 4);
        assert!(failing(1, io::ErrorKind::NotFound).is_err());
        assert_eq!(tries.get(), 1);
    }
}
