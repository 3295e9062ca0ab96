//! The encode stage, what later stages see of it, and which stores and checkpoints nobody refers to.

use super::{Ended, Run, Stage, Timing, text};
use crate::artifact::{self, Hasher, Lock};
use crate::data::radiographs::Radiographs;
use crate::data::store::Store;
use crate::encode::{self, Latents, Networks, key};
use crate::interrupt;
use crate::telemetry::progress;
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// The file by which a run refers to its store.
const REFERENCE: &str = "store.txt";

/// Images encoded at once.
const BATCH: usize = 16;

/// How often encode goes over a store whose missing rows have become readable.
const PASSES: usize = 2;

/// The rows of the store that are this run's, and the images they were made from, in the same order.
pub(super) struct Encoded {
    store: Arc<Store>,
    pub(super) train: Arc<Radiographs>,
    pub(super) valid: Arc<Radiographs>,
    /// Images of the catalog that are not in the store.
    pub(super) num_missing: usize,
}

impl Run {
    pub(super) fn store_hash(&self) -> Result<String> {
        let mut hasher = self
            .hasher(Stage::Encode, encode::VERSION)
            .section(&text(&self.recipe.condition.tokens))
            .section(&self.recipe.data.size.to_string());
        if self.networks.encoder_weights.is_some() {
            hasher = hasher.section(&text(&self.networks.input));
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

    /// The hash of what later stages see: of the store and, where it lacks rows, of which. A store that is completed
    /// later is other data.
    pub(super) fn data_hash(&self) -> Result<String> {
        let hash = self.store_hash()?;
        let reference = Reference::read(&self.folder)?;
        let missing = reference.missing_of(&self.store_folder()?);
        if missing.is_empty() {
            return Ok(hash);
        }
        let hasher = Hasher::new("missing rows", encode::VERSION).upstream(&hash);
        let key = |hasher: Hasher, key: &i64| hasher.section(&key.to_string());
        Ok(missing.iter().fold(hasher, key).finish())
    }

    pub(super) fn encode(&self) -> Result<Ended> {
        let folder = self.store_folder()?;
        // Before anything is there: `clean` spares what a run refers to, whole or growing.
        let mut reference = Reference::read(&self.folder)?;
        reference = Reference::new(&folder, reference.missing_of(&folder).clone());
        reference.write(&self.folder)?;
        let parent = folder.parent().expect("a store lies in the stores' folder");
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        // Runs that differ in what comes after have one store.
        let waits = |holder: &str| {
            tracing::info!(
                "encode waits for another umbra process{holder}, which makes the same store"
            );
        };
        let lock = Lock::wait(&artifact::sibling(&folder, "lock"), waits, interrupt::requested)?;
        let Some(_lock) = lock else { return Ok(Ended::Interrupted) };

        // Opening goes through every byte of it.
        let mut store = artifact::current(&folder).map(|_| open(&folder)).transpose()?;
        let mut ended = Ended::UpToDate;
        for _ in 0..PASSES {
            if let Some(store) = &store {
                if !self.can_complete(store)? {
                    break;
                }
                let lacking = store.missing().len();
                tracing::info!(
                    "encode goes on with a store that lacks {lacking} images, some of which can be read now"
                );
            }
            ended = self.fill(&folder)?;
            if ended == Ended::Interrupted {
                return Ok(ended);
            }
            store = Some(open(&folder)?);
        }
        let store = store.expect("there was one, or the first pass made it");
        let (missing, rows) = (store.missing().len(), store.missing().len() as u64 + store.len());
        Reference::new(&folder, store.missing().to_vec()).write(&self.folder)?;
        let most = self.recipe.data.damage_limit(rows);
        ensure!(
            missing as u64 <= most && !store.is_empty(),
            "{missing} of {rows} images could not be opened and are not in the store, data.max_damaged allows {most}; \
             the log names them"
        );
        if missing > 0 {
            tracing::warn!(
                "{missing} of {rows} images cannot be opened: the store and all that is made from it do without them"
            );
        }
        // Only this thread fills the cell.
        let _ = self.encoded.set(self.view(store)?);
        Ok(ended)
    }

    /// True where an image can be opened that the store lacks.
    fn can_complete(&self, store: &Store) -> Result<bool> {
        let missing: BTreeSet<i64> = store.missing().iter().copied().collect();
        let images = self.ingested()?;
        let found = |split: &Radiographs| {
            let is_missing = |at: &usize| missing.contains(&key(&split.entries()[*at]));
            (0..split.len()).filter(is_missing).any(|at| split.is_readable(at))
        };
        Ok(!missing.is_empty()
            && [&images.train, &images.valid, &images.test].iter().any(|it| found(it)))
    }

    fn fill(&self, folder: &Path) -> Result<Ended> {
        let start = Instant::now();
        let (encoder, autoencoder) = (self.encoder()?, self.autoencoder()?);
        let networks = Networks {
            encoder: &encoder,
            tokens: self.recipe.condition.tokens,
            autoencoder: &autoencoder,
            device: &self.place.device,
            latent_shape: self.networks.latent_shape,
            token_shape: self.networks.token_shape,
        };
        let images = self.ingested()?;
        let splits = [&*images.train, &*images.valid, &*images.test];
        let total = splits.iter().map(|split| split.len()).sum::<usize>() as u64;
        let most_missing = self.recipe.data.damage_limit(total);
        let bar = progress::bar(Stage::Encode.name(), 0, total);
        let hash = self.store_hash()?;
        let is_done = encode::run(&networks, &splits, folder, &hash, BATCH, most_missing, &bar)?;
        bar.finish_and_clear();
        if !is_done {
            return Ok(Ended::Interrupted);
        }
        let seconds = start.elapsed().as_secs_f64();
        self.write_timing(Stage::Encode, Timing { seconds, images: total })?;
        Ok(Ended::Done)
    }

    /// What the encode stage has left.
    pub(super) fn encoded(&self) -> Result<&Encoded> {
        if self.encoded.get().is_none() {
            let encoded = self.view(open(&self.store_folder()?)?)?;
            // Only this thread fills the cell.
            let _ = self.encoded.set(encoded);
        }
        Ok(self.encoded.get().expect("filled above"))
    }

    fn view(&self, store: Arc<Store>) -> Result<Encoded> {
        let images = self.ingested()?;
        // What the run has said that it lacks, although another run may have completed the store meanwhile.
        let reference = Reference::read(&self.folder)?;
        let missing: BTreeSet<i64> =
            reference.missing_of(&self.store_folder()?).iter().copied().collect();
        let present = |split: &Arc<Radiographs>| match missing.is_empty() {
            true => split.clone(),
            false => Arc::new(split.filtered(|entry| !missing.contains(&key(entry)))),
        };
        let (train, valid) = (present(&images.train), present(&images.valid));
        ensure!(
            !train.is_empty() && !valid.is_empty(),
            "the store has {} training and {} validation images; both are needed",
            train.len(),
            valid.len()
        );
        Ok(Encoded { store, train, valid, num_missing: missing.len() })
    }

    /// Training and validation rows of the store.
    pub(super) fn latents(&self) -> Result<(Arc<Latents>, Arc<Latents>)> {
        let Encoded { store, train, valid, .. } = self.encoded()?;
        let train = Latents::new(store.clone(), train.entries(), self.latent_scale())?;
        let valid = Latents::new(store.clone(), valid.entries(), Some(train.scale()))?;
        Ok((Arc::new(train), Arc::new(valid)))
    }
}

fn open(folder: &Path) -> Result<Arc<Store>> {
    encode::open(folder).context("the store is damaged; remove its folder to make it again")
}

/// What a run says about its store: on the first line its name, then the keys of rows that it lacked when the run last
/// looked, a line each.
#[derive(Debug, Default)]
struct Reference {
    name: String,
    missing: Vec<i64>,
}

impl Reference {
    fn new(store: &Path, missing: Vec<i64>) -> Self {
        let name = store.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Self { name, missing }
    }

    /// The reference in the folder `run`; of nothing, where there is none.
    fn read(run: &Path) -> Result<Self> {
        let path = run.join(REFERENCE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mut lines = text.lines();
        let name = lines.next().unwrap_or_default().to_owned();
        let missing = lines.map(str::parse).collect::<Result<_, _>>();
        let missing =
            missing.with_context(|| format!("{} is damaged; remove it", path.display()))?;
        Ok(Self { name, missing })
    }

    fn write(&self, run: &Path) -> Result<()> {
        let lines: Vec<String> = std::iter::once(self.name.clone())
            .chain(self.missing.iter().map(i64::to_string))
            .collect();
        Ok(artifact::write_file(&run.join(REFERENCE), lines.join("\n").as_bytes())?)
    }

    /// The rows that `store` lacked, if it is the one that is meant.
    fn missing_of(&self, store: &Path) -> &Vec<i64> {
        static NONE: Vec<i64> = Vec::new();
        if store.file_name().is_some_and(|name| *name == *self.name) {
            &self.missing
        } else {
            &NONE
        }
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
        if let Ok(text) = fs::read_to_string(run.join(REFERENCE)) {
            named.insert(text.lines().next().unwrap_or_default().trim().to_owned());
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
    // Each with the file that is locked while it is made.
    for store in entries(&checkpoints.join("stores"))? {
        let name = store.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let whole = name.strip_suffix(".partial").or(name.strip_suffix(".lock")).unwrap_or(&name);
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
    Ok(entries(path)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

/// Bytes of a file, or of all files in a folder.
fn size(path: &Path) -> Result<u64> {
    let cannot_read = || format!("cannot read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(cannot_read)?;
    if !metadata.is_dir() {
        return Ok(if metadata.is_file() { metadata.len() } else { 0 });
    }
    let mut sum = 0;
    for entry in fs::read_dir(path).with_context(cannot_read)? {
        sum += size(&entry?.path())?;
    }
    Ok(sum)
}
