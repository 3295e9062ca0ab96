//! What a recipe will do, before it does anything.

use super::{Place, Stage};
use crate::data::catalog::Catalog;
use crate::models::Init;
use crate::models::weights::num_parameters;
use crate::random::Stream;
use crate::recipe::{Recipe, networks};
use crate::sample::manifold::Strategy;
use crate::telemetry::progress;
use crate::train::task::dino::Distilled;
use crate::train::{Train, checkpoint};
use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;

/// Forward and backward passes cost about three forward ones.
const TRAINING_FACTOR: u64 = 3;

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
    /// Floating-point operations from the start.
    pub operations: u64,
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
        let [latent_channels, side, _] = recipe.latent_shape();
        let [num_tokens, token_width] = recipe.token_shape();
        let rate = match place.device_name.starts_with("cuda") {
            true => GPU_RATE,
            false => CPU_RATE_PER_THREAD * place.threads as f64,
        };
        // Undrawn parameters cost nothing, so the networks themselves are asked.
        let mut init = Init::new(Stream::new(recipe.seed, "plan"), &place.device);
        let networks::Encoder::Train { dino, train: encoder_train, .. } = &recipe.encoder;
        let encoder = Distilled::new(&recipe.vit_config(), &dino.head, recipe.seed, &place.device);
        let networks::Autoencoder::Train { loss, train: autoencoder_train, .. } =
            &recipe.autoencoder;
        let autoencoder = recipe.autoencoder_config().init(&mut init);
        let denoiser = recipe.denoiser_config().init(&mut init);

        let see = encoder.backbone.flops(size, size);
        let global = dino.views.global_size.unwrap_or(size);
        let see_global = encoder.backbone.flops(global, global);
        let views = 2 * see_global
            + dino.views.num_local as u64
                * encoder.backbone.flops(dino.views.local_size, dino.views.local_size);
        let crop = loss.crop.unwrap_or(size);
        let restore = autoencoder.encode_flops(crop, crop) + autoencoder.decode_flops(crop, crop);
        let shrink = autoencoder.encode_flops(size, size);
        let grow = autoencoder.decode_flops(size, size);
        let denoise = denoiser.flops(side, side);
        let training =
            |stage: Stage, train: &Train, parameters: usize, forward: u64, extra: u64| {
                let seen = seen(&folder.join(stage.name()));
                let operations = |images: u64| images * (TRAINING_FACTOR * forward + extra);
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
                        "{} images in batches of {}",
                        HumanCount(train.images),
                        train.batch_size
                    ),
                    parameters: Some(parameters as u64),
                    operations: operations(train.images),
                    seconds_to_go: operations(train.images.saturating_sub(seen)) as f64 / rate,
                }
            };
        let images = count.unwrap_or_else(|| recipe.data.source.expected_images());
        let known = match images {
            0 => "images counted by ingest".to_owned(),
            images => format!("{} images", HumanCount(images)),
        };
        let simple = |stage: Stage, what: String, operations: u64| {
            let is_done =
                super::Stamp::read(&folder.join(stage.name())).is_ok_and(|it| it.is_some());
            let seconds = operations as f64 / rate;
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
            (strategy.images() * strategy.sampler().num_evaluations() * passes) as u64
        };
        let drawn: u64 = recipe.sample.iter().map(|strategy| strategy.images() as u64).sum();
        let sampled = recipe.sample.iter().map(evaluations).sum::<u64>() * denoise + drawn * grow;
        let judged: u64 = recipe.evaluate.iter().map(|it| it.num_evaluations() as u64).sum();
        let latent_bytes =
            2 * (2 * latent_channels * side * side + num_tokens * token_width) as u64;
        let stages = vec![
            StagePlan {
                name: Stage::Ingest.name(),
                state: if count.is_some() { "done once; looks for changes" } else { "to do" }
                    .into(),
                what: known.clone(),
                parameters: None,
                operations: 0,
                seconds_to_go: 0.0,
            },
            training(
                Stage::Encoder,
                encoder_train,
                num_parameters(&encoder),
                views,
                2 * see_global,
            ),
            training(
                Stage::Autoencoder,
                autoencoder_train,
                num_parameters(&autoencoder),
                restore,
                0,
            ),
            simple(
                Stage::Encode,
                format!("{known} into a store of {}", HumanBytes(images * latent_bytes)),
                images * (see + shrink),
            ),
            training(Stage::Denoiser, &recipe.train, num_parameters(&denoiser), denoise, 0),
            simple(Stage::Sample, format!("{} images", HumanCount(drawn)), sampled),
            simple(Stage::Evaluate, format!("{} figures", recipe.evaluate.len()), judged * denoise),
        ];
        let parameters: Vec<u64> = stages.iter().filter_map(|stage| stage.parameters).collect();
        // Weights, gradients, two moments and the average, and as a rule of thumb what a step keeps for the
        // backward pass: one f32 for every 100 operations of the forward pass.
        let peak = |parameters: u64, train: &Train, forward: u64| {
            let batch = train.micro_batch_size.unwrap_or(train.batch_size) as u64;
            20 * parameters + 4 * batch * forward / 100
        };
        let peak_memory_bytes = [
            peak(parameters[0], encoder_train, views),
            peak(parameters[1], autoencoder_train, restore),
            peak(parameters[2], &recipe.train, denoise),
        ]
        .into_iter()
        .max()
        .unwrap_or(0);
        let checkpoints: u64 = [encoder_train, autoencoder_train, &recipe.train]
            .iter()
            .zip(&parameters)
            .map(|(train, parameters)| 16 * parameters * train.keep as u64)
            .sum();
        Ok(Self {
            recipe: recipe.name.clone(),
            device: place.device_name.clone(),
            peak_memory_bytes,
            disk_bytes: checkpoints + images * latent_bytes + drawn * (size * size) as u64,
            seconds_to_go: stages.iter().map(|stage| stage.seconds_to_go).sum(),
            stages,
        })
    }
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
            let operations = stage.operations as f64 / 1e12;
            write!(f, "{operations:>10.2} TFLOP  ~{:<9}", progress::duration(stage.seconds_to_go))?;
            writeln!(f, " {}", stage.state)?;
        }
        writeln!(
            f,
            "  about {} to go, {} of memory at the peak, {} on disk",
            progress::duration(self.seconds_to_go),
            HumanBytes(self.peak_memory_bytes),
            HumanBytes(self.disk_bytes)
        )
    }
}
