//! Real and generated images as each network sees them that measures a distance between the two sets.

use super::Run;
use crate::artifact;
use crate::data::radiographs::Radiographs;
use crate::evaluate::extractor::Extractor;
use crate::interrupt;
use crate::metric::Features;
use crate::random::{Permutation, Stream};
use crate::telemetry::progress;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Images seen at once: networks for 299 × 299 pixels keep large maps.
const BATCH: usize = 8;

/// Digits of a weights file's hash in a report.
pub(super) const DIGITS: usize = 12;

/// The key of the run's own encoder among the sets.
static OWN: Extractor = Extractor::Own;

/// Two sets of images through one network, row after row.
pub(super) struct Sets {
    /// The network and the hash of its weights.
    pub(super) extractor: String,
    /// Whether it is the run's own.
    pub(super) is_own: bool,
    /// Numbers per image.
    pub(super) width: usize,
    pub(super) real: Vec<f32>,
    pub(super) generated: Vec<f32>,
}

impl Sets {
    pub(super) fn real(&self) -> Features<'_> {
        Features::new(&self.real, self.width)
    }

    pub(super) fn generated(&self) -> Features<'_> {
        Features::new(&self.generated, self.width)
    }
}

impl Run {
    /// Opens every network that the recipe measures with: a night of training should not end with the news that
    /// a file is damaged.
    pub(super) fn check_extractors(&self) -> Result<()> {
        for extractor in self.extractors() {
            extractor.open(&self.place.data_root, &self.place.device)?;
        }
        Ok(())
    }

    /// The hashes of their weights, in a fixed order.
    pub(super) fn extractor_hashes(&self) -> Result<Vec<String>> {
        let files =
            self.extractors().into_iter().filter_map(|it| it.weights(&self.place.data_root));
        files.map(|path| Ok(artifact::file_hash(&path)?)).collect()
    }

    /// The sets for every network the recipe names; `own` is what the run's encoder made. None when a signal came
    /// first.
    pub(super) fn feature_sets(
        &self,
        own: Sets,
        train: &Radiographs,
        samples: &[Vec<f32>],
    ) -> Result<Option<BTreeMap<&Extractor, Sets>>> {
        let mut sets: BTreeMap<&Extractor, Sets> = BTreeMap::from([(&OWN, own)]);
        for extractor in self.extractors() {
            let root = &self.place.data_root;
            let Some(network) = extractor.open(root, &self.place.device)? else { continue };
            let weights = extractor.weights(root).context("a network of a folder has weights")?;
            let hash = artifact::file_hash(&weights)?;
            let real = self.chosen(train.len(), extractor.max_images());
            let total = (real.len() + samples.len()) as u64;
            let bar = progress::bar("features", 0, total);
            let embed = |images: &[Vec<f32>]| -> Result<Vec<f32>> {
                let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
                bar.inc(images.len() as u64);
                network.embed(&images, train.size(), &self.place.device)
            };
            let mut found = Sets {
                extractor: format!("{}:{}", network.name(), &hash[..DIGITS]),
                is_own: false,
                width: network.num_features(),
                real: Vec::new(),
                generated: Vec::new(),
            };
            for batch in real.chunks(BATCH) {
                if interrupt::requested() {
                    return Ok(None);
                }
                let images =
                    batch.iter().map(|&at| train.get_or_skip(at)).collect::<Result<Vec<_>, _>>()?;
                let images: Vec<Vec<f32>> =
                    images.iter().flatten().map(|image| image.square.pixels.clone()).collect();
                found.real.extend(embed(&images)?);
            }
            for batch in samples.chunks(BATCH) {
                if interrupt::requested() {
                    return Ok(None);
                }
                found.generated.extend(embed(batch)?);
            }
            bar.finish_and_clear();
            sets.insert(extractor, found);
        }
        Ok(Some(sets))
    }

    /// At most `most` of `count` images, chosen by the seed, in order.
    fn chosen(&self, count: usize, most: Option<usize>) -> Vec<usize> {
        let stream = Stream::new(self.recipe.seed, "evaluate/real");
        let order = Permutation::new(count as u64, stream, 0);
        let most = most.unwrap_or(count).min(count) as u64;
        let chosen: BTreeSet<usize> = (0..most).map(|at| order.apply(at) as usize).collect();
        chosen.into_iter().collect()
    }

    /// What the recipe names, each once.
    fn extractors(&self) -> BTreeSet<&Extractor> {
        self.recipe.evaluate.iter().filter_map(|evaluation| evaluation.extractor()).collect()
    }
}
