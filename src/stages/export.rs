//! What a finished run exports: its networks, put together only if they belong together.

use super::{AUTOENCODER, DENOISER, ENCODER, EVALUATE, Run, State};
use crate::artifact;
use crate::data::catalog::Catalog;
use crate::data::latents::Scale;
use crate::interop::export::{
    self, Card, ExportError, Measured, OnDisk, Package, Part, Weights, WeightsFrom,
};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::denoiser::DenoiserConfig;
use crate::models::encoder::VitConfig;
use crate::models::weights;
use crate::models::weights::folder::ModelFolder;
use crate::recipe::resolve::Start;
use crate::sample::model as sample;
use crate::train::checkpoint::{self, Header};
use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The networks of a trained model, ready to draw on `device`: of a run's folder, of one checkpoint of its denoiser, or of
/// an exported folder. Folders that a run's recipe names are looked for below `data_root`.
///
/// # Errors
///
/// When `path` is none of these, or something of it is not trained yet or damaged.
pub fn open_model(path: &Path, data_root: &Path, device: &Device) -> Result<sample::Model> {
    if path.join("model_index.json").is_file() {
        return export::open(path, device);
    }
    let (mut run, checkpoint) = open_run(path, data_root)?;
    run.place.device = device.clone();
    run.ready(checkpoint)
}

/// The run at `path`, or the one that the checkpoint or the average at `path` is of, with that. Fails where there is none.
pub fn open_run<'a>(path: &'a Path, data_root: &Path) -> Result<(Run, Option<&'a Path>)> {
    let is_checkpoint = path.join("state.json").is_file();
    let run = match is_checkpoint {
        true => path.ancestors().nth(2).unwrap_or(path),
        false => path,
    };
    Ok((Run::look(run, data_root)?, is_checkpoint.then_some(path)))
}

impl Run {
    /// The run's model, with its denoiser's `weights` of `checkpoint` (or an average beside them), or of the newest.
    ///
    /// # Errors
    ///
    /// When a network is not trained yet, or was trained from inputs that have changed since; when there are no such
    /// weights.
    pub fn model(&self, weights: Weights, checkpoint: Option<&Path>) -> Result<Package> {
        let given = &self.networks;
        let (encoder, autoencoder, denoiser) = self.belonging(checkpoint)?;
        let file = denoiser.file(weights);
        if !file.is_file() {
            return Err(ExportError::NoWeights { path: file }.into());
        }
        let network: DenoiserConfig = denoiser.part("/network")?;
        let scale: Scale = denoiser.part("/latent/scale")?;
        let [_, latent_side, _]: [usize; 3] = denoiser.part("/latent/shape")?;
        let base = started_from(&given.denoiser.start);
        let encoder_base = given.encoder.training().and_then(|it| started_from(&it.start));
        let autoencoder_base = given.autoencoder.training().and_then(|it| started_from(&it.start));
        let card = Card {
            name: self.recipe.name.clone(),
            recipe: self.resolved.clone(),
            counts: Catalog::open(&self.folder.join("catalog.sqlite"))?.counts()?,
            weights,
            images_seen: [
                encoder.images_seen(),
                autoencoder.images_seen(),
                denoiser.header.images_seen,
            ],
            origins: [
                encoder_base.map_or_else(|| encoder.origin(), origin),
                autoencoder_base.map_or_else(|| autoencoder.origin(), origin),
                base.map_or(WeightsFrom::Trained, origin),
            ],
            measured: match checkpoint {
                None => self.measured()?,
                Some(_) => Measured::Not("the run was measured with other weights".to_owned()),
            },
        };
        Ok(Package {
            image_size: latent_side * given.autoencoder.config().factor(),
            patch_size: given.encoder.config().patch_size(),
            factor: given.autoencoder.config().factor(),
            encoder: encoder.part("/network", "backbone.", serde_json::from_value::<VitConfig>)?,
            input: given.input.clone(),
            autoencoder: autoencoder.part("", "", AutoencoderConfig::from_record)?,
            base: base.cloned(),
            denoiser: OnDisk { config: network, weights: file, prefix: "" },
            diffusion: denoiser.part("/diffusion")?,
            tokens: self.recipe.condition.tokens,
            scale,
            window: self.recipe.data.window,
            card,
        })
    }

    /// The run's networks, ready to draw; the denoiser's weights from `checkpoint`, or from the newest.
    fn ready(&self, checkpoint: Option<&Path>) -> Result<sample::Model> {
        let (_, _, denoiser) = self.belonging(checkpoint)?;
        let config: DenoiserConfig = denoiser.part("/network")?;
        let fresh = config.init(&mut self.init("denoiser").deferred()).no_grad();
        let state = checkpoint::weights(&denoiser.folder, "ema")?;
        Ok(sample::Model {
            recipe: self.recipe.name.clone(),
            encoder: self.encoder()?,
            tokens: self.recipe.condition.tokens,
            autoencoder: self.autoencoder()?,
            denoiser: weights::consume_state_dict(fresh, state)?,
            diffusion: denoiser.part("/diffusion")?,
            scale: denoiser.part("/latent/scale")?,
            latent_shape: denoiser.part("/latent/shape")?,
            token_shape: denoiser.part("/tokens")?,
            image_size: self.recipe.data.size,
            window: self.recipe.data.window,
            device: self.place.device.clone(),
        })
    }

    /// Encoder, autoencoder and denoiser, this one from `checkpoint` or from the newest. All are looked for before any is
    /// read, so that what is missing first is named first. Fails unless they belong together.
    fn belonging(&self, checkpoint: Option<&Path>) -> Result<(Source<'_>, Source<'_>, Trained)> {
        let encoder = match self.networks.encoder.given() {
            Some(pinned) => Source::Given(&pinned.folder),
            None => Source::Trained(self.trained(ENCODER)?),
        };
        let autoencoder = match self.networks.autoencoder.given() {
            Some(pinned) => Source::Given(&pinned.folder),
            None => Source::Trained(self.trained(AUTOENCODER)?),
        };
        let denoiser = match checkpoint {
            Some(folder) => {
                artifact::verify(folder)?;
                Trained { header: checkpoint::header(folder)?, folder: folder.to_owned() }
            }
            None => self.trained(DENOISER)?,
        };
        self.survey(EVALUATE)?;
        if let Source::Trained(encoder) = &encoder {
            self.must_be_current(ENCODER, encoder)?;
        }
        if let Source::Trained(autoencoder) = &autoencoder {
            self.must_be_current(AUTOENCODER, autoencoder)?;
        }
        self.must_be_current(DENOISER, &denoiser)?;
        Ok((encoder, autoencoder, denoiser))
    }

    fn trained(&self, stage: &'static str) -> Result<Trained> {
        let folder = checkpoint::newest(&self.stage_folder(stage))?
            .ok_or_else(|| ExportError::Untrained { path: self.folder.clone(), stage })?;
        Ok(Trained { header: checkpoint::header(&folder)?, folder })
    }

    fn must_be_current(&self, stage: &'static str, trained: &Trained) -> Result<()> {
        if self.inputs(stage).as_ref() == Some(&trained.header.inputs_hash) {
            return Ok(());
        }
        Err(ExportError::Stale { path: self.folder.clone(), stage }.into())
    }

    /// The report, if it is of the newest weights.
    fn measured(&self) -> Result<Measured> {
        let path = self.folder.join("report.json");
        let is_measured = match self.inputs(EVALUATE) {
            Some(inputs) => super::node(EVALUATE).stage.state(self, &inputs)? == State::UpToDate,
            None => false,
        };
        if !is_measured {
            let why = "the run was not evaluated since these weights were trained";
            return Ok(Measured::Not(why.to_owned()));
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Measured::Report(report))
    }
}

/// Where a network comes from.
#[expect(clippy::large_enum_variant, reason = "two of them exist, for one export")]
enum Source<'a> {
    Trained(Trained),
    Given(&'a ModelFolder),
}

impl Source<'_> {
    fn part<C>(
        &self,
        pointer: &str,
        prefix: &'static str,
        read: impl FnOnce(Value) -> serde_json::Result<C>,
    ) -> Result<Part<C>> {
        Ok(match self {
            Self::Trained(trained) => Part::Trained(OnDisk {
                config: trained.read(pointer, read)?,
                weights: trained.file(Weights::Ema),
                prefix,
            }),
            Self::Given(folder) => Part::Given((*folder).clone()),
        })
    }

    fn images_seen(&self) -> u64 {
        match self {
            Self::Trained(trained) => trained.header.images_seen,
            Self::Given(_) => 0,
        }
    }

    fn origin(&self) -> WeightsFrom {
        match self {
            Self::Trained(_) => WeightsFrom::Trained,
            Self::Given(folder) => origin(folder),
        }
    }
}

/// The folder that a training started from, if it did.
fn started_from(start: &Start) -> Option<&ModelFolder> {
    match start {
        Start::Random => None,
        Start::Pretrained { weights, .. } => Some(&weights.folder),
    }
}

/// Whose weights a folder holds, and under which licence, as far as it says.
fn origin(folder: &ModelFolder) -> WeightsFrom {
    let name = folder.path.file_name().unwrap_or_default().to_string_lossy();
    let named = |field: &str| {
        let config: Value = serde_json::from_str(&folder.config).unwrap_or_default();
        config[field].as_str().map(str::to_owned)
    };
    // The first line of a model card that says so: `license: apache-2.0`.
    let card = fs::read_to_string(folder.path.join("README.md")).unwrap_or_default();
    let licence = card.lines().take(50).find_map(|line| line.trim().strip_prefix("license:"));
    let licence = licence.map(|licence| licence.trim().to_owned()).or_else(|| named("license"));
    WeightsFrom::Loaded {
        from: format!("the folder {name}"),
        licence: licence.unwrap_or_else(|| "not stated in the folder; ask whoever made it".into()),
    }
}

/// A whole checkpoint.
struct Trained {
    folder: PathBuf,
    header: Header,
}

impl Trained {
    /// What its configuration has at `pointer`.
    fn part<T: DeserializeOwned>(&self, pointer: &str) -> Result<T> {
        self.read(pointer, serde_json::from_value)
    }

    /// The same, as `read` understands it.
    fn read<T>(
        &self,
        pointer: &str,
        read: impl FnOnce(Value) -> serde_json::Result<T>,
    ) -> Result<T> {
        let state =
            || format!("{} holds no usable {pointer:?}", self.folder.join("state.json").display());
        let value = self.header.config.pointer(pointer).with_context(state)?;
        read(value.clone()).with_context(state)
    }

    fn file(&self, weights: Weights) -> PathBuf {
        self.folder.join(match weights {
            Weights::Ema => "ema.safetensors",
            Weights::Raw => "model.safetensors",
        })
    }
}
