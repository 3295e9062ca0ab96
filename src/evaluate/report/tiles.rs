//! The headline figures, in words for who reads the page.

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
                count(fidelity.candidates.used)
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
            beside: vec![("Real images of other patients", plain(&frechet.real_vs_real))],
            meaning: format!(
                "How far the generated images as a whole are from the real ones; 0 is best.{}",
                if frechet.sets.self_referential {
                    " Judged by this run's own encoder: compare with nothing outside this run."
                } else {
                    ""
                }
            ),
            meter: None,
        },
        Tile {
            label: "Coverage",
            value: share(&coverage.overlap.coverage),
            reason: reason(&coverage.overlap.coverage),
            beside: vec![
                ("Real images of other patients", share(&coverage.real_vs_real.coverage)),
                ("Precision", share(&coverage.overlap.precision)),
                ("Recall", share(&coverage.overlap.recall)),
                ("Density (about 1 is best)", plain(&coverage.overlap.density)),
            ],
            meaning:
                "Share of the real images that have a generated one in their neighbourhood: is \
                      the variety there? Of as many real as generated images."
                    .into(),
            meter: meter(&coverage.overlap.coverage, &[&coverage.real_vs_real.coverage]),
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
            value: plain(&nearest_train.samples.mean),
            reason: reason(&nearest_train.samples.mean),
            beside: vec![
                ("Real held-out images", plain(&nearest_train.valid.mean)),
                ("Most alike of all", plain(&nearest_train.samples.max)),
                ("Held-out, most alike of all", plain(&nearest_train.valid.max)),
                ("Above 99 % of the held-out", shown(&nearest_train.above_valid_p99, whole)),
            ],
            meaning: format!(
                "Correlation with the most similar training image, padding left out, mean over {} \
                 images. More than one in a hundred above 99 % of the held-out images would be a \
                 sign of copying.",
                count(nearest_train.num_samples.used)
            ),
            meter: None,
        },
    ]
}

pub(super) fn shown(figure: &Figure, format: impl Fn(f64) -> String) -> String {
    figure.value().map_or("–".to_owned(), format)
}

pub(super) fn reason(figure: &Figure) -> Option<String> {
    match figure {
        Figure::Known(_) => None,
        Figure::Missing(reason) => Some(reason.clone()),
    }
}

/// A count that is a figure: it may be missing.
pub(super) fn whole(value: f64) -> String {
    count(value as u64)
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
