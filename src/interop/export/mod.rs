//! A trained model as a folder that stock Python opens: diffusers, transformers, and thirty lines to sample with.
//!
//! Each file here writes one part of the folder. Weights are copied as they are, under the names that the
//! libraries know; what a library wants and no network here has (a pooler, say) is added so that it changes nothing.

mod card;
mod condition;
mod encoder;
mod open;

pub use card::{Card, Measured, WeightsFrom};
pub use open::open;

use crate::artifact;
use crate::data::file::Window;
use crate::data::latents::Scale;
use crate::diffusion::{Diffusion, Objective};
use crate::interop::scheduler::from_umbra;
use crate::models::autoencoder::{AutoencoderConfig, AutoencoderKlConfig};
use crate::models::condition::Tokens;
use crate::models::denoiser::DenoiserConfig;
use crate::models::encoder::{Preprocessing, VitConfig};
use crate::models::weights::StateDict;
use crate::models::weights::file::{self as weights_file, NonFinite};
use crate::models::weights::folder::ModelFolder;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The version of diffusers whose configs are written, and which the tests load them with.
const DIFFUSERS: &str = "0.42.1";

/// Samples an image; goes into the folder as it is.
const SAMPLE: &str = include_str!("sample.py");

/// All that goes into the folder.
#[derive(Debug, Clone)]
pub struct Package {
    /// What sees the images: the teacher's backbone.
    pub encoder: Part<VitConfig>,
    /// How an image reaches it.
    pub input: Preprocessing,
    /// What makes images of latents.
    pub autoencoder: Part<AutoencoderConfig>,
    /// What makes latents of noise.
    pub denoiser: OnDisk<DenoiserConfig>,
    /// What its network was before it was tuned, if it was.
    pub base: Option<ModelFolder>,
    /// As the denoiser was trained.
    pub diffusion: Diffusion,
    /// Which of the encoder's tokens guide the denoiser.
    pub tokens: Tokens,
    /// What the denoiser sees of latents.
    pub scale: Scale,
    /// Side of an image in pixels.
    pub image_size: usize,
    /// Side of the encoder's patches in pixels.
    pub patch_size: usize,
    /// Pixels per latent, along a side.
    pub factor: usize,
    /// What of a file's values its images showed.
    pub window: Window,
    /// What the model card says.
    pub card: Card,
}

/// A network that the run trained, or one that it was given.
#[derive(Debug, Clone)]
pub enum Part<C> {
    /// Trained by the run.
    Trained(OnDisk<C>),
    /// A folder that the recipe names: it goes into the export as it is, byte for byte.
    Given(ModelFolder),
}

/// A network on disk.
#[derive(Debug, Clone)]
pub struct OnDisk<C> {
    /// Its sizes.
    pub config: C,
    /// The safetensors file.
    pub weights: PathBuf,
    /// What the names in that file begin with, before the network's own.
    pub prefix: &'static str,
}

/// Which of a checkpoint's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Their exponential average: what samples and the report come from.
    Ema,
    /// As the last step left them.
    Raw,
}

/// Why a model is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder is not a run's.
    #[error(
        "{} is no run; expected a folder that `umbra run` made, such as checkpoints/quickstart",
        path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A stage has not begun.
    #[error("{} has no trained {stage} yet; `umbra run` its recipe first", path.display())]
    Untrained {
        /// The run's folder.
        path: PathBuf,
        /// Which network.
        stage: &'static str,
    },
    /// An average that was made afterwards has no other weights beside it.
    #[error("{} is not there; expected --weights ema for an average that `umbra ema` made", path.display())]
    NoWeights {
        /// The file.
        path: PathBuf,
    },
    /// The parts do not belong together.
    #[error(
        "what the {stage} in {} depends on has changed since it was trained; run the recipe again, then export",
        path.display()
    )]
    Stale {
        /// The run's folder.
        path: PathBuf,
        /// Which network.
        stage: &'static str,
    },
    /// No class of diffusers samples from it.
    #[error(
        "diffusers has no scheduler for objective {objective:?} on schedule {schedule}: \
         Flow goes with RectifiedFlow, and Epsilon, Velocity or Clean with the other schedules"
    )]
    NoScheduler {
        /// The schedule's name.
        schedule: &'static str,
        /// What the network predicts.
        objective: Objective,
    },
    /// No class of diffusers is such an autoencoder.
    #[error(
        "{} is in the layout of the TAESD repository, which diffusers does not open; convert it to AutoencoderTiny",
        path.display()
    )]
    NoAutoencoder {
        /// The autoencoder's folder.
        path: PathBuf,
    },
    /// No class of transformers is such an encoder.
    #[error("transformers has no model like this encoder: {what}")]
    NoEncoder {
        /// What it lacks.
        what: String,
    },
}

/// Writes `model` as the new folder `folder`, which is complete or absent, with a manifest of its files.
///
/// # Errors
///
/// When something is at `folder` already, when diffusers or transformers have no class for a part (before
/// anything is written), or when weights cannot be read or written.
pub fn diffusers(model: &Package, folder: &Path) -> Result<()> {
    let Diffusion { schedule, objective, .. } = &model.diffusion;
    let scheduler = from_umbra(schedule, objective)
        .map_err(|_| ExportError::NoScheduler { schedule: schedule.name(), objective: *objective })?
        .to_diffusers();
    let encoder = encoder::described(&model.encoder)?;
    let autoencoder = autoencoder(model)?;
    artifact::create_folder(folder, |folder| -> Result<()> {
        let part = |name: &str| -> Result<PathBuf> {
            let part = folder.join(name);
            fs::create_dir(&part).with_context(|| format!("cannot create {}", part.display()))?;
            Ok(part)
        };
        let index = index(model, &scheduler, &encoder, &autoencoder);
        write_json(&folder.join("model_index.json"), &index)?;

        let at = part("scheduler")?;
        write_json(&at.join("scheduler_config.json"), &scheduler)?;

        let backbone = &model.denoiser.config.backbone;
        let at = part(backbone.part())?;
        write_json(&at.join("config.json"), &backbone.to_diffusers())?;
        let denoiser = read(&model.denoiser)?;
        let weights = below(&denoiser, &format!("{}.", backbone.part()));
        let path = at.join("diffusion_pytorch_model.safetensors");
        match &model.base {
            // What did not learn is what it was, in the number format it had.
            Some(base) => weights_file::write_like(&path, &weights, &base.weight_files())?,
            None => write(&path, &weights)?,
        }

        let at = part("condition")?;
        write_json(&at.join("config.json"), &condition::config(model))?;
        write(&at.join("model.safetensors"), &below(&denoiser, "condition."))?;
        drop(denoiser);

        let at = part("vae")?;
        match &model.autoencoder {
            Part::Trained(network) => {
                write_json(&at.join("config.json"), &autoencoder)?;
                write(&at.join("diffusion_pytorch_model.safetensors"), &read(network)?)?;
            }
            Part::Given(given) => copy(given, &at)?,
        }

        let at = part("encoder")?;
        match &model.encoder {
            Part::Trained(network) => {
                write_json(&at.join("config.json"), &encoder)?;
                let weights = encoder::weights(&network.config, read(network)?);
                write(&at.join("model.safetensors"), &weights)?;
            }
            Part::Given(given) => copy(given, &at)?,
        }
        let preprocessor = encoder::preprocessor(&model.input);
        write_json(&at.join("preprocessor_config.json"), &preprocessor)?;

        write_text(&folder.join("sample.py"), SAMPLE)?;
        let class = autoencoder["_class_name"].as_str().unwrap_or("AutoencoderKL");
        write_text(&folder.join("README.md"), &card::markdown(model, class))
    })
}

/// `model_index.json`: which class opens which subfolder.
///
/// There is no pipeline in diffusers that is guided by image tokens in this way, so the class named is none of
/// its own: `DiffusionPipeline` says that it does not know it rather than sampling wrongly.
fn index(model: &Package, scheduler: &Value, encoder: &Value, autoencoder: &Value) -> Value {
    let backbone = &model.denoiser.config.backbone;
    json!({
        "_class_name": "UmbraPipeline",
        "_diffusers_version": DIFFUSERS,
        "encoder": ["transformers", encoder["architectures"][0]],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        backbone.part(): ["diffusers", backbone.class_name()],
        "vae": ["diffusers", autoencoder["_class_name"]],
    })
}

/// The autoencoder's `config.json`: of one that was trained here, with the scale of latents in it.
///
/// The denoiser sees (latent − mean) / std, channel by channel, which is what diffusers' pipelines make of
/// `latents_mean` and `latents_std`. A given one stays as it is: `condition/config.json` has the scale of either.
fn autoencoder(model: &Package) -> Result<Value> {
    match &model.autoencoder {
        Part::Trained(OnDisk { config, weights, .. }) => {
            let config = match config.clone() {
                AutoencoderConfig::Kl(config) => AutoencoderConfig::Kl(AutoencoderKlConfig {
                    scaling_factor: 1.0,
                    shift_factor: None,
                    latents_mean: Some(model.scale.mean.clone()),
                    latents_std: Some(model.scale.std.clone()),
                    ..config
                }),
                // Its class knows no statistics of channels.
                AutoencoderConfig::Tiny(config) => AutoencoderConfig::Tiny(config),
            };
            let mut written = config.to_diffusers();
            if written["_class_name"] == "TinyAutoencoder" {
                return Err(ExportError::NoAutoencoder { path: weights.clone() }.into());
            }
            if let AutoencoderConfig::Kl(_) = config {
                written["sample_size"] = model.image_size.into();
            }
            Ok(written)
        }
        Part::Given(folder) => {
            let config = AutoencoderConfig::from_diffusers(&folder.config)?;
            let mut written: Value = serde_json::from_str(&folder.config)?;
            if written["_class_name"] == "TinyAutoencoder" {
                return Err(ExportError::NoAutoencoder { path: folder.path.clone() }.into());
            }
            // Old files do not name their class.
            written["_class_name"] = config.to_diffusers()["_class_name"].clone();
            Ok(written)
        }
    }
}

/// The files of a network that was given, as they are.
fn copy(given: &ModelFolder, to: &Path) -> Result<()> {
    for file in given.files() {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(&file, to.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

/// The network's tensors by its own names.
fn read<C>(network: &OnDisk<C>) -> Result<StateDict> {
    let state = weights_file::read(&network.weights, NonFinite::Refuse)?;
    Ok(below(&state, network.prefix))
}

/// The tensors whose names begin with `prefix`, without it.
fn below(state: &StateDict, prefix: &str) -> StateDict {
    let named = |(name, data): (&String, &_)| {
        Some((name.strip_prefix(prefix)?.to_owned(), Clone::clone(data)))
    };
    state.iter().filter_map(named).collect()
}

fn write(path: &Path, state: &StateDict) -> Result<()> {
    Ok(weights_file::write(path, state)?)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_text(path, &format!("{value:#}\n"))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
