//! Real and generated images as each network sees them that measures a distance between the two sets.

use super::evidence::Evidence;
use super::extractor::Extractor;
use super::eye::Eye;
use super::finding::{Finding, Taken};
use super::images::{Drawn, map_images};
use super::shelf::Key;
use super::subset;
use super::words::{count, of, real_images};
use crate::data::catalog::{PatientKey, Split};
use crate::data::radiographs::Radiographs;
use crate::metric::{Features, Standard};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use rayon::prelude::*;

/// The table of a report in which figures of sets stand.
pub(super) const TITLE: &str = "Generated and real images as sets";

/// Two sets of images through one network, row after row.
pub(super) struct Sets {
    /// The network and the hash of its weights.
    extractor: String,
    /// Whether it is the run's own.
    is_own: bool,
    /// Numbers per image.
    width: usize,
    /// Generated images before they were scaled, and numbers per image; none where nothing is scaled.
    raw: Option<(Vec<f32>, usize)>,
    /// Real images of some patients, then real images of others.
    real: Vec<f32>,
    /// How many of the real images come before those of other patients.
    first_side: usize,
    generated: Vec<f32>,
    /// Whose each real image is, in their order.
    patients: Vec<PatientKey>,
    /// From whom each generated image is, in their order.
    groups: Vec<usize>,
    /// Where the real images are from.
    split: Split,
    /// The only strategy that the generated images are of.
    strategy: Option<usize>,
    /// How many images there are, generated and real.
    available: [usize; 2],
}

/// What a figure compares: sets of equal size, as fewer images are further apart and cover less.
pub(super) struct Compared<'a> {
    pub(super) real: Features<'a>,
    pub(super) generated: Features<'a>,
    /// Real images of some patients and of others; on each side as many as above, if there are as many.
    pub(super) real_vs_real: [Features<'a>; 2],
    /// Whose each real image is.
    pub(super) patients: &'a [PatientKey],
    /// From whom each generated image is.
    pub(super) groups: &'a [usize],
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
            patients: &self.patients[..count],
            groups: &self.groups[..count],
        }
    }

    /// At most `most` generated images as the network gives them, and from whom they are.
    pub(super) fn raw(&self, most: usize) -> (Features<'_>, &[usize]) {
        let (rows, width) = match &self.raw {
            Some((rows, width)) => (rows, *width),
            None => (&self.generated, self.width),
        };
        let rows = Features::new(rows, width).first(most);
        (rows, &self.groups[..rows.len()])
    }

    /// What made the features, e.g. `dino:` and a hash.
    pub(super) fn extractor(&self) -> &str {
        &self.extractor
    }

    /// Generated images there are.
    pub(super) fn num_available(&self) -> usize {
        self.available[0]
    }

    /// What the report says of a comparison.
    pub(super) fn described(&self, compared: &Compared<'_>) -> Described {
        let [num_generated, num_real] = self.available;
        Described {
            extractor: self.extractor.clone(),
            is_own: self.is_own,
            split: self.split,
            strategy: self.strategy,
            samples: Taken::new(compared.generated.len(), num_generated),
            images: Taken::new(compared.real.len(), num_real),
            real_vs_real: compared.real_vs_real[0].len() as u64,
        }
    }

    /// The sets of `evidence` through `extractor`: of the samples of `strategy`, or of all that start from training
    /// images. Fails where a signal came first.
    pub(super) fn of(
        extractor: &Extractor,
        strategy: Option<usize>,
        evidence: &Evidence<'_>,
    ) -> Result<Self> {
        let Evidence { samples, seed, .. } = *evidence;
        let eye = evidence.eye(extractor)?;
        let drawn = samples.chosen(strategy);
        let split = samples.split(strategy);
        let images = evidence.images(split);
        let most = evidence.most_images(extractor).min(drawn.len());
        let patients: Vec<PatientKey> = images.entries().iter().map(|it| it.patient).collect();
        let stream = |name| Stream::new(seed, name);
        let [mut real, second] = subset::apart(&patients, stream("evaluate/real"), most);
        let first_side = real.len();
        real.extend(second);
        let chosen = subset::shuffled(stream("evaluate/generated"), drawn.len(), most);
        let generated: Vec<usize> = chosen.into_iter().map(|at| drawn[at]).collect();

        let watch = Watch::new("features", 0, (real.len() + generated.len()) as u64);
        let mut sets = Self {
            raw: None,
            extractor: eye.name.clone(),
            is_own: eye.is_own(),
            width: eye.width(),
            // Generated images have been through files of 8 bits; the difference must not tell.
            real: of_real(&eye, images, &real, eight_bits, &watch)?,
            first_side,
            generated: of_drawn(&eye, samples, &generated, &watch)?,
            patients: real.iter().map(|&at| patients[at]).collect(),
            groups: generated.iter().map(|&at| samples.group(at)).collect(),
            split,
            strategy,
            available: [drawn.len(), images.len()],
        };
        if extractor.is_scaled() {
            sets.scale();
        }
        Ok(sets)
    }

    /// Brings every feature to mean 0 and deviation 1 over the real images of the first side.
    fn scale(&mut self) {
        let rows = |values| Features::new(values, self.width);
        let standard = Standard::of(rows(&self.real).first(self.first_side));
        let width = standard.width().max(1);
        let real = standard.apply(rows(&self.real));
        let generated = standard.apply(rows(&self.generated));
        self.raw = Some((std::mem::replace(&mut self.generated, generated), self.width));
        (self.real, self.width) = (real, width);
    }
}

/// Features of the real images at `indices`, `prepared`, row after row. Fails where a signal came first.
pub(super) fn of_real(
    eye: &Eye<'_>,
    images: &Radiographs,
    indices: &[usize],
    prepared: impl Fn(&[f32]) -> Vec<f32> + Sync,
    watch: &Watch,
) -> Result<Vec<f32>> {
    let keys: Vec<Key> = indices.iter().map(|&at| images.entries()[at].hash).collect();
    let read = |places: &[usize]| {
        let indices: Vec<usize> = places.iter().map(|&place| indices[place]).collect();
        map_images(images, &indices, |square| prepared(&square.pixels))
    };
    eye.see(&keys, read, watch)
}

/// Features of the generated images at `indices`, row after row. Fails where a signal came first.
fn of_drawn(eye: &Eye<'_>, samples: &Drawn, indices: &[usize], watch: &Watch) -> Result<Vec<f32>> {
    let keys: Vec<Key> = indices.par_iter().map(|&at| samples.hash(at)).collect::<Result<_>>()?;
    let read =
        |places: &[usize]| places.par_iter().map(|&place| samples.pixels(indices[place])).collect();
    eye.see(&keys, read, watch)
}

/// What a figure says of the sets that it compares.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    /// What made the features, e.g. `dino:` and a hash.
    extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    is_own: bool,
    split: Split,
    strategy: Option<usize>,
    samples: Taken,
    images: Taken,
    /// Real images on each side of a comparison of real images with real ones, of other patients.
    real_vs_real: u64,
}

impl Described {
    /// For machines.
    pub(super) fn note(&self, finding: &mut Finding) {
        finding.other("real_vs_real_images", self.real_vs_real);
        finding.other("extractor", self.extractor.clone());
        finding.other("self_referential", self.is_own);
        finding.other("split", self.split.name());
        if let Some(strategy) = self.strategy {
            finding.other("strategy", strategy as u64);
        }
        finding.taken("samples", self.samples);
        finding.taken("images", self.images);
    }

    /// What is compared, and what sees it.
    pub(super) fn compared(&self) -> String {
        let is_own = if self.is_own { ", this run's own encoder" } else { "" };
        let drawn = match self.strategy {
            Some(strategy) => &*format!("generated images of strategy {strategy}"),
            None => "generated images",
        };
        format!(
            "{} and {} (features: {}{is_own})",
            of(self.samples, drawn),
            of(self.images, real_images(self.split)),
            self.extractor,
        )
    }

    /// What stands beside it.
    pub(super) fn floor(&self) -> String {
        let (images, real) = (count(self.real_vs_real), real_images(self.split));
        format!("between {images} {real} and {images} of other patients")
    }

    /// What a judge of itself must say.
    pub(super) fn warning(&self) -> &'static str {
        match self.is_own {
            true => " Judged by this run's own encoder: compare with nothing outside this run.",
            false => "",
        }
    }
}

/// As a file of 8 bits keeps pixels in [0, 1].
pub(super) fn eight_bits(pixels: &[f32]) -> Vec<f32> {
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
            raw: None,
            extractor: String::new(),
            is_own: true,
            width: 1,
            real: rows(0, num_real),
            first_side,
            generated: rows(1000, num_generated),
            patients: (0..num_real).map(|it| PatientKey([it as u8; 16])).collect(),
            groups: (0..num_generated).collect(),
            split: Split::Train,
            strategy: None,
            available: [500, 2000],
        }
    }

    #[test]
    fn both_comparisons_are_of_one_size_where_there_are_images_enough() {
        let sets = sets(100, 200, 100);
        for most in [1, 60, 100, 10_000] {
            let Compared { real, generated, real_vs_real: [a, b], patients, groups } =
                sets.compared(most);
            let count = most.min(100);
            assert_eq!([real, generated, a, b].map(|set| set.len()), [count; 4]);
            assert_eq!([patients.len(), groups.len()], [count; 2]);
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
