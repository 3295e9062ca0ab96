//! Drawing images.

use super::{Cost, Made, Run, SAMPLE, Stage, State, hasher, text};
use crate::artifact::{self, Stamp};
use crate::data::catalog::Split;
use crate::data::latents::Latents;
use crate::data::radiographs::Radiographs;
use crate::models::autoencoder::Autoencoder;
use crate::models::denoiser::Denoiser;
use crate::sample::generate::Generator;
use crate::sample::manifold::Strategy;
use crate::sample::sampler::{Ddim, Sampler};
use crate::sample::stage::{self, Sources};
use crate::telemetry::Watch;
use anyhow::{Context, Result};
use indicatif::HumanCount;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Images drawn at once. Part of the meaning: which images share a batch decides rounding in the last bit.
pub(super) const BATCH: usize = 16;

pub(super) struct Sample;

impl Stage for Sample {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        let hasher = hasher(run, SAMPLE, stage::VERSION)
            .section(&text(&run.recipe.sample))
            .section(&text(&run.networks.denoiser.task));
        Ok(run.with_upstream(SAMPLE, hasher))
    }

    fn state(&self, run: &Run, inputs: &str) -> Result<State> {
        Ok(match stamp(inputs).is_left_in(&run.stage_folder(SAMPLE))? {
            true => State::UpToDate,
            false if run.partial(SAMPLE, inputs).exists() => State::Resume { done: 0.0 },
            false => State::ToDo,
        })
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        let evaluations = |strategy: &Strategy| {
            let schedule = &run.networks.denoiser.task.schedule;
            (strategy.images() * strategy.num_evaluations(schedule)) as f64
        };
        let (strategies, size) = (&run.recipe.sample, run.recipe.data.size);
        let mut init = run.init("plan").deferred();
        let grow =
            run.networks.autoencoder.config().init(&mut init).decode_flops(size, size) as f64;
        let drawn: u64 = strategies.iter().map(|strategy| strategy.images() as u64).sum();
        let evaluations: f64 = strategies.iter().map(evaluations).sum();
        Ok(Cost {
            what: format!("{} images", HumanCount(drawn)),
            operations: evaluations * run.denoiser_flops() + drawn as f64 * grow,
            disk: drawn * (size * size) as u64,
            ..Cost::default()
        })
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        // Images of other weights must not be taken for these.
        let partial = run.partial(SAMPLE, inputs);
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let (train, _) = run.latents()?;
        let (denoiser, autoencoder) = (run.denoiser()?, run.autoencoder()?);
        let weaker = run.weaker_denoisers()?;
        let mut generator = run.generator(&denoiser, &autoencoder, &train);
        generator.weaker = &weaker;
        let held_out = |split: Split| -> Result<Option<Latents>> {
            let is_named = run.recipe.sample.iter().any(|strategy| strategy.split() == split);
            is_named.then(|| run.latents_of(split, train.scale().clone())).transpose()
        };
        let (valid, test) = (held_out(Split::Valid)?, held_out(Split::Test)?);
        let encoded = run.encoded()?;
        let all: [(Split, &Radiographs, Option<&Latents>); 3] = [
            (Split::Train, &encoded.train, Some(&train)),
            (Split::Valid, &encoded.valid, valid.as_ref()),
            (Split::Test, &encoded.test, test.as_ref()),
        ];
        let sources: BTreeMap<Split, Sources<'_>> = all
            .into_iter()
            .filter_map(|(split, radiographs, latents)| {
                Some((split, Sources { radiographs, latents: latents? }))
            })
            .collect();
        let images = run.recipe.sample.iter().map(Strategy::images).sum::<usize>() as u64;
        stage::run(
            &mut generator,
            &run.recipe.sample,
            &sources,
            run.recipe.seed,
            &run.recipe.name,
            &partial,
            BATCH,
            &Watch::new(SAMPLE, 0, images),
        )?;
        stamp(inputs).write(&partial)?;
        artifact::replace(&partial, &run.stage_folder(SAMPLE))?;
        run.remove_partials(SAMPLE)?;
        Ok(Made::Done { images, seconds: None })
    }
}

fn stamp(inputs: &str) -> Stamp {
    Stamp { stage: SAMPLE.to_owned(), version: stage::VERSION, inputs_hash: inputs.to_owned() }
}

impl Run {
    /// What draws images as `latents` are scaled; its sampler is DDIM until somebody says otherwise.
    pub(super) fn generator<'a>(
        &'a self,
        denoiser: &'a Denoiser,
        autoencoder: &'a Autoencoder,
        latents: &'a Latents,
    ) -> Generator<'a> {
        Generator {
            denoiser,
            weaker: &[],
            autoencoder,
            diffusion: &self.networks.denoiser.task,
            scale: latents.scale(),
            latent_shape: latents.latent_shape(),
            token_shape: latents.token_shape(),
            sampler: Sampler::Ddim(Ddim::default()),
            device: &self.place.device,
        }
    }

    /// Operations of one question to the denoiser.
    pub(super) fn denoiser_flops(&self) -> f64 {
        let [_, side, _] = self.networks.latent_shape;
        self.networks.denoiser.config.init(&mut self.init("plan").deferred()).flops(side, side)
            as f64
    }

    /// Where the result of `stage` grows until all of it is there.
    pub(super) fn partial(&self, stage: &str, inputs: &str) -> PathBuf {
        self.folder.join(format!("{stage}-{}.partial", &inputs[..8]))
    }

    /// Removes what `stage` has left half done, from other inputs too.
    pub(super) fn remove_partials(&self, stage: &str) -> Result<()> {
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.strip_prefix(stage).is_some_and(|rest| rest.starts_with('-'))
                && name.ends_with(".partial")
            {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
