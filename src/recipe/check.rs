//! Checks that need more than one section. All faults at once.

use super::networks::{Autoencoder, Denoiser, Encoder, Learns};
use super::resolve::Networks;
use super::{Recipe, RecipeError, SCHEMA};
use crate::evaluate::Evaluation;
use crate::models::condition::Tokens;
use crate::models::denoiser::ClassEmbedding;
use crate::models::encoder::ImageEncoderConfig;
use crate::models::{Init, weights};
use crate::random::Stream;
use burn::tensor::Device;
use std::path::Path;

impl Recipe {
    /// Looks whether the sections make sense, each and together, and whether the files they name are there.
    pub fn check(&self, path: &Path, data_root: &Path) -> Result<(), RecipeError> {
        let mut faults = Vec::new();
        self.check_header(&mut faults);
        faults.extend(self.data.check(data_root));
        self.check_condition(&mut faults);
        match self.networks(data_root) {
            Ok(networks) => {
                self.check_encoder(&networks, &mut faults);
                self.check_autoencoder(&networks, &mut faults);
                self.check_denoiser(&networks, &mut faults);
            }
            Err(what) => faults.extend(what),
        }
        faults.extend(self.diffusion.check());
        faults.extend(self.train.faults("train"));
        for (at, strategy) in self.sample.iter().enumerate() {
            faults.extend(strategy.check().into_iter().map(|what| format!("sample[{at}]: {what}")));
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            faults.extend(
                evaluation
                    .check(data_root)
                    .into_iter()
                    .map(|what| format!("evaluate[{at}]: {what}")),
            );
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            let figure = evaluation.get();
            if self.evaluate[..at].iter().any(|before| before.get().key() == figure.key()) {
                let name = figure.name();
                faults.push(format!("evaluate[{at}]: {name} is there twice; the report has one"));
            }
        }
        let needs_samples = |evaluation: &&Evaluation| evaluation.get().needs_samples();
        if self.sample.is_empty()
            && let Some(evaluation) = self.evaluate.iter().find(needs_samples)
        {
            faults.push(format!(
                "evaluate: {} needs images, but sample is empty",
                evaluation.get().name()
            ));
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

    fn check_condition(&self, faults: &mut Vec<String>) {
        if !(0.0..1.0).contains(&self.condition.dropout) {
            let dropout = self.condition.dropout;
            faults.push(format!("condition.dropout is {dropout}; expected at least 0 and below 1"));
        }
    }

    fn check_encoder(&self, networks: &Networks, faults: &mut Vec<String>) {
        let registers = networks.encoder.num_registers();
        if self.condition.tokens == Tokens::ClassAndRegisters && registers == 0 {
            let place = match &self.encoder {
                Encoder::Train { .. } => "encoder.vit.registers is 0",
                Encoder::Weights { .. } => "the encoder in encoder.folder has no registers",
            };
            faults.push(format!("condition.tokens is ClassAndRegisters, but {place}"));
        }
        let Encoder::Train { vit, dino, train } = &self.encoder else { return };
        if let ImageEncoderConfig::Vit(config) = &networks.encoder
            && let Err(error) = config.check()
        {
            faults.push(format!("encoder.vit: {error}"));
        }
        let dino = dino.faults(vit.patch, train);
        faults.extend(dino.into_iter().map(|what| format!("encoder.dino.{what}")));
        faults.extend(train.faults("encoder.train"));
        if !self.data.size.is_multiple_of(vit.patch.max(1)) {
            faults.push(format!(
                "data.size is {}, which encoder.vit.patch ({}) does not divide",
                self.data.size, vit.patch
            ));
        }
    }

    fn check_autoencoder(&self, networks: &Networks, faults: &mut Vec<String>) {
        let factor = networks.autoencoder.factor();
        if !self.data.size.is_multiple_of(factor) {
            let why = match &self.autoencoder {
                Autoencoder::Train { kl, .. } => {
                    format!("autoencoder.kl.channels has {} levels", kl.channels.len())
                }
                Autoencoder::Weights { folder, .. } => format!("of {}", folder.display()),
            };
            faults.push(format!(
                "data.size is {}, which the autoencoder's factor of {factor} does not divide ({why})",
                self.data.size
            ));
        }
        let channels = networks.autoencoder.in_channels();
        if ![1, 3].contains(&channels) {
            faults.push(format!(
                "autoencoder.folder takes images of {channels} channels; expected 1 or 3"
            ));
        }
        let Autoencoder::Train { loss, train, .. } = &self.autoencoder else { return };
        if let Err(error) = networks.autoencoder.check() {
            faults.push(format!("autoencoder.kl: {error}"));
        }
        if let Some(crop) = loss.crop
            && (crop == 0 || crop > self.data.size || !crop.is_multiple_of(factor))
        {
            faults.push(format!(
                "autoencoder.loss.crop is {crop}; expected a multiple of the autoencoder's factor ({factor}), at most data.size ({})",
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

    fn check_denoiser(&self, networks: &Networks, faults: &mut Vec<String>) {
        let config = &networks.denoiser;
        if let Err(error) = config.unet.check().and_then(|()| config.condition.check()) {
            faults.push(format!("denoiser: {error}"));
        }
        let levels = config.unet.block_out_channels.len();
        match &self.denoiser {
            Denoiser::Unet(unet) => {
                if let Some(level) = unet.attention.iter().find(|level| **level >= levels) {
                    faults.push(format!(
                        "denoiser.attention names level {level}; there are {levels} levels, numbered from 0"
                    ));
                }
            }
            Denoiser::Weights { .. } => self.check_foreign_unet(networks, faults),
        }
        let [_, side, _] = networks.latent_shape;
        let halvings = levels.saturating_sub(1).min(16);
        if side == 0 || !side.is_multiple_of(1 << halvings) {
            faults.push(format!(
                "denoiser: latents are {side} × {side} (data.size over the autoencoder's factor), which cannot be halved {halvings} times"
            ));
        }
    }

    /// Whether a U-Net that was trained elsewhere can be guided here.
    fn check_foreign_unet(&self, networks: &Networks, faults: &mut Vec<String>) {
        let unet = &networks.denoiser.unet;
        let [channels, ..] = networks.latent_shape;
        for (what, found) in
            [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)]
        {
            if found != channels {
                faults.push(format!(
                    "denoiser.folder: {what} is {found}, but the autoencoder's latents have {channels} channels"
                ));
            }
        }
        let pooled = networks.token_shape[0] * networks.denoiser.condition.width;
        let expected = self.condition.pooled.then_some(ClassEmbedding::SimpleProjection(pooled));
        if unet.class_embedding != expected {
            let found = match unet.class_embedding {
                Some(other) => format!("takes class labels ({other:?})"),
                None => "takes no class labels".into(),
            };
            let pooled = self.condition.pooled;
            faults.push(format!(
                "denoiser.folder {found}, which does not go with condition.pooled: {pooled}"
            ));
        }
        if let Denoiser::Weights { learns: learns @ Learns::Named(_), .. } = &self.denoiser {
            let mut init = Init::new(Stream::new(0, "names"), &Device::flex()).deferred();
            let names = weights::shapes(&unet.init(&mut init));
            let patterns = learns.patterns().unwrap_or_default();
            let is_used = |pattern: &str| names.keys().any(|name| weights::is_named(name, pattern));
            faults.extend(patterns.iter().filter(|pattern| !is_used(pattern)).map(|pattern| {
                format!(
                    "denoiser.learns: no weight of the U-Net is named {pattern:?}; expected a pattern such as \
                     \"*.attn2.*\" for names such as {}",
                    names.keys().next().map_or("none", String::as_str)
                )
            }));
            if patterns.is_empty() {
                faults.push("denoiser.learns is empty; expected a pattern, or All".into());
            }
        }
        if unet.text_time.is_some() {
            faults.push(
                "denoiser.folder takes text_embeds and time_ids, as Stable Diffusion XL does; there is nothing here to give it".into(),
            );
        }
    }
}
