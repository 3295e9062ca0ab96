//! Threads that open images. None of them is waited for: one that hangs in a read is left behind.

use super::IngestError;
use super::background::LOOK;
use super::open::{Job, Opener};
use crate::data::catalog::Seen;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::Builder;

/// Jobs handed out ahead, per thread.
const AHEAD: usize = 4;

type Result<T> = std::result::Result<T, IngestError>;
type Done = (usize, std::result::Result<Seen, Box<dyn Any + Send>>);

/// Opens the images of `jobs` in `num_threads` threads and hands what was seen to `take`, on this thread, in any order;
/// `take` is called with `None` too, now and then while nothing comes. Ends when it fails.
pub(super) fn run(
    opener: &Arc<Opener>,
    num_threads: usize,
    mut jobs: impl Iterator<Item = Job>,
    mut take: impl FnMut(Option<(usize, Seen)>) -> Result<()>,
) -> Result<()> {
    let room = AHEAD * num_threads;
    let (give_job, to_do) = crossbeam_channel::bounded::<Job>(room);
    let (give_seen, all_seen) = crossbeam_channel::bounded::<Done>(room);
    for worker in 0..num_threads {
        let (opener, to_do, give_seen) = (Arc::clone(opener), to_do.clone(), give_seen.clone());
        let work = move || {
            for job in to_do {
                let seen = catch_unwind(AssertUnwindSafe(|| opener.open(worker, &job)));
                if give_seen.send((job.at, seen)).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name(format!("ingest-{worker}"));
        thread.spawn(work).map_err(IngestError::Thread)?;
    }
    let mut num_open = 0;
    loop {
        while num_open < room
            && let Some(job) = jobs.next()
        {
            give_job.send(job).expect("the receivers live as long as the opener's threads");
            num_open += 1;
        }
        if num_open == 0 {
            return Ok(());
        }
        match all_seen.recv_timeout(LOOK) {
            Ok((at, Ok(seen))) => {
                num_open -= 1;
                take(Some((at, seen)))?;
            }
            // A mistake of ours: files are opened behind a net of their own.
            Ok((_, Err(panic))) => resume_unwind(panic),
            Err(_) => take(None)?,
        }
    }
}
