//! Real and generated images as each network sees them that measures a distance between the two sets.

use super::evidence::Evidence;
use super::extractor::{Extractor, ForeignNetwork};
use super::finding::{Finding, Taken};
use super::images::{self, READ_AHEAD, map_images};
use super::subset;
use super::words::{count, of};
use crate::data::catalog::PatientKey;
use crate::metric::{self, Features};
use crate::models::encoder::Embedder;
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::{Context, Result};
use burn::tensor::Device;
use rayon::prelude::*;

/// The table of a report in which figures of sets stand.
pub(super) const TITLE: &str = "Generated and real images as sets";

/// Images that a foreign network sees at once: those for 299 × 299 pixels keep large maps.
const BATCH: usize = 8;

/// Digits of a weights file's hash in a report.
const DIGITS: usize = 12;

/// Two sets of images through one network, row after row.
pub(super) struct Sets {
    /// The network and the hash of its weights.
    extractor: String,
    /// Whether it is the run's own.
    is_own: bool,
    /// Numbers per image.
    width: usize,
    /// Real images of some patients, then real images of others.
    real: Vec<f32>,
    /// How many of the real images come before those of other patients.
    first_side: usize,
    generated: Vec<f32>,
    /// How many images there are, generated and real.
    available: [usize; 2],
}

/// What a figure compares: sets of equal size, as fewer images are further apart and cover less.
pub(super) struct Compared<'a> {
    pub(super) real: Features<'a>,
    pub(super) generated: Features<'a>,
    /// Real images of some patients and of others; on each side as many as above, if there are as many.
    pub(super) real_vs_real: [Features<'a>; 2],
}

impl Sets {
    /// At most `most` images on a side.
    ///
    /// Generated images are compared with the first side of the real ones, as those of the second side are. Where the
    /// first has too few, the second fills it up, and real is compared with real by fewer.
    pub(super) fn compared(&self, most: usize) -> Compared<'_> {
        let rows = |values| Features::new(values, self.width);
        let (real, generated) = (rows(&self.real), rows(&self.generated));
        let count = most.min(real.len()).min(generated.len());
        let (first, second) = self.real.split_at(self.first_side * self.width);
        let sides = [rows(first), rows(second)];
        let fewest = count.min(sides[0].len()).min(sides[1].len());
        Compared {
            real: real.first(count),
            generated: generated.first(count),
            real_vs_real: sides.map(|side| side.first(fewest)),
        }
    }

    /// What the report says of a comparison.
    pub(super) fn described(&self, compared: &Compared<'_>) -> Described {
        let [num_generated, num_real] = self.available;
        Described {
            extractor: self.extractor.clone(),
            is_own: self.is_own,
            samples: Taken::new(compared.generated.len(), num_generated),
            images: Taken::new(compared.real.len(), num_real),
            real_vs_real: compared.real_vs_real[0].len() as u64,
        }
    }

    /// The sets of `evidence` through `extractor`. Fails where a signal came first.
    pub(super) fn of(extractor: &Extractor, evidence: &Evidence<'_>) -> Result<Self> {
        let Evidence { train, samples, device, seed, .. } = *evidence;
        let eye = Eye::open(extractor, evidence)?;
        let most = evidence.most_images(extractor).min(samples.len());
        let patients: Vec<PatientKey> = train.entries().iter().map(|it| it.patient).collect();
        let stream = |name| Stream::new(seed, name);
        let [mut real, second] = subset::apart(&patients, stream("evaluate/real"), most);
        let first_side = real.len();
        real.extend(second);
        let generated = subset::shuffled(stream("evaluate/generated"), samples.len(), most);

        let watch = Watch::new("features", 0, (real.len() + generated.len()) as u64);
        let mut sets = Self {
            extractor: eye.name.clone(),
            is_own: matches!(eye.kind, Kind::Own(_)),
            width: eye.width(),
            real: Vec::new(),
            first_side,
            generated: Vec::new(),
            available: [samples.len(), train.len()],
        };
        for batch in real.chunks(READ_AHEAD) {
            // Generated images have been through files of 8 bits; the difference must not tell.
            let images = map_images(train, batch, |square| eight_bits(&square.pixels))?;
            sets.real.extend(eye.embed(&images, train.size(), device)?);
            watch.advance(batch.len() as u64)?;
        }
        for batch in generated.chunks(READ_AHEAD) {
            let images: Vec<Vec<f32>> =
                batch.par_iter().map(|&at| samples.pixels(at)).collect::<Result<_>>()?;
            sets.generated.extend(eye.embed(&images, train.size(), device)?);
            watch.advance(batch.len() as u64)?;
        }
        Ok(sets)
    }
}

/// What a figure says of the sets that it compares.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    /// What made the features, e.g. `dino:` and a hash.
    extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    is_own: bool,
    samples: Taken,
    images: Taken,
    /// Training images on each side of a comparison of real images with real ones, of other patients.
    real_vs_real: u64,
}

impl Described {
    /// For machines.
    pub(super) fn note(&self, finding: &mut Finding) {
        finding.other("real_vs_real_images", self.real_vs_real);
        finding.other("extractor", self.extractor.clone());
        finding.other("self_referential", self.is_own);
        finding.taken("samples", self.samples);
        finding.taken("images", self.images);
    }

    /// What is compared, and what sees it.
    pub(super) fn compared(&self) -> String {
        let is_own = if self.is_own { ", this run's own encoder" } else { "" };
        format!(
            "{} and {} (features: {}{is_own})",
            of(self.samples, "generated images"),
            of(self.images, "training images"),
            self.extractor,
        )
    }

    /// What stands beside it.
    pub(super) fn floor(&self) -> String {
        let images = count(self.real_vs_real);
        format!("between {images} training images and {images} of other patients")
    }

    /// What a judge of itself must say.
    pub(super) fn warning(&self) -> &'static str {
        match self.is_own {
            true => " Judged by this run's own encoder: compare with nothing outside this run.",
            false => "",
        }
    }
}

/// A network that sees images, and what reports call it.
struct Eye<'a> {
    name: String,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Own(&'a Embedder),
    Foreign(ForeignNetwork),
}

impl<'a> Eye<'a> {
    fn open(extractor: &Extractor, evidence: &Evidence<'a>) -> Result<Self> {
        let root = evidence.data_root;
        Ok(match extractor.open(root, evidence.device)? {
            None => {
                let (encoder, hash) = evidence.encoder;
                Self { name: format!("dino:{}", &hash[..DIGITS]), kind: Kind::Own(encoder) }
            }
            Some(network) => {
                let folder = extractor.folder(root).context("a network has a folder")??;
                let hash = folder.hash()?;
                let name = format!("{}:{}", network.name(), &hash[..DIGITS]);
                Self { name, kind: Kind::Foreign(network) }
            }
        })
    }

    fn width(&self) -> usize {
        match &self.kind {
            Kind::Own(encoder) => encoder.width(),
            Kind::Foreign(network) => network.num_features(),
        }
    }

    /// Features of `images`, row after row. Fails where a signal came first.
    fn embed(&self, images: &[Vec<f32>], size: usize, device: &Device) -> Result<Vec<f32>> {
        match &self.kind {
            Kind::Own(encoder) => embedded(encoder, images, size),
            Kind::Foreign(network) => {
                in_batches(images, BATCH, |batch| network.embed(batch, size, device))
            }
        }
    }
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

/// As a file of 8 bits keeps pixels in [0, 1].
fn eight_bits(pixels: &[f32]) -> Vec<f32> {
    pixels.iter().map(|pixel| (pixel.clamp(0.0, 1.0) * 255.0).round() / 255.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::file::{self, Window};
    use crate::data::image::Gray;
    use crate::data::picture::{self, Contents, Provenance};

    #[test]
    fn eight_bits_are_those_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        let pixels: Vec<f32> = (0..1200).map(|at| at as f32 / 1000.0 - 0.1).collect();
        let image = Gray { width: 40, height: 30, pixels };
        let from = Provenance { contents: Contents::Synthetic, recipe: "", seed: 1 };
        picture::write(&path, &image, &from).unwrap();
        let read = file::read(&path, &Window::Raw).unwrap();
        assert_eq!(read.pixels, eight_bits(&image.pixels));
    }

    fn sets(first_side: usize, num_real: usize, num_generated: usize) -> Sets {
        let rows = |from: usize, count: usize| (from..from + count).map(|it| it as f32).collect();
        Sets {
            extractor: String::new(),
            is_own: true,
            width: 1,
            real: rows(0, num_real),
            first_side,
            generated: rows(1000, num_generated),
            available: [500, 2000],
        }
    }

    #[test]
    fn both_comparisons_are_of_one_size_where_there_are_images_enough() {
        let sets = sets(100, 200, 100);
        for most in [1, 60, 100, 10_000] {
            let Compared { real, generated, real_vs_real: [a, b] } = sets.compared(most);
            let count = most.min(100);
            assert_eq!([real, generated, a, b].map(|set| set.len()), [count; 4]);
            assert_eq!((real.row(0), generated.row(0)), (a.row(0), &[1000.0][..]));
            assert!(b.rows().all(|row| row[0] >= 100.0), "of the second side");
        }
    }

    #[test]
    fn few_real_images_are_compared_with_as_many_generated_ones() {
        let sets = sets(31, 60, 100);
        let compared = sets.compared(10_000);
        let [a, b] = compared.real_vs_real;
        let found = [compared.real, compared.generated, a, b].map(|set| set.len());
        assert_eq!(found, [60, 60, 29, 29]);
        let described = sets.described(&compared);
        assert_eq!(described.samples, Taken { used: 60, available: 500 });
        assert_eq!(described.images, Taken { used: 60, available: 2000 });
        assert_eq!(described.real_vs_real, 29);
    }
}
