//! How fast devices compute and what they keep meanwhile, as far as somebody has measured it.

use crate::artifact;
use crate::engine::nvidia::{nvrtc, survey};
use crate::models::Compute;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was measured of a device in one number format, on a training step of a U-Net.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Floating-point operations per second; of a CPU, per thread.
    pub operations_per_second: f64,
    /// Bytes that a training step keeps for its backward pass, per operation of the forward pass.
    pub bytes_per_operation: f64,
}

/// What is known of devices, by name and number format.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates(BTreeMap<String, Rate>);

/// Measured with `umbra bench`; see docs/experiments.md.
const MEASURED: [(&str, Rate); 2] = [
    ("cpu F32", Rate { operations_per_second: 42e9, bytes_per_operation: 0.04 }),
    (
        "NVIDIA H100 80GB HBM3 Bf16",
        Rate { operations_per_second: 277e12, bytes_per_operation: 1.3e-3 },
    ),
];

impl Rates {
    /// What is known here: what `umbra bench --save` has measured, and where it has not, what came with this build.
    pub fn known() -> Self {
        let mut rates: BTreeMap<String, Rate> =
            MEASURED.into_iter().map(|(key, rate)| (key.to_owned(), rate)).collect();
        rates.extend(saved());
        Self(rates)
    }

    /// What is known of the device that `--device` calls `name`, on `threads`; `None` where nobody has measured it.
    pub fn of(&self, name: &str, compute: Compute, threads: usize) -> Option<Rate> {
        let rate = *self.0.get(&key(name, compute)?)?;
        let threads = if name == "cpu" { threads as f64 } else { 1.0 };
        Some(Rate { operations_per_second: rate.operations_per_second * threads, ..rate })
    }

    /// Keeps `rate` for the device that `--device` calls `name`, instead of what was kept of it before. Gives the file.
    pub fn save(name: &str, compute: Compute, rate: Rate) -> Result<PathBuf> {
        let path = path().context("there is no home folder to keep it in; set UMBRA_CACHE")?;
        let key = key(name, compute).with_context(|| format!("{name} has no name"))?;
        let mut rates = saved();
        rates.insert(key, rate);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        artifact::write_file(&path, serde_json::to_string_pretty(&rates)?.as_bytes())?;
        Ok(path)
    }
}

/// What a device is called among rates: `cpu F32`, or a card's name and the number format.
fn key(name: &str, compute: Compute) -> Option<String> {
    let device = match name.strip_prefix("cuda:") {
        Some(index) => {
            let index: usize = index.parse().ok()?;
            survey::cards().ok()?.into_iter().nth(index)?.name
        }
        None => name.to_owned(),
    };
    Some(format!("{device} {compute:?}"))
}

/// What was kept here; nothing where the file cannot be read.
fn saved() -> BTreeMap<String, Rate> {
    let read = || serde_json::from_slice(&std::fs::read(path()?).ok()?).ok();
    read().unwrap_or_default()
}

fn path() -> Option<PathBuf> {
    Some(nvrtc::cache_folder()?.join("rates.json"))
}
