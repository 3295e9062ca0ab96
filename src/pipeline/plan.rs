//! What a recipe will do, before it does anything.

use super::{Place, Stage};
use crate::data::catalog::Catalog;
use crate::models::encoder::ImageEncoderConfig;
use crate::models::weights::num_parameters;
use crate::models::{Compute, Init};
use crate::random::Stream;
use crate::recipe::resolve::Pinned;
use crate::recipe::{Recipe, networks};
use crate::sample::manifold::Strategy;
use crate::sample::scheduler;
use crate::telemetry::progress;
use crate::train::task::dino::Distilled;
use crate::train::{Train, checkpoint};
use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;

/// Forward and backward passes cost about three forward ones.
const TRAINING_FACTOR: f64 = 3.0;

/// Floating-point operations per second and thread, in training and when only computing forward. Measured with
/// flex on the machine class of docs/experiments.md; a rough guide for others.
const CPU_RATE_PER_THREAD: f64 = 22e9;

/// The same for a whole GPU: see docs/experiments.md.
const GPU_RATE: f64 = 2e12;

/// The plan.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// Where it would be computed.
    pub device: String,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// What will be regretted later, a sentence each; no fault.
    pub warnings: Vec<String>,
    /// Bytes of memory at the peak, roughly.
    pub peak_memory_bytes: u64,
    /// Bytes on disk when all is done, roughly.
    pub disk_bytes: u64,
    /// Seconds still to go, roughly.
    pub seconds_to_go: f64,
}

/// One stage of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct StagePlan {
    /// Its name.
    pub name: &'static str,
    /// What is left of it, in words.
    pub state: String,
    /// What it does, in words.
    pub what: String,
    /// Numbers that learn, if any.
    pub parameters: Option<u64>,
    /// Floating-point operations from the start; a whole number, but of more digits than 64 bits have.
    pub operations: f64,
    /// Seconds still to go, roughly.
    pub seconds_to_go: f64,
}

impl Plan {
    /// Makes the plan of `recipe` at `place`. Reads what earlier runs left; writes nothing.
    pub fn new(recipe: &Recipe, place: &Place) -> Result<Self> {
        let folder = place.checkpoints.join(&recipe.name);
        let count = Catalog::open(&folder.join("catalog.sqlite"))
            .ok()
            .and_then(|catalog| Some(catalog.counts().ok()?.total()));
        let size = recipe.data.size;
        let networks = recipe
            .networks(&place.data_root)
            .map_err(|faults| anyhow::anyhow!("{}", faults.join("; ")))?;
        let [latent_channels, side, _] = networks.latent_shape;
        let [num_tokens, token_width] = networks.token_shape;
        let rate = match place.device_name.starts_with("cuda") {
            true => GPU_RATE,
            false => CPU_RATE_PER_THREAD * place.threads as f64,
        };
        // Undrawn parameters cost nothing, so the networks themselves are asked.
        let mut init = Init::new(Stream::new(recipe.seed, "plan"), &place.device).deferred();
        let encoder = networks.encoder.init(&mut init);
        let autoencoder = networks.autoencoder.init(&mut init);
        let denoiser = networks.denoiser.init(&mut init);

        let see = encoder.flops(networks.input.side, networks.input.side) as f64;
        let shrink = autoencoder.encode_flops(size, size) as f64;
        let grow = autoencoder.decode_flops(size, size) as f64;
        let denoise = denoiser.flops(side, side) as f64;
        let training =
            |stage: Stage, train: &Train, parameters: usize, forward: f64, extra: f64| {
                let seen = seen(&folder.join(stage.name()));
                let operations = |images: u64| images as f64 * (TRAINING_FACTOR * forward + extra);
                StagePlan {
                    name: stage.name(),
                    state: match seen {
                        0 => "to do".to_owned(),
                        seen if seen >= train.images => {
                            format!("trained on {} images", HumanCount(seen))
                        }
                        seen => format!(
                            "{} of {} images seen",
                            HumanCount(seen),
                            HumanCount(train.images)
                        ),
                    },
                    what: format!(
                        "{} images in batches of {}, {:.3} a second",
                        HumanCount(train.images),
                        train.batch_size,
                        rate / operations(1)
                    ),
                    parameters: Some(parameters as u64),
                    operations: operations(train.images),
                    seconds_to_go: operations(train.images.saturating_sub(seen)) / rate,
                }
            };
        let images = count.unwrap_or_else(|| recipe.data.source.expected_images());
        let known = match images {
            0 => "images counted by ingest".to_owned(),
            images => format!("{} images", HumanCount(images)),
        };
        let simple = |stage: Stage, what: String, operations: f64| {
            let is_done =
                super::Stamp::read(&folder.join(stage.name())).is_ok_and(|it| it.is_some());
            let seconds = operations / rate;
            StagePlan {
                name: stage.name(),
                state: if is_done { "done once; redone where inputs changed" } else { "to do" }
                    .into(),
                what,
                parameters: None,
                operations,
                seconds_to_go: if is_done { 0.0 } else { seconds },
            }
        };
        let evaluations = |strategy: &Strategy| {
            let passes = if strategy.guidance() == 1.0 { 1 } else { 2 };
            (strategy.images() * strategy.sampler().num_evaluations() * passes) as f64
        };
        let drawn: u64 = recipe.sample.iter().map(|strategy| strategy.images() as u64).sum();
        let sampled =
            recipe.sample.iter().map(evaluations).sum::<f64>() * denoise + drawn as f64 * grow;
        let judged: f64 = recipe.evaluate.iter().map(|it| it.num_evaluations() as f64).sum();
        let latent_bytes =
            2 * (2 * latent_channels * side * side + num_tokens * token_width) as u64;
        let given = |stage: Stage, pinned: &Pinned, parameters: usize| -> Result<StagePlan> {
            Ok(StagePlan {
                name: stage.name(),
                state: format!("blake3 {}", pinned.folder.hash()?),
                what: format!("weights of {}", pinned.folder.path.display()),
                parameters: Some(parameters as u64),
                operations: 0.0,
                seconds_to_go: 0.0,
            })
        };
        // Parameters, how they are trained, and the operations of one forward pass of that.
        let mut trained = Vec::new();
        let encoder_stage = match (&recipe.encoder, &networks.encoder_weights) {
            (networks::Encoder::Train { dino, train, .. }, None) => {
                let views = &dino.views;
                let global = views.global_size.unwrap_or(size);
                let see_global = encoder.flops(global, global) as f64;
                let local = encoder.flops(views.local_size, views.local_size) as f64;
                let forward = 2.0 * see_global + views.num_local as f64 * local;
                let ImageEncoderConfig::Vit(vit) = &networks.encoder else {
                    unreachable!("recipes train this kind only")
                };
                let distilled = Distilled::new(vit, &dino.head, recipe.seed, &place.device);
                let parameters = num_parameters(&distilled);
                trained.push((parameters as u64, train, forward));
                training(Stage::Encoder, train, parameters, forward, 2.0 * see_global)
            }
            (_, pinned) => {
                let pinned = pinned.as_ref().expect("what is not trained has a folder");
                given(Stage::Encoder, pinned, num_parameters(&encoder))?
            }
        };
        let autoencoder_stage = match (&recipe.autoencoder, &networks.autoencoder_weights) {
            (networks::Autoencoder::Train { loss, train, .. }, None) => {
                let crop = loss.crop.unwrap_or(size);
                let forward = (autoencoder.encode_flops(crop, crop)
                    + autoencoder.decode_flops(crop, crop)) as f64;
                let parameters = num_parameters(&autoencoder);
                trained.push((parameters as u64, train, forward));
                training(Stage::Autoencoder, train, parameters, forward, 0.0)
            }
            (_, pinned) => {
                let pinned = pinned.as_ref().expect("what is not trained has a folder");
                given(Stage::Autoencoder, pinned, num_parameters(&autoencoder))?
            }
        };
        let parameters = num_parameters(&denoiser);
        trained.push((parameters as u64, &recipe.train, denoise));
        let denoiser_stage = training(Stage::Denoiser, &recipe.train, parameters, denoise, 0.0);
        let stages = vec![
            StagePlan {
                name: Stage::Ingest.name(),
                state: if count.is_some() { "done once; looks for changes" } else { "to do" }
                    .into(),
                what: known.clone(),
                parameters: None,
                operations: 0.0,
                seconds_to_go: 0.0,
            },
            encoder_stage,
            autoencoder_stage,
            simple(
                Stage::Encode,
                format!("{known} into a store of {}", HumanBytes(images * latent_bytes)),
                images as f64 * (see + shrink),
            ),
            denoiser_stage,
            simple(Stage::Sample, format!("{} images", HumanCount(drawn)), sampled),
            simple(Stage::Evaluate, format!("{} figures", recipe.evaluate.len()), judged * denoise),
        ];
        // Weights, gradients, two moments and the average, and as a rule of thumb what a step keeps for the
        // backward pass: one number for every 100 operations of the forward pass.
        let peak = |&(parameters, train, forward): &(u64, &Train, f64)| {
            let batch = train.micro_batch_size.unwrap_or(train.batch_size) as f64;
            let bytes = match train.compute {
                Compute::F32 => 4.0,
                Compute::Bf16 => 2.0,
            };
            20 * parameters + (bytes * batch * forward / 100.0) as u64
        };
        let peak_memory_bytes = trained.iter().map(peak).max().unwrap_or(0);
        let checkpoints: u64 =
            trained.iter().map(|(parameters, train, _)| 16 * parameters * train.keep as u64).sum();
        Ok(Self {
            recipe: recipe.name.clone(),
            device: place.device_name.clone(),
            peak_memory_bytes,
            disk_bytes: checkpoints + images * latent_bytes + drawn * (size * size) as u64,
            seconds_to_go: stages.iter().map(|stage| stage.seconds_to_go).sum(),
            stages,
            warnings: warnings(recipe),
        })
    }
}

/// What `recipe` may do, and its user may not want.
fn warnings(recipe: &Recipe) -> Vec<String> {
    let diffusion = &recipe.diffusion;
    let export = scheduler::from_umbra(&diffusion.schedule, &diffusion.objective);
    let refused = |error| {
        format!("diffusion: umbra will sample from this, but not export it to diffusers: {error}")
    };
    export.err().map(refused).into_iter().collect()
}

/// Images seen by the newest checkpoint in `stage`, by its name.
fn seen(stage: &std::path::Path) -> u64 {
    let newest = checkpoint::list(stage).unwrap_or_default().into_iter().next();
    newest
        .and_then(|path| path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.recipe, self.device)?;
        for stage in &self.stages {
            write!(f, "  {:<12} {:<44}", stage.name, stage.what)?;
            match stage.parameters {
                Some(parameters) => {
                    write!(f, "{:>16} parameters", HumanCount(parameters).to_string())?
                }
                None => write!(f, "{:>27}", "")?,
            }
            let (operations, unit) = match stage.operations {
                many if many >= 1e17 => (many / 1e15, "PFLOP"),
                few => (few / 1e12, "TFLOP"),
            };
            write!(
                f,
                " {operations:>10.2} {unit}  ~{:<9}",
                progress::duration(stage.seconds_to_go)
            )?;
            writeln!(f, " {}", stage.state)?;
        }
        writeln!(
            f,
            "  about {} to go, {} of memory at the peak, {} on disk",
            progress::duration(self.seconds_to_go),
            HumanBytes(self.peak_memory_bytes),
            HumanBytes(self.disk_bytes)
        )?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  warning: {warning}"))
    }
}
