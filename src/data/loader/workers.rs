//! Threads that make samples, and the window that puts them back in order.
//!
//! Never more than `ahead` positions are under way: that many are handed out at the start, and one more for
//! each that is taken. Both channels have room for all of them, so no send can wait, and shutting down
//! cannot deadlock.

use super::{LoaderError, Order, SampleError, Samples};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// Samples to try for one position before giving up.
const MAX_ATTEMPTS: usize = 64;

/// What came of a position.
#[derive(Debug)]
pub(super) struct Fetched<I> {
    /// Samples that could not be made, in the order they were tried.
    pub(super) failures: Vec<Failure>,
    pub(super) outcome: Outcome<I>,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) index: u64,
    pub(super) error: SampleError,
}

#[derive(Debug)]
pub(super) enum Outcome<I> {
    Item(I),
    Exhausted,
    Panicked { index: u64, message: String },
}

/// The threads and what they have made but nobody has taken.
#[derive(Debug)]
pub(super) struct Workers<I> {
    /// `None` once it is over.
    tasks: Option<Sender<u64>>,
    results: Receiver<(u64, Fetched<I>)>,
    window: BTreeMap<u64, Fetched<I>>,
    next_task: u64,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<I: Send + 'static> Workers<I> {
    pub(super) fn start<S>(
        samples: Arc<S>,
        order: Order,
        num_threads: usize,
        ahead: usize,
        first: u64,
    ) -> Result<Self, LoaderError>
    where
        S: Samples<Item = I> + ?Sized + 'static,
    {
        let (tasks, tasks_out) = bounded(ahead);
        let (results_in, results) = bounded(ahead);
        let mut workers = Self {
            tasks: Some(tasks),
            results,
            window: BTreeMap::new(),
            next_task: first,
            is_over: Arc::new(AtomicBool::new(false)),
            threads: Vec::with_capacity(num_threads),
        };
        for number in 0..num_threads {
            let (tasks, results) = (tasks_out.clone(), results_in.clone());
            let (samples, is_over) = (Arc::clone(&samples), Arc::clone(&workers.is_over));
            let work = move || {
                for position in tasks {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let fetched = fetch(&*samples, &order, position);
                    if results.send((position, fetched)).is_err() {
                        break;
                    }
                }
            };
            let thread = Builder::new().name(format!("loader-{number}")).spawn(work);
            workers.threads.push(thread.map_err(LoaderError::Thread)?);
        }
        (0..ahead).for_each(|_| workers.hand_out());
        Ok(workers)
    }

    /// Waits for what came of `position`. Positions must be taken one after the other.
    pub(super) fn take(&mut self, position: u64) -> Result<Fetched<I>, LoaderError> {
        loop {
            if let Some(fetched) = self.window.remove(&position) {
                self.hand_out();
                return Ok(fetched);
            }
            let (position, fetched) =
                self.results.recv().expect("threads live until they are told to stop");
            self.window.insert(position, fetched);
        }
    }

    fn hand_out(&mut self) {
        let tasks = self.tasks.as_ref().expect("nothing is taken once it is over");
        tasks.send(self.next_task).expect("threads live until they are told to stop");
        self.next_task += 1;
    }
}

impl<I> Drop for Workers<I> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

/// Makes the sample at `position`, or a replacement.
fn fetch<S: Samples + ?Sized>(samples: &S, order: &Order, position: u64) -> Fetched<S::Item> {
    let mut failures = Vec::new();
    for index in order.candidates(position).take(MAX_ATTEMPTS) {
        match catch_unwind(AssertUnwindSafe(|| samples.get(index, position))) {
            Ok(Ok(item)) => return Fetched { failures, outcome: Outcome::Item(item) },
            Ok(Err(error)) => failures.push(Failure { index, error }),
            Err(panic) => {
                let outcome = Outcome::Panicked { index, message: message(&*panic) };
                return Fetched { failures, outcome };
            }
        }
    }
    Fetched { failures, outcome: Outcome::Exhausted }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
