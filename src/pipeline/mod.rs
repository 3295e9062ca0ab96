//! The stages of a recipe: what is up to date, what is missing, building each stage's parts and running it.
//!
//! A stage is left out when the hash of its inputs equals the one it left behind. Training stages compare
//! the hash in their newest checkpoint and the images it has seen, so a longer recipe goes on instead of
//! starting over.

mod evaluation;
mod export;
mod features;
mod plan;
mod sampling;
mod stores;
mod training;
mod weights;

pub use plan::{Plan, StagePlan};
pub use stores::{Leftover, leftovers};

use crate::artifact::{self, Hasher, Lock, Stamp};
use crate::data::catalog::{Catalog, Split};
use crate::data::ingest::{self, Probe, Site};
use crate::data::radiographs::Radiographs;
use crate::data::secret::{PatientSecret, SecretError};
use crate::device;
use crate::export::ExportError;
use crate::interrupt;
use crate::recipe::resolve::Networks;
use crate::recipe::{Recipe, RecipeError};
use crate::telemetry::{log, progress};
use crate::train::checkpoint::Environment;
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::{
    cell::OnceCell,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// A stage, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Files to catalog.
    Ingest,
    /// Training the encoder.
    Encoder,
    /// Training the autoencoder.
    Autoencoder,
    /// Images to latents and tokens.
    Encode,
    /// Training the denoiser.
    Denoiser,
    /// Drawing images.
    Sample,
    /// Measuring.
    Evaluate,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Ingest,
        Self::Encoder,
        Self::Autoencoder,
        Self::Encode,
        Self::Denoiser,
        Self::Sample,
        Self::Evaluate,
    ];

    /// As folders, logs and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Encoder => "encoder",
            Self::Autoencoder => "autoencoder",
            Self::Encode => "encode",
            Self::Denoiser => "denoiser",
            Self::Sample => "sample",
            Self::Evaluate => "evaluate",
        }
    }

    /// Itself and what it needs, in order.
    pub fn with_upstream(self) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|&stage| stage <= self)
            .filter(|&stage| self != Self::Autoencoder || stage != Self::Encoder)
            .collect()
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing to do.
    UpToDate,
    /// Done now.
    Done,
    /// A signal came; what was done is saved.
    Interrupted,
}

/// Where a recipe runs. None of it decides a result.
#[derive(Debug, Clone)]
pub struct Place {
    /// As `--device` names it.
    pub device_name: String,
    /// The same, without autodiff.
    pub device: Device,
    /// Threads of the tensor library and of the loader.
    pub threads: usize,
    /// Where relative data paths start.
    pub data_root: PathBuf,
    /// Where runs are kept.
    pub checkpoints: PathBuf,
    /// The file with the patient secret, if there is a place for one.
    pub patient_secret: Option<PathBuf>,
    /// How ingest opens a file that an earlier one died of.
    pub probe: Option<Probe>,
}

/// A recipe at a place, its folder locked unless it is only looked at.
pub struct Run {
    /// What to do.
    pub recipe: Recipe,
    /// Where.
    pub place: Place,
    /// The run's folder.
    pub folder: PathBuf,
    /// Its networks.
    pub networks: Networks,
    resolved: String,
    catalog: OnceCell<Ingested>,
    summary: OnceCell<ingest::Summary>,
    encoded: OnceCell<stores::Encoded>,
    folders: weights::Hashes,
    _lock: Option<Lock>,
}

/// What later stages know of the catalog.
struct Ingested {
    fingerprint: String,
    train: Arc<Radiographs>,
    valid: Arc<Radiographs>,
    test: Arc<Radiographs>,
}

/// How long a stage took, and over how many images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Images gone through.
    pub images: u64,
}

impl Run {
    /// Opens the run's folder, makes it if need be, and locks it. Writes the resolved recipe into it.
    pub fn open(recipe: Recipe, place: Place) -> Result<Self> {
        let folder = place.checkpoints.join(&recipe.name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = Lock::acquire(&folder)?;
        let resolved = recipe.resolved();
        artifact::write_file(&folder.join("recipe.ron"), resolved.as_bytes())?;
        log::to_file(&folder.join("log.txt"))?;
        Self::at(recipe, place, folder, resolved, Some(lock))
    }

    /// The run in `folder` as it is, to read from: nothing is made, written, locked or computed on a GPU.
    ///
    /// Fails where there is no run. Not for [`Run::run`].
    ///
    /// Folders that its recipe names are looked for below `data_root`.
    pub fn look(folder: &Path, data_root: &Path) -> Result<Self> {
        let path = folder.join("recipe.ron");
        if !path.is_file() {
            return Err(ExportError::NoRun { path: folder.to_owned() }.into());
        }
        let recipe = Recipe::read(&path, &[])?;
        let place = Place {
            device_name: "cpu".to_owned(),
            device: device::parse("cpu")?,
            threads: 1,
            data_root: data_root.to_owned(),
            checkpoints: folder.parent().unwrap_or(Path::new("")).to_owned(),
            patient_secret: None,
            probe: None,
        };
        let resolved = recipe.resolved();
        let folder = folder.to_owned();
        Self::at(recipe, place, folder, resolved, None)
    }

    fn at(
        recipe: Recipe,
        place: Place,
        folder: PathBuf,
        resolved: String,
        lock: Option<Lock>,
    ) -> Result<Self> {
        let networks = recipe
            .networks(&place.data_root)
            .map_err(|faults| RecipeError::Faults { path: folder.join("recipe.ron"), faults })?;
        Ok(Self {
            recipe,
            place,
            folder,
            networks,
            resolved,
            catalog: OnceCell::new(),
            summary: OnceCell::new(),
            encoded: OnceCell::new(),
            folders: weights::Hashes::default(),
            _lock: lock,
        })
    }

    /// Runs `target` and what it needs upstream, each where it is not up to date.
    pub fn run(&self, target: Stage) -> Result<Ended> {
        if target == Stage::Evaluate {
            self.check_extractors()?;
        }
        let mut last = Ended::UpToDate;
        for stage in target.with_upstream() {
            let start = Instant::now();
            last =
                self.run_stage(stage).with_context(|| format!("stage {} failed", stage.name()))?;
            let seconds = start.elapsed().as_secs_f64();
            match last {
                Ended::UpToDate => tracing::info!("{:<12} up to date", stage.name()),
                Ended::Done => {
                    tracing::info!("{:<12} done in {}", stage.name(), progress::duration(seconds))
                }
                Ended::Interrupted => return Ok(last),
            }
        }
        Ok(last)
    }

    fn run_stage(&self, stage: Stage) -> Result<Ended> {
        if interrupt::requested() {
            return Ok(Ended::Interrupted);
        }
        match stage {
            Stage::Ingest => self.ingest(),
            Stage::Encoder => self.train_encoder(),
            Stage::Autoencoder => self.train_autoencoder(),
            Stage::Encode => self.encode(),
            Stage::Denoiser => self.train_denoiser(),
            Stage::Sample => self.sample(),
            Stage::Evaluate => self.evaluate(),
        }
    }

    /// Where `stage` keeps what it makes.
    pub fn stage_folder(&self, stage: Stage) -> PathBuf {
        self.folder.join(stage.name())
    }

    /// Where the result of `stage` is.
    pub fn output(&self, stage: Stage) -> PathBuf {
        match stage {
            Stage::Ingest => self.catalog_file(),
            _ => self.stage_folder(stage),
        }
    }

    /// What ingest found, once it has run.
    pub fn ingest_summary(&self) -> Option<&ingest::Summary> {
        self.summary.get()
    }

    fn catalog_file(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    fn ingest(&self) -> Result<Ended> {
        let start = Instant::now();
        let site = self.site()?;
        let bar = progress::bar(Stage::Ingest.name(), 0, 0);
        let summary = ingest::ingest(&self.recipe.data, &site, &mut |at| {
            bar.set_length(at.total);
            bar.set_position(at.done);
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let summary = match summary {
            Err(ingest::IngestError::Stopped) => return Ok(Ended::Interrupted),
            other => other?,
        };
        tell_left_out(&summary, &site.catalog);
        let opened = summary.opened;
        // Only this thread fills the cell, and only once.
        let _ = self.summary.set(summary);
        if opened == 0 {
            return Ok(Ended::UpToDate);
        }
        self.write_timing(
            Stage::Ingest,
            Timing { seconds: start.elapsed().as_secs_f64(), images: opened },
        )?;
        Ok(Ended::Done)
    }

    fn site(&self) -> Result<Site> {
        let Place { data_root, checkpoints, patient_secret, .. } = &self.place;
        let secret = match self.recipe.data.source.has_patients() {
            true => {
                let path = patient_secret.as_ref().ok_or(SecretError::NoPlace)?;
                Some(PatientSecret::open_or_create(path, &[data_root, checkpoints])?)
            }
            false => None,
        };
        Ok(Site {
            data_root: data_root.clone(),
            catalog: self.catalog_file(),
            own_output: Some(checkpoints.clone()),
            threads: self.place.threads,
            secret,
            probe: self.place.probe.clone(),
        })
    }

    fn ingested(&self) -> Result<&Ingested> {
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
                fingerprint: catalog.fingerprint()?,
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

    fn environment(&self) -> Environment {
        Environment {
            device: self.place.device_name.clone(),
            threads: self.place.threads,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Starts the hash of a stage's inputs with what every stage depends on.
    fn hasher(&self, stage: Stage, version: u32) -> Hasher {
        Hasher::new(stage.name(), version).section(&self.recipe.seed.to_string())
    }

    fn stamp(&self, stage: Stage, version: u32, inputs_hash: String) -> Stamp {
        Stamp { stage: stage.name().to_owned(), version, inputs_hash }
    }

    fn write_timing(&self, stage: Stage, timing: Timing) -> Result<()> {
        let path = self.folder.join("timing");
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = path.join(format!("{}.json", stage.name()));
        Ok(artifact::write_file(&path, &serde_json::to_vec(&timing)?)?)
    }

    /// How long `stage` took, if it is known.
    fn timing(&self, stage: Stage) -> Option<Timing> {
        let path = self.folder.join("timing").join(format!("{}.json", stage.name()));
        serde_json::from_slice(&fs::read(path).ok()?).ok()
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

/// A section as text for a hash: compact, every default written out.
fn text<T: Serialize>(section: &T) -> String {
    serde_json::to_string(section).expect("a section is plain data")
}
