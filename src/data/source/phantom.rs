//! Synthetic chest radiographs: no files, no patients, no permission needed.

use super::Listed;
use crate::data::catalog::{Location, PatientKey};
use crate::data::phantom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many phantoms there are. Their labels, masks and reports come with their pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phantoms {
    /// Number of images, at least 1.
    pub images: u64,
}

impl Default for Phantoms {
    fn default() -> Self {
        Self { images: 1280 }
    }
}

impl Phantoms {
    pub(super) fn check(&self, faults: &mut Vec<String>) {
        if self.images == 0 {
            faults.push("data.source is Phantom(images: 0); it needs at least one image".into());
        }
    }

    pub(super) fn list(&self, seed: u64) -> Vec<Listed> {
        (0..self.images)
            .map(|index| Listed {
                dataset: "phantom".to_owned(),
                location: Location::Phantom { seed, index },
                patient: PatientKey::new(
                    "phantom",
                    &format!("{seed}/{}", phantom::patient(seed, index)),
                ),
                view: None,
                labels: BTreeMap::new(),
                report: None,
                mask: None,
                split: None,
            })
            .collect()
    }
}
