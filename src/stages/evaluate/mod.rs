//! The evaluate stage: figures, pictures and curves into one report.

mod autoencoder;
mod curves;
mod encoder;
pub(super) mod images;
mod likeness;
mod sets;
mod sheets;

use super::{
    AUTOENCODER, Cost, DENOISER, ENCODER, EVALUATE, INGEST, Made, Run, SAMPLE, Stage, State,
    Timing, hasher, sample, text,
};
use crate::artifact::Stamp;
use crate::data::radiographs::Radiographs;
use crate::encode::Latents;
use crate::evaluate::fidelity::{self, Candidate, Fidelity};
use crate::evaluate::report::{ConditionFidelity, DenoiserFigures, Figure, Page, StageTime, Taken};
use crate::evaluate::section::Evaluation;
use crate::interrupt;
use crate::metric::{self, Refusal};
use crate::random::{Permutation, Stream};
use crate::sample::sampler::{Ddim, Sampler};
use crate::telemetry::{metrics, progress};
use anyhow::{Context, Result};
use images::Drawn;
use rand::Rng as _;
use std::{fs, time::Instant};

/// Raised when a figure's definition changes.
const VERSION: u32 = 4;

pub(super) struct Evaluate;

impl Stage for Evaluate {
    /// What was drawn follows from everything else that is needed.
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let Some(samples) = run.output(SAMPLE) else { return Ok(None) };
        let mut hasher =
            hasher(run, EVALUATE, VERSION).section(&text(&run.recipe.evaluate)).upstream(&samples);
        for hash in run.extractor_hashes()? {
            hasher = hasher.upstream(&hash);
        }
        Ok(Some(hasher.finish()))
    }

    fn state(&self, run: &Run, inputs: &str) -> Result<State> {
        let is_measured = stamp(inputs).is_left_in(&run.stage_folder(EVALUATE))?;
        let is_there = is_measured && run.folder.join("report.html").exists();
        Ok(if is_there { State::UpToDate } else { State::ToDo })
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let evaluations: usize = run.recipe.evaluate.iter().map(Evaluation::num_evaluations).sum();
        Ok(Cost {
            what: format!("{} figures", run.recipe.evaluate.len()),
            operations: evaluations as f64 * run.denoiser_flops(),
            ..Cost::default()
        })
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let folder = run.stage_folder(EVALUATE);
        let start = Instant::now();
        let measured = run.measure();
        // Whatever a signal has cut short is not looked at.
        interrupt::unless_requested()?;
        let mut page = measured?;
        let seconds = start.elapsed().as_secs_f64();
        // Before the report, which tells it.
        run.write_timing(EVALUATE, Timing { seconds, images: 0 })?;
        page.report.stages = run.stage_times();
        page.write(&run.folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        stamp(inputs).write(&folder)?;
        Ok(Made::Done { images: 0, seconds: Some(seconds) })
    }
}

fn stamp(inputs: &str) -> Stamp {
    Stamp { stage: EVALUATE.to_owned(), version: VERSION, inputs_hash: inputs.to_owned() }
}

impl Run {
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

    /// All figures. Fails where a signal came first, or has figures in it that were cut short.
    fn measure(&self) -> Result<Page> {
        let images = self.encoded()?;
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
        page.report.autoencoder = self.autoencoder_figures(&autoencoder, &images.valid)?;

        let samples = match self.recipe.sample.is_empty() {
            true => Drawn::nothing(),
            false => Drawn::open(&self.stage_folder(SAMPLE))?,
        };
        let sets = self.feature_sets(&encoder, &images.train, &samples)?;
        let report = &mut page.report;
        for evaluation in &self.recipe.evaluate {
            metric::unless_stopped()?;
            match evaluation {
                Evaluation::Neighbours(_) => {} // With the encoder's figures, above.
                Evaluation::Frechet(section) => {
                    report.frechet_distance = sets::frechet(section, &sets[&section.features]);
                }
                Evaluation::Kernel(section) => {
                    report.kernel_distance = self.kernel(section, &sets[&section.features]);
                }
                Evaluation::Coverage(section) => {
                    report.coverage = sets::coverage(section, &sets[&section.features]);
                }
                Evaluation::Diversity(section) => {
                    report.diversity = self.diversity(section, &samples, &images.train)?;
                }
                Evaluation::NearestTrain(section) => {
                    report.nearest_train =
                        self.nearest(section, &samples, &images.train, &images.valid)?;
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
                        sample::BATCH,
                        advance,
                    )?;
                    bar.finish_and_clear();
                    report.condition_fidelity = fidelity_figures(found, images.valid.len());
                    page.pictures.push(self.fidelity_sheet(
                        &candidates,
                        &drawn,
                        images.valid.size(),
                    )?);
                }
            }
        }
        self.add_sheets(&mut page)?;
        Ok(page)
    }

    /// Validation images to tell apart, chosen by the seed.
    fn candidates(
        &self,
        count: usize,
        images: &Radiographs,
        valid: &Latents,
    ) -> Result<Vec<Candidate>> {
        let stream = Stream::new(self.recipe.seed, "evaluate/candidates");
        let noise = Stream::new(self.recipe.seed, "evaluate/noise");
        let order = Permutation::new(images.len() as u64, stream, 0);
        let candidate = |at: u64| -> Result<Option<Candidate>> {
            let index = order.apply(at) as usize;
            let Some(image) = images.get_or_skip(index)? else { return Ok(None) };
            let (square, tokens) = (image.square.clone(), valid.tokens(index));
            // Its noise is the recipe's own too: replicates must differ in all that is drawn.
            Ok(Some(Candidate { square, tokens, seed: noise.at(at).next_u64() }))
        };
        (0..images.len() as u64).map(candidate).filter_map(Result::transpose).take(count).collect()
    }

    fn denoiser_figures(&self) -> Result<DenoiserFigures> {
        let records = metrics::read(&self.stage_folder(DENOISER))?;
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
        Self::stage_names()
            .map(|stage| {
                let timing = self.timing(stage);
                let unknown = || Figure::missing("not measured");
                let rate = |timing: Timing| match timing.images {
                    0 => Figure::missing("this stage does not count images"),
                    images => (images as f64 / timing.seconds).into(),
                };
                StageTime {
                    name: stage.to_owned(),
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
                (
                    "catalog".to_owned(),
                    self.output(INGEST).map_or_else(String::new, |hash| hash[..16].to_owned()),
                ),
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

/// Not a number for none.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn fidelity_figures(found: Fidelity, available: usize) -> ConditionFidelity {
    ConditionFidelity {
        candidates: Taken::new(found.candidates, available),
        top1: found.top1.into(),
        chance: (1.0 / found.candidates as f64).into(),
        top1_null: found.top1_null.into(),
        top1_autoencoder: found.top1_autoencoder.into(),
        pixel_top1: found.pixel_top1.into(),
        pixel_top1_null: found.pixel_top1_null.into(),
    }
}
