//! What each figure means, in words for who reads the page.

use super::html::{count, number, percent};
use super::{Figure, Report};

/// A headline.
pub(super) struct Tile {
    pub(super) label: &'static str,
    /// The number, or a dash.
    pub(super) value: String,
    /// Why there is no number.
    pub(super) reason: Option<String>,
    /// What to hold it against: name and value.
    pub(super) beside: Vec<(&'static str, String)>,
    pub(super) meaning: String,
    /// For shares in [0, 1].
    pub(super) meter: Option<Meter>,
}

/// A bar from 0 to 1 with marks on it.
pub(super) struct Meter {
    pub(super) value: f64,
    pub(super) marks: Vec<f64>,
}

/// Figures that belong together.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) rows: Vec<Row>,
}

/// A figure with its definition.
pub(super) struct Row {
    /// Where `report.json` has it.
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) value: String,
    /// Why there is no value.
    pub(super) reason: Option<String>,
    pub(super) definition: String,
}

/// The headline figures, each beside its chance level or reference.
pub(super) fn tiles(report: &Report) -> Vec<Tile> {
    let Report { condition_fidelity: fidelity, frechet_distance: frechet, .. } = report;
    let Report { autoencoder, denoiser, coverage, encoder, nearest_train, .. } = report;
    let share = |figure: &Figure| shown(figure, percent);
    let plain = |figure: &Figure| shown(figure, number);
    let loss = &denoiser.validation_loss_last;
    vec![
        Tile {
            label: "Condition fidelity",
            value: share(&fidelity.top1),
            reason: reason(&fidelity.top1),
            beside: vec![
                ("Chance", share(&fidelity.chance)),
                ("Without a condition", share(&fidelity.top1_null)),
                ("Autoencoder alone (ceiling)", share(&fidelity.top1_autoencoder)),
            ],
            meaning: format!(
                "How often an image generated from one radiograph is closest to that very radiograph \
                 among {}, as the encoder sees them.",
                count(fidelity.candidates)
            ),
            meter: meter(&fidelity.top1, &[&fidelity.chance, &fidelity.top1_autoencoder]),
        },
        Tile {
            label: "Condition fidelity by pixels",
            value: share(&fidelity.pixel_top1),
            reason: reason(&fidelity.pixel_top1),
            beside: vec![
                ("Chance", share(&fidelity.chance)),
                ("Without a condition", share(&fidelity.pixel_top1_null)),
            ],
            meaning:
                "The same question decided by comparing pixels, so that the encoder is not its \
                      own only judge."
                    .into(),
            meter: meter(&fidelity.pixel_top1, &[&fidelity.chance]),
        },
        Tile {
            label: "Reconstruction, PSNR",
            value: shown(&autoencoder.psnr_db, |value| format!("{value:.1}\u{a0}dB")),
            reason: reason(&autoencoder.psnr_db),
            beside: vec![("MS-SSIM (1 is equal)", plain(&autoencoder.ms_ssim))],
            meaning: "How much of a radiograph survives the autoencoder, which bounds every image \
                      made here. 6 dB more is half the error."
                .into(),
            meter: None,
        },
        Tile {
            label: "Denoiser validation loss",
            value: plain(loss),
            reason: reason(loss),
            beside: vec![
                ("Before training", plain(&denoiser.validation_loss_first)),
                ("Share of that left", ratio(loss, &denoiser.validation_loss_first)),
                ("Images seen", count(denoiser.images_seen)),
            ],
            meaning: "The error on held-out images, with fixed noise. Lower is better.".into(),
            meter: None,
        },
        Tile {
            label: "Fréchet distance",
            value: plain(&frechet.value),
            reason: reason(&frechet.value),
            beside: vec![("Two halves of the real images", plain(&frechet.real_vs_real))],
            meaning: format!(
                "How far the generated images as a whole are from the real ones; 0 is best.{}",
                if frechet.self_referential {
                    " Judged by this run's own encoder: compare with nothing outside this run."
                } else {
                    ""
                }
            ),
            meter: None,
        },
        Tile {
            label: "Coverage",
            value: share(&coverage.coverage),
            reason: reason(&coverage.coverage),
            beside: vec![
                ("Precision", share(&coverage.precision)),
                ("Recall", share(&coverage.recall)),
                ("Density (about 1 is best)", plain(&coverage.density)),
            ],
            meaning:
                "Share of the real images that have a generated one in their neighbourhood: is \
                      the variety there?"
                    .into(),
            meter: meter(&coverage.coverage, &[]),
        },
        Tile {
            label: "Encoder, nearest neighbours",
            value: share(&encoder.knn_accuracy),
            reason: reason(&encoder.knn_accuracy),
            beside: vec![
                ("Chance", percent(0.5)),
                ("Untrained encoder", share(&encoder.knn_accuracy_untrained)),
            ],
            meaning:
                "How well an image's nearest neighbours tell its labels, though the encoder was \
                      trained without any."
                    .into(),
            meter: meter(
                &encoder.knn_accuracy,
                &[&Figure::Known(0.5), &encoder.knn_accuracy_untrained],
            ),
        },
        Tile {
            label: "Nearest training image",
            value: plain(&nearest_train.max_pearson),
            reason: reason(&nearest_train.max_pearson),
            beside: vec![("Real held-out images", plain(&nearest_train.max_pearson_test_vs_train))],
            meaning:
                "Correlation with the most similar training image, mean over the images. Clearly above the held-out \
                      images' own would be a sign of copying."
                    .into(),
            meter: None,
        },
    ]
}

/// Every figure with its definition, in the order of `report.json`.
pub(super) fn groups(report: &Report) -> Vec<Group> {
    let Report { encoder, autoencoder, denoiser, condition_fidelity: fidelity, .. } = report;
    let Report { frechet_distance: frechet, kernel_distance: kernel, .. } = report;
    let Report { coverage, diversity, nearest_train, .. } = report;
    vec![
        Group {
            title: "Encoder",
            rows: vec![
                row(
                    "encoder.effective_rank",
                    "Effective rank",
                    &encoder.effective_rank,
                    number,
                    "Directions that the embeddings use: the exponential of the entropy of their \
                     singular values. 1 is a line, 0 a collapse; more is better.",
                ),
                row(
                    "encoder.mean_cosine",
                    "Mean cosine",
                    &encoder.mean_cosine,
                    number,
                    "Over pairs of different images. Close to 1, all images look alike to the encoder.",
                ),
                row(
                    "encoder.knn_accuracy",
                    "Neighbour accuracy",
                    &encoder.knn_accuracy,
                    percent,
                    "Balanced accuracy of labels voted by the nearest training images (cosine), mean \
                     over labels. Chance is 50 %.",
                ),
                row(
                    "encoder.knn_accuracy_untrained",
                    "Neighbour accuracy, untrained",
                    &encoder.knn_accuracy_untrained,
                    percent,
                    "The same with the weights before training: what the architecture alone gives.",
                ),
            ],
        },
        Group {
            title: "Autoencoder",
            rows: vec![
                row(
                    "autoencoder.psnr_db",
                    "PSNR, dB",
                    &autoencoder.psnr_db,
                    |value| format!("{value:.1}"),
                    "Peak signal-to-noise ratio of validation images after encoding (posterior mean) and \
                     decoding, range 1, padding left out, mean over images. More is better.",
                ),
                row(
                    "autoencoder.ms_ssim",
                    "MS-SSIM",
                    &autoencoder.ms_ssim,
                    number,
                    "Multi-scale structural similarity of the same pairs; 1 is equal.",
                ),
            ],
        },
        Group {
            title: "Denoiser",
            rows: vec![
                row(
                    "denoiser.validation_loss.first",
                    "Validation loss, first",
                    &denoiser.validation_loss_first,
                    number,
                    "Unweighted, fixed noise and timesteps, before any training step.",
                ),
                row(
                    "denoiser.validation_loss.last",
                    "Validation loss, last",
                    &denoiser.validation_loss_last,
                    number,
                    "The same at the end, with the moving average of the weights. Less is better.",
                ),
                known(
                    "denoiser.images_seen",
                    "Images seen",
                    count(denoiser.images_seen),
                    "Training images, counted over all passes.",
                ),
            ],
        },
        Group {
            title: "Condition fidelity",
            rows: vec![
                known(
                    "condition_fidelity.candidates",
                    "Candidates",
                    count(fidelity.candidates),
                    "Validation images that a generated image chooses from.",
                ),
                row(
                    "condition_fidelity.top1",
                    "Top-1",
                    &fidelity.top1,
                    percent,
                    "Generated images whose embedding is nearest to their own source's: cosine after \
                     subtracting the candidates' mean; ties are misses. Guidance 1.",
                ),
                row(
                    "condition_fidelity.chance",
                    "Chance",
                    &fidelity.chance,
                    percent,
                    "One over the candidates.",
                ),
                row(
                    "condition_fidelity.top1_null",
                    "Top-1, null condition",
                    &fidelity.top1_null,
                    percent,
                    "The same without a condition. Should be near chance.",
                ),
                row(
                    "condition_fidelity.top1_autoencoder",
                    "Top-1, autoencoder only",
                    &fidelity.top1_autoencoder,
                    percent,
                    "The same for sources that went only through the autoencoder: the ceiling.",
                ),
                row(
                    "condition_fidelity.pixel_top1",
                    "Top-1 by pixels",
                    &fidelity.pixel_top1,
                    percent,
                    "By Pearson correlation at 64 × 64 over unpadded pixels instead of the encoder.",
                ),
                row(
                    "condition_fidelity.pixel_top1_null",
                    "Top-1 by pixels, null condition",
                    &fidelity.pixel_top1_null,
                    percent,
                    "The same without a condition.",
                ),
            ],
        },
        Group {
            title: "Generated and real images as sets",
            rows: vec![
                row(
                    "frechet_distance.value",
                    "Fréchet distance",
                    &frechet.value,
                    number,
                    &format!(
                        "Between normal distributions fitted to the features of {} generated images \
                         and of the real ones. Features: {}. Less is better.",
                        count(frechet.samples),
                        features(&frechet.extractor, frechet.self_referential),
                    ),
                ),
                row(
                    "frechet_distance.real_vs_real",
                    "Fréchet distance, real to real",
                    &frechet.real_vs_real,
                    number,
                    "The same between two halves of the real images: no generator can be expected to \
                     do better.",
                ),
                row(
                    "kernel_distance.value",
                    "Kernel distance",
                    &kernel.value,
                    number,
                    &format!(
                        "Unbiased squared maximum mean discrepancy with a cubic kernel (KID), mean \
                         over random subsets. Features: {}. 0 is best; it may fall a little below.",
                        features(&kernel.extractor, kernel.self_referential),
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
                    "coverage.precision",
                    "Precision",
                    &coverage.precision,
                    percent,
                    &format!(
                        "Generated images that lie in the neighbourhood of a real one: are they \
                         plausible? Features of this and the next three: {}.",
                        features(&coverage.extractor, coverage.self_referential),
                    ),
                ),
                row(
                    "coverage.recall",
                    "Recall",
                    &coverage.recall,
                    percent,
                    "Real images that lie in the neighbourhood of a generated one: are they reachable?",
                ),
                row(
                    "coverage.density",
                    "Density",
                    &coverage.density,
                    number,
                    "As precision, counting how many neighbourhoods; about 1 for equal sets.",
                ),
                row(
                    "coverage.coverage",
                    "Coverage",
                    &coverage.coverage,
                    percent,
                    "Real images with a generated one in their neighbourhood.",
                ),
                row(
                    "diversity.ms_ssim",
                    "Likeness among generated images",
                    &diversity.ms_ssim,
                    number,
                    &format!(
                        "MS-SSIM over pairs of generated images, {} scales. Less is more diverse.",
                        diversity.scales
                    ),
                ),
            ],
        },
        Group {
            title: "Memorisation, a first look",
            rows: vec![
                row(
                    "nearest_train.max_pearson",
                    "Nearest training image",
                    &nearest_train.max_pearson,
                    number,
                    "Pearson correlation of generated images with the most similar training image.",
                ),
                row(
                    "nearest_train.max_pearson_test_vs_train",
                    "Held-out to training images",
                    &nearest_train.max_pearson_test_vs_train,
                    number,
                    "The same for real held-out images: the likeness there is without copying.",
                ),
            ],
        },
    ]
}

/// What made the features, and whether it judges itself.
fn features(extractor: &str, is_own: bool) -> String {
    let name = if extractor.is_empty() { "none" } else { extractor };
    format!("{name}{}", if is_own { ", this run's own encoder" } else { "" })
}

fn shown(figure: &Figure, format: impl Fn(f64) -> String) -> String {
    figure.value().map_or("–".to_owned(), format)
}

fn reason(figure: &Figure) -> Option<String> {
    match figure {
        Figure::Known(_) => None,
        Figure::Missing(reason) => Some(reason.clone()),
    }
}

fn meter(figure: &Figure, marks: &[&Figure]) -> Option<Meter> {
    let marks = marks.iter().filter_map(|mark| mark.value()).collect();
    figure.value().map(|value| Meter { value, marks })
}

fn ratio(part: &Figure, whole: &Figure) -> String {
    match (part.value(), whole.value()) {
        (Some(part), Some(whole)) if whole > 0.0 => percent(part / whole),
        _ => "–".to_owned(),
    }
}

fn row(
    key: &'static str,
    name: &'static str,
    figure: &Figure,
    format: impl Fn(f64) -> String,
    definition: &str,
) -> Row {
    let (value, reason) = (shown(figure, format), reason(figure));
    Row { key, name, value, reason, definition: definition.to_owned() }
}

fn known(key: &'static str, name: &'static str, value: String, definition: &str) -> Row {
    Row { key, name, value, reason: None, definition: definition.to_owned() }
}
