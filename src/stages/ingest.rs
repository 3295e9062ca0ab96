//! Files to catalog, and what later stages see of it.

use super::run::Mode;
use super::{Cost, INGEST, Made, Run, Stage, State};
use crate::artifact::Hasher;
use crate::data::catalog::{Catalog, Split};
use crate::data::ingest::{self, Progress, Site, Standing};
use crate::data::radiographs::Radiographs;
use crate::data::secret::{PatientSecret, SecretError};
use crate::interrupt::{self, Interrupted};
use crate::telemetry::Watch;
use anyhow::{Context, Result};
use indicatif::HumanCount;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct Ingest;

/// What later stages know of the catalog.
pub(super) struct Ingested {
    pub(super) train: Arc<Radiographs>,
    pub(super) valid: Arc<Radiographs>,
    pub(super) test: Arc<Radiographs>,
}

impl Stage for Ingest {
    /// Of all that is listed, and the state of its files.
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        if run.mode == Mode::Read {
            let catalog = Catalog::open(&run.catalog_file())?;
            catalog.finished()?;
            return Ok(catalog.finished_plan()?);
        }
        let Some(site) = run.site()? else { return Ok(None) };
        let looked = listening(|progress| ingest::look(&run.recipe.data, &site, progress))?;
        let plan = looked.plan().to_owned();
        run.looked.replace(Some(looked));
        Ok(Some(plan))
    }

    fn place(&self, run: &Run, _: &str) -> Result<PathBuf> {
        Ok(run.catalog_file())
    }

    fn state(&self, run: &Run, _: &str) -> Result<State> {
        if run.mode == Mode::Read {
            return Ok(State::UpToDate);
        }
        let Some(site) = run.site()? else { return Ok(State::ToDo) };
        let looked = run.looked.borrow();
        let looked = looked.as_ref().context("nothing is listed")?;
        Ok(match looked.standing(&site)? {
            Standing::Finished => State::UpToDate,
            Standing::Begun { images } => {
                State::Resume { done: images as f64 / looked.len().max(1) as f64 }
            }
            Standing::Other => State::ToDo,
        })
    }

    fn output(&self, run: &Run, _: &str) -> Result<String> {
        match run.summary.get() {
            Some(summary) => Ok(summary.fingerprint.clone()),
            None => Ok(Catalog::open(&run.catalog_file())?.fingerprint()?),
        }
    }

    /// Equal plans leave equal catalogs, as long as the files that cannot be read stay the same.
    fn origin(&self, _: &Run, inputs: &str, _: State) -> Result<Option<String>> {
        Ok(Some(Hasher::new(INGEST, ingest::VERSION).upstream(inputs).finish()))
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        Ok(Cost { what: images_in_words(run.num_images()), ..Cost::default() })
    }

    fn make(&self, run: &Run, _: &str) -> Result<Made> {
        Ok(Made::Done { images: run.bring_catalog()?, seconds: None })
    }

    fn confirm(&self, run: &Run) -> Result<()> {
        run.bring_catalog().map(drop)
    }
}

/// A number of images, of which 0 is that nobody knows.
pub(super) fn images_in_words(images: u64) -> String {
    match images {
        0 => "images counted by ingest".to_owned(),
        images => format!("{} images", HumanCount(images)),
    }
}

/// `work` with a bar, and a signal as the end of it.
fn listening<T>(
    work: impl FnOnce(&mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<T, ingest::IngestError>,
) -> Result<T> {
    let watch = Watch::new(INGEST, 0, 0);
    let result = work(&mut |at| {
        watch.expect(at.total);
        match watch.reach(at.done) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Interrupted) => ControlFlow::Break(()),
        }
    });
    match result {
        Err(ingest::IngestError::Stopped) => Err(Interrupted.into()),
        other => Ok(other?),
    }
}

impl Run {
    fn catalog_file(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    /// Where and how the images are read; `None` where it needs a secret that is still to be made.
    fn site(&self) -> Result<Option<Site>> {
        let place = &self.place;
        let secret = match self.recipe.data.source.has_patients() {
            true => {
                let path = place.patient_secret.as_ref().ok_or(SecretError::NoPlace)?;
                let shared = [&*place.data_root, &*place.checkpoints];
                let secret = match self.mode {
                    Mode::Make => Some(PatientSecret::open_or_create(path, &shared)?),
                    Mode::Plan | Mode::Read => PatientSecret::open(path, &shared)?,
                };
                let Some(secret) = secret else { return Ok(None) };
                Some(secret)
            }
            false => None,
        };
        Ok(Some(Site {
            data_root: place.data_root.clone(),
            catalog: self.catalog_file(),
            own_output: Some(place.checkpoints.clone()),
            threads: place.threads,
            secret,
            probe: place.probe.clone(),
        }))
    }

    /// How many images were opened.
    fn bring_catalog(&self) -> Result<u64> {
        interrupt::unless_requested()?;
        let site = self.site()?.context("there is no patient secret")?;
        let looked = self.looked.take().context("nothing is listed")?;
        let summary =
            listening(|progress| ingest::bring(looked, &self.recipe.data, &site, progress))?;
        tell_left_out(&summary, &site.catalog);
        let opened = summary.opened;
        // Only this thread fills the cell, and only once.
        let _ = self.summary.set(summary);
        Ok(opened)
    }

    /// Images in the catalog, or as many as are expected; 0 where nobody knows.
    pub(super) fn num_images(&self) -> u64 {
        let counts = Catalog::open(&self.catalog_file()).and_then(|catalog| catalog.counts());
        counts.map_or_else(|_| self.recipe.data.source.expected_images(), |counts| counts.total())
    }

    pub(super) fn ingested(&self) -> Result<&Ingested> {
        if self.catalog.get().is_none() {
            let catalog = Catalog::open(&self.catalog_file())?;
            let data = &self.recipe.data;
            let images = |split| -> Result<Arc<Radiographs>> {
                let entries = catalog.entries(split)?;
                let cache = data.cache_mib.saturating_mul(1 << 20);
                let most_unreadable = data.damage_limit(entries.len() as u64);
                let images = Radiographs::open(entries, &self.place.data_root, data.size, cache);
                Ok(Arc::new(images.with_most_unreadable(most_unreadable)))
            };
            let ingested = Ingested {
                train: images(Split::Train)?,
                valid: images(Split::Valid)?,
                test: images(Split::Test)?,
            };
            anyhow::ensure!(
                !ingested.train.is_empty() && !ingested.valid.is_empty(),
                "the catalog has {} training and {} validation images; both are needed",
                ingested.train.len(),
                ingested.valid.len()
            );
            // Only this thread fills the cell.
            let _ = self.catalog.set(ingested);
        }
        Ok(self.catalog.get().expect("filled above"))
    }
}

/// Reasons for which images are left out that are told apart in the log.
const REASONS_TOLD: usize = 10;

/// Says how many images are left out, of which kinds, and for which reasons, the most frequent first.
fn tell_left_out(summary: &ingest::Summary, catalog: &Path) {
    let left_out: u64 = summary.counts.quarantined.values().sum();
    if left_out == 0 {
        return;
    }
    let kinds = summary.counts.quarantined.iter().map(|(kind, count)| format!("{count} {kind}"));
    tracing::warn!(
        "{left_out} of {} images are left out ({}); the reason for each is in {}",
        summary.listed,
        kinds.collect::<Vec<_>>().join(", "),
        catalog.display()
    );
    for (reason, images) in summary.reasons.iter().take(REASONS_TOLD) {
        tracing::info!("  {images} {reason}");
    }
    let untold: u64 = summary.reasons.iter().skip(REASONS_TOLD).map(|(_, images)| images).sum();
    if untold > 0 {
        tracing::info!("  {untold} for other reasons");
    }
}
