//! What a recipe's networks would ask a GPU for: their steps of training and their other passes, carried out in shapes.

use super::{encode, sample};
use crate::engine::trace::{self, Request};
use crate::models::Init;
use crate::models::features::LpipsConfig;
use crate::random::Stream;
use crate::recipe::Checked;
use crate::recipe::resolve::Network;
use crate::train::Train;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeSet;

/// Every convolution, attention and product of a recipe, in the number formats it names.
///
/// Each pass is traced for one image, and then meant for as many as it takes at once: what is not traced, activations
/// and sums, is computed, and would take its time for a whole batch.
pub fn requests(checked: &Checked) -> BTreeSet<Request> {
    let device = Device::flex();
    let Checked { recipe, networks } = checked;
    let size = recipe.data.size;
    let init = || Init::new(Stream::new(0, "shapes"), &device).hollow();
    let image = |channels: usize, side: usize| -> Tensor<4> {
        Tensor::zeros([1, channels, side, side], &device)
    };
    let learns = |channels: usize, side: usize| Tensor::<4>::from_inner(image(channels, side));
    let mut all = BTreeSet::new();
    let mut pass = |count: usize, pass: &dyn Fn()| {
        all.extend(trace::requests(pass).into_iter().map(|request| request.times(count)));
    };

    let encoder = networks.encoder.config();
    pass(encode::BATCH, &|| {
        let pixels = image(encoder.num_channels(), networks.input.side);
        let _ = encoder.init(&mut init()).forward(pixels);
    });
    if let Network::Trained(training) = &networks.encoder {
        let vit = training.config.init(&mut init()).with_compute(training.train.compute).train();
        let views = &training.task.views;
        let global = views.global_size.unwrap_or(size);
        let (round, channels) = (round(&training.train), training.config.num_channels);
        pass(round, &|| drop(vit.valid().forward(image(channels, global))));
        pass(2 * round, &|| drop(vit.forward(learns(channels, global)).sum().backward()));
        if views.num_local > 0 {
            let side = views.local_size;
            let local = || drop(vit.forward(learns(channels, side)).sum().backward());
            pass(views.num_local * round, &local);
        }
    }

    let [channels, side, _] = networks.latent_shape;
    let autoencoder = networks.autoencoder.config();
    let network = autoencoder.init(&mut init());
    pass(encode::BATCH, &|| drop(network.encode(image(autoencoder.in_channels(), size))));
    pass(sample::BATCH, &|| drop(network.decode(image(channels, side))));
    if let Network::Trained(training) = &networks.autoencoder {
        let crop = training.task.crop.unwrap_or(size);
        let network = training.config.init(&mut init()).with_compute(training.train.compute);
        let network = network.train();
        pass(round(&training.train), &|| {
            let moments = network.encode(learns(training.config.in_channels(), crop));
            drop(network.decode(moments.mean).sum().backward());
        });
        let restored = || learns(training.config.out_channels(), crop);
        if let Some(adversarial) = &training.task.adversarial {
            let config = adversarial.config(training.config.out_channels());
            let judge = config.init(&mut init()).with_compute(training.train.compute).train();
            pass(round(&training.train), &|| drop(judge.forward(restored()).sum().backward()));
        }
        if training.task.perceptual.is_some() {
            let lpips = LpipsConfig::default().init(&mut init()).no_grad().train();
            let lpips = lpips.with_compute(training.train.compute);
            let seen = || drop(lpips.forward(restored(), restored()).sum().backward());
            pass(round(&training.train), &seen);
        }
    }

    let train = &networks.denoiser.train;
    let denoiser = networks.denoiser.config.init(&mut init()).with_compute(train.compute);
    let [tokens, token_width] = networks.token_shape;
    let condition = || Tensor::<3>::zeros([1, tokens, token_width], &device);
    let learning = denoiser.clone().train();
    pass(round(train), &|| {
        let condition = Tensor::from_inner(condition());
        let prediction = learning.forward(learns(channels, side), &[0.0], condition, &[true]);
        drop(prediction.sum().backward());
    });
    pass(sample::BATCH, &|| {
        let denoiser = denoiser.valid();
        drop(denoiser.forward(image(channels, side), &[0.0], condition(), &[true]));
    });
    all
}

/// Images of one round of a step.
fn round(train: &Train) -> usize {
    train.micro_batch_size.unwrap_or(train.batch_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Compute;
    use crate::models::denoiser::{BackboneConfig, MmditConfig, UnetConfig};

    #[test]
    fn what_one_image_needs_times_three_is_what_three_images_need() {
        let device = Device::flex();
        let unet = UnetConfig {
            block_out_channels: vec![32, 64],
            attention: vec![false, true],
            cross_attention_dim: 48,
            ..UnetConfig::default()
        };
        let transformer = MmditConfig {
            in_channels: 4,
            num_layers: 2,
            num_attention_heads: 2,
            joint_attention_dim: 48,
            qk_norm: true,
            ..MmditConfig::default()
        };
        for (config, count) in
            [(BackboneConfig::Unet(unet), 40), (BackboneConfig::Transformer(transformer), 20)]
        {
            let network = config.init(&mut Init::new(Stream::new(0, "shapes"), &device).hollow());
            for compute in [Compute::F32, Compute::Bf16] {
                let network = network.clone().with_compute(compute).train();
                let step = |count: usize| {
                    trace::requests(|| {
                        let device = device.clone().autodiff();
                        let noisy = Tensor::zeros([count, 4, 8, 8], &device);
                        let context = Tensor::zeros([count, 5, 48], &device);
                        let timesteps = Tensor::zeros([count], &device);
                        let out = network.forward(noisy, timesteps, context, None, None);
                        drop(out.sum().backward());
                    })
                };
                let three = step(3);
                assert!(three.len() > count, "{}", three.len());
                let of_one: BTreeSet<_> =
                    step(1).into_iter().map(|request| request.times(3)).collect();
                assert_eq!(of_one, three);
            }
        }
    }
}
