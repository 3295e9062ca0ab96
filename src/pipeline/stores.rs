//! The encode stage, and which stores and checkpoints nobody refers to.

use super::{Ended, Run, Stage, Timing};
use crate::artifact;
use crate::encode::{self, Networks};
use crate::telemetry::progress;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// The file by which a run refers to its store.
const REFERENCE: &str = "store.txt";

/// Images encoded at once.
const BATCH: usize = 16;

impl Run {
    pub(super) fn store_hash(&self) -> Result<String> {
        let mut hasher = self
            .hasher(Stage::Encode, encode::VERSION)
            .section(&super::text(&self.recipe.condition.tokens))
            .section(&self.recipe.data.size.to_string());
        if self.networks.encoder_weights.is_some() {
            hasher = hasher.section(&super::text(&self.networks.input));
        }
        Ok(hasher
            .upstream(&self.ingested()?.fingerprint)
            .upstream(&self.weights_hash(Stage::Encoder)?)
            .upstream(&self.weights_hash(Stage::Autoencoder)?)
            .finish())
    }

    pub(super) fn store_folder(&self) -> Result<PathBuf> {
        Ok(self.place.checkpoints.join("stores").join(&self.store_hash()?[..16]))
    }

    pub(super) fn encode(&self) -> Result<Ended> {
        let (hash, folder) = (self.store_hash()?, self.store_folder()?);
        let reference = self.folder.join(REFERENCE);
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        // Before anything is there: `clean` spares what a run refers to, whole or growing.
        artifact::write_file(&reference, name.as_bytes())?;
        if artifact::current(&folder).is_some() {
            encode::open(&folder)
                .context("the store is damaged; remove its folder to make it again")?;
            return Ok(Ended::UpToDate);
        }
        let start = Instant::now();
        let (encoder, autoencoder) = (self.encoder()?, self.autoencoder()?);
        let networks = Networks {
            encoder: &encoder,
            tokens: self.recipe.condition.tokens,
            autoencoder: &autoencoder,
            device: &self.place.device,
        };
        let images = self.ingested()?;
        let splits = [&*images.train, &*images.valid, &*images.test];
        let total = splits.iter().map(|split| split.len()).sum::<usize>() as u64;
        let parent = folder.parent().expect("a store lies in the stores' folder");
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        let bar = progress::bar(Stage::Encode.name(), 0, total);
        let is_done = encode::run(&networks, &splits, &folder, &hash, BATCH, &bar)?;
        bar.finish_and_clear();
        if !is_done {
            return Ok(Ended::Interrupted);
        }
        self.write_timing(
            Stage::Encode,
            Timing { seconds: start.elapsed().as_secs_f64(), images: total },
        )?;
        Ok(Ended::Done)
    }
}

/// Something under the checkpoints folder that no run refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where.
    pub path: PathBuf,
    /// How much.
    pub bytes: u64,
    /// Why nobody needs it.
    pub reason: &'static str,
}

/// Stores that no run names, checkpoints that newer inputs have superseded, and what was cut off while being
/// written.
pub fn leftovers(checkpoints: &Path) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    for run in folders(checkpoints)? {
        if run.file_name().is_some_and(|name| name == "stores") {
            continue;
        }
        if let Ok(name) = fs::read_to_string(run.join(REFERENCE)) {
            named.insert(name.trim().to_owned());
        }
        for stage in folders(&run)? {
            let name = stage.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.contains("-superseded-") {
                found.push((stage.clone(), "trained from inputs that have changed since"));
            }
            for inner in folders(&stage)? {
                if inner.extension().is_some_and(|extension| extension == "tmp") {
                    found.push((inner, "cut off while being written"));
                }
            }
        }
    }
    for store in folders(&checkpoints.join("stores"))? {
        let name = store.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let whole = name.strip_suffix(".partial").unwrap_or(&name);
        if !named.contains(whole) {
            found.push((store, "no run refers to this store"));
        }
    }
    found
        .into_iter()
        .map(|(path, reason)| Ok(Leftover { bytes: size(&path)?, path, reason }))
        .collect()
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn size(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sum += size(&entry.path())?;
        } else if kind.is_file() {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
