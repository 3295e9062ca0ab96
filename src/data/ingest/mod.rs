//! From a recipe's sources to a catalog: list, open every image once, split, finish.
//!
//! Rows are written in batches as images are opened, so an interrupted ingest goes on where it stopped,
//! and one that finds nothing new only lists and compares.

mod split;
mod verify;

use super::catalog::{Catalog, CatalogError, Counts, Finish, Known, Location, Seen};
use super::section::Data;
use super::source::{Listed, SourceError};
use split::SplitError;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use verify::{Verify, plan_digest, stamps};

/// Part of every plan: raise it when an ingest of the same data would write something else.
pub const VERSION: u32 = 1;

/// Rows per transaction: an interrupted ingest opens at most these again.
const BATCH: usize = 64;

/// How many damaged images a failure names.
const NAMED: usize = 5;

/// Where an ingest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Images done, those of earlier runs among them.
    pub done: u64,
    /// Images in all.
    pub total: u64,
    /// Images found damaged so far.
    pub damaged: u64,
}

/// What an ingest did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Images that the sources list.
    pub listed: u64,
    /// Images that were opened now; the others were known from earlier runs.
    pub opened: u64,
    /// What the catalog holds.
    pub counts: Counts,
    /// [`Catalog::fingerprint`].
    pub fingerprint: String,
}

/// Why an ingest failed. Patient ids never appear here.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A source cannot be listed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The catalog cannot be read or written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An image is in two sources, or twice in one.
    #[error("{location} is listed twice; every image belongs to one source")]
    Twice {
        /// The image.
        location: String,
    },
    /// The official splits divide a patient.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// More damage than the recipe allows.
    #[error(
        "{damaged} of {total} images are damaged, data.max_damaged allows {limit}; the first: {first}"
    )]
    Damaged {
        /// Damaged images found so far.
        damaged: u64,
        /// Images listed.
        total: u64,
        /// The most that the recipe allows.
        limit: u64,
        /// Some of them, with reasons.
        first: String,
    },
    /// The caller asked for an end. What was read is kept.
    #[error("ingest was stopped; run it again to go on")]
    Stopped,
}

/// Brings the catalog at path `catalog` to what `section` describes; run it again to resume.
///
/// Opens images in as many threads as the machine has. `progress` is called now and then, from this
/// thread; when it breaks, the rows so far are committed and the ingest ends as [`IngestError::Stopped`].
pub fn ingest(
    section: &Data,
    data_root: &Path,
    catalog: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, IngestError> {
    let listed = section.source.list(data_root, section.seed)?;
    refuse_twice(&listed)?;
    let stamps = stamps(&listed, data_root, &section.window);
    let digest = plan_digest(section, &listed, &stamps);
    let mut catalog = Catalog::create(catalog)?;
    let mut opened = 0;
    if catalog.finished_plan()?.as_deref() != Some(&digest) {
        let splits = split::assign(&listed, &section.split, section.seed)?;
        catalog.begin()?;
        let known = catalog.known()?;
        let plan = Plan::new(&listed, &stamps, &known);
        opened = plan.to_open.len() as u64;
        open_images(&plan, section, data_root, &mut catalog, progress)?;
        let splits = listed.iter().map(|listed| &listed.location).zip(splits).collect();
        catalog.finish(&Finish {
            gone: plan.gone,
            redescribed: plan.redescribed,
            splits,
            digest,
        })?;
    }
    Ok(Summary {
        listed: listed.len() as u64,
        opened,
        counts: catalog.counts()?,
        fingerprint: catalog.fingerprint()?,
    })
}

/// What there is to do.
struct Plan<'a> {
    listed: &'a [Listed],
    stamps: &'a [[u8; 32]],
    /// Positions in `listed` of the images to open.
    to_open: Vec<usize>,
    redescribed: Vec<(i64, &'a Listed)>,
    gone: Vec<i64>,
    /// Damage known from earlier runs.
    damage: Vec<String>,
}

impl<'a> Plan<'a> {
    fn new(
        listed: &'a [Listed],
        stamps: &'a [[u8; 32]],
        known: &BTreeMap<Location, Known>,
    ) -> Self {
        let mut unlisted: BTreeMap<&Location, &Known> = known.iter().collect();
        let mut plan = Plan {
            listed,
            stamps,
            to_open: Vec::new(),
            redescribed: Vec::new(),
            gone: Vec::new(),
            damage: Vec::new(),
        };
        for (at, (listed, stamp)) in listed.iter().zip(stamps).enumerate() {
            match unlisted.remove(&listed.location) {
                Some(known) if known.stamp == *stamp => {
                    if known.described != listed.digest() {
                        plan.redescribed.push((known.id, listed));
                    }
                    if let Some(damage) = &known.damage {
                        plan.damage.push(format!("{} ({damage})", listed.location));
                    }
                }
                _ => plan.to_open.push(at),
            }
        }
        plan.gone = unlisted.into_values().map(|known| known.id).collect();
        plan
    }
}

/// Opens what is to be opened and commits it batch by batch.
fn open_images(
    plan: &Plan<'_>,
    section: &Data,
    data_root: &Path,
    catalog: &mut Catalog,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), IngestError> {
    let total = plan.listed.len() as u64;
    let limit = (section.max_damaged * total as f64).floor() as u64;
    let mut done = total - plan.to_open.len() as u64;
    let mut damage = plan.damage.clone();
    let mut batch: Vec<(&Listed, Seen)> = Vec::with_capacity(BATCH);
    let verify = Verify { data_root, window: &section.window };
    verify.each(plan.listed, plan.stamps, &plan.to_open, |at, seen| {
        let listed = &plan.listed[at];
        if let Some(reason) = &seen.damage {
            tracing::warn!(location = %listed.location, %reason, "quarantined image");
            damage.push(format!("{} ({reason})", listed.location));
        }
        batch.push((listed, seen));
        done += 1;
        let damaged = damage.len() as u64;
        let is_too_much = damaged > limit;
        let stops = progress(Progress { done, total, damaged }).is_break();
        if batch.len() == BATCH || is_too_much || stops {
            catalog.put(&batch, &section.window)?;
            batch.clear();
        }
        match (is_too_much, stops) {
            (true, _) => Err(too_much(&damage, total, limit)),
            (false, true) => Err(IngestError::Stopped),
            (false, false) => Ok(()),
        }
    })?;
    catalog.put(&batch, &section.window)?;
    if damage.len() as u64 > limit {
        return Err(too_much(&damage, total, limit));
    }
    Ok(())
}

fn too_much(damage: &[String], total: u64, limit: u64) -> IngestError {
    let first = damage.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    IngestError::Damaged { damaged: damage.len() as u64, total, limit, first }
}

fn refuse_twice(listed: &[Listed]) -> Result<(), IngestError> {
    let mut locations: Vec<&Location> = listed.iter().map(|listed| &listed.location).collect();
    locations.sort();
    match locations.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(IngestError::Twice { location: pair[0].to_string() }),
        None => Ok(()),
    }
}
