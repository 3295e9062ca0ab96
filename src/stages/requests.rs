//! What a recipe's networks would ask a GPU for: their steps of training and their other passes, carried out in shapes.

use super::{encode, sample};
use crate::engine::trace::{self, Request};
use crate::models::Init;
use crate::random::Stream;
use crate::recipe::Checked;
use crate::recipe::resolve::Network;
use crate::train::Train;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeSet;

/// Every convolution, attention and product of a recipe, in the number formats it names.
pub fn requests(checked: &Checked) -> BTreeSet<Request> {
    let device = Device::flex();
    let Checked { recipe, networks } = checked;
    let size = recipe.data.size;
    let init = || Init::new(Stream::new(0, "shapes"), &device).hollow();
    let images = |count: usize, channels: usize, side: usize| -> Tensor<4> {
        Tensor::zeros([count, channels, side, side], &device)
    };
    let learns = |x: Tensor<4>| Tensor::from_inner(x);
    trace::requests(|| {
        let batch = encode::BATCH;
        let encoder = networks.encoder.config();
        let pixels = images(batch, encoder.num_channels(), networks.input.side);
        let _ = encoder.init(&mut init()).forward(pixels);
        if let Network::Trained(training) = &networks.encoder {
            let train = &training.train;
            let vit = training.config.init(&mut init()).with_compute(train.compute).train();
            let views = &training.task.views;
            let global = views.global_size.unwrap_or(size);
            let round = rounds(train);
            let channels = training.config.num_channels;
            let _ = vit.valid().forward(images(round, channels, global));
            vit.forward(learns(images(2 * round, channels, global))).sum().backward();
            if views.num_local > 0 {
                let locals = images(views.num_local * round, channels, views.local_size);
                vit.forward(learns(locals)).sum().backward();
            }
        }
        let [channels, side, _] = networks.latent_shape;
        let autoencoder = networks.autoencoder.config();
        {
            let network = autoencoder.init(&mut init());
            let _ = network.encode(images(batch, autoencoder.in_channels(), size));
            let _ = network.decode(images(sample::BATCH, channels, side));
        }
        if let Network::Trained(training) = &networks.autoencoder {
            let round = rounds(&training.train);
            let crop = training.task.crop.unwrap_or(size);
            let network = training.config.init(&mut init()).with_compute(training.train.compute);
            let network = network.train();
            let pixels = learns(images(round, training.config.in_channels, crop));
            let moments = network.encode(pixels);
            network.decode(moments.mean).sum().backward();
        }
        let train = &networks.denoiser.train;
        let denoiser = networks.denoiser.config.init(&mut init()).with_compute(train.compute);
        let [tokens, token_width] = networks.token_shape;
        let predict = |count: usize, learns: bool| {
            let noisy = images(count, channels, side);
            let condition = Tensor::<3>::zeros([count, tokens, token_width], &device);
            let (timesteps, keep) = (vec![0.0; count], vec![true; count]);
            if learns {
                let denoiser = denoiser.clone().train();
                let (noisy, condition) = (Tensor::from_inner(noisy), Tensor::from_inner(condition));
                denoiser.forward(noisy, &timesteps, condition, &keep).sum().backward();
            } else {
                let _ = denoiser.valid().forward(noisy, &timesteps, condition, &keep);
            }
        };
        predict(rounds(train), true);
        predict(sample::BATCH, false);
    })
}

/// Images of one round of a step.
fn rounds(train: &Train) -> usize {
    train.micro_batch_size.unwrap_or(train.batch_size)
}
