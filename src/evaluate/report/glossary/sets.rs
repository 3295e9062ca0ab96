//! Distances between sets of images, and how unlike the images of a set are.

use super::super::html::{count, number, percent};
use super::super::{Report, Sets};
use super::{Row, of, row};

pub(super) fn rows(report: &Report) -> Vec<Row> {
    let Report { frechet_distance: frechet, kernel_distance: kernel, .. } = report;
    let Report { coverage, diversity, .. } = report;
    vec![
        row(
            "frechet_distance.value",
            "Fréchet distance",
            &frechet.value,
            number,
            &format!(
                "Between normal distributions fitted to the features of {}. Less is better; \
                 fewer images make it greater.",
                compared(&frechet.sets),
            ),
        ),
        row(
            "frechet_distance.real_vs_real",
            "Fréchet distance, real to real",
            &frechet.real_vs_real,
            number,
            &format!(
                "The same {}: no generator can be expected to do better.",
                floor(&frechet.sets),
            ),
        ),
        row(
            "kernel_distance.value",
            "Kernel distance",
            &kernel.value,
            number,
            &format!(
                "Unbiased squared maximum mean discrepancy with a cubic kernel (KID), mean \
                 over random subsets of {}, between {}. 0 is best; it may fall a little below.",
                count(kernel.subset_size),
                compared(&kernel.sets),
            ),
        ),
        row(
            "kernel_distance.std",
            "Kernel distance, deviation",
            &kernel.std,
            number,
            "Standard deviation over the subsets.",
        ),
        row(
            "kernel_distance.real_vs_real",
            "Kernel distance, real to real",
            &kernel.real_vs_real,
            number,
            &format!("The mean {}: 0 but for chance.", floor(&kernel.sets)),
        ),
        row(
            "coverage.precision",
            "Precision",
            &coverage.overlap.precision,
            percent,
            &format!(
                "Generated images that lie in the neighbourhood of a real one: are they \
                 plausible? This and the next three of {}.",
                compared(&coverage.sets),
            ),
        ),
        row(
            "coverage.recall",
            "Recall",
            &coverage.overlap.recall,
            percent,
            "Real images that lie in the neighbourhood of a generated one: are they reachable?",
        ),
        row(
            "coverage.density",
            "Density",
            &coverage.overlap.density,
            number,
            "As precision, counting how many neighbourhoods; about 1 for equal sets.",
        ),
        row(
            "coverage.coverage",
            "Coverage",
            &coverage.overlap.coverage,
            percent,
            "Real images with a generated one in their neighbourhood.",
        ),
        row(
            "coverage.real_vs_real.precision",
            "Precision, real to real",
            &coverage.real_vs_real.precision,
            percent,
            &format!(
                "This and the next three: the same {}. What a perfect generator would reach.",
                floor(&coverage.sets),
            ),
        ),
        row(
            "coverage.real_vs_real.recall",
            "Recall, real to real",
            &coverage.real_vs_real.recall,
            percent,
            "See above.",
        ),
        row(
            "coverage.real_vs_real.density",
            "Density, real to real",
            &coverage.real_vs_real.density,
            number,
            "See above.",
        ),
        row(
            "coverage.real_vs_real.coverage",
            "Coverage, real to real",
            &coverage.real_vs_real.coverage,
            percent,
            "See above.",
        ),
        row(
            "diversity.ms_ssim",
            "Likeness among generated images",
            &diversity.ms_ssim,
            number,
            &format!(
                "MS-SSIM over {} pairs of {}, {} scales. Less is more diverse.",
                count(diversity.pairs),
                of(diversity.samples, "generated images"),
                diversity.scales
            ),
        ),
        row(
            "diversity.ms_ssim_real",
            "Likeness among real images",
            &diversity.ms_ssim_real,
            number,
            &format!(
                "The same of {}: more than this, and the generated images are less diverse \
                 than the real ones.",
                of(diversity.images, "training images"),
            ),
        ),
    ]
}

/// What is compared, and what sees it.
fn compared(sets: &Sets) -> String {
    let extractor = if sets.extractor.is_empty() { "none" } else { &sets.extractor };
    let is_own = if sets.self_referential { ", this run's own encoder" } else { "" };
    format!(
        "{} and {} (features: {extractor}{is_own})",
        of(sets.samples, "generated images"),
        of(sets.images, "training images"),
    )
}

/// What stands beside it.
fn floor(sets: &Sets) -> String {
    let images = count(sets.real_vs_real_images);
    format!("between {images} training images and {images} of other patients")
}
