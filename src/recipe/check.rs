//! Checks that need more than one section. All faults at once.

use super::networks::{AutoencoderFrom, DenoiserFrom, EncoderFrom};
use super::resolve::{Network, Networks, Start, Training};
use super::{Recipe, RecipeError, SCHEMA};
use crate::evaluate::Evaluation;
use crate::faults::{demand, within};
use crate::models::condition::Tokens;
use crate::models::denoiser::ClassEmbedding;
use crate::models::{Init, weights};
use crate::random::Stream;
use burn::tensor::Device;
use std::path::Path;

/// A recipe that can be run, and what it means.
#[derive(Debug, Clone)]
pub struct Checked {
    /// As it is written.
    pub recipe: Recipe,
    /// The networks that it names.
    pub networks: Networks,
}

impl Recipe {
    /// Looks whether the sections make sense, each and together, and whether the files they name are there. Gives the
    /// recipe back with the networks that it means.
    pub fn check(self, path: &Path, data_root: &Path) -> Result<Checked, RecipeError> {
        let mut faults = Vec::new();
        self.check_header(&mut faults);
        faults.extend(within("data", self.data.check(data_root)));
        self.check_condition(&mut faults);
        for (network, learns, train) in [
            ("encoder", &self.encoder.learns, &self.encoder.train),
            ("autoencoder", &self.autoencoder.learns, &self.autoencoder.train),
        ] {
            if train.is_none() && learns != &["*"] {
                faults.push(format!(
                    "{network}.learns is {learns:?}, but {network}.train is missing, so that nothing learns"
                ));
            }
        }
        let networks = self.networks(data_root).map_err(|what| faults.extend(what));
        if let Ok(networks) = &networks {
            self.check_encoder(networks, &mut faults);
            self.check_autoencoder(networks, data_root, &mut faults);
            self.check_denoiser(networks, &mut faults);
        }
        faults.extend(within("denoiser.task", self.diffusion().check()));
        if let Some(train) = &self.denoiser.train {
            faults.extend(within("denoiser.train", train.check()));
        }
        for (at, strategy) in self.sample.iter().enumerate() {
            faults.extend(within(&format!("sample[{at}]"), strategy.check()));
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            faults.extend(within(&format!("evaluate[{at}]"), evaluation.check(data_root)));
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            let figure = evaluation.get();
            if self.evaluate[..at].iter().any(|before| before.get().key() == figure.key()) {
                let name = figure.name();
                faults.push(format!("evaluate[{at}] is {name} again; expected one of each"));
            }
        }
        let needs_samples = |evaluation: &&Evaluation| evaluation.get().needs_samples();
        if self.sample.is_empty()
            && let Some(evaluation) = self.evaluate.iter().find(needs_samples)
        {
            let name = evaluation.get().name();
            faults.push(format!(
                "sample is empty; expected images, which {name} in evaluate looks at"
            ));
        }
        match networks {
            Ok(networks) if faults.is_empty() => Ok(Checked { recipe: self, networks }),
            _ => Err(RecipeError::Faults { path: path.to_owned(), faults }),
        }
    }

    fn check_header(&self, faults: &mut Vec<String>) {
        faults.extend(demand(self.schema == SCHEMA, "schema", self.schema, SCHEMA));
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
        let dropout = self.condition.dropout;
        let is_share = (0.0..1.0).contains(&dropout);
        faults.extend(demand(is_share, "condition.dropout", dropout, "at least 0 and below 1"));
    }

    fn check_encoder(&self, networks: &Networks, faults: &mut Vec<String>) {
        let registers = networks.encoder.config().num_registers();
        if self.condition.tokens == Tokens::ClassAndRegisters && registers == 0 {
            let place = match &self.encoder.from {
                EncoderFrom::Vit(_) => "encoder.from.registers is 0",
                EncoderFrom::Folder { .. } => "the encoder in encoder.from.path has no registers",
            };
            faults.push(format!("condition.tokens is ClassAndRegisters, but {place}"));
        }
        let Network::Trained(Training { config, start, task, train }) = &networks.encoder else {
            return;
        };
        check_learns("encoder", &self.encoder.learns, start, Vec::new, faults);
        if let Err(error) = config.check() {
            faults.push(format!("encoder.from: {error}"));
        }
        faults.extend(within("encoder.task", task.check(config.patch_size, train)));
        faults.extend(within("encoder.train", train.check()));
        if !self.data.size.is_multiple_of(config.patch_size.max(1)) {
            faults.push(format!(
                "data.size is {}, which encoder.from.patch ({}) does not divide",
                self.data.size, config.patch_size
            ));
        }
    }

    fn check_autoencoder(&self, networks: &Networks, data_root: &Path, faults: &mut Vec<String>) {
        let config = networks.autoencoder.config();
        let factor = config.factor();
        if !self.data.size.is_multiple_of(factor) {
            let why = match &self.autoencoder.from {
                AutoencoderFrom::Kl(kl) => {
                    format!("autoencoder.from.channels has {} levels", kl.channels.len())
                }
                AutoencoderFrom::Tiny(tiny) => {
                    format!("autoencoder.from.levels is {}", tiny.levels)
                }
                AutoencoderFrom::Folder { path, .. } => format!("of {}", path.display()),
            };
            faults.push(format!(
                "data.size is {}, which the autoencoder's factor of {factor} does not divide ({why})",
                self.data.size
            ));
        }
        let channels = config.in_channels();
        if ![1, 3].contains(&channels) {
            faults.push(format!(
                "autoencoder.from.path takes images of {channels} channels; expected 1 or 3"
            ));
        }
        let Network::Trained(Training { start, task: loss, train, .. }) = &networks.autoencoder
        else {
            return;
        };
        if let Err(error) = config.check() {
            faults.push(format!("autoencoder.from: {error}"));
        }
        let names = || {
            let mut init = Init::new(Stream::new(0, "names"), &Device::flex()).deferred();
            weights::shapes(&config.init(&mut init)).into_keys().collect()
        };
        check_learns("autoencoder", &self.autoencoder.learns, start, names, faults);
        if let Some(crop) = loss.crop
            && (crop == 0 || crop > self.data.size || !crop.is_multiple_of(factor))
        {
            faults.push(format!(
                "autoencoder.task.crop is {crop}; expected a multiple of the autoencoder's factor ({factor}), at most data.size ({})",
                self.data.size
            ));
        }
        let side = loss.crop.unwrap_or(self.data.size);
        let found = loss.check(side, train.images, config.has_variances(), data_root);
        faults.extend(within("autoencoder.task", found));
        let last = config.last_layer();
        let learns = &self.autoencoder.learns;
        if loss.adversarial.is_some()
            && !learns.iter().any(|pattern| weights::is_named(&last, pattern))
        {
            faults.push(format!(
                "autoencoder.learns is {learns:?}, which freezes {last}; expected it to learn, as \
                 autoencoder.task.adversarial is balanced at the decoder's last layer"
            ));
        }
        faults.extend(within("autoencoder.train", train.check()));
    }

    fn check_denoiser(&self, networks: &Networks, faults: &mut Vec<String>) {
        let config = &networks.denoiser.config;
        if let Err(error) = config.unet.check().and_then(|()| config.condition.check()) {
            faults.push(format!("denoiser: {error}"));
        }
        let levels = config.unet.block_out_channels.len();
        match &self.denoiser.from {
            DenoiserFrom::Unet(unet) => {
                if let Some(level) = unet.attention.iter().find(|level| **level >= levels) {
                    faults.push(format!(
                        "denoiser.from.attention names level {level}; there are {levels} levels, numbered from 0"
                    ));
                }
            }
            DenoiserFrom::Folder { .. } => self.check_foreign_unet(networks, faults),
        }
        let names = || {
            let mut init = Init::new(Stream::new(0, "names"), &Device::flex()).deferred();
            weights::shapes(&config.unet.init(&mut init)).into_keys().collect()
        };
        check_learns("denoiser", &self.denoiser.learns, &networks.denoiser.start, names, faults);
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
        let unet = &networks.denoiser.config.unet;
        let [channels, ..] = networks.latent_shape;
        for (what, found) in
            [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)]
        {
            if found != channels {
                faults.push(format!(
                    "denoiser.from.path: {what} is {found}, but the autoencoder's latents have {channels} channels"
                ));
            }
        }
        let pooled = networks.token_shape[0] * networks.denoiser.config.condition.width;
        let expected = self.condition.pooled.then_some(ClassEmbedding::SimpleProjection(pooled));
        if unet.class_embedding != expected {
            let found = match unet.class_embedding {
                Some(other) => format!("takes class labels ({other:?})"),
                None => "takes no class labels".into(),
            };
            let pooled = self.condition.pooled;
            faults.push(format!(
                "denoiser.from.path {found}, which does not go with condition.pooled: {pooled}"
            ));
        }
        if unet.text_time.is_some() {
            faults.push(
                "denoiser.from.path takes text_embeds and time_ids, as Stable Diffusion XL does; there is nothing here to give it".into(),
            );
        }
    }
}

/// Whether every pattern of `learns` names weights, and whether there is anything to choose from.
fn check_learns(
    network: &str,
    learns: &[String],
    start: &Start,
    names: impl FnOnce() -> Vec<String>,
    faults: &mut Vec<String>,
) {
    if learns == ["*"] {
        return;
    }
    if let Start::Random = start {
        faults.push(format!(
            "{network}.learns is {learns:?}, but {network}.from has no pretrained weights to freeze; leave it out"
        ));
        return;
    }
    if learns.is_empty() {
        faults
            .push(format!("{network}.learns is empty; expected at least one pattern, as in \"*\""));
        return;
    }
    let names = names();
    let is_used = |pattern: &str| names.iter().any(|name| weights::is_named(name, pattern));
    faults.extend(learns.iter().filter(|pattern| !is_used(pattern)).map(|pattern| {
        format!(
            "{network}.learns: no weight is named {pattern:?}; expected a pattern such as \"*.attn2.*\" for names such \
             as {}",
            names.first().map_or("none", String::as_str)
        )
    }));
}
