//! The recipe's `data` section: which images, how large, split how.

use super::file::Window;
use super::source::{Phantoms, Source};
use crate::faults::demand;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which images there are, at what size, and how patients are split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Where the images come from; `Several([…])` mixes sources.
    pub source: Source,
    /// Columns and rows of the squares that networks see, in pixels. A multiple of 8, 8 to 4096.
    pub size: usize,
    /// How stored values become brightness.
    pub window: Window,
    /// How patients without an official split are divided.
    pub split: Fractions,
    /// What happens to a patient whom the official splits divide.
    pub split_conflict: SplitConflict,
    /// Seed of the split and of the phantoms. Apart from the recipe's seed, so that a second training
    /// run with another seed still sees the same patients in the same splits.
    pub seed: u64,
    /// Largest fraction of the listed images that may be damaged, 0 to 1, and as many again that cannot be read;
    /// above it ingest fails. Below it they are quarantined and counted. One is always borne, unless this is 0.
    pub max_damaged: f64,
    /// Memory for decoded images, in MiB. If all of a split fit, each is decoded only once; a matter
    /// of speed, never of results.
    pub cache_mib: u64,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: Source::Phantom(Phantoms::default()),
            size: 64,
            window: Window::Auto,
            split: Fractions::default(),
            split_conflict: SplitConflict::default(),
            seed: 1,
            max_damaged: 0.01,
            cache_mib: 2048,
        }
    }
}

/// What happens to a patient whom the official splits divide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitConflict {
    /// Ingest fails and names two of the images.
    #[default]
    Refuse,
    /// The patient's images are left out and counted.
    Drop,
}

/// Fractions of the patients (of the images, for phantoms). They sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fractions {
    /// To learn from, above 0.
    pub train: f64,
    /// To choose on.
    pub valid: f64,
    /// To look at once, at the end.
    pub test: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { train: 0.8, valid: 0.1, test: 0.1 }
    }
}

impl Fractions {
    /// In the order of [`Split::ALL`](super::catalog::Split::ALL).
    pub fn in_order(&self) -> [f64; 3] {
        [self.train, self.valid, self.test]
    }
}

impl Data {
    /// How many of `total` images may be damaged: [`Self::max_damaged`] of them, and one in any case but 0.
    pub fn damage_limit(&self, total: u64) -> u64 {
        if self.max_damaged == 0.0 {
            return 0;
        }
        #[allow(clippy::cast_possible_truncation)] // at most `total`
        let share = (self.max_damaged * total as f64).floor() as u64;
        share.max(1)
    }

    /// Every fault of the section, a sentence each; looks for the files as well.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let fractions = self.split.in_order();
        let sum: f64 = fractions.iter().sum();
        let are_shares = fractions.iter().all(|share| (0.0..=1.0).contains(share));
        let is_whole = (sum - 1.0).abs() <= 1e-6;
        let split = match (are_shares && is_whole, self.split.train > 0.0) {
            (false, _) => {
                let what = format!("{fractions:?}, which sums to {sum}");
                demand(false, "split", what, "fractions from 0 to 1 that sum to 1")
            }
            (_, learns) => demand(learns, "split.train", 0, "above 0: something to learn from"),
        };
        let window = match self.window {
            Window::Percentile { low, high } => demand(
                0.0 <= low && low < high && high <= 100.0,
                "window",
                format!("Percentile(low: {low}, high: {high})"),
                "0 <= low < high <= 100",
            ),
            _ => None,
        };
        let is_size = (8..=4096).contains(&self.size) && self.size.is_multiple_of(8);
        let is_share = (0.0..=1.0).contains(&self.max_damaged);
        let mut faults: Vec<String> = [
            demand(is_size, "size", self.size, "a multiple of 8 from 8 to 4096"),
            split,
            demand(is_share, "max_damaged", self.max_damaged, "a fraction, 0 to 1"),
            window,
        ]
        .into_iter()
        .flatten()
        .collect();
        faults.extend(self.source.check(data_root, "source"));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Folder, Manifest};
    use super::*;

    fn read(text: &str) -> Result<Data, ron::error::SpannedError> {
        use ron::extensions::Extensions;
        ron::Options::default()
            .with_default_extension(Extensions::UNWRAP_VARIANT_NEWTYPES | Extensions::IMPLICIT_SOME)
            .from_str(text)
    }

    #[test]
    fn a_section_says_only_what_is_special_about_it() {
        let data = read("(source: Phantom(images: 40), size: 32)").unwrap();
        assert_eq!(data.source, Source::Phantom(Phantoms { images: 40 }));
        assert_eq!((data.size, data.seed), (32, Data::default().seed));

        let data = read(
            r#"(source: Several([
                Phantom(),
                Folder(path: "scans", patient: Folder),
                Manifest(path: "cxr/manifest.csv", columns: (labels: None, file: "Path")),
            ]))"#,
        )
        .unwrap();
        let Source::Several(sources) = &data.source else { panic!("{:?}", data.source) };
        assert_eq!(sources[0], Source::Phantom(Phantoms::default()));
        let Source::Manifest(Manifest { columns, .. }) = &sources[2] else { panic!() };
        assert_eq!((columns.labels.as_deref(), columns.file.as_str()), (None, "Path"));
        assert_eq!(columns.split.as_deref(), Some("split"));

        let error = read("(source: Phantom(image: 40))").unwrap_err().to_string();
        assert!(error.contains("images"), "{error}");
    }

    #[test]
    fn one_damaged_image_is_borne_unless_none_may_be() {
        let limit =
            |max_damaged, total| Data { max_damaged, ..Data::default() }.damage_limit(total);
        assert_eq!([limit(0.01, 20), limit(0.01, 199), limit(0.01, 200)], [1, 1, 2]);
        assert_eq!([limit(0.0, 20), limit(0.0, 1_000_000), limit(1.0, 20)], [0, 0, 20]);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let root = tempfile::tempdir().unwrap();
        let data = Data {
            source: Source::Several(vec![
                Source::Phantom(Phantoms { images: 0 }),
                Source::Folder(Folder { path: "nowhere".into(), ..Folder::default() }),
                Source::Manifest(Manifest { path: "../up.csv".into(), ..Manifest::default() }),
            ]),
            size: 100,
            window: Window::Percentile { low: 90.0, high: 10.0 },
            split: Fractions { train: 0.8, valid: 0.1, test: 0.2 },
            max_damaged: 2.0,
            ..Data::default()
        };
        let faults = data.check(root.path());
        assert_eq!(faults.len(), 7, "{faults:#?}");
        assert_eq!(Data::default().check(root.path()), Vec::<String>::new());
    }
}
