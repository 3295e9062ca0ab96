//! What figures look at.

use super::extractor::Extractor;
use super::eye::Eye;
use super::figures::Evaluation;
use super::images::Drawn;
use super::sets::Sets;
use super::shelf::Shelves;
use crate::data::catalog::Split;
use crate::data::latents::Latents;
use crate::data::radiographs::Radiographs;
use crate::models::autoencoder::Autoencoder;
use crate::models::encoder::Embedder;
use crate::sample::generate::Generator;
use crate::telemetry::metrics::Record;
use anyhow::Result;
use burn::tensor::Device;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// A trained run, as figures look at it.
pub struct Evidence<'a> {
    /// The recipe's name.
    pub recipe: &'a str,
    /// Its seed.
    pub seed: u64,
    /// What is measured.
    pub evaluations: &'a [Evaluation],
    /// Where relative folders start.
    pub data_root: &'a Path,
    /// Where it computes.
    pub device: &'a Device,
    /// Training images that are in the store.
    pub train: &'a Radiographs,
    /// Validation images that are in the store.
    pub valid: &'a Radiographs,
    /// Test images that are in the store.
    pub test: &'a Radiographs,
    /// Their rows, in the same order: of the training and of the validation split.
    pub latents: [&'a Latents; 2],
    /// What the sample stage has drawn.
    pub samples: &'a Drawn,
    /// The encoder, and the hash of its weights.
    pub encoder: (&'a Embedder, &'a str),
    /// The encoder before any step, if it was trained here.
    pub untrained: Option<&'a Embedder>,
    /// The autoencoder.
    pub autoencoder: &'a Autoencoder,
    /// What draws images.
    pub generator: &'a Generator<'a>,
    /// What the denoiser's training recorded.
    pub records: &'a [Record],
    /// What networks made of images before.
    pub shelves: &'a Shelves,
    /// What was seen so far.
    pub sets: Cache<'a>,
}

/// What sees the images, and the strategy that the generated ones are of.
type Which = (Extractor, Option<usize>);

/// Images through each extractor, once; and the network that was opened last.
#[derive(Default)]
pub struct Cache<'a> {
    sets: RefCell<BTreeMap<Which, Rc<Sets>>>,
    eye: RefCell<Option<(Extractor, Rc<Eye<'a>>)>>,
}

impl<'a> Evidence<'a> {
    /// Generated images, those of the sample stage's `strategy` if there is one, and real ones of their split through
    /// `extractor`. Fails where a signal came first.
    pub(super) fn sets(&self, extractor: &Extractor, strategy: Option<usize>) -> Result<Rc<Sets>> {
        let key = (extractor.clone(), strategy);
        if let Some(sets) = self.sets.sets.borrow().get(&key) {
            return Ok(sets.clone());
        }
        let sets = Rc::new(Sets::of(extractor, strategy, self)?);
        self.sets.sets.borrow_mut().insert(key, sets.clone());
        Ok(sets)
    }

    /// The network that `extractor` names. There is one at a time.
    pub(super) fn eye(&self, extractor: &Extractor) -> Result<Rc<Eye<'a>>> {
        if let Some((open, eye)) = &*self.sets.eye.borrow()
            && open == extractor
        {
            return Ok(eye.clone());
        }
        self.sets.eye.replace(None);
        let eye = Rc::new(Eye::open(extractor, self)?);
        self.sets.eye.replace(Some((extractor.clone(), eye.clone())));
        Ok(eye)
    }

    /// The real images of `split`.
    pub(super) fn images(&self, split: Split) -> &'a Radiographs {
        match split {
            Split::Train => self.train,
            Split::Valid => self.valid,
            Split::Test => self.test,
        }
    }

    /// The most images on a side that any figure wants to see through `extractor`.
    pub(super) fn most_images(&self, extractor: &Extractor) -> usize {
        let figures = self.evaluations.iter().map(Evaluation::get);
        let of_it = figures.filter(|figure| figure.extractor() == Some(extractor));
        let wanted = of_it.filter_map(|figure| figure.images()).max().unwrap_or(0);
        wanted.min(extractor.most_images())
    }
}
