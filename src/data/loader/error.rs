//! What can go wrong between samples and batches.

use std::borrow::Cow;
use std::io;

/// Why one sample could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SampleError {
    /// Row of the catalog, where the sample is made from one image of it.
    pub image: Option<i64>,
    /// A few words for the log, which others may read: nothing of the patient, no path, no file name.
    pub reason: Cow<'static, str>,
}

impl SampleError {
    /// For `reason`, see the field; of no image.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { image: None, reason: reason.into() }
    }
}

/// Why there are no batches, or no more.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Nothing to load, or nobody to load it.
    #[error(
        "nothing to load: {samples} samples, batch size {batch_size}, {threads} threads; each must be at least 1"
    )]
    Nothing {
        /// Samples in an epoch.
        samples: u64,
        /// Items per batch.
        batch_size: usize,
        /// Worker threads.
        threads: usize,
    },
    /// The state is of other data.
    #[error("cannot resume: saved with data {saved}, but here is data {here}")]
    OtherData {
        /// Fingerprint in the state.
        saved: String,
        /// Fingerprint of the data.
        here: String,
    },
    /// The state is of another seed or order.
    #[error("cannot resume: saved in the order {saved}, but here it is {here}")]
    OtherOrder {
        /// In the state.
        saved: String,
        /// In the configuration.
        here: String,
    },
    /// More damage than the recipe bears.
    #[error(
        "{skipped} of {seen} samples could not be read, more than the limit of {}%; the log says which and why",
        limit * 100.0
    )]
    TooManyBad {
        /// Positions whose own sample failed.
        skipped: u64,
        /// Positions seen.
        seen: u64,
        /// The limit, as a fraction.
        limit: f64,
    },
    /// No replacement could be read either.
    #[error("{attempts} samples tried for position {position}, and none could be read")]
    Exhausted {
        /// In the global sequence.
        position: u64,
        /// The sample itself and its replacements.
        attempts: usize,
    },
    /// A mistake in the code that makes samples.
    #[error("making sample {index} for position {position} panicked: {message}")]
    Panicked {
        /// The sample.
        index: u64,
        /// In the global sequence.
        position: u64,
        /// What the panic said.
        message: String,
    },
    /// A mistake in the code that collates.
    #[error("collating the batch at position {position} panicked: {message}")]
    Collating {
        /// Of its first item.
        position: u64,
        /// What the panic said.
        message: String,
    },
    /// No thread to be had.
    #[error("cannot start a loader thread")]
    Thread(#[source] io::Error),
}
