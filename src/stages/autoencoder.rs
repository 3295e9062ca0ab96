//! Training the autoencoder, from scratch or from a pretrained one; nothing to do where it is given.

use super::networks::given_cost;
use super::trained::{Pass, TrainingStage, Trains};
use super::{AUTOENCODER, Cost, INGEST, Made, Run, hasher, text};
use crate::models::features::LpipsConfig;
use crate::models::weights::num_parameters;
use crate::recipe::resolve::{Network, Start};
use crate::train::task::Task as _;
use crate::train::task::autoencoder::{AgainstDiscriminator, AutoencoderTask};
use anyhow::Result;
use burn::module::Module;
use indicatif::HumanCount;

pub(super) struct Autoencoder;

impl Trains for Autoencoder {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let training = match &run.networks.autoencoder {
            Network::Given { weights, .. } => return weights.hash().map(Some),
            Network::Trained(training) => training,
        };
        let hasher = hasher(run, AUTOENCODER, AutoencoderTask::VERSION);
        // Which folder it is does not matter, what is in it does.
        let hasher = match &training.start {
            Start::Random => hasher.section(&text(&run.recipe.autoencoder.from)),
            Start::Pretrained { weights, learns } => {
                hasher.section(&text(learns)).upstream(&weights.hash()?)
            }
        };
        let mut hasher = hasher
            .section(&text(&training.task))
            .section(&text(&training.train.meaning()))
            .section(&run.recipe.data.size.to_string());
        if let Some(perceptual) = &training.task.perceptual {
            hasher = hasher.upstream(&perceptual.folder(&run.place.data_root)?.hash()?);
        }
        Ok(run.with_upstream(AUTOENCODER, hasher))
    }

    fn training<'a>(&self, run: &'a Run) -> Option<TrainingStage<'a>> {
        let training = run.networks.autoencoder.training()?;
        Some(TrainingStage { run, name: AUTOENCODER, section: &training.train })
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let autoencoder = run.networks.autoencoder.config().init(&mut run.init("plan").deferred());
        let parameters = num_parameters(&autoencoder);
        let training = match &run.networks.autoencoder {
            Network::Given { weights, .. } => return given_cost(weights, parameters),
            Network::Trained(training) => training,
        };
        let crop = training.task.crop.unwrap_or(run.recipe.data.size);
        let forward = autoencoder.encode_flops(crop, crop) + autoencoder.decode_flops(crop, crop);
        let mut pass = Pass { parameters: parameters as u64, forward: forward as f64, extra: 0.0 };
        let mut against = String::new();
        if training.task.perceptual.is_some() {
            // Of both images; only what was restored has a gradient.
            let lpips = LpipsConfig::default().init(&mut run.init("plan").deferred());
            let seen = lpips.flops(crop, crop) as f64;
            (pass.forward, pass.extra) = (pass.forward + seen, pass.extra + seen);
        }
        if let Some(adversarial) = &training.task.adversarial {
            let config = adversarial.config(training.config.out_channels());
            let discriminator = config.init(&mut run.init("plan").deferred());
            let judged = discriminator.flops(crop, crop) as f64;
            // What was restored is judged twice, once for each of the two, and what is real once.
            let share = 1.0 - adversarial.from as f64 / training.train.images as f64;
            pass.forward += 3.0 * share * judged;
            pass.parameters += num_parameters(&discriminator) as u64;
            let parameters = HumanCount(num_parameters(&discriminator) as u64);
            against = format!(" against a discriminator of {parameters}");
        }
        let mut cost =
            TrainingStage { run, name: AUTOENCODER, section: &training.train }.cost(&pass);
        cost.parameters = Some(parameters as u64);
        cost.what += &format!(", factor {}{against}", training.config.factor());
        Ok(cost)
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        let training =
            run.networks.autoencoder.training().expect("a given autoencoder is up to date");
        let stage = TrainingStage { run, name: AUTOENCODER, section: &training.train };
        let images = run.ingested()?;
        let mut task = AutoencoderTask {
            network: training.config.clone(),
            loss: training.task.clone(),
            perceptual: run
                .perceptual(&training.task)?
                .map(|lpips| lpips.with_compute(training.train.compute).train()),
            train: images.train.clone(),
            valid: images.valid.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            batch_size: stage.measuring_batch(),
        };
        let data = run.output(INGEST).expect("ingest was walked first");
        let Some(section) = training.task.adversarial.clone() else {
            return stage.make(inputs, &data, &mut task, || run.fresh_autoencoder(training));
        };
        stage.make_procedure(inputs, &data, || {
            let discriminator = run.fresh_discriminator(&training.config, &section);
            let fresh = (run.fresh_autoencoder(training)?, discriminator);
            Ok(AgainstDiscriminator::new(&mut task, section, fresh, stage.section))
        })
    }
}
