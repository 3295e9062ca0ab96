//! Checks that need more than one section. All faults at once.

use super::networks::{Autoencoder, Denoiser, Encoder, num_tokens};
use super::{Recipe, RecipeError, SCHEMA};
use crate::evaluate::section::Evaluation;
use crate::models::autoencoder::AutoencoderKlConfig;
use crate::models::condition::Tokens;
use crate::models::denoiser::DenoiserConfig;
use crate::models::encoder::VitConfig;
use std::path::Path;

impl Recipe {
    /// Looks whether the sections make sense, each and together, and whether the files they name are there.
    pub fn check(&self, path: &Path, data_root: &Path) -> Result<(), RecipeError> {
        let mut faults = Vec::new();
        self.check_header(&mut faults);
        faults.extend(self.data.check(data_root));
        self.check_encoder(&mut faults);
        self.check_autoencoder(&mut faults);
        self.check_denoiser(&mut faults);
        faults.extend(self.diffusion.check());
        faults.extend(self.train.faults("train"));
        for (at, strategy) in self.sample.iter().enumerate() {
            faults.extend(strategy.check().into_iter().map(|what| format!("sample[{at}]: {what}")));
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            faults.extend(
                evaluation.check().into_iter().map(|what| format!("evaluate[{at}]: {what}")),
            );
        }
        let needs_samples = |evaluation: &&Evaluation| evaluation.needs_samples();
        if self.sample.is_empty()
            && let Some(evaluation) = self.evaluate.iter().find(needs_samples)
        {
            faults
                .push(format!("evaluate: {} needs images, but sample is empty", evaluation.name()));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(RecipeError::Faults { path: path.to_owned(), faults })
        }
    }

    fn check_header(&self, faults: &mut Vec<String>) {
        if self.schema != SCHEMA {
            faults.push(format!("schema is {}; this umbra reads {SCHEMA}", self.schema));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = &self.name;
        if name.is_empty()
            || name.len() > 100
            || name.starts_with('.')
            || !name.chars().all(is_plain)
        {
            faults.push(format!(
                "name is \"{}\"; expected 1 to 100 letters, digits, '-', '_' or '.', not starting with a dot (it names a folder)",
                name.escape_debug()
            ));
        }
        if name == "stores" {
            faults
                .push("name is \"stores\", which is where stores are kept; choose another".into());
        }
    }

    fn check_encoder(&self, faults: &mut Vec<String>) {
        let Encoder::Train { vit, dino, train } = &self.encoder;
        if let Err(error) = self.vit_config().check() {
            faults.push(format!("encoder.vit: {error}"));
        }
        faults
            .extend(dino.faults(vit.patch).into_iter().map(|what| format!("encoder.dino.{what}")));
        faults.extend(train.faults("encoder.train"));
        if !self.data.size.is_multiple_of(vit.patch.max(1)) {
            faults.push(format!(
                "data.size is {}, which encoder.vit.patch ({}) does not divide",
                self.data.size, vit.patch
            ));
        }
        if self.condition.tokens == Tokens::ClassAndRegisters && vit.registers == 0 {
            faults.push(
                "condition.tokens is ClassAndRegisters, but encoder.vit.registers is 0".into(),
            );
        }
        if !(0.0..1.0).contains(&self.condition.dropout) {
            let dropout = self.condition.dropout;
            faults.push(format!("condition.dropout is {dropout}; expected at least 0 and below 1"));
        }
    }

    fn check_autoencoder(&self, faults: &mut Vec<String>) {
        let Autoencoder::Train { kl, loss, train } = &self.autoencoder;
        if let Err(error) = self.autoencoder_config().check() {
            faults.push(format!("autoencoder.kl: {error}"));
        }
        if !self.data.size.is_multiple_of(kl.factor()) {
            faults.push(format!(
                "data.size is {}, which the autoencoder's factor of {} does not divide (autoencoder.kl.channels has {} levels)",
                self.data.size,
                kl.factor(),
                kl.channels.len()
            ));
        }
        if let Some(crop) = loss.crop
            && (crop == 0 || crop > self.data.size || !crop.is_multiple_of(kl.factor()))
        {
            faults.push(format!(
                "autoencoder.loss.crop is {crop}; expected a multiple of the autoencoder's factor ({}), at most data.size ({})",
                kl.factor(),
                self.data.size
            ));
        }
        for (name, weight) in
            [("kl_weight", loss.kl_weight), ("gradient_weight", loss.gradient_weight)]
        {
            if !(weight >= 0.0 && weight.is_finite()) {
                faults.push(format!("autoencoder.loss.{name} is {weight}; expected at least 0"));
            }
        }
        faults.extend(train.faults("autoencoder.train"));
    }

    fn check_denoiser(&self, faults: &mut Vec<String>) {
        let Denoiser::Unet(unet) = &self.denoiser;
        let config = self.denoiser_config();
        if let Err(error) = config.unet.check().and_then(|()| config.condition.check()) {
            faults.push(format!("denoiser: {error}"));
        }
        if let Some(level) = unet.attention.iter().find(|level| **level >= unet.channels.len()) {
            faults.push(format!(
                "denoiser.attention names level {level}; there are {} levels, numbered from 0",
                unet.channels.len()
            ));
        }
        let [_, side, _] = self.latent_shape();
        let halvings = unet.channels.len().saturating_sub(1).min(16);
        if side == 0 || !side.is_multiple_of(1 << halvings) {
            faults.push(format!(
                "denoiser: latents are {side} × {side} (data.size over the autoencoder's factor), which cannot be halved {halvings} times"
            ));
        }
    }

    /// The encoder's network.
    pub fn vit_config(&self) -> VitConfig {
        let Encoder::Train { vit, dino, .. } = &self.encoder;
        // The size that position embeddings are learned at; others are interpolated.
        vit.config(dino.views.global_size.unwrap_or(self.data.size))
    }

    /// The autoencoder's network.
    pub fn autoencoder_config(&self) -> AutoencoderKlConfig {
        let Autoencoder::Train { kl, .. } = &self.autoencoder;
        kl.config()
    }

    /// The denoiser's network.
    pub fn denoiser_config(&self) -> DenoiserConfig {
        let Denoiser::Unet(unet) = &self.denoiser;
        unet.config(self.latent_shape(), self.token_shape(), &self.condition)
    }

    /// Channels, height and width of a latent.
    pub fn latent_shape(&self) -> [usize; 3] {
        let Autoencoder::Train { kl, .. } = &self.autoencoder;
        let side = self.data.size / kl.factor();
        [kl.latent_channels, side, side]
    }

    /// Condition tokens and their width.
    pub fn token_shape(&self) -> [usize; 2] {
        let Encoder::Train { vit, .. } = &self.encoder;
        [num_tokens(self.condition.tokens, vit.registers), vit.width]
    }
}
