//! A network that sees images, and what it has seen of them.

use super::evidence::Evidence;
use super::extractor::{Extractor, ForeignNetwork};
use super::images::{self, READ_AHEAD};
use super::shelf::{Key, Shelf};
use crate::metric;
use crate::models::encoder::Embedder;
use crate::telemetry::Watch;
use anyhow::{Context, Result};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::thread;

/// Digits of a weights file's hash in a report.
const DIGITS: usize = 12;

/// A network that sees images, and what reports call it.
pub(super) struct Eye<'a> {
    pub(super) name: String,
    kind: Kind<'a>,
    size: usize,
    device: Device,
    shelf: Shelf,
}

enum Kind<'a> {
    Own(&'a Embedder),
    Foreign(ForeignNetwork),
}

impl<'a> Eye<'a> {
    /// What `extractor` names.
    pub(super) fn open(extractor: &Extractor, evidence: &Evidence<'a>) -> Result<Self> {
        let root = evidence.data_root;
        let (kind, name, hash) = match extractor.open(root, evidence.device)? {
            None => {
                let (encoder, hash) = evidence.encoder;
                (Kind::Own(encoder), "dino".to_owned(), hash.to_owned())
            }
            Some(network) => {
                let (hash, name) = (extractor.hash(root), network.name());
                (
                    Kind::Foreign(network),
                    name,
                    hash.context("what is not the run's own has a hash")??,
                )
            }
        };
        Self::new(kind, &name, &hash, evidence)
    }

    /// The run's encoder as it was before any step.
    pub(super) fn untrained(encoder: &'a Embedder, evidence: &Evidence<'a>) -> Result<Self> {
        // The same seed and settings that led to the weights of that hash.
        Self::new(Kind::Own(encoder), "untrained", evidence.encoder.1, evidence)
    }

    fn new(kind: Kind<'a>, name: &str, hash: &str, evidence: &Evidence<'a>) -> Result<Self> {
        let size = evidence.train.size();
        let width = match &kind {
            Kind::Own(encoder) => encoder.width(),
            Kind::Foreign(network) => network.num_features(),
        };
        let shelf = evidence.shelves.shelf(&format!("{name} {hash} {size}"), width)?;
        let name = format!("{name}:{}", &hash[..DIGITS]);
        Ok(Self { name, kind, size, device: evidence.device.clone(), shelf })
    }

    /// Whether it is the run's own encoder.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own(_))
    }

    /// Numbers per image.
    pub(super) fn width(&self) -> usize {
        self.shelf.width()
    }

    /// Features of the images of `keys`, row after row: from the shelf, or of what `read` gives for their places in
    /// `keys`, several at once. Reads ahead while the network works. Fails where a signal came first.
    pub(super) fn see(
        &self,
        keys: &[Key],
        read: impl Fn(&[usize]) -> Result<Vec<Vec<f32>>> + Sync,
        watch: &Watch,
    ) -> Result<Vec<f32>> {
        let mut rows = self.shelf.rows(&keys.iter().copied().collect())?;
        let mut asked = BTreeSet::new();
        // An image that is there twice is looked at once.
        let missing: Vec<usize> = (0..keys.len())
            .filter(|&at| !rows.contains_key(&keys[at]) && asked.insert(keys[at]))
            .collect();
        watch.advance((keys.len() - missing.len()) as u64)?;
        let (give, take) = mpsc::sync_channel(1);
        thread::scope(|scope| -> Result<()> {
            let (read, missing) = (&read, &missing);
            scope.spawn(move || {
                for chunk in missing.chunks(READ_AHEAD) {
                    let images = read(chunk);
                    let is_last = images.is_err();
                    // Nobody takes any more once the network has failed or a signal came.
                    if give.send(images).is_err() || is_last {
                        break;
                    }
                }
            });
            // Dropped where this returns, or the reader would wait for ever.
            let take = take;
            for chunk in missing.chunks(READ_AHEAD) {
                let features = self.embed(&take.recv().context("the reader has ended")??)?;
                let keys: Vec<Key> = chunk.iter().map(|&at| keys[at]).collect();
                self.shelf.put(&keys, &features)?;
                rows.extend(
                    keys.into_iter().zip(features.chunks(self.width()).map(<[f32]>::to_vec)),
                );
                watch.advance(chunk.len() as u64)?;
            }
            Ok(())
        })?;
        Ok(in_order(keys, &rows))
    }

    /// Features of `images`, row after row. Fails where a signal came first.
    fn embed(&self, images: &[Vec<f32>]) -> Result<Vec<f32>> {
        match &self.kind {
            Kind::Own(encoder) => embedded(encoder, images, self.size),
            Kind::Foreign(network) => in_batches(images, network.batch(), |batch| {
                network.embed(batch, self.size, &self.device)
            }),
        }
    }
}

fn in_order(keys: &[Key], rows: &BTreeMap<Key, Vec<f32>>) -> Vec<f32> {
    keys.iter().flat_map(|key| rows[key].iter().copied()).collect()
}

/// Class embeddings of `images`, row after row. Fails where a signal came first.
pub(super) fn embedded(encoder: &Embedder, pixels: &[Vec<f32>], size: usize) -> Result<Vec<f32>> {
    let batch_size = images::BATCH;
    in_batches(pixels, batch_size, |batch| encoder.embed(batch, size, batch_size))
}

/// What `embed` makes of `images`, `batch_size` at a time. Fails where a signal came first.
fn in_batches(
    images: &[Vec<f32>],
    batch_size: usize,
    embed: impl Fn(&[&[f32]]) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut features = Vec::new();
    for batch in images.chunks(batch_size) {
        metric::unless_stopped()?;
        let batch: Vec<&[f32]> = batch.iter().map(Vec::as_slice).collect();
        features.extend(embed(&batch)?);
    }
    Ok(features)
}
