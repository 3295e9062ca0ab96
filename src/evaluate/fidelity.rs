//! Condition fidelity: does an image drawn from E(x) show x, and not just anybody?

use crate::data::image::{Gray, Square};
use crate::encode::Embedder;
use crate::metric::{self, Features};
use crate::models::autoencoder::Autoencoder;
use crate::models::images::{stack, to_images, with_channels};
use crate::sample::generate::{Generator, Request};
use anyhow::Result;
use burn::tensor::Device;

/// Side of the thumbnails that pixels are compared at.
pub const THUMBNAIL: usize = 64;

/// Top-1 retrieval rates, each the part of candidates x whose image has x as its nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fidelity {
    /// How many candidates; chance is one over it.
    pub candidates: usize,
    /// From E(x), found by the encoder.
    pub top1: f64,
    /// From the null condition, found by the encoder.
    pub top1_null: f64,
    /// decode(encode(x)), found by the encoder: the ceiling.
    pub top1_autoencoder: f64,
    /// From E(x), found by Pearson correlation of unpadded pixels at 64 × 64.
    pub pixel_top1: f64,
    /// The same from the null condition.
    pub pixel_top1_null: f64,
}

/// One candidate.
pub struct Candidate {
    /// The image.
    pub square: Square,
    /// Its condition tokens.
    pub tokens: Vec<f32>,
    /// The noise's seed.
    pub seed: u64,
}

/// Draws an image for every candidate at guidance 1 and looks whose it is. Also gives the drawn images, in [0, 1].
///
/// Fails where a signal came first.
pub fn measure(
    generator: &Generator<'_>,
    encoder: &Embedder,
    candidates: &[Candidate],
    batch_size: usize,
    mut advance: impl FnMut(usize),
) -> Result<(Fidelity, Vec<Vec<f32>>)> {
    let size = candidates.first().map_or(0, |candidate| candidate.square.size);
    let real: Vec<&[f32]> =
        candidates.iter().map(|candidate| &candidate.square.pixels[..]).collect();
    let real_embeddings = encoder.embed(&real, size, batch_size)?;

    let mut drawn = Vec::new();
    for with_condition in [true, false] {
        let mut images = Vec::new();
        for batch in candidates.chunks(batch_size) {
            metric::unless_stopped()?;
            let requests: Vec<Request> = batch
                .iter()
                .map(|candidate| Request {
                    tokens: with_condition.then(|| candidate.tokens.clone()),
                    seed: candidate.seed,
                })
                .collect();
            images.extend(generator.images(&requests, 1.0)?);
            advance(batch.len());
        }
        drawn.push(images);
    }
    let mut of_autoencoder = Vec::new();
    for batch in real.chunks(batch_size) {
        metric::unless_stopped()?;
        of_autoencoder.extend(restored(generator.autoencoder, batch, size, generator.device)?);
    }

    let width = encoder.width();
    let found = |images: &[Vec<f32>]| -> Result<f64> {
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let embeddings = encoder.embed(&images, size, batch_size)?;
        let candidates = Features::new(&real_embeddings, width);
        Ok(metric::retrieval::top1(Features::new(&embeddings, width), candidates))
    };
    let fidelity = Fidelity {
        candidates: candidates.len(),
        top1: found(&drawn[0])?,
        top1_null: found(&drawn[1])?,
        top1_autoencoder: found(&of_autoencoder)?,
        pixel_top1: pixel_top1(&drawn[0], candidates),
        pixel_top1_null: pixel_top1(&drawn[1], candidates),
    };
    Ok((fidelity, drawn.swap_remove(0)))
}

/// What the autoencoder makes of images of `size` pixels a side (posterior mean), in [0, 1].
pub fn restored(
    autoencoder: &Autoencoder,
    images: &[&[f32]],
    size: usize,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let channels = autoencoder.config().in_channels();
    let images = stack(images.iter().copied(), size, device);
    let latents = autoencoder.encode(with_channels(images * 2.0 - 1.0, channels)).mean;
    Ok(to_images(autoencoder.decode(latents))?)
}

/// The part of drawn images whose most correlated candidate, over unpadded pixels, is their own.
fn pixel_top1(drawn: &[Vec<f32>], candidates: &[Candidate]) -> f64 {
    let thumbnails: Vec<(Vec<f32>, Vec<bool>)> = candidates
        .iter()
        .map(|candidate| {
            let square = &candidate.square;
            let mask = square.content_mask();
            let mask: Vec<f32> =
                mask.into_iter().map(|is_content| f32::from(u8::from(is_content))).collect();
            let mask = thumbnail(&mask, square.size);
            (
                thumbnail(&square.pixels, square.size),
                mask.iter().map(|&share| share > 0.5).collect(),
            )
        })
        .collect();
    let drawn: Vec<Vec<f32>> =
        drawn.iter().zip(candidates).map(|(image, it)| thumbnail(image, it.square.size)).collect();
    let found = metric::retrieval::nearest_by(drawn.len(), thumbnails.len(), |query, candidate| {
        // Only pixels that neither source nor candidate pads: the shape of the padding must not tell.
        let (other, mask) = &thumbnails[candidate];
        let masks = [&thumbnails[query].1[..], mask];
        metric::pearson(&drawn[query], other, &masks).unwrap_or(f64::NEG_INFINITY)
    });
    metric::retrieval::share_found(&found, 0..drawn.len())
}

/// `pixels` of a square at 64 × 64.
pub fn thumbnail(pixels: &[f32], size: usize) -> Vec<f32> {
    Gray { width: size, height: size, pixels: pixels.to_vec() }.resize(THUMBNAIL, THUMBNAIL).pixels
}
