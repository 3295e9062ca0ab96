//! From a recipe's sources to a catalog: list, open every image once, split, finish.
//!
//! Rows are written in batches as images are opened, so an interrupted ingest goes on where it stopped,
//! and one that finds nothing new only lists and compares. Whatever may hang, reading folders, tables and files,
//! is done by threads that can be left behind.

mod background;
mod error;
mod journal;
mod open;
pub mod probe;
mod split;
mod stamp;
mod tally;
mod workers;

pub use error::IngestError;
pub use probe::Probe;
pub use split::SplitError;

use super::catalog::{Catalog, CatalogError, Counts, Finish, Known, Location, Quarantine, Seen};
use super::secret::PatientSecret;
use super::section::{Data, SplitConflict};
use super::source::{Ground, Listed, Listing};
use journal::Journal;
use open::{Eyes, Job, Opener};
use split::Member;
use stamp::{Stamp, plan_digest, stamps};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use tally::Tally;

/// Part of every plan: raise it when an ingest of the same data would write something else.
pub const VERSION: u32 = 2;

/// Rows per transaction: an interrupted ingest opens at most these again.
const BATCH: usize = 64;

/// Where an ingest takes place. Of all this only the secret decides anything.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where relative paths of the sources start.
    pub data_root: PathBuf,
    /// The catalog, made where there is none.
    pub catalog: PathBuf,
    /// A folder that sources never look into: where umbra itself writes.
    pub own_output: Option<PathBuf>,
    /// Threads that open images, at least 1.
    pub threads: usize,
    /// Makes the keys of patients; phantoms need none.
    pub secret: Option<PatientSecret>,
    /// Opens files that may have ended an earlier process. `None`: they are opened like all others.
    pub probe: Option<Probe>,
}

/// Where an ingest stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Images done, those of earlier runs among them.
    pub done: u64,
    /// Images in all; 0 while they are being listed.
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
    /// Names below folders that are no files to read, by what they are instead.
    pub passed_over: BTreeMap<&'static str, u64>,
    /// What the catalog holds.
    pub counts: Counts,
    /// Why images are left out, and how many for each reason, the most frequent first.
    pub reasons: Vec<(Quarantine, u64)>,
    /// [`Catalog::fingerprint`].
    pub fingerprint: String,
}

/// What the sources list, and the state of its files: before anything is opened.
#[derive(Debug)]
pub struct Looked {
    listed: Vec<Listed>,
    stamps: Vec<Stamp>,
    passed_over: BTreeMap<&'static str, u64>,
    plan: String,
}

/// What a catalog has of what was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All of it.
    Finished,
    /// Some images, of an ingest that did not come to its end.
    Begun {
        /// How many.
        images: u64,
    },
    /// Nothing, or what was listed another time.
    Other,
}

impl Looked {
    /// Hash of all that an ingest of it would do: two that are equal leave equal catalogs.
    pub fn plan(&self) -> &str {
        &self.plan
    }

    /// Images.
    pub fn len(&self) -> u64 {
        self.listed.len() as u64
    }

    /// Is there no image?
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// What the catalog of `site` has of it. Reads only.
    pub fn standing(&self, site: &Site) -> Result<Standing, IngestError> {
        let is_empty = || site.catalog.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if !site.catalog.is_file() || is_empty() {
            return Ok(Standing::Other);
        }
        let catalog = match Catalog::open(&site.catalog) {
            // Its first write failed, and was taken back when it was opened now.
            Err(CatalogError::Stranger { .. }) if is_empty() => return Ok(Standing::Other),
            opened => opened?,
        };
        let plan = catalog.finished_plan()?;
        Ok(match plan.as_deref() {
            Some(plan) if plan == self.plan && !catalog.is_unsettled()? => Standing::Finished,
            Some(_) => Standing::Other,
            None => match catalog.known()?.len() as u64 {
                0 => Standing::Other,
                images => Standing::Begun { images },
            },
        })
    }
}

/// Brings the catalog of `site` to what `section` describes; run it again to resume.
///
/// `progress` is called from this thread, for every image and at least ten times a second whatever the file systems
/// do; when it breaks, the rows so far are committed and the ingest ends as [`IngestError::Stopped`].
pub fn ingest(
    section: &Data,
    site: &Site,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, IngestError> {
    bring(look(section, site, progress)?, section, site, progress)
}

/// The first half of [`ingest`]: lists, and opens nothing.
pub fn look(
    section: &Data,
    site: &Site,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Looked, IngestError> {
    let mut pulse = Pulse { at: Progress::default(), progress };
    let Listing { images: listed, passed_over } = list(section, site, &mut pulse)?;
    refuse_twice(&listed)?;
    let (listed, stamps) = stamp_all(listed, section, site, &mut pulse)?;
    let plan = plan_digest(section, &listed, &stamps);
    Ok(Looked { listed, stamps, passed_over, plan })
}

/// The second half of [`ingest`].
pub fn bring(
    looked: Looked,
    section: &Data,
    site: &Site,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, IngestError> {
    let mut pulse = Pulse { at: Progress::default(), progress };
    let Looked { listed, stamps, passed_over, plan } = looked;
    for (what, names) in &passed_over {
        tracing::warn!("{names} names in folders are passed over: {what}");
    }
    let mut catalog = Catalog::create(&site.catalog)?;
    if let Some(secret) = &site.secret {
        catalog.check_secret(&secret.fingerprint())?;
    }
    let is_current =
        catalog.finished_plan()?.as_deref() == Some(&plan) && !catalog.is_unsettled()?;
    let opened = match is_current {
        true => 0,
        false => update(section, site, &listed, &stamps, plan, &mut catalog, &mut pulse)?,
    };
    Ok(Summary {
        listed: listed.len() as u64,
        opened,
        passed_over,
        counts: catalog.counts()?,
        reasons: catalog.reasons()?,
        fingerprint: catalog.fingerprint()?,
    })
}

/// Where the ingest stands, and whom to tell.
struct Pulse<'a> {
    at: Progress,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Pulse<'_> {
    fn beat(&mut self) -> ControlFlow<()> {
        (self.progress)(self.at)
    }

    /// What `work` gives, on a thread of its own.
    fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IngestError> {
        let given = background::run(work, &mut || self.beat()).map_err(IngestError::Thread)?;
        given.ok_or(IngestError::Stopped)
    }
}

fn list(section: &Data, site: &Site, pulse: &mut Pulse<'_>) -> Result<Listing, IngestError> {
    let (source, seed, site) = (section.source.clone(), section.seed, site.clone());
    Ok(pulse.aside(move || {
        source.list(&Ground {
            data_root: &site.data_root,
            own_output: site.own_output.as_deref(),
            secret: site.secret.as_ref(),
            seed,
        })
    })??)
}

/// The listed images with the state of their files.
fn stamp_all(
    listed: Vec<Listed>,
    section: &Data,
    site: &Site,
    pulse: &mut Pulse<'_>,
) -> Result<(Vec<Listed>, Vec<Stamp>), IngestError> {
    let (data_root, window) = (site.data_root.clone(), section.window);
    pulse.aside(move || {
        let stamps = stamps(&listed, &data_root, &window);
        (listed, stamps)
    })
}

/// Opens what is to be opened and finishes the catalog. How many images were opened.
fn update(
    section: &Data,
    site: &Site,
    listed: &[Listed],
    stamps: &[Stamp],
    digest: String,
    catalog: &mut Catalog,
    pulse: &mut Pulse<'_>,
) -> Result<u64, IngestError> {
    if section.split_conflict == SplitConflict::Refuse {
        split::refuse_divided(listed)?;
    }
    let known = catalog.known()?;
    if catalog.finished_plan()?.is_some() {
        refuse_vanished(listed, stamps, &known)?;
    }
    let secret = site.secret.as_ref().map(PatientSecret::fingerprint);
    let ids = catalog
        .begin(listed, &known, secret.as_deref(), &mut || pulse.beat())?
        .ok_or(IngestError::Stopped)?;
    let plan = Plan::new(listed, stamps, &ids, &known);
    open_images(&plan, section, site, catalog, pulse)?;
    let patients = catalog.patients()?;
    let members: Vec<Member<'_>> = listed
        .iter()
        .zip(&ids)
        .map(|(listed, id)| Member {
            dataset: &listed.dataset,
            patient: match listed.is_patient_in_file {
                true => patients.get(id).copied().unwrap_or(listed.patient),
                false => listed.patient,
            },
            official: listed.split,
            is_phantom: matches!(listed.location, Location::Phantom { .. }),
        })
        .collect();
    let assigned = split::assign(&members, &section.split, section.seed);
    let divided = ids.iter().zip(&assigned.is_divided).filter(|(_, is_divided)| **is_divided);
    let finish = Finish {
        gone: plan.gone,
        redescribed: plan.redescribed,
        splits: ids.iter().copied().zip(assigned.splits).collect(),
        divided: divided.map(|(id, _)| *id).collect(),
        digest,
    };
    catalog.finish(&finish, &mut || pulse.beat())?.ok_or(IngestError::Stopped)?;
    Ok(plan.to_open.len() as u64)
}

/// What there is to do.
struct Plan<'a> {
    listed: &'a [Listed],
    stamps: &'a [Stamp],
    ids: &'a [i64],
    /// Positions in `listed` of the images to open.
    to_open: Vec<usize>,
    redescribed: Vec<(i64, &'a Listed)>,
    gone: Vec<i64>,
    /// What is left out since earlier runs.
    left_out: Vec<(i64, Quarantine)>,
}

impl<'a> Plan<'a> {
    fn new(
        listed: &'a [Listed],
        stamps: &'a [Stamp],
        ids: &'a [i64],
        known: &BTreeMap<Location, Known>,
    ) -> Self {
        let mut unlisted: BTreeMap<&Location, &Known> = known.iter().collect();
        let mut plan = Plan {
            listed,
            stamps,
            ids,
            to_open: Vec::new(),
            redescribed: Vec::new(),
            gone: Vec::new(),
            left_out: Vec::new(),
        };
        for (at, (listed, stamp)) in listed.iter().zip(stamps).enumerate() {
            match unlisted.remove(&listed.location) {
                Some(known) if known.stamp == stamp.hash => {
                    if known.described != listed.digest() {
                        plan.redescribed.push((known.id, listed));
                    }
                    plan.left_out.extend(known.quarantine.clone().map(|it| (known.id, it)));
                }
                _ => plan.to_open.push(at),
            }
        }
        plan.gone = unlisted.into_values().map(|known| known.id).collect();
        plan
    }

    fn job(&self, at: usize, suspects: &BTreeSet<i64>) -> Job {
        let (listed, id) = (&self.listed[at], self.ids[at]);
        Job {
            at,
            id,
            stamp: self.stamps[at].hash,
            location: listed.location.clone(),
            mask: listed.mask.clone(),
            is_patient_in_file: listed.is_patient_in_file,
            is_suspect: suspects.contains(&id),
        }
    }
}

/// Opens what is to be opened and commits it batch by batch.
fn open_images(
    plan: &Plan<'_>,
    section: &Data,
    site: &Site,
    catalog: &mut Catalog,
    pulse: &mut Pulse<'_>,
) -> Result<(), IngestError> {
    let threads = site.threads.max(1);
    let total = plan.listed.len() as u64;
    let mut tally = Tally::new(total, section.damage_limit(total));
    plan.left_out.iter().for_each(|(id, quarantine)| tally.add(*id, quarantine));
    let (journal, suspects) = Journal::begin(&site.catalog, threads);
    let opener = Arc::new(Opener {
        data_root: site.data_root.clone(),
        eyes: Eyes { window: section.window, secret: site.secret.clone() },
        probe: site.probe.clone(),
        journal,
    });
    // Suspects first: if one of them ends this process as well, little is lost.
    let (first, then): (Vec<usize>, Vec<usize>) =
        plan.to_open.iter().partition(|&&at| suspects.contains(&plan.ids[at]));
    let jobs = first.into_iter().chain(then).map(|at| plan.job(at, &suspects));
    let mut batch: Vec<(i64, &Listed, Seen)> = Vec::with_capacity(BATCH);
    pulse.at =
        Progress { done: total - plan.to_open.len() as u64, total, damaged: tally.damaged() };
    let ended = workers::run(&opener, threads, jobs, |seen| {
        if let Some((at, seen)) = seen {
            if let Some(quarantine) = &seen.quarantine {
                tally.tell(plan.ids[at], quarantine);
            }
            tally.masks_lacking += u64::from(seen.lacks_mask);
            batch.push((plan.ids[at], &plan.listed[at], seen));
            pulse.at.done += 1;
            pulse.at.damaged = tally.damaged();
        }
        let verdict = tally.verdict();
        let stops = pulse.beat().is_break();
        if batch.len() >= BATCH || verdict.is_err() || stops {
            catalog.put(&batch, &section.window)?;
            batch.clear();
        }
        verdict?;
        if stops { Err(IngestError::Stopped) } else { Ok(()) }
    });
    // What hangs when it is stopped is a suspect too: the journal keeps it.
    if !matches!(ended, Err(IngestError::Stopped)) {
        opener.journal.end();
    }
    ended?;
    catalog.put(&batch, &section.window)?;
    if tally.masks_lacking > 0 {
        tracing::warn!("{} masks cannot be read; their images go without", tally.masks_lacking);
    }
    tally.verdict()
}

fn refuse_twice(listed: &[Listed]) -> Result<(), IngestError> {
    let mut images: Vec<&Listed> = listed.iter().collect();
    images.sort_by_key(|listed| &listed.location);
    match images.windows(2).find(|pair| pair[0].location == pair[1].location) {
        Some(pair) => Err(IngestError::Twice {
            first: pair[0].origin.to_string(),
            second: pair[1].origin.to_string(),
        }),
        None => Ok(()),
    }
}

/// A disk that is not there must not cost a finished catalog.
fn refuse_vanished(
    listed: &[Listed],
    stamps: &[Stamp],
    known: &BTreeMap<Location, Known>,
) -> Result<(), IngestError> {
    let usable = known.values().filter(|known| known.quarantine.is_none()).count() as u64;
    let is_usable = |listed: &Listed| {
        known.get(&listed.location).is_some_and(|known| known.quarantine.is_none())
    };
    let missing = listed.iter().zip(stamps).filter(|(_, stamp)| stamp.is_missing);
    let vanished = missing.filter(|(listed, _)| is_usable(listed)).count() as u64;
    if 2 * vanished > usable {
        return Err(IngestError::Vanished { vanished, usable });
    }
    Ok(())
}
