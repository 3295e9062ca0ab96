//! Samples to batches: many threads, one order.
//!
//! The samples of a run form one endless sequence: epoch after epoch, each a keyed permutation of the data.
//! What stands at a *position* of it, and all that is drawn for it, follows from (seed, stream, position)
//! alone, so the batches are the same for any number of threads and from any restart point.

mod error;
mod order;
mod workers;

pub use error::{LoaderError, SampleError};
pub use order::Order;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use workers::{Fetched, Made, Outcome, Window, Workers};

/// Something that makes samples, from any thread.
pub trait Samples: Send + Sync {
    /// What one sample is.
    type Item: Send;

    /// How many there are: the length of an epoch.
    fn len(&self) -> u64;

    /// True when there is nothing to train on.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sample `index` (below `len`) for `position` of the global sequence.
    ///
    /// All randomness (crop, noise, dropout) must come from streams at `position`, so that asking twice gives
    /// the same item. An error costs only this sample: another takes its place.
    fn get(&self, index: u64, position: u64) -> Result<Self::Item, SampleError>;
}

/// Makes a batch of its items, in the order of their positions: column by column, so that what goes to a device lies
/// together. Called in the loader's threads, and nowhere else.
pub type Collate<I, B> = Arc<dyn Fn(Vec<I>) -> B + Send + Sync>;

/// Parts of all items, one behind the other.
pub fn column<'a, I: 'a, T: Copy + 'a>(
    items: &'a [I],
    part: impl Fn(&'a I) -> &'a [T] + 'a,
) -> Vec<T> {
    let len = items.iter().map(|item| part(item).len()).sum();
    let mut column = Vec::with_capacity(len);
    items.iter().for_each(|item| column.extend_from_slice(part(item)));
    column
}

/// How to load. What decides the data is `seed` and `stream`; the rest is how fast, from where, and how
/// much damage to bear.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// The recipe's seed.
    pub seed: u64,
    /// The name of the order under that seed, e.g. `denoiser/order`.
    pub stream: String,
    /// Says which data this is, e.g. the catalog's fingerprint. Compared on resume.
    pub fingerprint: String,
    /// Items per batch, at least 1.
    pub batch_size: usize,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Batches made ahead of the one being asked for.
    pub prefetch: usize,
    /// Position of the first item.
    pub start_position: u64,
    /// Positions before `start_position` whose own sample failed.
    pub skipped: u64,
    /// The part of all positions, 0 to 1, whose own sample may fail before the run ends.
    pub max_bad_fraction: f64,
    /// Positions to see before `max_bad_fraction` is held against them.
    pub min_seen: u64,
}

impl LoaderConfig {
    /// Batches of `batch_size` from the beginning of the order `stream` under `seed`, on one thread.
    pub fn new(seed: u64, stream: &str, batch_size: usize) -> Self {
        Self {
            seed,
            stream: stream.to_owned(),
            fingerprint: String::new(),
            batch_size,
            threads: 1,
            prefetch: 2,
            start_position: 0,
            skipped: 0,
            max_bad_fraction: 0.01,
            min_seen: 200,
        }
    }

    /// The same, going on from `state`. Refuses a state of other data, another seed or another order.
    pub fn resume(self, state: &LoaderState) -> Result<Self, LoaderError> {
        let LoaderState { fingerprint, seed, stream, next_position, skipped } = state;
        if *fingerprint != self.fingerprint {
            return Err(LoaderError::OtherData {
                saved: fingerprint.clone(),
                here: self.fingerprint,
            });
        }
        if (seed, stream) != (&self.seed, &self.stream) {
            return Err(LoaderError::OtherOrder {
                saved: format!("{stream} under seed {seed}"),
                here: format!("{} under seed {}", self.stream, self.seed),
            });
        }
        Ok(Self { start_position: *next_position, skipped: *skipped, ..self })
    }
}

/// Where a loader is: all that a checkpoint needs to go on. A few hundred bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// Which data.
    pub fingerprint: String,
    /// Under which seed.
    pub seed: u64,
    /// In which order.
    pub stream: String,
    /// The position of the next item to be delivered.
    pub next_position: u64,
    /// Positions so far whose own sample failed.
    pub skipped: u64,
}

/// Consecutive items of the global sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<B> {
    /// The position of the first item.
    pub first_position: u64,
    /// `batch_size` items, in the order of their positions; as they are, unless they were collated.
    pub items: B,
    /// How many of them stand in for a sample that failed.
    pub replaced: u64,
}

/// Makes batches in threads of its own. An endless iterator: whoever trains decides when to stop.
///
/// Batches may straddle two epochs. After an error there are no more batches. Dropping it stops and joins the
/// threads: it takes as long as the one `get`, or the one batch to collate, that each of them is in.
#[derive(Debug)]
pub struct Loader<B> {
    config: LoaderConfig,
    workers: Workers<B>,
    next_position: u64,
    skipped: u64,
    /// Samples that were already complained about.
    warned: BTreeSet<u64>,
    has_failed: bool,
}

impl<I: Send + 'static> Loader<Vec<I>> {
    /// Starts `config.threads` threads over `samples`, whose batches are their items.
    pub fn start<S>(samples: Arc<S>, config: LoaderConfig) -> Result<Self, LoaderError>
    where
        S: Samples<Item = I> + ?Sized + 'static,
    {
        Self::collated(samples, Arc::new(|items| items), config)
    }
}

impl<B: Send + 'static> Loader<B> {
    /// Starts `config.threads` threads over `samples`, whose batches are what `collate` makes of their items.
    pub fn collated<S>(
        samples: Arc<S>,
        collate: Collate<S::Item, B>,
        config: LoaderConfig,
    ) -> Result<Self, LoaderError>
    where
        S: Samples + ?Sized + 'static,
        S::Item: 'static,
    {
        if samples.is_empty() || config.batch_size == 0 || config.threads == 0 {
            return Err(LoaderError::Nothing {
                samples: samples.len(),
                batch_size: config.batch_size,
                threads: config.threads,
            });
        }
        let order = Order::new(config.seed, &config.stream, samples.len());
        let window = Window {
            batch_size: config.batch_size,
            ahead: config.batch_size * (1 + config.prefetch) + config.threads,
            first: config.start_position,
        };
        let workers = Workers::start(samples, collate, order, config.threads, window)?;
        let (next_position, skipped) = (config.start_position, config.skipped);
        Ok(Self {
            config,
            workers,
            next_position,
            skipped,
            warned: BTreeSet::new(),
            has_failed: false,
        })
    }

    /// Where the next batch begins, to be saved once the batches so far have done their work.
    pub fn state(&self) -> LoaderState {
        LoaderState {
            fingerprint: self.config.fingerprint.clone(),
            seed: self.config.seed,
            stream: self.config.stream.clone(),
            next_position: self.next_position,
            skipped: self.skipped,
        }
    }

    fn batch(&mut self) -> Result<Batch<B>, LoaderError> {
        let first_position = self.next_position;
        let Made { positions, batch } = self.workers.take(first_position);
        let mut replaced = 0;
        for (position, Fetched { failures, outcome }) in (first_position..).zip(positions) {
            for failure in &failures {
                if self.warned.insert(failure.index) {
                    let SampleError { image, reason } = &failure.error;
                    // Where there is no image to name, the sample's number has to do.
                    let index = image.is_none().then_some(failure.index);
                    tracing::warn!(image, index, position, %reason, "sample replaced");
                }
            }
            replaced += u64::from(!failures.is_empty());
            match outcome {
                Outcome::Item(()) => {}
                Outcome::Exhausted => {
                    let attempts = failures.len();
                    return Err(LoaderError::Exhausted { position, attempts });
                }
                Outcome::Panicked { index, message } => {
                    return Err(LoaderError::Panicked { index, position, message });
                }
            }
            self.bear(self.skipped + replaced, position + 1)?;
        }
        let items = batch
            .expect("each position has its item")
            .map_err(|message| LoaderError::Collating { position: first_position, message })?;
        self.next_position += self.config.batch_size as u64;
        self.skipped += replaced;
        Ok(Batch { first_position, items, replaced })
    }

    /// Counts in the order of positions, so that a run ends at the same sample on any machine.
    fn bear(&self, skipped: u64, seen: u64) -> Result<(), LoaderError> {
        let limit = self.config.max_bad_fraction;
        if seen >= self.config.min_seen && skipped as f64 > limit * seen as f64 {
            return Err(LoaderError::TooManyBad { skipped, seen, limit });
        }
        Ok(())
    }
}

impl<B: Send + 'static> Iterator for Loader<B> {
    type Item = Result<Batch<B>, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let batch = self.batch();
        self.has_failed = batch.is_err();
        Some(batch)
    }
}
