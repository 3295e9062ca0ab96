//! Limits for a process that opens a suspicious file.

#![allow(unsafe_code)] // setrlimit: the standard library has no name for it.

use std::io;

/// Address space, in bytes: what no image within umbra's own limits needs, and most machines have.
const MEMORY: libc::rlim_t = 4 << 30;

/// Processor time, in seconds; the largest images that are read take a few.
const SECONDS: libc::rlim_t = 120;

/// From now on, this process ends when it takes more memory or processor time than any image needs, and leaves no core
/// behind: it would hold the image.
pub(super) fn set() -> io::Result<()> {
    set_one(libc::RLIMIT_AS, MEMORY)?;
    set_one(libc::RLIMIT_CPU, SECONDS)?;
    set_one(libc::RLIMIT_CORE, 0)
}

/// Lowers the limit of `resource` to `most`, if it is not lower anyway.
fn set_one(resource: libc::__rlimit_resource_t, most: libc::rlim_t) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a whole, writable rlimit and outlives the call, which keeps no pointer to it.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_cur.min(most);
    // SAFETY: `limit` is a whole rlimit and outlives the call; a soft limit below the hard one is always lawful, and
    // it takes nothing from Rust but the success of later allocations, whose failure Rust handles.
    if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
