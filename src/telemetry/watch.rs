//! Progress that is shown and interruption that is noticed, in one.

use super::progress;
use crate::interrupt::{self, Interrupted};
use indicatif::ProgressBar;

/// A bar over images that ends the work it watches when a signal came. It is gone once it is dropped.
#[derive(Debug)]
pub struct Watch(ProgressBar);

impl Watch {
    /// Over `total` images, of which `done` were made before.
    pub fn new(name: &'static str, done: u64, total: u64) -> Self {
        Self(progress::bar(name, done, total))
    }

    /// `images` more are done. Fails once the process was asked to end.
    pub fn advance(&self, images: u64) -> Result<(), Interrupted> {
        self.0.inc(images);
        interrupt::unless_requested()
    }

    /// In all, `images` are done. Fails once the process was asked to end.
    pub fn reach(&self, images: u64) -> Result<(), Interrupted> {
        self.0.set_position(images);
        interrupt::unless_requested()
    }

    /// There are `total` images.
    pub fn expect(&self, total: u64) {
        self.0.set_length(total);
    }

    /// What else is worth a look.
    pub fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
