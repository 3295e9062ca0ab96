//! How much of an image survives the autoencoder.

use super::images::map_images;
use super::{Run, figure, mean};
use crate::data::image::Square;
use crate::data::radiographs::Radiographs;
use crate::evaluate::fidelity::restored;
use crate::evaluate::report::{AutoencoderFigures, Taken};
use crate::evaluate::subset;
use crate::metric::{self, Refusal};
use crate::models::autoencoder::Autoencoder;
use crate::random::Stream;
use crate::stages::sample::BATCH;
use crate::telemetry::progress;
use anyhow::Result;
use rayon::prelude::*;

/// Most images looked at: a mean over them is good to a twentieth of a decibel, and decoding is the dearest forward
/// pass there is.
const MOST_IMAGES: usize = 2_000;

impl Run {
    /// A batch at a time; nothing but its two numbers is kept of an image. Fails where a signal came first.
    pub(super) fn autoencoder_figures(
        &self,
        autoencoder: &Autoencoder,
        valid: &Radiographs,
    ) -> Result<AutoencoderFigures> {
        let stream = Stream::new(self.recipe.seed, "evaluate/autoencoder");
        let chosen = subset::chosen(stream, valid.len(), MOST_IMAGES);
        let (size, device) = (valid.size(), &self.place.device);
        let bar = progress::bar("autoencoder", 0, chosen.len() as u64);
        let mut found = Vec::new();
        for batch in chosen.chunks(BATCH) {
            metric::unless_stopped()?;
            let squares = map_images(valid, batch, Square::clone)?;
            let pixels: Vec<&[f32]> = squares.iter().map(|square| &square.pixels[..]).collect();
            let restored = restored(autoencoder, &pixels, size, device)?;
            found.par_extend(squares.par_iter().zip(&restored).map(|(square, restored)| {
                let psnr = metric::psnr(&square.pixels, restored, Some(&square.content_mask()));
                (psnr, metric::ms_ssim(&square.pixels, restored, size, size))
            }));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        let (psnr_db, ms_ssim): (Vec<f64>, Vec<_>) = found.into_iter().unzip();
        let ms_ssim: Result<Vec<f64>, Refusal> =
            ms_ssim.into_iter().map(|found| Ok(found?.value)).collect();
        Ok(AutoencoderFigures {
            psnr_db: mean(&psnr_db).into(),
            ms_ssim: figure(ms_ssim.map(|values| mean(&values))),
            images: Taken::new(chosen.len(), valid.len()),
        })
    }
}
