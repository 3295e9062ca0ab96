//! Condition fidelity: does an image drawn from E(x) show x, and not just anybody?

use super::{BETWEEN, Looks, Measure, at_least};
use crate::data::catalog::PatientKey;
use crate::data::image::{Gray, Square};
use crate::data::picture::{self, Contents, Depth, Provenance};
use crate::diffusion::Guidance;
use crate::evaluate::evidence::Evidence;
use crate::evaluate::eye::embedded;
use crate::evaluate::finding::{Figure, Finding, Meter, Taken, Tile};
use crate::evaluate::images::BATCH;
use crate::evaluate::report::Picture;
use crate::evaluate::words::{count, of, percent};
use crate::metric::bootstrap::interval_of_mean;
use crate::metric::retrieval::nearest_by_cosine;
use crate::metric::{self, Features};
use crate::models::autoencoder::Autoencoder;
use crate::models::images::{stack, to_images, with_channels};
use crate::random::{Permutation, Stream};
use crate::sample::generate::{Generator, Request};
use crate::sample::manifold::check_drawing;
use crate::sample::sampler::Sampler;
use crate::telemetry::Watch;
use anyhow::Result;
use burn::tensor::Device;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Side of the thumbnails that pixels are compared at.
pub const THUMBNAIL: usize = 64;

/// Candidates shown in the report.
const SHOWN: usize = 24;

/// Settings of condition fidelity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionFidelity {
    /// Validation images to tell apart; chance is one over it.
    pub candidates: usize,
    /// From noise to image.
    pub sampler: Sampler,
    /// How the condition guides.
    pub guidance: Guidance,
}

impl Default for ConditionFidelity {
    fn default() -> Self {
        Self { candidates: 128, sampler: Sampler::default(), guidance: Guidance::None }
    }
}

/// One candidate.
struct Candidate {
    square: Square,
    /// Whose it is.
    patient: PatientKey,
    /// Its condition tokens.
    tokens: Vec<f32>,
    /// The noise's seed.
    seed: u64,
}

impl Measure for ConditionFidelity {
    fn name(&self) -> &'static str {
        "ConditionFidelity"
    }

    fn key(&self) -> String {
        let mut key = "condition_fidelity".to_owned();
        if !matches!(self.sampler, Sampler::Ddim(_)) {
            let (name, steps) = (self.sampler.name().to_lowercase(), self.sampler.num_steps());
            key.push_str(&format!("_{name}_{steps}"));
        }
        if self.guidance != Guidance::None {
            let (name, scale) = (self.guidance.name().to_lowercase(), self.guidance.strength());
            key.push_str(&format!("_{name}_{scale}"));
        }
        key
    }

    fn faults(&self) -> Vec<String> {
        let drawing = check_drawing(&self.sampler, &self.guidance);
        drawing.into_iter().chain(at_least("candidates", self.candidates, 2)).collect()
    }

    fn draws(&self) -> Option<(&Sampler, &Guidance)> {
        Some((&self.sampler, &self.guidance))
    }

    fn looks(&self) -> Looks {
        Looks::Nowhere
    }

    /// With and without the condition.
    fn num_evaluations(&self) -> usize {
        let guided = if self.guidance == Guidance::None { 1 } else { 2 };
        (1 + guided) * self.candidates * self.sampler.num_evaluations()
    }

    /// Draws an image for every candidate and looks whose it is.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let candidates = candidates(self.candidates, evidence)?;
        let taken = Taken::new(candidates.len(), evidence.valid.len());
        let size = candidates.first().map_or(0, |candidate| candidate.square.size);
        let real: Vec<&[f32]> =
            candidates.iter().map(|candidate| &candidate.square.pixels[..]).collect();
        let (encoder, _) = evidence.encoder;
        let real_embeddings = encoder.embed(&real, size, BATCH)?;
        let generator = Generator { sampler: self.sampler.clone(), ..*evidence.generator };
        let watch = Watch::new("fidelity", 0, 2 * candidates.len() as u64);
        let [drawn, of_null] = [true, false].map(|with_condition| -> Result<Vec<Vec<f32>>> {
            let mut images = Vec::new();
            for batch in candidates.chunks(BATCH) {
                let request = |candidate: &Candidate| Request {
                    tokens: with_condition.then(|| candidate.tokens.clone()),
                    seed: candidate.seed,
                };
                let requests: Vec<Request> = batch.iter().map(request).collect();
                let guidance = if with_condition { &self.guidance } else { &Guidance::None };
                images.extend(generator.images(&requests, guidance)?);
                watch.advance(batch.len() as u64)?;
            }
            Ok(images)
        });
        let (drawn, of_null) = (drawn?, of_null?);
        drop(watch);
        let mut of_autoencoder = Vec::new();
        for batch in real.chunks(BATCH) {
            metric::unless_stopped()?;
            of_autoencoder.extend(restored(evidence.autoencoder, batch, size, evidence.device)?);
        }
        let width = encoder.width();
        let patients: Vec<PatientKey> = candidates.iter().map(|it| it.patient).collect();
        let share = |found: &[Option<usize>]| share_of_own(found, &patients, evidence.seed);
        let found = |images: &[Vec<f32>]| -> Result<Figure> {
            let embeddings = embedded(encoder, images, size)?;
            let candidates = Features::new(&real_embeddings, width);
            share(&nearest_by_cosine(Features::new(&embeddings, width), candidates))
        };
        let [top1, top1_null] = [found(&drawn)?, found(&of_null)?];
        let ceiling = found(&of_autoencoder)?;
        let pixel_top1 = share(&pixel_found(&drawn, &candidates))?;
        let pixel_top1_null = share(&pixel_found(&of_null, &candidates))?;
        let chance: Figure = (1.0 / candidates.len() as f64).into();

        let mut finding = Finding::new(self.key(), "Condition fidelity");
        finding.count(
            "candidates",
            taken.used,
            "Candidates",
            format!("A generated image chooses from {}.", of(taken, "validation images")),
        );
        finding.other("candidates_available", taken.available);
        finding.figure(
            "top1",
            &top1,
            percent,
            "Top-1",
            format!(
                "Generated images whose embedding is nearest to their own source's: cosine after \
                 subtracting the candidates' mean; ties are misses. Guidance 1. {BETWEEN} Where all \
                 or none are found, Wilson's interval over patients.",
            ),
        );
        finding.figure("chance", &chance, percent, "Chance", "One over the candidates.");
        finding.figure(
            "top1_null",
            &top1_null,
            percent,
            "Top-1, null condition",
            "The same without a condition. Should be near chance.",
        );
        finding.figure(
            "top1_autoencoder",
            &ceiling,
            percent,
            "Top-1, autoencoder only",
            "The same for sources that went only through the autoencoder: the ceiling.",
        );
        finding.figure(
            "pixel_top1",
            &pixel_top1,
            percent,
            "Top-1 by pixels",
            "By Pearson correlation at 64 × 64 over unpadded pixels instead of the encoder.",
        );
        finding.figure(
            "pixel_top1_null",
            &pixel_top1_null,
            percent,
            "Top-1 by pixels, null condition",
            "The same without a condition.",
        );
        finding.tiles.push(Tile {
            rank: 0,
            label: "Condition fidelity".into(),
            value: top1.shown(percent),
            reason: top1.reason(),
            beside: vec![
                ("Chance".into(), chance.shown(percent)),
                ("Without a condition".into(), top1_null.shown(percent)),
                ("Autoencoder alone (ceiling)".into(), ceiling.shown(percent)),
            ],
            meaning: format!(
                "How often an image generated from one radiograph is closest to that very radiograph \
                 among {}, as the encoder sees them.",
                count(taken.used)
            ),
            meter: Meter::new(&top1, &[&chance, &ceiling]),
        });
        finding.tiles.push(Tile {
            rank: 1,
            label: "Condition fidelity by pixels".into(),
            value: pixel_top1.shown(percent),
            reason: pixel_top1.reason(),
            beside: vec![
                ("Chance".into(), chance.shown(percent)),
                ("Without a condition".into(), pixel_top1_null.shown(percent)),
            ],
            meaning:
                "The same question decided by comparing pixels, so that the encoder is not its \
                      own only judge."
                    .into(),
            meter: Meter::new(&pixel_top1, &[&chance]),
        });
        finding.pictures.push(sheet(&candidates, &drawn, size, evidence)?);
        Ok(finding)
    }
}

/// Validation images to tell apart, chosen by the seed.
fn candidates(count: usize, evidence: &Evidence<'_>) -> Result<Vec<Candidate>> {
    let Evidence { valid: images, latents: [_, valid], seed, .. } = *evidence;
    let noise = Stream::new(seed, "evaluate/noise");
    let order = Permutation::new(images.len() as u64, Stream::new(seed, "evaluate/candidates"), 0);
    let candidate = |at: u64| -> Result<Option<Candidate>> {
        let index = order.apply(at) as usize;
        let Some(image) = images.get_or_skip(index)? else { return Ok(None) };
        let (square, tokens) = (image.square.clone(), valid.tokens(index));
        let patient = images.entries()[index].patient;
        // Its noise is the recipe's own too: replicates must differ in all that is drawn.
        Ok(Some(Candidate { square, patient, tokens, seed: noise.at(at).next_u64() }))
    };
    (0..images.len() as u64).map(candidate).filter_map(Result::transpose).take(count).collect()
}

/// Sources beside what was drawn of them.
fn sheet(
    candidates: &[Candidate],
    drawn: &[Vec<f32>],
    size: usize,
    evidence: &Evidence<'_>,
) -> Result<Picture> {
    let tiles: Vec<&[f32]> = candidates
        .iter()
        .zip(drawn)
        .take(SHOWN)
        .flat_map(|(candidate, drawn)| [&candidate.square.pixels[..], &drawn[..]])
        .collect();
    let sheet = picture::contact_sheet(&tiles, size, 8, 2, &["source", "sample"].repeat(4));
    let contents = Contents::SyntheticAndReal;
    let from = Provenance { contents, recipe: evidence.recipe, seed: evidence.seed };
    Ok(Picture {
        title: "Held-out images, drawn again from their embedding alone".to_owned(),
        caption:
            "Each pair: a validation image that no network has trained on, and what the denoiser \
                  makes of nothing but its embedding and noise."
                .to_owned(),
        png: picture::gray_png(&sheet, Depth::Eight, &from.text())?,
    })
}

/// The share of candidates that were `found` by what was drawn of them, and between which it lies: for other draws of
/// their `patients`, or as Wilson has it where such draws tell nothing.
fn share_of_own(found: &[Option<usize>], patients: &[PatientKey], seed: u64) -> Result<Figure> {
    let share = metric::retrieval::share_found(found, 0..found.len());
    let is_own = |(at, found): (usize, &Option<usize>)| f64::from(u8::from(*found == Some(at)));
    let own: Vec<f64> = found.iter().enumerate().map(is_own).collect();
    let drawn = match 0.0 < share && share < 1.0 {
        true => interval_of_mean(&own, patients, seed)?,
        false => None,
    };
    let num_patients = patients.iter().collect::<BTreeSet<_>>().len();
    let interval = drawn.or_else(|| wilson(share, num_patients));
    Ok(Figure::from(share).within(interval))
}

/// Where the share lies of which `share` was seen in `trials`, with 95 % confidence (Wilson 1927).
fn wilson(share: f64, trials: usize) -> Option<[f64; 2]> {
    let (n, z) = (trials as f64, 1.959_963_984_540_054);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (trials > 0).then_some([centre - half, centre + half])
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

/// For each drawn image its most correlated candidate, over unpadded pixels.
fn pixel_found(drawn: &[Vec<f32>], candidates: &[Candidate]) -> Vec<Option<usize>> {
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
    metric::retrieval::nearest_by(drawn.len(), thumbnails.len(), |query, candidate| {
        // Only pixels that neither source nor candidate pads: the shape of the padding must not tell.
        let (other, mask) = &thumbnails[candidate];
        let masks = [&thumbnails[query].1[..], mask];
        metric::pearson(&drawn[query], other, &masks).unwrap_or(f64::NEG_INFINITY)
    })
}

/// `pixels` of a square at 64 × 64.
pub fn thumbnail(pixels: &[f32], size: usize) -> Vec<f32> {
    Gray { width: size, height: size, pixels: pixels.to_vec() }.resize(THUMBNAIL, THUMBNAIL).pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: scipy.stats.binomtest(51, 128) and (0, 10), their proportion_ci(method="wilson").
    #[test]
    fn the_interval_is_wilsons() {
        let close = |found: Option<[f64; 2]>, expected: [f64; 2]| {
            let found = found.unwrap();
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        close(wilson(51.0 / 128.0, 128), [0.317_775_851_118_985_2, 0.485_017_593_124_071_2]);
        close(wilson(0.0, 10), [0.0, 0.277_532_799_862_889_26]);
        assert_eq!(wilson(0.5, 0), None);
    }

    /// Two images of each patient, either both found or none: as if there were half as many.
    #[test]
    fn patients_count_not_images() {
        let patients: Vec<PatientKey> = (0..60).map(|at| PatientKey([at / 2; 16])).collect();
        let found: Vec<Option<usize>> = (0..60).map(|at| (at / 2 % 2 == 0).then_some(at)).collect();
        let width = |patients: &[PatientKey]| {
            let share = share_of_own(&found, patients, 1).unwrap();
            let [low, high] = share.interval().unwrap();
            assert!(share.value() == Some(0.5) && low < 0.5 && 0.5 < high);
            high - low
        };
        let strangers: Vec<PatientKey> = (0..60).map(|at| PatientKey([at; 16])).collect();
        let ratio = width(&patients) / width(&strangers);
        assert!((1.2..1.7).contains(&ratio), "{ratio}, expected about the root of two");
        let all: Vec<Option<usize>> = (0..60).map(Some).collect();
        let [low, high] = share_of_own(&all, &patients, 1).unwrap().interval().unwrap();
        assert!(low < 0.9 && (high - 1.0).abs() < 1e-12, "{low} {high}");
    }
}
