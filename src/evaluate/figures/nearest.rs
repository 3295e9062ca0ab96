//! How alike each image is to a training image: a first look at memorisation.

use super::fidelity::{THUMBNAIL, thumbnail};
use super::{MOST_IMAGES, Measure, mean};
use crate::data::radiographs::Radiographs;
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Figure, Finding, Taken, Tile};
use crate::evaluate::images::{map_images, thumbnail_area};
use crate::evaluate::subset;
use crate::evaluate::words::{count, number, of, whole};
use crate::metric::{self, Padded};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Settings of the look at memorisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NearestTrain {
    /// Most training images to be near to, most samples and most validation images that look for the nearest. A copy
    /// of a training image that was not chosen is not found.
    pub images: usize,
}

impl Default for NearestTrain {
    fn default() -> Self {
        Self { images: MOST_IMAGES }
    }
}

impl Measure for NearestTrain {
    fn name(&self) -> &'static str {
        "NearestTrain"
    }

    fn key(&self) -> String {
        "nearest_train".to_owned()
    }

    fn images(&self) -> Option<usize> {
        Some(self.images)
    }

    /// How near samples, and real images that were held out, come to a training image.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { samples, train, valid, test, .. } = *evidence;
        let chosen = |name: &str, count: usize| {
            let stream = Stream::new(evidence.seed, &format!("evaluate/nearest/{name}"));
            subset::chosen(stream, count, self.images)
        };
        let of_train = chosen("train", train.len());
        let of_valid = chosen("valid", valid.len());
        let of_samples = chosen("samples", samples.len());
        let total = of_train.len() + of_valid.len() + of_samples.len();
        let watch = Watch::new("nearest", 0, total as u64);
        let real = |images: &Radiographs, chosen: &[usize]| {
            map_images(images, chosen, |square| {
                let content = thumbnail_area(square.content, square.size);
                // Reading the next one ends it when a signal came.
                let _ = watch.advance(1);
                Padded { pixels: thumbnail(&square.pixels, square.size), content }
            })
        };
        let sources = [train, valid, test].into_iter().flat_map(|images| images.entries());
        let contents = samples.contents(&of_samples, sources, train.size());
        let drawn = of_samples.par_iter().zip(contents).map(|(&at, content)| {
            watch.advance(1)?;
            Ok(Padded { pixels: thumbnail(&samples.pixels(at)?, train.size()), content })
        });
        let drawn: Vec<Padded> = drawn.collect::<Result<_>>()?;
        let (references, held_out) = (real(train, &of_train)?, real(valid, &of_valid)?);
        let correlations = |queries: &[Padded]| -> Result<Vec<f64>> {
            let found = metric::nearest_by_pearson(queries, &references, THUMBNAIL)?;
            Ok(found.into_iter().flatten().map(|nearest| nearest.pearson).collect())
        };
        let (of_drawn, of_held_out) = (correlations(&drawn)?, correlations(&held_out)?);
        let threshold = metric::quantile(&of_held_out, 0.99);
        let above = |least: f64| of_drawn.iter().filter(|&&found| found > least).count() as f64;
        let above: Figure = threshold.map(above).into();
        let num_samples = Taken::new(of_drawn.len(), samples.len());
        let num_valid = Taken::new(of_held_out.len(), valid.len());
        let num_train = Taken::new(references.len(), train.len());

        let mut finding = Finding::new(self.key(), "Memorisation, a first look");
        let [ours, theirs] = [likeness(&of_drawn), likeness(&of_held_out)];
        put(
            &mut finding,
            "max_pearson",
            &ours,
            [
                (
                    "Nearest training image",
                    &*format!(
                        "Pearson correlation at 64 × 64 with the most similar of {}, where neither is padded; \
                     mean over {}. Each one's own source may be among them.",
                        of(num_train, "training images"),
                        of(num_samples, "generated images"),
                    ),
                ),
                ("Nearest training image, median", "Half of the generated images are below."),
                (
                    "Nearest training image, 95 %",
                    "95 of 100 are below. A few copies show in the tail, not in the mean.",
                ),
                ("Nearest training image, 99 %", "99 of 100 are below."),
                (
                    "Nearest training image, greatest",
                    "Of the generated image that is most like a training image. 1 is a copy.",
                ),
            ],
        );
        put(
            &mut finding,
            "max_pearson_valid_vs_train",
            &theirs,
            [
                (
                    "Validation to training images",
                    &*format!(
                        "The same for {}, real and held out: the likeness there is without copying. Its \
                     median, 95th and 99th percentile and greatest follow.",
                        of(num_valid, "validation images"),
                    ),
                ),
                ("Validation to training, median", "Half of the validation images are below."),
                ("Validation to training, 95 %", "95 of 100 are below."),
                ("Validation to training, 99 %", "99 of 100 are below."),
                (
                    "Validation to training, greatest",
                    "Of the validation image that is most like a training image.",
                ),
            ],
        );
        finding.figure(
            "above_valid_p99",
            &above,
            whole,
            "Above the validation images' 99 %",
            format!(
                "Generated images above the 99th percentile of the validation images, of {}; one in \
                 a hundred is chance.",
                count(num_samples.used),
            ),
        );
        finding.taken("samples", num_samples);
        finding.taken("valid_images", num_valid);
        finding.taken("train_images", num_train);
        let [mean, .., max] = &ours;
        let [mean_of_valid, .., max_of_valid] = &theirs;
        finding.tiles.push(Tile {
            rank: 7,
            label: "Nearest training image".into(),
            value: mean.shown(number),
            reason: mean.reason(),
            beside: vec![
                ("Real held-out images".into(), mean_of_valid.shown(number)),
                ("Most alike of all".into(), max.shown(number)),
                ("Held-out, most alike of all".into(), max_of_valid.shown(number)),
                ("Above 99 % of the held-out".into(), above.shown(whole)),
            ],
            meaning: format!(
                "Correlation with the most similar training image, padding left out, mean over {} \
                 images. More than one in a hundred above 99 % of the held-out images would be a \
                 sign of copying.",
                count(num_samples.used)
            ),
            meter: None,
        });
        Ok(finding)
    }
}

/// Mean, median, 95th and 99th percentile, and greatest.
fn likeness(found: &[f64]) -> [Figure; 5] {
    let at = |share: f64| metric::quantile(found, share).into();
    let mean = match found.len() {
        0 => Figure::missing("no image to compare"),
        _ => mean(found).into(),
    };
    [mean, at(0.5), at(0.95), at(0.99), at(1.0)]
}

/// The mean under `key` itself.
fn put(finding: &mut Finding, key: &str, figures: &[Figure; 5], words: [(&'static str, &str); 5]) {
    let ends = ["", "_median", "_p95", "_p99", "_max"];
    for ((end, figure), (name, definition)) in ends.iter().zip(figures).zip(words) {
        finding.figure(format!("{key}{end}"), figure, number, name, definition);
    }
}
