//! The recipe's `data` section: which images, how large, split how.

use super::file::Window;
use super::source::{Phantoms, Source};
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
    /// Seed of the split and of the phantoms. Apart from the recipe's seed, so that a second training
    /// run with another seed still sees the same patients in the same splits.
    pub seed: u64,
    /// Largest fraction of damaged images, 0 to 1; above it ingest fails. Below it they are
    /// quarantined and counted.
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
            seed: 1,
            max_damaged: 0.01,
            cache_mib: 2048,
        }
    }
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

    /// Everything that is wrong with the section, one sentence each; looks for the files as well.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        let size = self.size;
        if !(8..=4096).contains(&size) || !size.is_multiple_of(8) {
            faults.push(format!("data.size is {size}; it must be a multiple of 8 from 8 to 4096"));
        }
        let fractions = self.split.in_order();
        let sum: f64 = fractions.iter().sum();
        if fractions.iter().any(|fraction| !(0.0..=1.0).contains(fraction)) {
            faults.push(format!("data.split is {fractions:?}; each fraction must be in 0 to 1"));
        } else if (sum - 1.0).abs() > 1e-6 {
            faults.push(format!("data.split sums to {sum}; train, valid and test must sum to 1"));
        } else if self.split.train == 0.0 {
            faults.push("data.split.train is 0; there would be nothing to learn from".to_owned());
        }
        if !(0.0..=1.0).contains(&self.max_damaged) {
            faults.push(format!(
                "data.max_damaged is {}; it is a fraction, 0 to 1",
                self.max_damaged
            ));
        }
        if let Window::Percentile { low, high } = self.window
            && !(0.0 <= low && low < high && high <= 100.0)
        {
            faults.push(format!(
                "data.window is Percentile(low: {low}, high: {high}); it needs 0 <= low < high <= 100"
            ));
        }
        self.source.check(data_root, &mut faults);
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
