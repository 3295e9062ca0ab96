//! The recipe's `evaluate` list.

use super::extractor::Extractor;
use serde::{Deserialize, Serialize};
use std::path::Path;

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
    /// MS-SSIM between samples, and between as many training images: lower is more diverse.
    Diversity(Diversity),
    /// Whether an image drawn from E(x) shows x.
    ConditionFidelity(ConditionFidelity),
    /// Pearson correlation with the nearest training image: a first look at memorisation.
    NearestTrain(NearestTrain),
}

/// Settings of the encoder's nearest-neighbour accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbours {
    /// Images of other patients that vote on each training and validation image.
    pub neighbours: usize,
    /// Labels to tell; none: all of them.
    pub labels: Vec<String>,
    /// Only images of this dataset. None: all.
    pub dataset: Option<String>,
    /// Most images that vote and are voted on, and most validation images for the rank and the cosine.
    pub images: usize,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { neighbours: 20, labels: Vec::new(), dataset: None, images: MOST_IMAGES }
    }
}

/// Settings of the Fréchet distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frechet {
    /// Most images on a side.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
}

impl Default for Frechet {
    fn default() -> Self {
        Self { images: MOST_IMAGES, features: Extractor::Own }
    }
}

/// Settings of the kernel distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Subsets that the mean is over.
    pub subsets: usize,
    /// Images per subset; fewer where there are not so many.
    pub subset_size: usize,
    /// Most images on a side that subsets are drawn from.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { subsets: 50, subset_size: 100, images: MOST_IMAGES, features: Extractor::Own }
    }
}

/// Settings of precision, recall, density and coverage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coverage {
    /// Neighbours that span an image's ball.
    pub neighbours: usize,
    /// Most images on a side.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { neighbours: 5, images: MOST_IMAGES, features: Extractor::Own }
    }
}

/// Settings of diversity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diversity {
    /// Pairs of samples compared, and pairs of training images.
    pub pairs: usize,
}

impl Default for Diversity {
    fn default() -> Self {
        Self { pairs: 500 }
    }
}

/// Settings of condition fidelity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionFidelity {
    /// Validation images to tell apart; chance is one over it.
    pub candidates: usize,
    /// DDIM steps.
    pub steps: usize,
}

impl Default for ConditionFidelity {
    fn default() -> Self {
        Self { candidates: 128, steps: 25 }
    }
}

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

impl Evaluation {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Neighbours(_) => "Neighbours",
            Self::Frechet(_) => "Frechet",
            Self::Kernel(_) => "Kernel",
            Self::Coverage(_) => "Coverage",
            Self::Diversity(_) => "Diversity",
            Self::ConditionFidelity(_) => "ConditionFidelity",
            Self::NearestTrain(_) => "NearestTrain",
        }
    }

    /// True when it looks at the sample stage's images.
    pub fn needs_samples(&self) -> bool {
        !matches!(self, Self::ConditionFidelity(_) | Self::Neighbours(_))
    }

    /// What sees the images, if features of sets are compared.
    pub fn extractor(&self) -> Option<&Extractor> {
        match self {
            Self::Frechet(Frechet { features, .. })
            | Self::Kernel(Kernel { features, .. })
            | Self::Coverage(Coverage { features, .. }) => Some(features),
            _ => None,
        }
    }

    /// Most images that it looks at, on each side; None where other settings say so.
    pub fn most_images(&self) -> Option<usize> {
        match self {
            Self::Neighbours(Neighbours { images, .. })
            | Self::Frechet(Frechet { images, .. })
            | Self::Kernel(Kernel { images, .. })
            | Self::Coverage(Coverage { images, .. })
            | Self::NearestTrain(NearestTrain { images }) => Some(*images),
            Self::Diversity(_) | Self::ConditionFidelity(_) => None,
        }
    }

    /// Questions to the denoiser.
    pub fn num_evaluations(&self) -> usize {
        match self {
            // With and without the condition.
            Self::ConditionFidelity(fidelity) => 2 * fidelity.candidates * fidelity.steps,
            _ => 0,
        }
    }

    /// Faults, a sentence each.
    pub fn check(&self, data_root: &Path) -> Vec<String> {
        let least = |what: &str, value: usize, least: usize| {
            (value < least).then(|| format!("{what} is {value}; expected at least {least}"))
        };
        let own = match self {
            Self::Frechet(_) | Self::NearestTrain(_) => [None, None],
            Self::Kernel(Kernel { subsets, subset_size, .. }) => {
                [least("subsets", *subsets, 1), least("subset_size", *subset_size, 2)]
            }
            Self::Neighbours(Neighbours { neighbours, .. })
            | Self::Coverage(Coverage { neighbours, .. }) => {
                [least("neighbours", *neighbours, 1), None]
            }
            Self::Diversity(Diversity { pairs }) => [least("pairs", *pairs, 1), None],
            Self::ConditionFidelity(ConditionFidelity { candidates, steps }) => {
                [least("steps", *steps, 1), least("candidates", *candidates, 2)]
            }
        };
        let images = self.most_images().and_then(|images| least("images", images, 2));
        let features = self.extractor().map(|it| it.check(data_root)).unwrap_or_default();
        let faults = own.into_iter().flatten().chain(images).chain(features);
        faults.map(|what| format!("{}: {what}", self.name())).collect()
    }
}
