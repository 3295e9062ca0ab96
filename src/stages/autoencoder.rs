//! Training the autoencoder; nothing to do where it is given.

use super::trained::{Pass, Training, Trains};
use super::{AUTOENCODER, Cost, INGEST, Made, Run, hasher, text};
use crate::models::autoencoder::{AutoencoderConfig, AutoencoderKlConfig};
use crate::models::weights::num_parameters;
use crate::recipe::networks::Autoencoder as Section;
use crate::train::task::Task as _;
use crate::train::task::autoencoder::{AutoencoderTask, KlLoss};
use anyhow::Result;

pub(super) struct Autoencoder;

impl Trains for Autoencoder {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let Section::Train { kl, loss, train } = &run.recipe.autoencoder else {
            return run.given_hash(AUTOENCODER).map(Some);
        };
        let hasher = hasher(run, AUTOENCODER, AutoencoderTask::VERSION)
            .section(&text(kl))
            .section(&text(loss))
            .section(&text(&train.meaning()))
            .section(&run.recipe.data.size.to_string());
        Ok(run.with_upstream(AUTOENCODER, hasher))
    }

    fn training<'a>(&self, run: &'a Run) -> Option<Training<'a>> {
        trained(run).map(|(_, _, training)| training)
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let autoencoder = run.networks.autoencoder.init(&mut run.init("plan").deferred());
        let parameters = num_parameters(&autoencoder);
        let Some((_, loss, training)) = trained(run) else {
            return run.given_cost(AUTOENCODER, parameters);
        };
        let crop = loss.crop.unwrap_or(run.recipe.data.size);
        let forward = autoencoder.encode_flops(crop, crop) + autoencoder.decode_flops(crop, crop);
        let parameters = parameters as u64;
        Ok(training.cost(&Pass { parameters, forward: forward as f64, extra: 0.0 }))
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let (network, loss, training) = trained(run).expect("a given autoencoder is up to date");
        let images = run.ingested()?;
        let mut task = AutoencoderTask {
            network: network.clone(),
            loss: loss.clone(),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: training.measuring_batch(),
        };
        let data = run.output(INGEST).expect("ingest was walked first");
        training.make(inputs, &data, &mut task, || Ok(network.init(&mut run.init("autoencoder"))))
    }
}

/// Its network, its loss and its training, where the recipe trains one.
fn trained(run: &Run) -> Option<(&AutoencoderKlConfig, &KlLoss, Training<'_>)> {
    let Section::Train { loss, train, .. } = &run.recipe.autoencoder else { return None };
    let AutoencoderConfig::Kl(network) = &run.networks.autoencoder else { return None };
    Some((network, loss, Training { run, name: AUTOENCODER, section: train }))
}
