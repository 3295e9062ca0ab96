//! Checkpoints: everything a run needs to go on, complete or absent.
//!
//! One folder each, `checkpoint-<images seen>`: `model`, `ema`, `optimizer` and `task` as safetensors (a procedure with
//! several learners puts their names before; further averages are `ema-<length>`) and `state.json` with counters, configuration and recipe. Written through [`crate::artifact`], so a reader
//! finds all of it, verified, or none.

use super::Train;
use crate::artifact;
use crate::data::loader::LoaderState;
use crate::models::weights::StateDict;
use crate::models::weights::file::{self as weights_file, NonFinite};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The layout's version. A newer one is refused.
const SCHEMA: u32 = 1;

/// What is saved beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Layout version.
    pub schema: u32,
    /// Hash of what decides the result (recipe section, upstream); another hash is another run.
    pub inputs_hash: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Images seen.
    pub images_seen: u64,
    /// Steps left out because a gradient was not finite, in all.
    pub skipped_steps: u64,
    /// Seconds of training so far, over all restarts.
    pub seconds: f64,
    /// Where the data stands.
    pub loader: LoaderState,
    /// The task: its name and its network's configuration.
    pub task: String,
    /// The network's configuration.
    pub config: serde_json::Value,
    /// The resolved recipe.
    pub recipe: String,
    /// Where it was computed: device, threads, version of umbra.
    pub environment: Environment,
    /// How it came to be. With `inputs_hash`, two that are equal have equal weights.
    #[serde(default)]
    pub history: Vec<Leg>,
    /// The length of the average, where `umbra ema` made it afterwards; such a folder has nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma_rel: Option<f64>,
}

/// A part of a training, over any number of restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Images seen when it began.
    pub from: u64,
    /// Images that the recipe asked for.
    pub images: u64,
    /// Where it was computed.
    pub environment: Environment,
}

/// `history` with a leg that begins at `seen`, unless it only goes on with the last.
pub fn with_leg(
    mut history: Vec<Leg>,
    seen: u64,
    images: u64,
    environment: &Environment,
) -> Vec<Leg> {
    // A leg without a step has left nothing.
    while history.last().is_some_and(|last| last.from == seen) {
        history.pop();
    }
    let is_same = |last: &Leg| last.images == images && last.environment == *environment;
    if !history.last().is_some_and(is_same) {
        history.push(Leg { from: seen, images, environment: environment.clone() });
    }
    history
}

/// Where a run was computed. Results on the CPU are equal bit for bit while this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// As `--device` names it.
    pub device: String,
    /// Threads of the tensor library.
    pub threads: usize,
    /// Version of umbra.
    pub version: String,
}

/// Sets of tensors by name: `model`, `ema` and `optimizer` of a learner, `task` of what the task keeps.
#[derive(Debug, Clone, Default)]
pub struct Parts(BTreeMap<String, StateDict>);

impl Parts {
    /// Adds a set.
    pub fn insert(&mut self, name: String, state: StateDict) {
        self.0.insert(name, state);
    }

    /// The set called `name`. Fails where there is none.
    pub fn get(&self, name: &str) -> Result<&StateDict> {
        self.0.get(name).with_context(|| format!("the checkpoint has no {name}.safetensors"))
    }
}

/// A checkpoint in memory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Counters and configuration.
    pub header: Header,
    /// Weights, optimizers, and what the task keeps.
    pub parts: Parts,
}

/// Saves a checkpoint in `stage`, then removes all but the newest ones and the milestones of `plan`.
pub fn save(checkpoint: &Checkpoint, stage: &Path, plan: &Train) -> Result<PathBuf> {
    let folder = stage.join(format!("checkpoint-{:012}", checkpoint.header.images_seen));
    artifact::write_folder(&folder, |temporary| fill(checkpoint, temporary))?;
    let is_spared = |folder: &PathBuf| images_of(folder).is_some_and(|it| plan.is_milestone(it));
    for old in list(stage)?.into_iter().skip(plan.keep.max(2)).filter(|it| !is_spared(it)) {
        // A checkpoint that cannot be removed costs disk, not the run.
        if let Err(error) = fs::remove_dir_all(&old) {
            tracing::warn!(path = %old.display(), %error, "cannot remove an old checkpoint");
        }
    }
    Ok(folder)
}

/// Writes the files of a checkpoint into `folder`, which is there and empty.
pub fn fill(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    for (name, state) in &checkpoint.parts.0 {
        weights_file::write(&folder.join(format!("{name}.safetensors")), state)?;
    }
    let header = serde_json::to_vec_pretty(&checkpoint.header)?;
    fs::write(folder.join("state.json"), header)?;
    Ok(())
}

/// The newest checkpoint in `stage` that is whole; `None` when there is none at all.
///
/// A damaged one is named in a warning and passed over.
///
/// # Errors
///
/// When there are checkpoints and none of them is whole.
pub fn newest(stage: &Path) -> Result<Option<PathBuf>> {
    let mut newest_damage = None;
    for folder in list(stage)? {
        match artifact::verify(&folder) {
            Ok(()) => return Ok(Some(folder)),
            Err(error) => {
                tracing::warn!(%error, "passing over a damaged checkpoint");
                newest_damage.get_or_insert(error);
            }
        }
    }
    if let Some(error) = newest_damage {
        let stage = stage.display();
        return Err(error).with_context(|| {
            format!("no whole checkpoint is left in {stage}; remove the folder to train again")
        });
    }
    Ok(None)
}

/// The checkpoint in `stage` that was made at the milestone `images`, by steps of `batch_size`.
///
/// # Errors
///
/// When there is none, or it is damaged.
pub fn milestone(stage: &Path, images: u64, batch_size: usize) -> Result<PathBuf> {
    let reached = images..images + batch_size as u64;
    let found = list(stage)?
        .into_iter()
        .find(|folder| images_of(folder).is_some_and(|it| reached.contains(&it)));
    let folder = found.with_context(|| {
        format!(
            "{} has no checkpoint at {images} images; it is kept where train.milestones names it before the training \
             gets there",
            stage.display()
        )
    })?;
    artifact::verify(&folder)?;
    Ok(folder)
}

/// Reads the counters and configuration of the checkpoint in `folder`.
pub fn header(folder: &Path) -> Result<Header> {
    let path = folder.join("state.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let schema = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("schema")?.as_u64())
        .with_context(|| format!("{} is not a checkpoint's state", path.display()))?;
    ensure!(
        schema <= u64::from(SCHEMA),
        "{} has layout version {schema}; this umbra reads up to {SCHEMA}: use a newer umbra",
        path.display()
    );
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Reads one set of tensors of the checkpoint in `folder`: "model", "ema", "optimizer", "task" or a learner's.
pub fn weights(folder: &Path, which: &str) -> Result<StateDict> {
    Ok(weights_file::read(&folder.join(format!("{which}.safetensors")), NonFinite::Refuse)?)
}

/// Reads all of the checkpoint in `folder`.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    let mut parts = Parts::default();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let file = entry.with_context(|| format!("cannot read {}", folder.display()))?.file_name();
        if let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".safetensors")) {
            parts.insert(name.to_owned(), weights(folder, name)?);
        }
    }
    Ok(Checkpoint { header: header(folder)?, parts })
}

/// The layout version to write.
pub fn schema() -> u32 {
    SCHEMA
}

/// All checkpoint folders in `stage`, newest first.
pub fn list(stage: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(stage) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", stage.display()));
        }
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| images_of(path).is_some())
        .collect();
    found.sort();
    found.reverse();
    Ok(found)
}

/// Images seen, by the name of a checkpoint's folder; `None` where it is none.
fn images_of(folder: &Path) -> Option<u64> {
    let digits = folder.file_name()?.to_str()?.strip_prefix("checkpoint-")?;
    let is_number = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}
