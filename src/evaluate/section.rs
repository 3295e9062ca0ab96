//! The recipe's `evaluate` list.

use serde::{Deserialize, Serialize};

/// Something to measure. The encoder's, autoencoder's and denoiser's own figures are always in the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Evaluation {
    /// How well the encoder's nearest neighbours tell labels. In the report either way; here for its settings.
    Neighbours(Neighbours),
    /// Fréchet distance between samples and training images, and between real images.
    Frechet {},
    /// Kernel distance (KID): unbiased at any number of images.
    Kernel(Kernel),
    /// Precision, recall, density and coverage.
    Coverage(Coverage),
    /// MS-SSIM between samples: lower is more diverse.
    Diversity(Diversity),
    /// Whether an image drawn from E(x) shows x.
    ConditionFidelity(ConditionFidelity),
    /// Pearson correlation with the nearest training image: a first look at memorisation.
    NearestTrain {},
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
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { neighbours: 20, labels: Vec::new(), dataset: None }
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
}

impl Default for Kernel {
    fn default() -> Self {
        Self { subsets: 50, subset_size: 100 }
    }
}

/// Settings of precision, recall, density and coverage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coverage {
    /// Neighbours that span an image's ball.
    pub neighbours: usize,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { neighbours: 5 }
    }
}

/// Settings of diversity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diversity {
    /// Pairs of samples compared.
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

impl Evaluation {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Neighbours(_) => "Neighbours",
            Self::Frechet {} => "Frechet",
            Self::Kernel(_) => "Kernel",
            Self::Coverage(_) => "Coverage",
            Self::Diversity(_) => "Diversity",
            Self::ConditionFidelity(_) => "ConditionFidelity",
            Self::NearestTrain {} => "NearestTrain",
        }
    }

    /// True when it looks at the sample stage's images.
    pub fn needs_samples(&self) -> bool {
        !matches!(self, Self::ConditionFidelity(_) | Self::Neighbours(_))
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
    pub fn check(&self) -> Vec<String> {
        let (what, value, least) = match self {
            Self::Frechet {} | Self::NearestTrain {} => return Vec::new(),
            Self::Kernel(kernel) => {
                let mut faults = Vec::new();
                if kernel.subsets == 0 {
                    faults.push("Kernel: subsets is 0; expected at least 1".to_owned());
                }
                if kernel.subset_size < 2 {
                    faults.push(format!(
                        "Kernel: subset_size is {}; expected at least 2",
                        kernel.subset_size
                    ));
                }
                return faults;
            }
            Self::Neighbours(section) => ("neighbours", section.neighbours, 1),
            Self::Coverage(coverage) => ("neighbours", coverage.neighbours, 1),
            Self::Diversity(diversity) => ("pairs", diversity.pairs, 1),
            Self::ConditionFidelity(fidelity) if fidelity.steps == 0 => ("steps", 0, 1),
            Self::ConditionFidelity(fidelity) => ("candidates", fidelity.candidates, 2),
        };
        match value < least {
            true => vec![format!("{}: {what} is {value}; expected at least {least}", self.name())],
            false => Vec::new(),
        }
    }
}
