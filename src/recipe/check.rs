//! Checks that need more than one section. All faults at once.

use super::architectures::VitSection;
use super::networks::{AutoencoderFrom, DenoiserFrom, EncoderFrom};
use super::resolve::{Network, Networks, Start, Training};
use super::{Recipe, RecipeError, SCHEMA};
use crate::data::catalog::Split;
use crate::diffusion::Guidance;
use crate::evaluate::Evaluation;
use crate::evaluate::figures::Looks;
use crate::faults::{demand, within};
use crate::models::condition::Tokens;
use crate::models::denoiser::{BackboneConfig, DenoiserConfig};
use crate::models::encoder::Preprocessing;
use crate::models::{Init, weights};
use crate::random::Stream;
use crate::sample::sampler::Sampler;
use crate::train::Train;
use crate::train::adamw::check_names;
use crate::train::task::dino::Distilled;
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
        self.check_guidance(&mut faults);
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
            self.check_steps(networks, &mut faults);
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
        let needs_samples = |evaluation: &&Evaluation| evaluation.get().looks() != Looks::Nowhere;
        if self.sample.is_empty()
            && let Some(evaluation) = self.evaluate.iter().find(needs_samples)
        {
            let name = evaluation.get().name();
            faults.push(format!(
                "sample is empty; expected images, which {name} in evaluate looks at"
            ));
        }
        for (at, evaluation) in self.evaluate.iter().enumerate() {
            faults.extend(self.check_strategy(at, evaluation));
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

    /// Autoguidance is by a checkpoint that the training keeps.
    fn check_guidance(&self, faults: &mut Vec<String>) {
        let Some(train) = &self.denoiser.train else { return };
        for (place, (_, guidance)) in self.drawn() {
            if let Some(images) = guidance.milestone()
                && !train.milestones.contains(&images)
            {
                faults.push(format!(
                    "{place}.guidance.images is {images}; expected one of denoiser.train.milestones ({:?})",
                    train.milestones
                ));
            }
        }
    }

    /// Everything that is drawn: its place in the recipe, and how.
    pub(crate) fn drawn(&self) -> Vec<(String, (&Sampler, &Guidance))> {
        let strategies = self.sample.iter().enumerate();
        let strategies =
            strategies.map(|(at, it)| (format!("sample[{at}]"), (it.sampler(), it.guidance())));
        let figures = self.evaluate.iter().enumerate();
        let figures =
            figures.filter_map(|(at, it)| Some((format!("evaluate[{at}]"), it.get().draws()?)));
        strategies.chain(figures).collect()
    }

    /// What is wrong with the strategy that a figure looks at.
    fn check_strategy(&self, at: usize, evaluation: &Evaluation) -> Option<String> {
        let place = format!("evaluate[{at}].strategy");
        let Looks::At(strategy) = evaluation.get().looks() else { return None };
        match strategy {
            Some(strategy) => {
                let expected = format!("the number of one in sample, below {}", self.sample.len());
                demand(strategy < self.sample.len(), &place, strategy, expected)
            }
            None => {
                let is_there = self.sample.iter().any(|it| it.split() == Split::Train);
                let expected =
                    "the number of one in sample: none there starts from training images";
                demand(is_there || self.sample.is_empty(), &place, "None", expected)
            }
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
        if let Tokens::ClassAndGrid(grid) = self.condition.tokens {
            let patches = networks.input.side / networks.encoder.config().patch_size().max(1);
            let divides = grid > 0 && patches.is_multiple_of(grid);
            let expected = format!("a divisor of {patches}, the encoder's patches to a side");
            faults.extend(demand(divides, "condition.tokens.ClassAndGrid", grid, &expected));
        }
        let Network::Trained(Training { config, start, task, train }) = &networks.encoder else {
            return;
        };
        match config.check() {
            Ok(()) => {
                let fresh = Distilled::of(config, task, &mut undrawn());
                let in_file = || {
                    let names = weights::shapes(&fresh.backbone).into_keys();
                    names.map(|name| config.file_name(&name)).collect()
                };
                check_learns("encoder", &self.encoder.learns, start, in_file, faults);
                let names = || weights::shapes(&fresh).into_keys().collect();
                check_groups("encoder", &self.encoder.train, names, faults);
            }
            Err(error) => faults.push(format!("encoder.from: {error}")),
        }
        if let EncoderFrom::Vit(VitSection { layer_scale: Some(start), .. }) = self.encoder.from {
            let is_factor = start > 0.0 && start.is_finite();
            let fault = demand(is_factor, "layer_scale", start, "a number above 0");
            faults.extend(within("encoder.from", fault));
        }
        faults.extend(within("encoder.task", task.check(config.patch_size, train)));
        faults.extend(within("encoder.train", train.check()));
        let Preprocessing { side, .. } = networks.input;
        if side.is_multiple_of(config.patch_size.max(1)) {
            return;
        }
        faults.push(match &self.encoder.from {
            EncoderFrom::Vit(_) => format!(
                "data.size is {side}, which encoder.from.patch ({}) does not divide",
                config.patch_size
            ),
            EncoderFrom::Folder { .. } => format!(
                "encoder.from.side is {side}; expected a multiple of the encoder's patch ({})",
                config.patch_size
            ),
        });
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
        let names = || weights::shapes(&config.init(&mut undrawn())).into_keys().collect();
        check_learns("autoencoder", &self.autoencoder.learns, start, names, faults);
        check_groups("autoencoder", &self.autoencoder.train, names, faults);
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
        if let Err(error) = config.backbone.check().and_then(|()| config.condition.check()) {
            faults.push(format!("denoiser: {error}"));
        }
        faults.extend(within("denoiser.from", self.denoiser.from.check()));
        if let DenoiserFrom::Folder { .. } = &self.denoiser.from {
            self.check_foreign_denoiser(networks, faults);
        }
        let names = || weights::shapes(&config.backbone.init(&mut undrawn())).into_keys().collect();
        check_learns("denoiser", &self.denoiser.learns, &networks.denoiser.start, names, faults);
        let names = || weights::shapes(&config.init(&mut undrawn())).into_keys().collect();
        check_groups("denoiser", &self.denoiser.train, names, faults);
        let [_, side, _] = networks.latent_shape;
        if let Err(why) = config.backbone.check_side(side) {
            faults.push(format!(
                "denoiser: latents are {side} × {side} (data.size over the autoencoder's factor), {why}"
            ));
        }
    }

    /// Long steps are learned by a network that is told of them, and taken by one that has learned them.
    fn check_steps(&self, networks: &Networks, faults: &mut Vec<String>) {
        let is_learned = self.diffusion().self_consistency.is_some();
        let config = &networks.denoiser.config;
        let is_transformer = matches!(config.backbone, BackboneConfig::Transformer(_));
        if is_learned && !config.takes_steps() {
            faults.push(
                "denoiser.task.self_consistency is there, but the network in denoiser.from.path is not told how far a step \
                 leads (a U-Net's time_cond_proj_dim of 256)"
                    .into(),
            );
        }
        if is_learned && is_transformer && !self.condition.pooled {
            faults.push(
                "denoiser.task.self_consistency is there, but condition.pooled is false; expected true, as a transformer \
                 is told how far a step leads beside the pooled condition"
                    .into(),
            );
        }
        if let Some(alignment) = &self.diffusion().alignment {
            let [_, side, _] = networks.latent_shape;
            let place = "denoiser.task.alignment";
            match config.backbone.blocks_of_tokens(side) {
                None => faults.push(format!(
                    "{place} is there, but a U-Net has no blocks of equal tokens; expected denoiser.from: Transformer(…)"
                )),
                Some([.., depth]) => faults.extend(demand(
                    alignment.blocks <= depth,
                    &format!("{place}.blocks"),
                    alignment.blocks,
                    format!("at most the transformer's {depth}"),
                )),
            }
        }
        for (place, (sampler, _)) in self.drawn() {
            if matches!(sampler, Sampler::Shortcut(_)) && !is_learned {
                faults.push(format!(
                    "{place}.sampler is Shortcut, but denoiser.task.self_consistency is missing; expected a denoiser \
                     that is trained to take long steps"
                ));
            }
        }
    }

    /// Whether a network that was trained elsewhere can be guided here.
    fn check_foreign_denoiser(&self, networks: &Networks, faults: &mut Vec<String>) {
        let DenoiserConfig { backbone, condition, .. } = &networks.denoiser.config;
        let [channels, ..] = networks.latent_shape;
        for (what, found) in ["in_channels", "out_channels"].into_iter().zip(backbone.channels()) {
            if found != channels {
                faults.push(format!(
                    "denoiser.from.path: {what} is {found}, but the autoencoder's latents have {channels} channels"
                ));
            }
        }
        let width = condition.num_tokens * condition.width;
        let misfits = backbone.check_condition(width, self.condition.pooled);
        faults.extend(misfits.into_iter().map(|what| format!("denoiser.from.path {what}")));
    }
}

/// Whether every pattern of the optimizer's groups names weights, by their names in a checkpoint.
fn check_groups(
    network: &str,
    train: &Option<Train>,
    names: impl FnOnce() -> Vec<String>,
    faults: &mut Vec<String>,
) {
    let Some(train) = train.as_ref().filter(|train| !train.optimizer.groups.is_empty()) else {
        return;
    };
    let unnamed = check_names(&train.optimizer.groups, &names());
    faults.extend(within(&format!("{network}.train.optimizer"), unnamed));
}

/// For networks whose names and shapes are looked at alone.
fn undrawn() -> Init {
    Init::new(Stream::new(0, "names"), &Device::flex()).deferred()
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
