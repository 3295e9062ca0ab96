//! The evaluate stage: figures, pictures and curves into one report.

mod curves;
mod encoder;
mod sheets;

use super::features::{DIGITS, Sets};
use super::{Ended, Run, Stage, Timing, sampling, text};
use crate::artifact::Stamp;
use crate::data::radiographs::{Radiographs, Sample};
use crate::encode::Latents;
use crate::evaluate::fidelity::{self, Candidate, Fidelity};
use crate::evaluate::report::{
    AutoencoderFigures, ConditionFidelity, CoverageFigures, DenoiserFigures, DiversityFigures,
    Figure, FrechetFigures, KernelFigures, NearestTrain, Page, StageTime,
};
use crate::evaluate::section::Evaluation;
use crate::interrupt;
use crate::metric::{self, Features, Refusal, Subsets};
use crate::random::{Permutation, Stream};
use crate::sample::sampler::{Ddim, Sampler};
use crate::sample::stage;
use crate::telemetry::{metrics, progress};
use crate::train::task::autoencoder::reconstruct;
use anyhow::{Context, Result};
use encoder::class_tokens;
use std::{fs, sync::Arc, time::Instant};

/// Raised when a figure's definition changes.
const VERSION: u32 = 2;

impl Run {
    pub(super) fn evaluate(&self) -> Result<Ended> {
        let folder = self.stage_folder(Stage::Evaluate);
        let stamp = self.evaluate_stamp()?;
        if stamp.is_left_in(&folder)? && self.folder.join("report.html").exists() {
            return Ok(Ended::UpToDate);
        }
        let start = Instant::now();
        let Some(mut page) = self.measure()? else { return Ok(Ended::Interrupted) };
        let timing = Timing { seconds: start.elapsed().as_secs_f64(), images: 0 };
        self.write_timing(Stage::Evaluate, timing)?;
        page.report.stages = self.stage_times();
        page.write(&self.folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        stamp.write(&folder)?;
        Ok(Ended::Done)
    }

    /// What a report of the newest weights leaves behind.
    pub(super) fn evaluate_stamp(&self) -> Result<Stamp> {
        let mut hasher = self
            .hasher(Stage::Evaluate, VERSION)
            .section(&text(&self.recipe.evaluate))
            .upstream(&self.sample_hash()?);
        for hash in self.extractor_hashes()? {
            hasher = hasher.upstream(&hash);
        }
        Ok(self.stamp(Stage::Evaluate, VERSION, hasher.finish()))
    }

    /// The headline figures of the report, a line each.
    pub fn summary(&self) -> Result<String> {
        let path = self.folder.join("report.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: serde_json::Value = serde_json::from_slice(&text)?;
        let lines = [
            ("autoencoder PSNR (dB)", "/autoencoder/psnr_db"),
            ("denoiser loss, first", "/denoiser/validation_loss/first"),
            ("denoiser loss, last", "/denoiser/validation_loss/last"),
            ("condition fidelity", "/condition_fidelity/top1"),
            ("  by chance", "/condition_fidelity/chance"),
            ("  by pixels", "/condition_fidelity/pixel_top1"),
            ("encoder kNN", "/encoder/knn_accuracy"),
            ("  untrained", "/encoder/knn_accuracy_untrained"),
        ];
        let line = |(name, pointer): (&str, &str)| {
            let value = report.pointer(pointer).and_then(serde_json::Value::as_f64);
            let value =
                value.map_or_else(|| "not computed".to_owned(), |value| format!("{value:.3}"));
            format!("{name:<24}{value:>8}")
        };
        Ok(lines.map(line).join("\n"))
    }

    fn measure(&self) -> Result<Option<Page>> {
        let images = self.encoded()?;
        let device = &self.place.device;
        let encoder = self.encoder()?;
        let autoencoder = self.autoencoder()?;
        let denoiser = self.denoiser()?;
        let (train, valid) = self.latents()?;
        let mut generator = self.generator(&denoiser, &autoencoder, &train);
        let mut page = Page {
            recipe: self.resolved.clone(),
            environment: self.described(),
            curves: self.curves()?,
            ..Page::default()
        };
        page.report.recipe = self.recipe.name.clone();
        page.report.denoiser = self.denoiser_figures()?;
        page.report.encoder = self.encoder_figures(&encoder, &train, &valid)?;

        let restored =
            reconstruct(&autoencoder, &images.valid, images.valid.len(), sampling::BATCH, device)?;
        let size = images.valid.size();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let psnr = restored
            .iter()
            .map(|(sample, restored)| {
                let square = &sample.square;
                metric::psnr(&square.pixels, restored, Some(&square.content_mask()))
            })
            .collect();
        let ms_ssim = restored
            .iter()
            .map(|(sample, restored)| {
                Ok(metric::ms_ssim(&sample.square.pixels, restored, size, size)?.value)
            })
            .collect::<Result<Vec<f64>, Refusal>>();
        page.report.autoencoder =
            AutoencoderFigures { psnr_db: mean(psnr).into(), ms_ssim: figure(ms_ssim.map(mean)) };

        let table_folder = self.stage_folder(Stage::Sample);
        let mut samples = Vec::new();
        if !self.recipe.sample.is_empty() {
            for row in stage::read_table(&table_folder)? {
                samples.push(stage::read_image(&table_folder, &row)?);
            }
        }
        let shown: Vec<&[f32]> = samples.iter().map(Vec::as_slice).collect();
        let own = Sets {
            extractor: format!("dino:{}", &self.weights_hash(Stage::Encoder)?[..DIGITS]),
            is_own: true,
            width: encoder.width(),
            real: class_tokens(&train),
            generated: encoder.embed(&shown, size, sampling::BATCH)?,
        };
        let Some(sets) = self.feature_sets(own, &images.train, &samples)? else {
            return Ok(None);
        };

        for evaluation in &self.recipe.evaluate {
            if interrupt::requested() {
                return Ok(None);
            }
            match evaluation {
                Evaluation::Neighbours(_) => {} // With the encoder's figures, above.
                Evaluation::Frechet(section) => {
                    let sets = &sets[&section.features];
                    let distance = metric::frechet_distance(sets.real(), sets.generated());
                    page.report.frechet_distance = FrechetFigures {
                        value: figure(distance),
                        extractor: sets.extractor.clone(),
                        self_referential: sets.is_own,
                        samples: samples.len() as u64,
                        real_vs_real: figure(self.floor(&sets.real, sets.width, samples.len())),
                    };
                }
                Evaluation::Kernel(section) => {
                    let sets = &sets[&section.features];
                    let (real, generated) = (sets.real(), sets.generated());
                    let size = section.subset_size.min(generated.len()).min(real.len());
                    let subsets = Subsets { count: section.subsets, size, seed: self.recipe.seed };
                    let distance = metric::kernel_distance(real, generated, &subsets);
                    page.report.kernel_distance = KernelFigures {
                        value: figure(distance.clone().map(|distance| distance.mean)),
                        std: figure(distance.map(|distance| distance.std)),
                        extractor: sets.extractor.clone(),
                        self_referential: sets.is_own,
                    };
                }
                Evaluation::Coverage(section) => {
                    let sets = &sets[&section.features];
                    let prdc = metric::prdc(sets.real(), sets.generated(), section.neighbours);
                    let part =
                        |part: fn(&metric::Prdc) -> f64| figure(prdc.clone().map(|it| part(&it)));
                    page.report.coverage = CoverageFigures {
                        precision: part(|it| it.precision),
                        recall: part(|it| it.recall),
                        density: part(|it| it.density),
                        coverage: part(|it| it.coverage),
                        extractor: sets.extractor.clone(),
                        self_referential: sets.is_own,
                    };
                }
                Evaluation::Diversity(section) => {
                    let diversity =
                        metric::diversity(&samples, size, section.pairs, self.recipe.seed);
                    page.report.diversity = DiversityFigures {
                        scales: diversity.as_ref().map_or(0, |it| it.scales as u64),
                        ms_ssim: figure(diversity.map(|it| it.ms_ssim)),
                    };
                }
                Evaluation::NearestTrain {} => {
                    page.report.nearest_train =
                        nearest(&samples, size, &images.train, &images.valid)?;
                }
                Evaluation::ConditionFidelity(section) => {
                    generator.sampler =
                        Sampler::Ddim(Ddim { steps: section.steps, ..Ddim::default() });
                    let candidates = self.candidates(section.candidates, &images.valid, &valid)?;
                    let bar = progress::bar("fidelity", 0, 2 * candidates.len() as u64);
                    let advance = |images: usize| bar.inc(images as u64);
                    let (found, drawn) = fidelity::measure(
                        &generator,
                        &encoder,
                        &candidates,
                        sampling::BATCH,
                        advance,
                    )?;
                    bar.finish_and_clear();
                    page.report.condition_fidelity = fidelity_figures(found);
                    page.pictures.push(self.fidelity_sheet(&candidates, &drawn, size)?);
                }
            }
        }
        self.add_sheets(&mut page)?;
        Ok(Some(page))
    }

    /// Validation images to tell apart, chosen by the seed.
    fn candidates(
        &self,
        count: usize,
        images: &Radiographs,
        valid: &Latents,
    ) -> Result<Vec<Candidate>> {
        let stream = Stream::new(self.recipe.seed, "evaluate/candidates");
        let order = Permutation::new(images.len() as u64, stream, 0);
        let candidate = |at: u64| -> Result<Option<Candidate>> {
            let index = order.apply(at) as usize;
            let Some(image) = images.get_or_skip(index)? else { return Ok(None) };
            let (square, tokens) = (image.square.clone(), valid.tokens(index));
            Ok(Some(Candidate { square, tokens, seed: at }))
        };
        (0..images.len() as u64).map(candidate).filter_map(Result::transpose).take(count).collect()
    }

    /// Fréchet distance of as many real images as there are samples from all the others.
    fn floor(&self, real: &[f32], width: usize, samples: usize) -> Result<f64, Refusal> {
        let rows: Vec<&[f32]> = real.chunks_exact(width).collect();
        let stream = Stream::new(self.recipe.seed, "evaluate/floor");
        let order = Permutation::new(rows.len() as u64, stream, 0);
        let shuffled: Vec<f32> =
            (0..rows.len() as u64).flat_map(|at| rows[order.apply(at) as usize]).copied().collect();
        let (few, rest) = shuffled.split_at(samples.min(rows.len() / 2) * width);
        metric::frechet_distance(Features::new(rest, width), Features::new(few, width))
    }

    fn denoiser_figures(&self) -> Result<DenoiserFigures> {
        let records = metrics::read(&self.stage_folder(Stage::Denoiser))?;
        let losses: Vec<f64> = records
            .iter()
            .filter_map(|record| record.values.get("validation/loss").copied())
            .collect();
        let or_missing = |loss: Option<&f64>| {
            loss.map_or_else(|| Figure::missing("no validation is recorded"), |&loss| loss.into())
        };
        Ok(DenoiserFigures {
            validation_loss_first: or_missing(losses.first()),
            validation_loss_last: or_missing(losses.last()),
            images_seen: records.last().map_or(0, |record| record.images_seen),
        })
    }

    fn stage_times(&self) -> Vec<StageTime> {
        Stage::ALL
            .into_iter()
            .map(|stage| {
                let timing = self.timing(stage);
                let unknown = || Figure::missing("not measured");
                let rate = |timing: Timing| match timing.images {
                    0 => Figure::missing("this stage does not count images"),
                    images => (images as f64 / timing.seconds).into(),
                };
                StageTime {
                    name: stage.name().to_owned(),
                    seconds: timing.map_or_else(unknown, |timing| timing.seconds.into()),
                    images_per_second: timing.map_or_else(unknown, rate),
                }
            })
            .collect()
    }

    fn described(&self) -> Vec<(String, String)> {
        let environment = self.environment();
        let images = |split: &Radiographs| split.len().to_string();
        let mut rows = vec![
            ("umbra".to_owned(), environment.version),
            ("device".to_owned(), environment.device),
            ("threads".to_owned(), environment.threads.to_string()),
        ];
        if let Ok(ingested) = self.ingested() {
            rows.extend([
                ("training images".to_owned(), images(&ingested.train)),
                ("validation images".to_owned(), images(&ingested.valid)),
                ("test images".to_owned(), images(&ingested.test)),
                ("catalog".to_owned(), ingested.fingerprint[..16].to_owned()),
            ]);
        }
        if let Ok(encoded) = self.encoded()
            && encoded.num_missing > 0
        {
            let missing = encoded.num_missing.to_string();
            rows.push(("of these, could not be opened".to_owned(), missing));
        }
        rows
    }
}

fn figure(value: Result<f64, Refusal>) -> Figure {
    match value {
        Ok(value) => value.into(),
        Err(refusal) => Figure::missing(refusal.to_string()),
    }
}

fn fidelity_figures(found: Fidelity) -> ConditionFidelity {
    ConditionFidelity {
        candidates: found.candidates as u64,
        top1: found.top1.into(),
        chance: (1.0 / found.candidates as f64).into(),
        top1_null: found.top1_null.into(),
        top1_autoencoder: found.top1_autoencoder.into(),
        pixel_top1: found.pixel_top1.into(),
        pixel_top1_null: found.pixel_top1_null.into(),
    }
}

/// How near samples, and real images that were held out, come to a training image.
fn nearest(
    samples: &[Vec<f32>],
    size: usize,
    train: &Radiographs,
    valid: &Radiographs,
) -> Result<NearestTrain> {
    let thumbnails = |images: &Radiographs| -> Result<Vec<Vec<f32>>> {
        let thumbnail = |image: Arc<Sample>| fidelity::thumbnail(&image.square.pixels, size);
        let images = (0..images.len()).map(|at| images.get_or_skip(at));
        Ok(images.filter_map(Result::transpose).map(|image| image.map(thumbnail)).collect::<Result<_, _>>()?)
    };
    let train = thumbnails(train)?;
    let mean = |queries: &[Vec<f32>]| {
        let found: Vec<f64> = metric::nearest_by_pearson(queries, &train)
            .into_iter()
            .flatten()
            .map(|nearest| nearest.pearson)
            .collect();
        match found.len() {
            0 => Figure::missing("no image to compare"),
            count => (found.iter().sum::<f64>() / count as f64).into(),
        }
    };
    let samples: Vec<Vec<f32>> =
        samples.iter().map(|image| fidelity::thumbnail(image, size)).collect();
    Ok(NearestTrain {
        max_pearson: mean(&samples),
        max_pearson_test_vs_train: mean(&thumbnails(valid)?),
    })
}
