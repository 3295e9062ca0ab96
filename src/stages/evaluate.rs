//! Measuring: figures, pictures and curves into one report.

use super::{
    Cost, DENOISER, ENCODER, EVALUATE, INGEST, Made, Run, SAMPLE, Stage, State, Timing, hasher,
    text,
};
use crate::artifact::Stamp;
use crate::data::radiographs::Radiographs;
use crate::evaluate::extractor::Extractor;
use crate::evaluate::report::{Page, Report, StageTime};
use crate::evaluate::{self, Drawn, Evidence, Figure, Shelves};
use crate::interrupt;
use crate::sample::generate::Generator;
use crate::telemetry::metrics;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::{fs, path::Path, time::Instant};

/// Raised when a figure's definition changes.
const VERSION: u32 = 6;

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
        Ok(match is_there {
            true => State::UpToDate,
            false if run.partial(EVALUATE, inputs).exists() => State::Resume { done: 0.0 },
            false => State::ToDo,
        })
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let evaluations: usize =
            run.recipe.evaluate.iter().map(|it| it.get().num_evaluations()).sum();
        Ok(Cost {
            what: format!("{} figures", run.recipe.evaluate.len()),
            operations: evaluations as f64 * run.denoiser_flops(),
            ..Cost::default()
        })
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let folder = run.stage_folder(EVALUATE);
        let start = Instant::now();
        let partial = run.partial(EVALUATE, inputs);
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let measured = run.measure(&partial);
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
        run.remove_partials(EVALUATE)?;
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
    fn measure(&self, partial: &Path) -> Result<Page> {
        let images = self.encoded()?;
        let (encoder, untrained) = (self.encoder()?, self.untrained_encoder()?);
        let (autoencoder, denoiser) = (self.autoencoder()?, self.denoiser()?);
        let (train, valid) = self.latents()?;
        let weaker = self.weaker_denoisers()?;
        let samples = match self.recipe.sample.is_empty() {
            true => Drawn::nothing(),
            false => Drawn::open(&self.stage_folder(SAMPLE), &self.recipe.sample)?,
        };
        let shelves = Shelves::new(&self.place.checkpoints, &self.folder);
        let evidence = Evidence {
            recipe: &self.recipe.name,
            seed: self.recipe.seed,
            evaluations: &self.recipe.evaluate,
            data_root: &self.place.data_root,
            device: &self.place.device,
            train: &images.train,
            valid: &images.valid,
            test: &images.test,
            latents: [&train, &valid],
            samples: &samples,
            encoder: (&encoder, &self.output(ENCODER).context("the encoder is not known yet")?),
            untrained: untrained.as_ref(),
            autoencoder: &autoencoder,
            generator: &Generator {
                weaker: &weaker,
                ..self.generator(&denoiser, &autoencoder, &train)
            },
            records: &metrics::read(&self.stage_folder(DENOISER))?,
            shelves: &shelves,
            sets: evaluate::Cache::default(),
        };
        let findings = evaluate::measure_all(&evidence, partial)?;
        let recipe = self.recipe.name.clone();
        Ok(Page {
            report: Report { recipe, findings, stages: Vec::new() },
            pictures: self.sheets()?,
            curves: self.curves()?,
            recipe: self.resolved.clone(),
            environment: self.described(),
        })
    }

    /// Opens every network that the recipe measures with: a night of training should not end with the news that
    /// a file is damaged.
    pub(super) fn check_extractors(&self) -> Result<()> {
        for extractor in self.extractors() {
            extractor.open(&self.place.data_root, &self.place.device)?;
        }
        Ok(())
    }

    /// The hashes of their folders, in a fixed order.
    fn extractor_hashes(&self) -> Result<Vec<String>> {
        let root = &self.place.data_root;
        self.extractors().into_iter().filter_map(|it| it.hash(root)).collect()
    }

    /// What the recipe names, each once.
    fn extractors(&self) -> BTreeSet<&Extractor> {
        self.recipe.evaluate.iter().filter_map(|it| it.get().extractor()).collect()
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
