//! What each figure means, in words for who reads the page.

mod memorisation;
mod sets;

use super::html::{count, number, percent};
use super::tiles::{reason, shown};
use super::{Figure, Report, Taken};

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

/// Every figure with its definition, in the order of `report.json`.
pub(super) fn groups(report: &Report) -> Vec<Group> {
    let Report { encoder, autoencoder, denoiser, condition_fidelity: fidelity, .. } = report;
    vec![
        Group {
            title: "Encoder",
            rows: vec![
                row(
                    "encoder.effective_rank",
                    "Effective rank",
                    &encoder.effective_rank,
                    number,
                    &format!(
                        "Directions that the embeddings of {} use: the exponential of the entropy of \
                         their singular values. 1 is a line, 0 a collapse; more is better.",
                        of(encoder.images, "validation images"),
                    ),
                ),
                row(
                    "encoder.mean_cosine",
                    "Mean cosine",
                    &encoder.mean_cosine,
                    number,
                    "Over pairs of different ones of these. Close to 1, all images look alike to the \
                     encoder.",
                ),
                row(
                    "encoder.knn_accuracy",
                    "Neighbour accuracy",
                    &encoder.knn_accuracy,
                    percent,
                    &format!(
                        "Balanced accuracy of labels voted by the nearest images of other patients \
                         (cosine), mean over labels, among {}. Chance is 50 %.",
                        of(encoder.knn_images, "training and validation images with a label"),
                    ),
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
                    &format!(
                        "Peak signal-to-noise ratio of {} after encoding (posterior mean) and \
                         decoding, range 1, padding left out, mean over images. More is better.",
                        of(autoencoder.images, "validation images"),
                    ),
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
                    count(fidelity.candidates.used),
                    &format!(
                        "A generated image chooses from {}.",
                        of(fidelity.candidates, "validation images"),
                    ),
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
        Group { title: "Generated and real images as sets", rows: sets::rows(report) },
        Group {
            title: "Memorisation, a first look",
            rows: memorisation::rows(&report.nearest_train),
        },
    ]
}

/// `all 128 validation images` or `1 000 of 1 024 training images`.
fn of(taken: Taken, what: &str) -> String {
    let Taken { used, available } = taken;
    match used == available {
        true => format!("all {} {what}", count(used)),
        false => format!("{} of {} {what}", count(used), count(available)),
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
