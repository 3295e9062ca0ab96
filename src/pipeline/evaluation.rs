//! The evaluate stage: figures, pictures and curves into one report.

use super::{Ended, Run, Stage, Timing, sampling, text};
use crate::data::catalog::{Entry, Label, PatientKey};
use crate::data::picture::{self, Contents, Depth, Provenance};
use crate::data::radiographs::Radiographs;
use crate::encode::{self, Latents};
use crate::evaluate::fidelity::{self, Candidate, Fidelity};
use crate::evaluate::report::{
    AutoencoderFigures, ConditionFidelity, CoverageFigures, Curve, DenoiserFigures,
    DiversityFigures, EncoderFigures, Figure, FrechetFigures, KernelFigures, NearestTrain, Page,
    Picture, Series, StageTime,
};
use crate::evaluate::section::{Evaluation, Neighbours};
use crate::interrupt;
use crate::metric::{self, Features, Refusal, Subsets};
use crate::models::encoder::Vit;
use crate::random::{Permutation, Stream};
use crate::sample::sampler::{Ddim, Sampler};
use crate::sample::stage;
use crate::telemetry::{metrics, progress};
use crate::train::task::autoencoder::reconstruct;
use anyhow::{Context, Result};
use std::{fs, time::Instant};

/// Raised when a figure's definition changes.
const VERSION: u32 = 2;

/// Candidates shown in the report's fidelity sheet.
const SHOWN: usize = 24;

impl Run {
    pub(super) fn evaluate(&self) -> Result<Ended> {
        let folder = self.stage_folder(Stage::Evaluate);
        let hash = self
            .hasher(Stage::Evaluate, VERSION)
            .section(&text(&self.recipe.evaluate))
            .upstream(&self.sample_hash()?)
            .finish();
        let stamp = self.stamp(Stage::Evaluate, VERSION, hash);
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
        let images = self.ingested()?;
        let device = &self.place.device;
        let encoder = self.encoder()?.backbone;
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
        let width = encoder.config().hidden_size;
        let sample_features =
            fidelity::embed_images(&generator, &encoder, &shown, size, sampling::BATCH)?;
        let real_features = class_tokens(&train);
        let real = Features::new(&real_features, width);
        let generated = Features::new(&sample_features, width);

        for evaluation in &self.recipe.evaluate {
            if interrupt::requested() {
                return Ok(None);
            }
            match evaluation {
                Evaluation::Neighbours(_) => {} // With the encoder's figures, above.
                Evaluation::Frechet {} => {
                    page.report.frechet_distance = FrechetFigures {
                        value: figure(metric::frechet_distance(real, generated)),
                        extractor: format!("dino:{}", &self.weights_hash(Stage::Encoder)?[..12]),
                        self_referential: true,
                        samples: samples.len() as u64,
                        real_vs_real: figure(self.floor(&real_features, width, samples.len())),
                    };
                }
                Evaluation::Kernel(section) => {
                    let size = section.subset_size.min(samples.len()).min(train.len());
                    let subsets = Subsets { count: section.subsets, size, seed: self.recipe.seed };
                    let distance = metric::kernel_distance(real, generated, &subsets);
                    page.report.kernel_distance = KernelFigures {
                        value: figure(distance.clone().map(|distance| distance.mean)),
                        std: figure(distance.map(|distance| distance.std)),
                    };
                }
                Evaluation::Coverage(section) => {
                    let prdc = metric::prdc(real, generated, section.neighbours);
                    let part =
                        |part: fn(&metric::Prdc) -> f64| figure(prdc.clone().map(|it| part(&it)));
                    page.report.coverage = CoverageFigures {
                        precision: part(|it| it.precision),
                        recall: part(|it| it.recall),
                        density: part(|it| it.density),
                        coverage: part(|it| it.coverage),
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
        (0..count.min(images.len()) as u64)
            .map(|at| {
                let index = order.apply(at) as usize;
                Ok(Candidate {
                    square: images.get(index)?.square.clone(),
                    tokens: valid.tokens(index),
                    seed: at,
                })
            })
            .collect()
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

    fn encoder_figures(
        &self,
        encoder: &Vit,
        train: &Latents,
        valid: &Latents,
    ) -> Result<EncoderFigures> {
        let images = self.ingested()?;
        let width = encoder.config().hidden_size;
        let section = self.recipe.evaluate.iter().find_map(|evaluation| match evaluation {
            Evaluation::Neighbours(section) => Some(section.clone()),
            _ => None,
        });
        let section = section.unwrap_or_default();
        // No label was used in training, so training images may be asked too: a validation split alone is small.
        let entries: Vec<&Entry> =
            images.train.entries().iter().chain(images.valid.entries()).collect();
        let (rows, labels) = labelled(&entries, &section);
        let patients: Vec<PatientKey> = rows.iter().map(|&row| entries[row].patient).collect();
        let accuracy = |train: &[f32], valid: &[f32]| {
            let chosen = pick(&[train, valid].concat(), width, &rows);
            let (features, k) = (Features::new(&chosen, width), section.neighbours);
            let accuracy = metric::knn::accuracy_leave_group_out(features, &labels, &patients, k);
            figure(accuracy.map(|accuracy| accuracy.mean))
        };
        let untrained = self.untrained_encoder().backbone;
        let embed =
            |images| encode::embed_all(&untrained, images, sampling::BATCH, &self.place.device);
        let (train, valid) = (class_tokens(train), class_tokens(valid));
        let features = Features::new(&valid, width);
        Ok(EncoderFigures {
            effective_rank: figure(metric::effective_rank(features)),
            mean_cosine: figure(metric::mean_cosine(features)),
            knn_accuracy: accuracy(&train, &valid),
            knn_accuracy_untrained: accuracy(&embed(&images.train)?, &embed(&images.valid)?),
        })
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

    fn curves(&self) -> Result<Vec<Curve>> {
        let mut curves = Vec::new();
        for (stage, title, y_label, log, names) in [
            (
                Stage::Encoder,
                "Encoder: loss",
                "loss",
                false,
                &["train/loss", "train/teacher_entropy"][..],
            ),
            (
                Stage::Encoder,
                "Encoder: directions in use",
                "effective rank",
                false,
                &["validation/effective_rank"],
            ),
            (
                Stage::Autoencoder,
                "Autoencoder: loss",
                "loss",
                true,
                &["train/loss", "train/reconstruction"],
            ),
            (
                Stage::Autoencoder,
                "Autoencoder: validation",
                "PSNR (dB)",
                false,
                &["validation/psnr_db"],
            ),
            (
                Stage::Denoiser,
                "Denoiser: loss",
                "loss",
                true,
                &["train/loss", "train/unweighted_loss", "validation/loss"],
            ),
            (
                Stage::Denoiser,
                "Denoiser: learning rate",
                "learning rate",
                false,
                &["train/learning_rate"],
            ),
        ] {
            let records = metrics::read(&self.stage_folder(stage))?;
            let series: Vec<Series> = names
                .iter()
                .map(|name| Series {
                    name: (*name).to_owned(),
                    points: records
                        .iter()
                        .filter_map(|it| Some((it.images_seen as f64, *it.values.get(*name)?)))
                        .collect(),
                })
                .filter(|series| !series.points.is_empty())
                .collect();
            if !series.is_empty() {
                curves.push(Curve {
                    title: title.to_owned(),
                    x_label: "images seen".to_owned(),
                    y_label: y_label.to_owned(),
                    log,
                    series,
                });
            }
        }
        Ok(curves)
    }

    fn fidelity_sheet(
        &self,
        candidates: &[Candidate],
        drawn: &[Vec<f32>],
        size: usize,
    ) -> Result<Picture> {
        let tiles: Vec<&[f32]> = candidates
            .iter()
            .zip(drawn)
            .take(SHOWN)
            .flat_map(|(candidate, drawn)| [&candidate.square.pixels[..], &drawn[..]])
            .collect();
        let sheet = picture::contact_sheet(&tiles, size, 8, 2, &["source", "sample"].repeat(4));
        let contents = Contents::SyntheticAndReal;
        let from = Provenance { contents, recipe: &self.recipe.name, seed: self.recipe.seed };
        Ok(Picture {
            title: "Held-out images, drawn again from their embedding alone".to_owned(),
            caption: "Each pair: a validation image that no network has trained on, and what the denoiser \
                      makes of nothing but its embedding and noise."
                .to_owned(),
            png: picture::gray_png(&sheet, Depth::Eight, &from.text())?,
        })
    }

    /// The contact sheets that sampling and autoencoder training left.
    fn add_sheets(&self, page: &mut Page) -> Result<()> {
        for (number, strategy) in self.recipe.sample.iter().enumerate() {
            let name = format!("sheet-{number}-{}.png", strategy.name().to_lowercase());
            let path = self.stage_folder(Stage::Sample).join(name);
            page.pictures.push(Picture {
                title: format!("{} ({} images)", strategy.name(), strategy.images()),
                caption: match strategy.name() {
                    "Interpolate" => {
                        "Each triple: two training images with equal labels, and between them an \
                                      image drawn from a point between their embeddings."
                    }
                    _ => "Each pair: a training image and an image drawn from its embedding.",
                }
                .to_owned(),
                png: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            });
        }
        let previews = self.stage_folder(Stage::Autoencoder).join("previews");
        let newest = fs::read_dir(previews)
            .ok()
            .and_then(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).max());
        if let Some(path) = newest {
            page.pictures.push(Picture {
                title: "Autoencoder".to_owned(),
                caption: "Each pair: a validation image and what the autoencoder restores of it."
                    .to_owned(),
                png: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            });
        }
        Ok(())
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

/// The class token of every row, row after row.
fn class_tokens(latents: &Latents) -> Vec<f32> {
    let [_, width] = latents.token_shape();
    (0..latents.len()).flat_map(|at| latents.tokens(at)[..width].to_vec()).collect()
}

/// Rows of the chosen dataset, and for each chosen label what is known of it in each of them.
fn labelled(entries: &[&Entry], section: &Neighbours) -> (Vec<usize>, Vec<Vec<Option<bool>>>) {
    let is_chosen =
        |entry: &Entry| section.dataset.as_ref().is_none_or(|name| *name == entry.source);
    let rows: Vec<usize> = (0..entries.len()).filter(|&row| is_chosen(entries[row])).collect();
    let names = entries.first().map(|entry| entry.labels.keys()).into_iter().flatten();
    let labels = names
        .filter(|name| section.labels.is_empty() || section.labels.contains(name))
        .map(|name| rows.iter().map(|&row| known(entries[row].labels.get(name))).collect())
        .collect();
    (rows, labels)
}

fn known(label: Option<&Label>) -> Option<bool> {
    match label {
        Some(Label::Present) => Some(true),
        Some(Label::Absent) => Some(false),
        Some(Label::Unknown) | None => None,
    }
}

fn pick(values: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect()
}

/// How near samples, and real images that were held out, come to a training image.
fn nearest(
    samples: &[Vec<f32>],
    size: usize,
    train: &Radiographs,
    valid: &Radiographs,
) -> Result<NearestTrain> {
    let thumbnails = |images: &Radiographs| -> Result<Vec<Vec<f32>>> {
        (0..images.len())
            .map(|at| Ok(fidelity::thumbnail(&images.get(at)?.square.pixels, size)))
            .collect()
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
