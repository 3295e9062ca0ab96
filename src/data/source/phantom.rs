//! Synthetic chest radiographs: no files, no patients, no permission needed.

use super::{Listed, ListedAt};
use crate::data::catalog::{Location, PatientKey};
use crate::data::phantom;
use crate::faults::demand;
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
    pub(super) fn check(&self) -> Option<String> {
        demand(self.images > 0, "images", self.images, "at least 1")
    }

    pub(super) fn list(&self, seed: u64) -> Vec<Listed> {
        let origin = ListedAt::whole("the phantoms");
        (0..self.images)
            .map(|index| Listed {
                dataset: "phantom".to_owned(),
                location: Location::Phantom { seed, index },
                origin: origin.clone(),
                patient: PatientKey::of_phantom(&format!(
                    "{seed}/{}",
                    phantom::patient(seed, index)
                )),
                is_patient_in_file: false,
                view: None,
                labels: BTreeMap::new(),
                report: None,
                mask: None,
                split: None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Their keys decide their splits: the quickstart's figures are of these. Written down from umbra 0.1.0.
    #[test]
    fn phantoms_keep_their_patients() {
        let listed = Phantoms { images: 4 }.list(1);
        let keys: Vec<String> = listed.iter().map(|it| it.patient.to_string()).collect();
        assert_eq!(keys[0], "17313381f166dd468eed1302ea851595");
        assert_eq!(keys[1], keys[0], "two images of one");
        assert_eq!(keys[3], "c883558b239105e6b89bd350e3a57140");
    }
}
