//! Snapshots of power-function averages along a training, from which averages of other lengths are made afterwards.
//!
//! A folder each, `averages/<images seen>` beside the checkpoints: `sigma-<length>.safetensors` of each length, in f32 (a
//! mix takes differences of neighbours, in which less would be mostly rounding), and `snapshot.json`.

use super::posthoc::{Mix, Place};
use crate::artifact;
use crate::models::weights::StateDict;
use crate::models::weights::file::{self as weights_file, NonFinite};
use anyhow::{Context, Result, ensure};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One moment's averages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Hash of what decides the training, as its checkpoints have it.
    pub inputs_hash: String,
    /// Images seen by then.
    pub images_seen: u64,
    /// The lengths that are there.
    pub sigma_rel: Vec<f64>,
}

/// How files and checkpoints name an average of this length.
pub fn name(sigma_rel: f64) -> String {
    format!("{sigma_rel:.3}")
}

/// Writes `averages`, each with its length, as the snapshot of `stage` after `images_seen` images.
pub fn write(
    stage: &Path,
    inputs_hash: &str,
    images_seen: u64,
    averages: &[(f64, StateDict)],
) -> Result<()> {
    let snapshot = Snapshot {
        inputs_hash: inputs_hash.to_owned(),
        images_seen,
        sigma_rel: averages.iter().map(|(sigma_rel, _)| *sigma_rel).collect(),
    };
    artifact::write_folder(&folder(stage, images_seen), |temporary| -> Result<()> {
        for (sigma_rel, state) in averages {
            weights_file::write(&file(temporary, *sigma_rel), state)?;
        }
        fs::write(temporary.join("snapshot.json"), serde_json::to_vec_pretty(&snapshot)?)?;
        Ok(())
    })
    .context("the snapshot of the averages could not be saved")
}

/// Removes what was kept of `stage` after `images_seen` images: the run makes it again.
pub fn forget_after(stage: &Path, images_seen: u64) -> Result<()> {
    for (seen, folder) in folders(stage)? {
        if seen > images_seen {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    Ok(())
}

/// The snapshots of `stage` that are whole and of the training `inputs_hash`, oldest first.
pub fn list(stage: &Path, inputs_hash: &str) -> Result<Vec<Snapshot>> {
    let mut found = Vec::new();
    for (_, folder) in folders(stage)? {
        artifact::verify(&folder)?;
        let path = folder.join("snapshot.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let snapshot: Snapshot = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        if snapshot.inputs_hash == inputs_hash {
            found.push(snapshot);
        }
    }
    Ok(found)
}

/// What there is to mix in `snapshots`.
pub fn places(snapshots: &[Snapshot]) -> Vec<Place> {
    let of = |snapshot: &Snapshot| {
        let images = snapshot.images_seen as f64;
        snapshot.sigma_rel.iter().map(move |&sigma_rel| Place { sigma_rel, images }).collect()
    };
    snapshots.iter().flat_map(|snapshot| -> Vec<Place> { of(snapshot) }).collect()
}

/// The `mix` of what is at `places` in `stage`: sums in f64, one file at a time, rounded to f32 at the end.
pub fn mixed(stage: &Path, places: &[Place], mix: &Mix) -> Result<StateDict> {
    let mut sums: BTreeMap<String, (Vec<usize>, Vec<f64>)> = BTreeMap::new();
    let used = places.iter().zip(&mix.shares).filter(|(_, share)| **share != 0.0);
    for (number, (place, &share)) in used.enumerate() {
        let path = file(&folder(stage, place.images as u64), place.sigma_rel);
        let state = weights_file::read(&path, NonFinite::Refuse)?;
        ensure!(
            number == 0 || state.len() == sums.len(),
            "{} has other tensors than the snapshot before it",
            path.display()
        );
        for (name, data) in state {
            let values = data.as_slice::<f32>().ok().with_context(|| {
                format!("tensor {name} of {} does not hold f32", path.display())
            })?;
            let (shape, sum) = match number {
                0 => sums
                    .entry(name.clone())
                    .or_insert_with(|| (data.shape().to_vec(), vec![0.0; values.len()])),
                _ => sums.get_mut(&name).with_context(|| {
                    format!("tensor {name} of {} is in no snapshot before", path.display())
                })?,
            };
            ensure!(
                *shape == data.shape().to_vec(),
                "tensor {name} of {} has another shape than in the snapshot before",
                path.display()
            );
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += share * f64::from(*value);
            }
        }
    }
    let rounded = sums.into_iter().map(|(name, (shape, values))| {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        (name, TensorData::new(values, shape))
    });
    Ok(rounded.collect())
}

fn folder(stage: &Path, images_seen: u64) -> PathBuf {
    stage.join("averages").join(format!("{images_seen:012}"))
}

fn file(folder: &Path, sigma_rel: f64) -> PathBuf {
    folder.join(format!("sigma-{}.safetensors", name(sigma_rel)))
}

/// Every snapshot's folder with its images, oldest first.
fn folders(stage: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let path = stage.join("averages");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let is_number = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
            Some((is_number.then(|| name.parse().ok())??, path.clone()))
        })
        .collect();
    found.sort();
    Ok(found)
}
