//! The figures: a file each, with its settings, what is wrong with them, how it is measured, and what readers are told.

mod copying;
mod coverage;
mod diversity;
pub mod fidelity;
mod frechet;
mod kernel;
mod losses;
mod nearest;
mod neighbours;
mod restoration;
mod texture;

use super::evidence::Evidence;
use super::extractor::Extractor;
use super::finding::{Figure, Finding, Text};
use crate::artifact;
use crate::diffusion::Guidance;
use crate::faults::{demand, within};
use crate::metric::{self, Refusal};
use crate::sample::sampler::Sampler;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

pub use copying::DataCopying;
pub use coverage::Coverage;
pub use diversity::Diversity;
pub use fidelity::ConditionFidelity;
pub use frechet::Frechet;
pub use kernel::Kernel;
pub use nearest::NearestTrain;
pub use neighbours::Neighbours;

/// Most images that a figure looks at unless the recipe says otherwise. More would change little but the time: the
/// work of those that compare all with all grows with the square.
const MOST_IMAGES: usize = 10_000;

/// Something to measure. The encoder's, autoencoder's and denoiser's own figures are always in the report.
///
/// Where there are more images than a figure's `images`, the seed chooses; the report says how many it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Evaluation {
    /// How well the encoder's nearest neighbours tell labels. In the report either way; here for its settings.
    Neighbours(Neighbours),
    /// Fréchet distance between samples and as many training images, and between real images of different patients.
    Frechet(Frechet),
    /// Kernel distance (KID): unbiased at any number of images. Between the same sets.
    Kernel(Kernel),
    /// Precision, recall, density and coverage, of the same sets.
    Coverage(Coverage),
    /// Authenticity, and the test for data copying: are samples nearer to training images than held-out ones?
    DataCopying(DataCopying),
    /// MS-SSIM between samples, and between as many training images: lower is more diverse.
    Diversity(Diversity),
    /// Whether an image drawn from E(x) shows x.
    ConditionFidelity(ConditionFidelity),
    /// Pearson correlation with the nearest training image: a first look at memorisation.
    NearestTrain(NearestTrain),
}

/// Which of the sample stage's images a figure looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// At none.
    Nowhere,
    /// At all of them.
    All,
    /// At those of one strategy, by its number in the recipe's list, or at all that start from training images.
    At(Option<usize>),
}

/// All that anybody knows of a figure.
pub trait Measure {
    /// Its name in recipes.
    fn name(&self) -> &'static str;

    /// Its section in `report.json`.
    fn key(&self) -> String;

    /// Faults in its own settings, a sentence each.
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// Most images that it looks at, on each side; none where other settings say so.
    fn images(&self) -> Option<usize> {
        None
    }

    /// What sees the images, if features of sets are compared.
    fn extractor(&self) -> Option<&Extractor> {
        None
    }

    /// Which of the sample stage's images it looks at.
    fn looks(&self) -> Looks {
        Looks::All
    }

    /// How it draws, if it does.
    fn draws(&self) -> Option<(&Sampler, &Guidance)> {
        None
    }

    /// Questions to the denoiser.
    fn num_evaluations(&self) -> usize {
        0
    }

    /// Measures. Fails where a signal came first.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding>;
}

impl Evaluation {
    /// Whatever it is.
    pub fn get(&self) -> &dyn Measure {
        match self {
            Self::Neighbours(figure) => figure,
            Self::Frechet(figure) => figure,
            Self::Kernel(figure) => figure,
            Self::Coverage(figure) => figure,
            Self::DataCopying(figure) => figure,
            Self::Diversity(figure) => figure,
            Self::ConditionFidelity(figure) => figure,
            Self::NearestTrain(figure) => figure,
        }
    }

    /// Faults, a sentence each.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let figure = self.get();
        let images = figure.images().and_then(|images| at_least("images", images, 2));
        let features = figure.extractor().map(|it| it.check(data_root)).unwrap_or_default();
        figure.faults().into_iter().chain(images).chain(within("features", features)).collect()
    }
}

/// What every figure finds: those that are always there, then those that the recipe names. Each is kept in `partial`
/// once it is found, and read from there by the next call. Fails where a signal came first.
pub fn measure_all(evidence: &Evidence<'_>, partial: &Path) -> Result<Vec<Finding>> {
    let named = evidence.evaluations.iter();
    let (neighbours, others): (Vec<_>, Vec<_>) =
        named.partition(|it| matches!(it, Evaluation::Neighbours(_)));
    let default = Evaluation::Neighbours(Neighbours::default());
    let first = neighbours.first().copied().unwrap_or(&default);
    let always: [&dyn Measure; 3] = [first.get(), &restoration::Restoration, &losses::Losses];
    let all = always.into_iter().chain(others.into_iter().map(Evaluation::get));
    all.enumerate()
        .map(|(at, figure)| {
            let kept = partial.join(format!("{at:02}-{}.json", figure.key()));
            // One that is cut off is measured again.
            let before = fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(finding) = before {
                return Ok(finding);
            }
            metric::unless_stopped()?;
            let finding = figure.measure(evidence)?;
            // A signal may have cut short what it looks at.
            metric::unless_stopped()?;
            artifact::write_file(&kept, &serde_json::to_vec(&finding)?)?;
            Ok(finding)
        })
        .collect()
}

/// The section of a figure that looks at `strategy` alone.
fn of_strategy(key: String, strategy: Option<usize>) -> String {
    strategy.map_or(key.clone(), |strategy| format!("{key}_strategy_{strategy}"))
}

/// The headline of a figure that looks at `strategy` alone.
fn titled(name: &'static str, strategy: Option<usize>) -> Text {
    strategy.map_or(name.into(), |strategy| format!("{name}, strategy {strategy}").into())
}

/// What readers are told of intervals.
const BETWEEN: &str = "In brackets: 95 % of a thousand draws of as many patients.";

/// A fault, if `value` is less than `least`.
fn at_least(what: &str, value: usize, least: usize) -> Option<String> {
    demand(value >= least, what, value, format!("at least {least}"))
}

/// Not a number for none.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A part of what was found, or why nothing was.
fn part<T>(found: &Result<T, Refusal>, part: impl Fn(&T) -> f64) -> Figure {
    found.as_ref().map(part).map_err(Clone::clone).into()
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
