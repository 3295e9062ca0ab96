//! The figures of each section of a report.

use super::figure::Figure;

/// What the encoder's embeddings hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncoderFigures {
    /// Directions in use, from 1 to the width; 0 when collapsed.
    pub effective_rank: Figure,
    /// Mean cosine over pairs, in [-1, 1].
    pub mean_cosine: Figure,
    /// Balanced accuracy of nearest neighbours, in [0, 1].
    pub knn_accuracy: Figure,
    /// The same before any training.
    pub knn_accuracy_untrained: Figure,
    /// Validation images that rank and cosine are of.
    pub images: Taken,
    /// Training and validation images that vote and are voted on, of those with a label.
    pub knn_images: Taken,
}

/// How well the autoencoder reproduces validation images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AutoencoderFigures {
    /// Mean over images, in decibels, padding left out.
    pub psnr_db: Figure,
    /// Mean multi-scale structural similarity, at most 1.
    pub ms_ssim: Figure,
    /// Validation images that both are of.
    pub images: Taken,
}

/// How far the denoiser was trained.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DenoiserFigures {
    /// Unweighted, before any step.
    pub validation_loss_first: Figure,
    /// Unweighted, of the averaged weights at the end.
    pub validation_loss_last: Figure,
    /// Images trained on, counted over all passes.
    pub images_seen: u64,
}

/// Whether a generated image finds its source among the validation images; shares in [0, 1].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConditionFidelity {
    /// Validation images to choose from.
    pub candidates: Taken,
    /// By the encoder.
    pub top1: Figure,
    /// 1 / candidates.
    pub chance: Figure,
    /// By the encoder, generated without a condition.
    pub top1_null: Figure,
    /// By the encoder, of images that went only through the autoencoder: the ceiling.
    pub top1_autoencoder: Figure,
    /// By correlation of pixels.
    pub pixel_top1: Figure,
    /// By correlation of pixels, generated without a condition.
    pub pixel_top1_null: Figure,
}

/// Two sets of images and what sees them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sets {
    /// What made the features, e.g. `dino:` and a hash.
    pub extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    pub self_referential: bool,
    /// Generated images compared.
    pub samples: Taken,
    /// Training images compared: as many, where there are as many.
    pub images: Taken,
    /// Training images on each side of a comparison of real images with real ones, of other patients.
    pub real_vs_real_images: u64,
}

/// Fréchet distance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrechetFigures {
    /// At least 0, in squared feature units.
    pub value: Figure,
    /// The same distance between real images: what no generator can be expected to beat.
    pub real_vs_real: Figure,
    /// Of what.
    pub sets: Sets,
}

/// Kernel distance over subsets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelFigures {
    /// Mean.
    pub value: Figure,
    /// Standard deviation.
    pub std: Figure,
    /// Images in a subset.
    pub subset_size: u64,
    /// The mean between real images: 0 but for chance.
    pub real_vs_real: Figure,
    /// Of what.
    pub sets: Sets,
}

/// Overlap of the real and the generated set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CoverageFigures {
    /// Of generated images with real ones.
    pub overlap: Overlap,
    /// Of real images with real ones.
    pub real_vs_real: Overlap,
    /// Of what.
    pub sets: Sets,
}

/// How a set overlaps with a set of real images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overlap {
    /// Share of the set near a real image.
    pub precision: Figure,
    /// Share of the real images near one of the set.
    pub recall: Figure,
    /// As precision, less swayed by outliers; about 1 is best.
    pub density: Figure,
    /// As recall, less swayed by outliers.
    pub coverage: Figure,
}

/// How unlike the images of a set are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiversityFigures {
    /// Of generated images: mean over pairs; lower is more diverse.
    pub ms_ssim: Figure,
    /// Of real images: mean over as many pairs.
    pub ms_ssim_real: Figure,
    /// Scales that fit the images.
    pub scales: u64,
    /// Pairs of generated images.
    pub pairs: u64,
    /// Generated images that pairs are of.
    pub samples: Taken,
    /// Training images that pairs are of.
    pub images: Taken,
}

/// Likeness to the nearest training image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NearestTrain {
    /// Of generated images.
    pub samples: Likeness,
    /// Of validation images: what likeness there is without copying.
    pub valid: Likeness,
    /// Generated images above the 99th percentile of the validation images; one in a hundred is chance.
    pub above_valid_p99: Figure,
    /// Generated images with a nearest one.
    pub num_samples: Taken,
    /// Validation images with a nearest one.
    pub num_valid: Taken,
    /// Training images to be near to.
    pub num_train: Taken,
}

/// Pearson correlation of images with the training image most like each, padding left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Likeness {
    /// Over the images.
    pub mean: Figure,
    /// Half of the images are below.
    pub median: Figure,
    /// 95 of 100 images are below.
    pub p95: Figure,
    /// 99 of 100 images are below.
    pub p99: Figure,
    /// Of the image for which it is greatest.
    pub max: Figure,
}

/// How many images a figure stands on, of those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Looked at.
    pub used: u64,
    /// There to be looked at.
    pub available: u64,
}

impl Taken {
    /// `used` of `available`.
    pub fn new(used: usize, available: usize) -> Self {
        Self { used: used as u64, available: available as u64 }
    }
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageTime {
    /// The stage.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: Figure,
    /// Images a second, for stages that go through images.
    pub images_per_second: Figure,
}
