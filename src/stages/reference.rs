//! How a run refers to its store.

use crate::artifact;
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// The file by which a run refers to its store.
pub(super) const FILE: &str = "store.txt";

/// What a run says about its store: on the first line its name, then the keys of rows that it lacked when the run last
/// looked, a line each.
#[derive(Debug, Default)]
pub(super) struct Reference {
    name: String,
    missing: Vec<i64>,
}

impl Reference {
    pub(super) fn new(store: &Path, missing: Vec<i64>) -> Self {
        let name = store.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Self { name, missing }
    }

    /// The reference in the folder `run`; of nothing, where there is none.
    pub(super) fn read(run: &Path) -> Result<Self> {
        let path = run.join(FILE);
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

    pub(super) fn write(&self, run: &Path) -> Result<()> {
        let lines: Vec<String> = std::iter::once(self.name.clone())
            .chain(self.missing.iter().map(i64::to_string))
            .collect();
        Ok(artifact::write_file(&run.join(FILE), lines.join("\n").as_bytes())?)
    }

    /// The rows that `store` lacked, if it is the one that is meant.
    pub(super) fn missing_of(&self, store: &Path) -> &Vec<i64> {
        static NONE: Vec<i64> = Vec::new();
        if store.file_name().is_some_and(|name| *name == *self.name) {
            &self.missing
        } else {
            &NONE
        }
    }
}
