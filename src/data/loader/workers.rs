//! Threads that make samples and collate them, and the window that puts batches back in order.
//!
//! Never more than `ahead` positions are under way: that many are handed out at the start, and a batch's for each that is
//! taken. The thread that makes the last sample of a batch collates it. Both channels have room for all that is under way,
//! so no send can wait, and shutting down cannot deadlock.

use super::{Collate, LoaderError, Order, SampleError, Samples};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// What came of a batch.
#[derive(Debug)]
pub(super) struct Made<B> {
    /// Of each position in order, without its item.
    pub(super) positions: Vec<Fetched<()>>,
    /// `None` where one has no item.
    pub(super) batch: Option<Result<B, String>>,
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
pub(super) struct Workers<B> {
    /// `None` once it is over.
    tasks: Option<Sender<u64>>,
    results: Receiver<(u64, Made<B>)>,
    /// By the position of a batch's first item.
    window: BTreeMap<u64, Made<B>>,
    batch_size: usize,
    next_task: u64,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Batches of which something is made and something is not, by the position of their first item: what is made, with its
/// place in the batch.
type Begun<I> = Mutex<BTreeMap<u64, Vec<(usize, Fetched<I>)>>>;

/// How much is made at once, from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) batch_size: usize,
    pub(super) ahead: usize,
    pub(super) first: u64,
}

impl<B: Send + 'static> Workers<B> {
    pub(super) fn start<S>(
        samples: Arc<S>,
        collate: Collate<S::Item, B>,
        order: Order,
        num_threads: usize,
        window: Window,
    ) -> Result<Self, LoaderError>
    where
        S: Samples + ?Sized + 'static,
        S::Item: 'static,
    {
        let Window { batch_size, ahead, first } = window;
        let (tasks, tasks_out) = bounded(ahead);
        let (results_in, results) = bounded(ahead / batch_size + 2);
        let mut workers = Self {
            tasks: Some(tasks),
            results,
            window: BTreeMap::new(),
            batch_size,
            next_task: first,
            is_over: Arc::new(AtomicBool::new(false)),
            threads: Vec::with_capacity(num_threads),
        };
        let begun: Arc<Begun<S::Item>> = Arc::default();
        for number in 0..num_threads {
            let (tasks, results) = (tasks_out.clone(), results_in.clone());
            let (samples, is_over) = (Arc::clone(&samples), Arc::clone(&workers.is_over));
            let (begun, collate) = (Arc::clone(&begun), Arc::clone(&collate));
            let work = move || {
                for position in tasks {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let fetched = fetch(&*samples, &order, position);
                    let at = ((position - first) % batch_size as u64) as usize;
                    let start = position - at as u64;
                    let Some(whole) = complete(&begun, start, (at, fetched), batch_size) else {
                        continue;
                    };
                    if results.send((start, made(whole, &*collate))).is_err() {
                        break;
                    }
                }
            };
            let thread = Builder::new().name(format!("loader-{number}")).spawn(work);
            workers.threads.push(thread.map_err(LoaderError::Thread)?);
        }
        workers.hand_out(ahead);
        Ok(workers)
    }

    /// Waits for what came of the batch that begins at `position`. Batches must be taken one after the other.
    pub(super) fn take(&mut self, position: u64) -> Made<B> {
        loop {
            if let Some(made) = self.window.remove(&position) {
                self.hand_out(self.batch_size);
                return made;
            }
            let (position, made) =
                self.results.recv().expect("threads live until they are told to stop");
            self.window.insert(position, made);
        }
    }

    fn hand_out(&mut self, count: usize) {
        let tasks = self.tasks.as_ref().expect("nothing is taken once it is over");
        for _ in 0..count {
            tasks.send(self.next_task).expect("threads live until they are told to stop");
            self.next_task += 1;
        }
    }
}

/// Puts what was `fetched` to the rest of the batch that begins at `start`; the whole of it, in order, if nothing is missing
/// any more.
fn complete<I>(
    begun: &Begun<I>,
    start: u64,
    fetched: (usize, Fetched<I>),
    batch_size: usize,
) -> Option<Vec<Fetched<I>>> {
    // A thread that panics in here leaves the list as it was.
    let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
    let batch = begun.entry(start).or_default();
    batch.push(fetched);
    if batch.len() < batch_size {
        return None;
    }
    let mut whole = begun.remove(&start)?;
    whole.sort_by_key(|(at, _)| *at);
    Some(whole.into_iter().map(|(_, fetched)| fetched).collect())
}

/// Collates a batch of which each position has an item.
fn made<I, B>(fetched: Vec<Fetched<I>>, collate: &dyn Fn(Vec<I>) -> B) -> Made<B> {
    let count = fetched.len();
    let mut items = Vec::with_capacity(count);
    let without_item = |Fetched { failures, outcome }: Fetched<I>| {
        let outcome = match outcome {
            Outcome::Item(item) => {
                items.push(item);
                Outcome::Item(())
            }
            Outcome::Exhausted => Outcome::Exhausted,
            Outcome::Panicked { index, message } => Outcome::Panicked { index, message },
        };
        Fetched { failures, outcome }
    };
    let positions = fetched.into_iter().map(without_item).collect();
    let batch = (items.len() == count).then(|| {
        catch_unwind(AssertUnwindSafe(|| collate(items))).map_err(|panic| message(&*panic))
    });
    Made { positions, batch }
}

impl<B> Drop for Workers<B> {
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
