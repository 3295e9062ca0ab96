//! Training the encoder by self-distillation; nothing to do where it is given.

use super::networks::given_cost;
use super::trained::{Pass, TrainingStage, Trains};
use super::{Cost, ENCODER, INGEST, Made, Run, hasher, text};
use crate::models::weights::num_parameters;
use crate::recipe::resolve::{Network, Start, Training};
use crate::train::task::Task as _;
use crate::train::task::dino::{Anchor, DinoTask, Distilled, fresh_centers};
use anyhow::Result;

pub(super) struct Encoder;

impl Trains for Encoder {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let training = match &run.networks.encoder {
            Network::Given { weights, .. } => return weights.hash().map(Some),
            Network::Trained(training) => training,
        };
        let hasher = hasher(run, ENCODER, DinoTask::VERSION);
        // Which folder it is does not matter, what is in it does, and how images reach it.
        let hasher = match &training.start {
            Start::Random => hasher.section(&text(&run.recipe.encoder.from)),
            Start::Pretrained { weights, learns } => hasher
                .section(&text(learns))
                .section(&text(&run.networks.input))
                .upstream(&weights.hash()?),
        };
        let hasher = hasher
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
        let Training { config, task, train, .. } = training;
        let late = task.late_from(train.batch_size).unwrap_or(train.images).min(train.images);
        let late = 1.0 - late as f64 / train.images.max(1) as f64;
        // Global and local views of one image, over the whole training.
        let [global, local] = [0, 1].map(|kind| {
            let see = |is_late| {
                let side = task.views.sizes(run.networks.input.side, is_late)[kind];
                encoder.flops(side, side) as f64
            };
            (1.0 - late) * see(false) + late * see(true)
        });
        let distilled = Distilled::of(config, task, &mut run.init("plan").deferred());
        Ok(TrainingStage { run, name: ENCODER, section: train }.cost(&Pass {
            parameters: num_parameters(&distilled) as u64,
            forward: 2.0 * global + task.views.num_local as f64 * local,
            // The teacher, and what patches are anchored to.
            extra: if task.gram.is_some() { 4.0 } else { 2.0 } * global,
        }))
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let training = run.networks.encoder.training().expect("a given encoder is up to date");
        let stage = TrainingStage { run, name: ENCODER, section: &training.train };
        let images = run.ingested()?;
        let mut task = DinoTask {
            centers: fresh_centers(&training.task, &run.place.device),
            anchor: Anchor::default(),
            step: training.train.batch_size,
            input: run.networks.input.clone(),
            network: training.config.clone(),
            dino: training.task.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: stage.measuring_batch(),
        };
        let data = run.output(INGEST).expect("ingest was walked first");
        stage.make(inputs, &data, &mut task, || run.fresh_distilled(training))
    }
}
