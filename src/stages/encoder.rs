//! Training the encoder by self-distillation; nothing to do where it is given.

use super::networks::given_cost;
use super::trained::{Pass, TrainingStage, Trains};
use super::{Cost, ENCODER, INGEST, Made, Run, hasher, text};
use crate::models::weights::num_parameters;
use crate::recipe::resolve::Network;
use crate::train::task::Task as _;
use crate::train::task::dino::{DinoTask, fresh_center};
use anyhow::Result;

pub(super) struct Encoder;

impl Trains for Encoder {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let training = match &run.networks.encoder {
            Network::Given { weights, .. } => return weights.hash().map(Some),
            Network::Trained(training) => training,
        };
        let hasher = hasher(run, ENCODER, DinoTask::VERSION)
            .section(&text(&run.recipe.encoder.from))
            .section(&text(&training.task))
            .section(&text(&training.train.meaning()))
            .section(&run.recipe.data.size.to_string());
        Ok(run.with_upstream(ENCODER, hasher))
    }

    fn training<'a>(&self, run: &'a Run) -> Option<TrainingStage<'a>> {
        let training = run.networks.encoder.training()?;
        Some(TrainingStage { run, name: ENCODER, section: &training.train })
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let encoder = run.networks.encoder.config().init(&mut run.init("plan").deferred());
        let training = match &run.networks.encoder {
            Network::Given { weights, .. } => return given_cost(weights, num_parameters(&encoder)),
            Network::Trained(training) => training,
        };
        let views = &training.task.views;
        let global = views.global_size.unwrap_or(run.recipe.data.size);
        let see_global = encoder.flops(global, global) as f64;
        let local = encoder.flops(views.local_size, views.local_size) as f64;
        Ok(TrainingStage { run, name: ENCODER, section: &training.train }.cost(&Pass {
            parameters: num_parameters(&run.fresh_distilled(training)) as u64,
            forward: 2.0 * see_global + views.num_local as f64 * local,
            extra: 2.0 * see_global,
        }))
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let training = run.networks.encoder.training().expect("a given encoder is up to date");
        let stage = TrainingStage { run, name: ENCODER, section: &training.train };
        let images = run.ingested()?;
        let mut task = DinoTask {
            center: fresh_center(training.task.head.prototypes, &run.place.device),
            network: training.config.clone(),
            dino: training.task.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: stage.measuring_batch(),
        };
        let data = run.output(INGEST).expect("ingest was walked first");
        stage.make(inputs, &data, &mut task, || Ok(run.fresh_distilled(training)))
    }
}
