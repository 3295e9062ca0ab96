//! The sample stage.

use super::{Ended, Run, Stage, Timing, text};
use crate::artifact;
use crate::encode::Latents;
use crate::models::autoencoder::Autoencoder;
use crate::models::denoiser::Denoiser;
use crate::sample::generate::Generator;
use crate::sample::manifold::Strategy;
use crate::sample::sampler::{Ddim, Sampler};
use crate::sample::stage::{self, Sources};
use crate::telemetry::progress;
use anyhow::{Context, Result};
use std::{fs, time::Instant};

/// Images drawn at once. Part of the meaning: which images share a batch decides rounding in the last bit.
pub(super) const BATCH: usize = 16;

impl Run {
    pub(super) fn sample_hash(&self) -> Result<String> {
        Ok(self
            .hasher(Stage::Sample, stage::VERSION)
            .section(&text(&self.recipe.sample))
            .section(&text(&self.recipe.diffusion))
            .upstream(&self.data_hash()?)
            .upstream(&self.weights_hash(Stage::Denoiser)?)
            .finish())
    }

    /// What draws images as `latents` are scaled; its sampler is DDIM until somebody says otherwise.
    pub(super) fn generator<'a>(
        &'a self,
        denoiser: &'a Denoiser,
        autoencoder: &'a Autoencoder,
        latents: &Latents,
    ) -> Generator<'a> {
        Generator {
            denoiser,
            autoencoder,
            diffusion: &self.recipe.diffusion,
            scale: latents.scale(),
            latent_shape: latents.latent_shape(),
            token_shape: latents.token_shape(),
            sampler: Sampler::Ddim(Ddim::default()),
            device: &self.place.device,
        }
    }

    /// Removes what sampling from other weights has left half done.
    fn remove_partial_samples(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("sample-") && name.ends_with(".partial") {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    pub(super) fn sample(&self) -> Result<Ended> {
        let folder = self.stage_folder(Stage::Sample);
        let stamp = self.stamp(Stage::Sample, stage::VERSION, self.sample_hash()?);
        if stamp.is_left_in(&folder)? {
            return Ok(Ended::UpToDate);
        }
        let start = Instant::now();
        // Images of other weights must not be taken for these.
        let partial = self.folder.join(format!("sample-{}.partial", &stamp.inputs_hash[..8]));
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let (train, _) = self.latents()?;
        let (denoiser, autoencoder) = (self.denoiser()?, self.autoencoder()?);
        let mut generator = self.generator(&denoiser, &autoencoder, &train);
        let sources = Sources { radiographs: &self.encoded()?.train, latents: &train };
        let total = self.recipe.sample.iter().map(Strategy::images).sum::<usize>() as u64;
        let bar = progress::bar(Stage::Sample.name(), 0, total);
        let is_done = stage::run(
            &mut generator,
            &self.recipe.sample,
            &sources,
            self.recipe.seed,
            &self.recipe.name,
            &partial,
            BATCH,
            &bar,
        )?;
        bar.finish_and_clear();
        if !is_done {
            return Ok(Ended::Interrupted);
        }
        stamp.write(&partial)?;
        artifact::replace(&partial, &folder)?;
        self.remove_partial_samples()?;
        self.write_timing(
            Stage::Sample,
            Timing { seconds: start.elapsed().as_secs_f64(), images: total },
        )?;
        Ok(Ended::Done)
    }
}
