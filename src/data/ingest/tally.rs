//! How much damage there is, and how much is borne.

use super::IngestError;
use crate::data::catalog::{Kind, Quarantine};

/// How many images a failure names.
const NAMED: usize = 5;

/// What was found so far.
pub(super) struct Tally {
    total: u64,
    limit: u64,
    damaged: Found,
    unreadable: Found,
    /// Images whose masks cannot be read.
    pub(super) masks_lacking: u64,
}

#[derive(Default)]
struct Found {
    images: u64,
    /// The first of them: row and reason.
    first: Vec<String>,
}

impl Tally {
    pub(super) fn new(total: u64, limit: u64) -> Self {
        let (damaged, unreadable) = (Found::default(), Found::default());
        Self { total, limit, damaged, unreadable, masks_lacking: 0 }
    }

    /// Images found damaged so far.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.images
    }

    /// Counts what is known from an earlier run.
    pub(super) fn add(&mut self, id: i64, quarantine: &Quarantine) {
        let found = match quarantine.kind {
            Kind::Damaged => &mut self.damaged,
            Kind::Unreadable => &mut self.unreadable,
            Kind::Other | Kind::Unsupported | Kind::Duplicate | Kind::Conflict => return,
        };
        found.images += 1;
        if found.first.len() < NAMED {
            found.first.push(format!("image {id} ({})", quarantine.reason));
        }
    }

    /// Counts what was found now, and logs what should not be.
    pub(super) fn tell(&mut self, id: i64, quarantine: &Quarantine) {
        if matches!(quarantine.kind, Kind::Damaged | Kind::Unreadable) {
            tracing::warn!(image = id, reason = %quarantine, "quarantined image");
        }
        self.add(id, quarantine);
    }

    /// Fails where there is more than is borne.
    pub(super) fn verdict(&self) -> Result<(), IngestError> {
        let (total, limit) = (self.total, self.limit);
        let first = |found: &Found| found.first.join(", ");
        if self.damaged.images > limit {
            let (damaged, first) = (self.damaged.images, first(&self.damaged));
            return Err(IngestError::Damaged { damaged, total, limit, first });
        }
        if self.unreadable.images > limit {
            let (unreadable, first) = (self.unreadable.images, first(&self.unreadable));
            return Err(IngestError::Unreadable { unreadable, total, limit, first });
        }
        Ok(())
    }
}
