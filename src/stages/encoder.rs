//! Training the encoder by self-distillation; nothing to do where it is given.

use super::trained::{Pass, Training, Trains};
use super::{Cost, ENCODER, INGEST, Made, Run, hasher, text};
use crate::models::encoder::{ImageEncoderConfig, VitConfig};
use crate::models::weights::num_parameters;
use crate::recipe::networks::Encoder as Section;
use crate::train::task::Task as _;
use crate::train::task::dino::{Dino, DinoTask, Distilled, fresh_center};
use anyhow::Result;

pub(super) struct Encoder;

impl Trains for Encoder {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let Section::Train { vit, dino, train } = &run.recipe.encoder else {
            return run.given_hash(ENCODER).map(Some);
        };
        let train = match dino.compares_images() {
            true => train.meaning_by_micro_batch(),
            false => train.meaning(),
        };
        let hasher = hasher(run, ENCODER, DinoTask::VERSION)
            .section(&text(vit))
            .section(&text(dino))
            .section(&text(&train))
            .section(&run.recipe.data.size.to_string());
        Ok(run.with_upstream(ENCODER, hasher))
    }

    fn training<'a>(&self, run: &'a Run) -> Option<Training<'a>> {
        trained(run).map(|(_, _, training)| training)
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let encoder = run.networks.encoder.init(&mut run.init("plan").deferred());
        let Some((network, dino, training)) = trained(run) else {
            return run.given_cost(ENCODER, num_parameters(&encoder));
        };
        let views = &dino.views;
        let global = views.global_size.unwrap_or(run.recipe.data.size);
        let see_global = encoder.flops(global, global) as f64;
        let local = encoder.flops(views.local_size, views.local_size) as f64;
        let seed = run.recipe.seed;
        let distilled = Distilled::new(network, &dino.head, seed, &run.place.device);
        Ok(training.cost(&Pass {
            parameters: num_parameters(&distilled) as u64,
            forward: 2.0 * see_global + views.num_local as f64 * local,
            extra: 2.0 * see_global,
        }))
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let (network, dino, training) = trained(run).expect("a given encoder is up to date");
        let images = run.ingested()?;
        let mut task = DinoTask {
            center: fresh_center(dino.head.prototypes, &run.place.device),
            network: network.clone(),
            dino: dino.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: training.measuring_batch(),
        };
        let data = run.output(INGEST).expect("ingest was walked first");
        let fresh = || Ok(Distilled::new(network, &dino.head, run.recipe.seed, &run.place.device));
        training.make(inputs, &data, &mut task, fresh)
    }
}

/// Its network, its loss and its training, where the recipe trains one.
fn trained(run: &Run) -> Option<(&VitConfig, &Dino, Training<'_>)> {
    let Section::Train { dino, train, .. } = &run.recipe.encoder else { return None };
    let ImageEncoderConfig::Vit(network) = &run.networks.encoder else { return None };
    Some((network, dino, Training { run, name: ENCODER, section: train }))
}
