//! How alike images are: those drawn among each other, and each to a training image.

use super::images::{Drawn, map_images, thumbnail_area};
use super::{Run, figure, mean};
use crate::data::radiographs::Radiographs;
use crate::evaluate::fidelity::{THUMBNAIL, thumbnail};
use crate::evaluate::report::{DiversityFigures, Figure, Likeness, NearestTrain, Taken};
use crate::evaluate::section;
use crate::evaluate::subset;
use crate::metric::{self, Padded, Refusal};
use crate::random::Stream;
use crate::telemetry::progress;
use anyhow::Result;
use rayon::prelude::*;

impl Run {
    /// MS-SSIM over pairs of samples, and over as many pairs of as many training images. Fails where a signal came
    /// first.
    pub(super) fn diversity(
        &self,
        section: &section::Diversity,
        samples: &Drawn,
        train: &Radiographs,
    ) -> Result<DiversityFigures> {
        let seed = self.recipe.seed;
        let stream = Stream::new(seed, "evaluate/diversity");
        let chosen = subset::shuffled(stream, train.len(), samples.len());
        let real = |at: usize| Ok(train.get(chosen[at])?.square.pixels.clone());
        let size = train.size();
        let of_samples = refused(metric::diversity(
            samples.len(),
            |at| samples.pixels(at),
            size,
            section.pairs,
            seed,
        ))?;
        let of_real = refused(metric::diversity(chosen.len(), real, size, section.pairs, seed))?;
        Ok(DiversityFigures {
            scales: of_samples.as_ref().map_or(0, |found| found.scales as u64),
            pairs: of_samples.as_ref().map_or(0, |found| found.pairs as u64),
            ms_ssim: figure(of_samples.map(|found| found.ms_ssim)),
            ms_ssim_real: figure(of_real.map(|found| found.ms_ssim)),
            samples: Taken::new(samples.len(), samples.len()),
            images: Taken::new(chosen.len(), train.len()),
        })
    }

    /// How near samples, and real images that were held out, come to a training image. Fails where a signal came
    /// first.
    pub(super) fn nearest(
        &self,
        section: &section::NearestTrain,
        samples: &Drawn,
        train: &Radiographs,
        valid: &Radiographs,
    ) -> Result<NearestTrain> {
        let chosen = |name: &str, count: usize| {
            let stream = Stream::new(self.recipe.seed, &format!("evaluate/nearest/{name}"));
            subset::chosen(stream, count, section.images)
        };
        let of_train = chosen("train", train.len());
        let of_valid = chosen("valid", valid.len());
        let of_samples = chosen("samples", samples.len());
        let total = of_train.len() + of_valid.len() + of_samples.len();
        let bar = progress::bar("nearest", 0, total as u64);
        let real = |images: &Radiographs, chosen: &[usize]| {
            map_images(images, chosen, |square| {
                bar.inc(1);
                let content = thumbnail_area(square.content, square.size);
                Padded { pixels: thumbnail(&square.pixels, square.size), content }
            })
        };
        let contents = samples.contents(&of_samples, train.entries(), train.size());
        let drawn = of_samples.par_iter().zip(contents).map(|(&at, content)| {
            bar.inc(1);
            Ok(Padded { pixels: thumbnail(&samples.pixels(at)?, train.size()), content })
        });
        let drawn: Vec<Padded> = drawn.collect::<Result<_>>()?;
        let (references, held_out) = (real(train, &of_train)?, real(valid, &of_valid)?);
        bar.finish_and_clear();
        let correlations = |queries: &[Padded]| -> Result<Vec<f64>> {
            let found = metric::nearest_by_pearson(queries, &references, THUMBNAIL)?;
            Ok(found.into_iter().flatten().map(|nearest| nearest.pearson).collect())
        };
        let (of_drawn, of_held_out) = (correlations(&drawn)?, correlations(&held_out)?);
        let threshold = metric::quantile(&of_held_out, 0.99);
        let above = |least: f64| of_drawn.iter().filter(|&&found| found > least).count() as f64;
        Ok(NearestTrain {
            samples: likeness(&of_drawn),
            valid: likeness(&of_held_out),
            above_valid_p99: figure(threshold.map(above)),
            num_samples: Taken::new(of_drawn.len(), samples.len()),
            num_valid: Taken::new(of_held_out.len(), valid.len()),
            num_train: Taken::new(references.len(), train.len()),
        })
    }
}

fn likeness(found: &[f64]) -> Likeness {
    let at = |share: f64| figure(metric::quantile(found, share));
    Likeness {
        mean: match found.len() {
            0 => Figure::missing("no image to compare"),
            _ => mean(found).into(),
        },
        median: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

/// A refusal is a figure's; all else ends the stage, a signal included.
fn refused<T>(found: Result<T>) -> Result<Result<T, Refusal>> {
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(error) => match error.downcast::<Refusal>()? {
            Refusal::Stopped => Err(Refusal::Stopped.into()),
            refusal => Ok(Err(refusal)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_a_figure() {
        let few = Refusal::TooFew { found: 1, needed: 2 };
        assert_eq!(refused::<()>(Err(few.clone().into())).unwrap(), Err(few));
        assert!(refused::<()>(Err(Refusal::Stopped.into())).is_err());
        let error = refused::<()>(Err(anyhow::anyhow!("no such file"))).unwrap_err();
        assert_eq!(error.to_string(), "no such file");
    }
}
