//! How much of an image survives the autoencoder, and at which scale. Always in the report.

use super::fidelity::restored;
use super::{BETWEEN, Measure, mean, texture};
use crate::data::catalog::PatientKey;
use crate::data::image::Square;
use crate::data::picture::{self, Contents, Depth, Provenance};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Figure, Finding, Taken, Tile};
use crate::evaluate::images::{BATCH, map_images};
use crate::evaluate::report::Picture;
use crate::evaluate::subset;
use crate::evaluate::words::{number, of};
use crate::metric::bootstrap::interval_of_mean;
use crate::metric::{self, MsSsim, Refusal, Spectrum};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use rayon::prelude::*;

/// Most images looked at: a mean over them is good to a twentieth of a decibel, and decoding is the dearest forward
/// pass there is.
const MOST_IMAGES: usize = 2_000;
/// The worst of them that are shown.
const SHOWN: usize = 8;
/// How many times a difference is enlarged to be seen.
const ENLARGED: f32 = 4.0;

pub(super) struct Restoration;

/// What is kept of an image.
struct Found {
    psnr: f64,
    ms_ssim: Result<MsSsim, Refusal>,
    /// Of the image, and of what was restored of it.
    spectra: [Result<Spectrum, Refusal>; 2],
}

/// An image that is among the worst.
struct Worst {
    psnr: f64,
    image: Vec<f32>,
    restored: Vec<f32>,
}

impl Measure for Restoration {
    fn name(&self) -> &'static str {
        "Restoration"
    }

    fn key(&self) -> String {
        "autoencoder".to_owned()
    }

    /// A batch at a time; nothing but numbers is kept of an image, unless it is one of the worst.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { valid, autoencoder, device, seed, .. } = *evidence;
        let stream = Stream::new(seed, "evaluate/autoencoder");
        let chosen = subset::chosen(stream, valid.len(), MOST_IMAGES);
        let size = valid.size();
        let watch = Watch::new("autoencoder", 0, chosen.len() as u64);
        let (mut found, mut worst) = (Vec::new(), Vec::new());
        for batch in chosen.chunks(BATCH) {
            let squares = map_images(valid, batch, Square::clone)?;
            let pixels: Vec<&[f32]> = squares.iter().map(|square| &square.pixels[..]).collect();
            let restored = restored(autoencoder, &pixels, size, device)?;
            let first = found.len();
            found.par_extend(
                squares
                    .par_iter()
                    .zip(&restored)
                    .map(|(square, restored)| of_image(square, restored)),
            );
            for ((square, restored), Found { psnr, .. }) in
                squares.into_iter().zip(restored).zip(&found[first..])
            {
                worst.push(Worst { psnr: *psnr, image: square.pixels, restored });
            }
            worst.sort_by(|a, b| a.psnr.total_cmp(&b.psnr));
            worst.truncate(SHOWN);
            watch.advance(batch.len() as u64)?;
        }
        let patients: Vec<PatientKey> =
            chosen.iter().map(|&at| valid.entries()[at].patient).collect();
        let with_interval = |values: &[f64]| -> Result<Figure> {
            Ok(Figure::from(mean(values)).within(interval_of_mean(values, &patients, seed)?))
        };
        let psnr_db: Vec<f64> = found.iter().map(|found| found.psnr).collect();
        let psnr_db = with_interval(&psnr_db)?;
        let ms_ssim: Result<Vec<f64>, Refusal> =
            found.iter().map(|found| Ok(found.ms_ssim.clone()?.value)).collect();
        let ms_ssim = match ms_ssim {
            Ok(values) => with_interval(&values)?,
            Err(refusal) => Err(refusal).into(),
        };
        let images = Taken::new(chosen.len(), valid.len());
        let mut finding = Finding::new(self.key(), "Autoencoder");
        finding.figure(
            "psnr_db",
            &psnr_db,
            |value| format!("{value:.1}"),
            "PSNR, dB",
            format!(
                "Peak signal-to-noise ratio of {} after encoding (posterior mean) and \
                 decoding, range 1, padding left out, mean over images. More is better. {BETWEEN}",
                of(images, "validation images"),
            ),
        );
        finding.figure(
            "ms_ssim",
            &ms_ssim,
            number,
            "MS-SSIM",
            "Multi-scale structural similarity of the same pairs; 1 is equal.",
        );
        finding.taken("images", images);
        let mut spectra = [Vec::new(), Vec::new()];
        for found in found {
            for (side, spectrum) in spectra.iter_mut().zip(found.spectra) {
                side.push(spectrum);
            }
        }
        let [real, restored] = spectra.map(|of| of.into_iter().collect::<Result<Vec<_>, _>>());
        let finest = texture::describe(&mut finding, real, restored, size / 2);
        finding.tiles.push(Tile {
            rank: 2,
            label: "Reconstruction, PSNR".into(),
            value: psnr_db.shown(|value| format!("{value:.1}\u{a0}dB")),
            reason: psnr_db.reason(),
            beside: vec![
                ("MS-SSIM (1 is equal)".into(), ms_ssim.shown(number)),
                ("Finest texture left (1 is all)".into(), finest.shown(number)),
            ],
            meaning: "How much of a radiograph survives the autoencoder, which bounds every image \
                      made here. 6 dB more is half the error."
                .into(),
            meter: None,
        });
        if !worst.is_empty() {
            finding.pictures.push(sheet(&worst, size, evidence)?);
        }
        Ok(finding)
    }
}

fn of_image(square: &Square, restored: &[f32]) -> Found {
    let size = square.size;
    let spectrum = |pixels: &[f32]| {
        let (pixels, side) = metric::spectrum::middle(pixels, size);
        metric::spectrum(&pixels, side)
    };
    Found {
        psnr: metric::psnr(&square.pixels, restored, Some(&square.content_mask())),
        ms_ssim: metric::ms_ssim(&square.pixels, restored, size, size),
        spectra: [spectrum(&square.pixels), spectrum(restored)],
    }
}

/// The worst images, each with what was restored of it and the difference.
fn sheet(worst: &[Worst], size: usize, evidence: &Evidence<'_>) -> Result<Picture> {
    let mut tiles = Vec::new();
    for Worst { image, restored, .. } in worst {
        let difference =
            image.iter().zip(restored).map(|(a, b)| (0.5 + ENLARGED * (b - a)).clamp(0.0, 1.0));
        let difference = difference.collect();
        tiles.extend([image.clone(), restored.clone(), difference]);
    }
    let headings = ["image", "restored", "difference"].repeat(2);
    let sheet = picture::contact_sheet(&tiles, size, 6, 2, &headings);
    let contents = Contents::SyntheticAndReal;
    let from = Provenance { contents, recipe: evidence.recipe, seed: evidence.seed };
    let decibels: Vec<String> = worst.iter().map(|it| format!("{:.1}", it.psnr)).collect();
    Ok(Picture {
        title: "What the autoencoder restores worst".to_owned(),
        caption: format!(
            "The validation images of the lowest PSNR ({} dB, in order), what the autoencoder makes of them, and \
             the difference, {ENLARGED} times enlarged: grey where there is none, bright where too much was restored.",
            decibels.join(", ")
        ),
        png: picture::gray_png(&sheet, Depth::Eight, &from.text())?,
    })
}
