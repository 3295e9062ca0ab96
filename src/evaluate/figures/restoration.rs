//! How much of an image survives the autoencoder. Always in the report.

use super::fidelity::restored;
use super::{BETWEEN, Measure, mean};
use crate::data::catalog::PatientKey;
use crate::data::image::Square;
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Figure, Finding, Taken, Tile};
use crate::evaluate::images::{BATCH, map_images};
use crate::evaluate::subset;
use crate::evaluate::words::{number, of};
use crate::metric::bootstrap::interval_of_mean;
use crate::metric::{self, Refusal};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use rayon::prelude::*;

/// Most images looked at: a mean over them is good to a twentieth of a decibel, and decoding is the dearest forward
/// pass there is.
const MOST_IMAGES: usize = 2_000;

pub(super) struct Restoration;

impl Measure for Restoration {
    fn name(&self) -> &'static str {
        "Restoration"
    }

    fn key(&self) -> String {
        "autoencoder".to_owned()
    }

    /// A batch at a time; nothing but its two numbers is kept of an image.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { valid, autoencoder, device, seed, .. } = *evidence;
        let stream = Stream::new(seed, "evaluate/autoencoder");
        let chosen = subset::chosen(stream, valid.len(), MOST_IMAGES);
        let size = valid.size();
        let watch = Watch::new("autoencoder", 0, chosen.len() as u64);
        let mut found = Vec::new();
        for batch in chosen.chunks(BATCH) {
            let squares = map_images(valid, batch, Square::clone)?;
            let pixels: Vec<&[f32]> = squares.iter().map(|square| &square.pixels[..]).collect();
            let restored = restored(autoencoder, &pixels, size, device)?;
            found.par_extend(squares.par_iter().zip(&restored).map(|(square, restored)| {
                let psnr = metric::psnr(&square.pixels, restored, Some(&square.content_mask()));
                (psnr, metric::ms_ssim(&square.pixels, restored, size, size))
            }));
            watch.advance(batch.len() as u64)?;
        }
        let (psnr_db, ms_ssim): (Vec<f64>, Vec<_>) = found.into_iter().unzip();
        let ms_ssim: Result<Vec<f64>, Refusal> =
            ms_ssim.into_iter().map(|found| Ok(found?.value)).collect();
        let patients: Vec<PatientKey> =
            chosen.iter().map(|&at| valid.entries()[at].patient).collect();
        let with_interval = |values: &[f64]| -> Result<Figure> {
            Ok(Figure::from(mean(values)).within(interval_of_mean(values, &patients, seed)?))
        };
        let psnr_db = with_interval(&psnr_db)?;
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
        finding.tiles.push(Tile {
            rank: 2,
            label: "Reconstruction, PSNR".into(),
            value: psnr_db.shown(|value| format!("{value:.1}\u{a0}dB")),
            reason: psnr_db.reason(),
            beside: vec![("MS-SSIM (1 is equal)".into(), ms_ssim.shown(number))],
            meaning: "How much of a radiograph survives the autoencoder, which bounds every image \
                      made here. 6 dB more is half the error."
                .into(),
            meter: None,
        });
        Ok(finding)
    }
}
