//! Images to latents and tokens, and what later stages see of them.

mod fill;

use super::ingest::images_in_words;
use super::reference::Reference;
use super::{Cost, ENCODE, Made, Run, Stage, State, hasher, text};
use crate::artifact::{self, Hasher, Lock};
use crate::data::catalog::Split;
use crate::data::latents::{Latents, Scale, key};
use crate::data::radiographs::Radiographs;
use crate::data::store::{Check, Store, StoreError};
use crate::interrupt::{self, Interrupted};
use crate::recipe::networks::EncoderFrom;
use crate::telemetry::Watch;
use anyhow::{Context, Result, ensure};
use indicatif::HumanBytes;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Images encoded at once.
pub(super) const BATCH: usize = 16;

/// How often encode goes over a store whose missing rows have become readable.
const PASSES: usize = 2;

pub(super) struct Encode;

/// The rows of the store that are this run's, and the images they were made from, in the same order.
pub(super) struct Encoded {
    store: Arc<Store>,
    pub(super) train: Arc<Radiographs>,
    pub(super) valid: Arc<Radiographs>,
    pub(super) test: Arc<Radiographs>,
    /// Images of the catalog that are not in the store.
    pub(super) num_missing: usize,
}

impl Stage for Encode {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let mut hasher = hasher(run, ENCODE, fill::VERSION)
            .section(&text(&run.recipe.condition.tokens))
            .section(&run.recipe.data.size.to_string());
        if run.keeps_patches() {
            hasher = hasher.section("patches");
        }
        if let EncoderFrom::Folder { .. } = run.recipe.encoder.from {
            hasher = hasher.section(&text(&run.networks.input));
        }
        Ok(run.with_upstream(ENCODE, hasher))
    }

    fn place(&self, run: &Run, _: &str) -> Result<PathBuf> {
        Ok(run.store_folder(&run.inputs(ENCODE).context("the store is not known yet")?))
    }

    fn state(&self, run: &Run, inputs: &str) -> Result<State> {
        let folder = run.store_folder(inputs);
        if artifact::current(&folder).is_some() {
            let reference = Reference::read(&run.folder)?;
            let missing = reference.missing_of(&folder);
            return Ok(match !missing.is_empty() && run.can_complete(missing)? {
                true => State::Resume { done: 1.0 },
                false => State::UpToDate,
            });
        }
        Ok(match artifact::sibling(&folder, "partial").exists() {
            true => State::Resume { done: 0.0 },
            false => State::ToDo,
        })
    }

    /// Of the store and, where it lacks rows, of which: one that is completed later is other data.
    fn output(&self, run: &Run, inputs: &str) -> Result<String> {
        let reference = Reference::read(&run.folder)?;
        let missing = reference.missing_of(&run.store_folder(inputs));
        if missing.is_empty() {
            return Ok(inputs.to_owned());
        }
        let hasher = Hasher::new("missing rows", fill::VERSION).upstream(inputs);
        let key = |hasher: Hasher, key: &i64| hasher.section(&key.to_string());
        Ok(missing.iter().fold(hasher, key).finish())
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let (networks, size) = (&run.networks, run.recipe.data.size);
        let mut init = run.init("plan").deferred();
        let encoder = networks.encoder.config().init(&mut init);
        let see = encoder.flops(networks.input.side, networks.input.side) as f64;
        let shrink = networks.autoencoder.config().init(&mut init).encode_flops(size, size) as f64;
        let [channels, side, _] = networks.latent_shape;
        let [num_tokens, token_width] = networks.token_shape;
        let images = run.num_images();
        let patches = match run.keeps_patches() {
            true => (networks.input.side / networks.encoder.config().patch_size().max(1)).pow(2),
            false => 0,
        };
        // Means and log-variances, and tokens, in half precision.
        let numbers = 2 * channels * side * side + (num_tokens + patches) * token_width;
        let disk = images * 2 * numbers as u64;
        let what = images_in_words(images);
        Ok(Cost {
            what: format!("{what} into a store of {}", HumanBytes(disk)),
            operations: images as f64 * (see + shrink),
            disk,
            ..Cost::default()
        })
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        Ok(match run.make_store(inputs)? {
            Some(images) => Made::Done { images, seconds: None },
            None => Made::ByOther,
        })
    }

    /// Goes through every byte of the store, and says again what it lacks.
    fn confirm(&self, run: &Run) -> Result<()> {
        let hash = run.inputs(ENCODE).context("the store is not known yet")?;
        run.make_store(&hash).map(drop)
    }
}

impl Run {
    /// Does the denoiser's training look at the encoder's patches?
    fn keeps_patches(&self) -> bool {
        self.networks.denoiser.task.alignment.is_some()
    }

    fn store_folder(&self, hash: &str) -> PathBuf {
        self.place.checkpoints.join("stores").join(&hash[..16])
    }

    /// Makes the store, or completes it; `None` where nothing was to be made any more.
    fn make_store(&self, hash: &str) -> Result<Option<u64>> {
        let folder = self.store_folder(hash);
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
        let Some(_lock) = lock else { return Err(Interrupted.into()) };

        // Opening goes through every byte of it.
        let mut store = artifact::current(&folder).map(|_| open(&folder)).transpose()?;
        let mut made = None;
        for _ in 0..PASSES {
            if let Some(store) = &store {
                if !self.can_complete(store.missing())? {
                    break;
                }
                let lacking = store.missing().len();
                tracing::info!(
                    "encode goes on with a store that lacks {lacking} images, some of which can be read now"
                );
            }
            made = Some(self.fill(&folder, hash)?);
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
        let _ = self.encoded.set(self.view(store, hash)?);
        Ok(made)
    }

    /// True where an image can be opened that the store lacks.
    fn can_complete(&self, missing: &[i64]) -> Result<bool> {
        let missing: BTreeSet<i64> = missing.iter().copied().collect();
        let images = self.ingested()?;
        let found = |split: &Radiographs| {
            let is_missing = |at: &usize| missing.contains(&key(&split.entries()[*at]));
            (0..split.len()).filter(is_missing).any(|at| split.is_readable(at))
        };
        Ok(!missing.is_empty()
            && [&images.train, &images.valid, &images.test].iter().any(|it| found(it)))
    }

    /// How many images were gone through.
    fn fill(&self, folder: &Path, hash: &str) -> Result<u64> {
        let (encoder, autoencoder) = (self.encoder()?, self.autoencoder()?);
        let networks = fill::Networks {
            encoder: &encoder,
            tokens: self.recipe.condition.tokens,
            autoencoder: &autoencoder,
            device: &self.place.device,
            latent_shape: self.networks.latent_shape,
            token_shape: self.networks.token_shape,
            keeps_patches: self.keeps_patches(),
        };
        let images = self.ingested()?;
        let splits = [&*images.train, &*images.valid, &*images.test];
        let total = splits.iter().map(|split| split.len()).sum::<usize>() as u64;
        let most_missing = self.recipe.data.damage_limit(total);
        let watch = Watch::new(ENCODE, 0, total);
        fill::run(&networks, &splits, folder, hash, BATCH, most_missing, &watch)?;
        Ok(total)
    }

    /// What the encode stage has left.
    pub(super) fn encoded(&self) -> Result<&Encoded> {
        if self.encoded.get().is_none() {
            let hash = self.inputs(ENCODE).context("the store is not known yet")?;
            let encoded = self.view(open(&self.store_folder(&hash))?, &hash)?;
            // Only this thread fills the cell.
            let _ = self.encoded.set(encoded);
        }
        Ok(self.encoded.get().expect("filled above"))
    }

    fn view(&self, store: Arc<Store>, hash: &str) -> Result<Encoded> {
        let images = self.ingested()?;
        // What the run has said that it lacks, although another run may have completed the store meanwhile.
        let reference = Reference::read(&self.folder)?;
        let missing: BTreeSet<i64> =
            reference.missing_of(&self.store_folder(hash)).iter().copied().collect();
        let present = |split: &Arc<Radiographs>| match missing.is_empty() {
            true => split.clone(),
            false => Arc::new(split.filtered(|entry| !missing.contains(&key(entry)))),
        };
        let [train, valid, test] = [&images.train, &images.valid, &images.test].map(present);
        ensure!(
            !train.is_empty() && !valid.is_empty(),
            "the store has {} training and {} validation images; both are needed",
            train.len(),
            valid.len()
        );
        Ok(Encoded { store, train, valid, test, num_missing: missing.len() })
    }

    /// Training and validation rows of the store.
    pub(super) fn latents(&self) -> Result<(Arc<Latents>, Arc<Latents>)> {
        let Encoded { store, train, valid, .. } = self.encoded()?;
        let train = Latents::new(store.clone(), train.entries(), self.latent_scale())?;
        let valid = Latents::new(store.clone(), valid.entries(), Some(train.scale().clone()))?;
        Ok((Arc::new(train), Arc::new(valid)))
    }

    /// The rows of `split`, shifted and scaled as the training split's are.
    pub(super) fn latents_of(&self, split: Split, scale: Scale) -> Result<Latents> {
        let Encoded { store, train, valid, test, .. } = self.encoded()?;
        let images = match split {
            Split::Train => train,
            Split::Valid => valid,
            Split::Test => test,
        };
        Latents::new(store.clone(), images.entries(), Some(scale))
    }
}

fn open(folder: &Path) -> Result<Arc<Store>> {
    let opened = || -> Result<(Store, bool), StoreError> {
        let store = Store::open(folder, Check::Sizes)?;
        let is_whole = store.verify_while(|| !interrupt::requested())?;
        Ok((store, is_whole))
    };
    let (store, is_whole) =
        opened().context("the store is damaged; remove its folder to make it again")?;
    // Reading all of it may take longer than whoever asks should wait.
    if is_whole { Ok(Arc::new(store)) } else { Err(Interrupted.into()) }
}
