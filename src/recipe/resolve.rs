//! What a recipe's networks are: from its own sections, or from the folders it names.

use super::Recipe;
use super::networks::{
    AutoencoderFrom, AutoencoderTask, DenoiserFrom, DenoiserTask, EncoderFrom, EncoderTask,
    num_tokens,
};
use crate::artifact::ArtifactError;
use crate::diffusion::{Alignment, Diffusion};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::condition::ConditionConfig;
use crate::models::denoiser::{BackboneConfig, DenoiserConfig, ProjectorConfig};
use crate::models::encoder::{ImageEncoderConfig, Preprocessing, VitConfig, trained_input};
use crate::models::weights::StateDict;
use crate::models::weights::folder::ModelFolder;
use crate::train::Train;
use crate::train::task::{autoencoder::KlLoss, dino::Dino};
use anyhow::ensure;
use std::cell::OnceCell;
use std::fmt::Display;
use std::path::Path;

/// The image encoder of a recipe.
pub type Encoder = Network<ImageEncoderConfig, Training<VitConfig, Dino>>;

/// The autoencoder of a recipe.
pub type Autoencoder = Network<AutoencoderConfig, Training<AutoencoderConfig, KlLoss>>;

/// The networks of a recipe.
#[derive(Debug, Clone)]
pub struct Networks {
    /// The image encoder.
    pub encoder: Encoder,
    /// How an image reaches it.
    pub input: Preprocessing,
    /// The autoencoder.
    pub autoencoder: Autoencoder,
    /// The denoiser, and what guides it.
    pub denoiser: Training<DenoiserConfig, Diffusion>,
    /// Channels, height and width of a latent.
    pub latent_shape: [usize; 3],
    /// Condition tokens and their width.
    pub token_shape: [usize; 2],
}

/// A network that is pretrained and frozen, or trained by the run.
#[expect(clippy::large_enum_variant, reason = "a recipe has two of it")]
#[derive(Debug, Clone)]
pub enum Network<Config, Training> {
    /// Opened from a folder; nothing learns.
    Given {
        /// What it is.
        config: Config,
        /// Where its weights are.
        weights: Pinned,
    },
    /// Trained by the run.
    Trained(Training),
}

/// How a network is trained.
#[derive(Debug, Clone)]
pub struct Training<Config, Task> {
    /// What it is.
    pub config: Config,
    /// Where it starts.
    pub start: Start,
    /// What it is trained at.
    pub task: Task,
    /// How long and how fast.
    pub train: Train,
}

/// Where the first weights come from.
#[expect(clippy::large_enum_variant, reason = "a recipe has three of it")]
#[derive(Debug, Clone)]
pub enum Start {
    /// From the seed.
    Random,
    /// From a folder.
    Pretrained {
        /// The folder.
        weights: Pinned,
        /// The weights whose names follow one of these patterns learn.
        learns: Vec<String>,
    },
}

/// A folder of weights and the hash it must have.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The folder.
    pub folder: ModelFolder,
    blake3: Option<String>,
    /// Of the recipe, which names it.
    section: &'static str,
    hash: OnceCell<String>,
}

impl<Config, Own, Task> Network<Config, Training<Own, Task>>
where
    Config: Clone + From<Own>,
    Own: Clone,
{
    /// What it is.
    pub fn config(&self) -> Config {
        match self {
            Self::Given { config, .. } => config.clone(),
            Self::Trained(training) => training.config.clone().into(),
        }
    }

    /// The folder of one that is given.
    pub fn given(&self) -> Option<&Pinned> {
        match self {
            Self::Given { weights, .. } => Some(weights),
            Self::Trained(_) => None,
        }
    }

    /// How it is trained, if it is.
    pub fn training(&self) -> Option<&Training<Own, Task>> {
        match self {
            Self::Given { .. } => None,
            Self::Trained(training) => Some(training),
        }
    }
}

impl Pinned {
    fn open(
        section: &'static str,
        data_root: &Path,
        path: &Path,
        blake3: Option<&str>,
    ) -> Result<Self, String> {
        if let Some(hash) = blake3
            && (hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(format!(
                "{section}.from.blake3 is \"{hash}\"; expected 64 hexadecimal digits"
            ));
        }
        let folder = ModelFolder::open(&data_root.join(path))
            .map_err(|error| format!("{section}.from.path: {error}"))?;
        let blake3 = blake3.map(str::to_ascii_lowercase);
        Ok(Self { folder, blake3, section, hash: OnceCell::new() })
    }

    /// What is wrong with the folder, as a sentence of the recipe.
    fn fault(&self, error: impl Display) -> String {
        format!("{}.from.path {}: {error}", self.section, self.folder.path.display())
    }

    /// The folder's hash, computed once. Fails where the recipe pins another one.
    pub fn hash(&self) -> anyhow::Result<String> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash.clone());
        }
        let (hash, section) = (self.folder.hash()?, self.section);
        if let Some(expected) = &self.blake3 {
            ensure!(
                hash == *expected,
                ArtifactError::Damaged {
                    path: self.folder.path.clone(),
                    what: format!(
                        "its BLAKE3 is {hash}, {section}.from.blake3 in the recipe is {expected}"
                    ),
                }
            );
        }
        Ok(self.hash.get_or_init(|| hash).clone())
    }

    /// The folder's tensors, its hash checked if the recipe pins it.
    pub fn weights(&self) -> anyhow::Result<StateDict> {
        if self.blake3.is_some() {
            self.hash()?;
        }
        Ok(self.folder.weights()?)
    }
}

impl Recipe {
    /// Reads the configs of the folders that the recipe names (not their weights) and puts the networks' sizes
    /// together. Fails with every fault, a sentence each.
    pub fn networks(&self, data_root: &Path) -> Result<Networks, Vec<String>> {
        let mut faults = Vec::new();
        let encoder = self.encoder_network(data_root).map_err(|fault| faults.push(fault));
        let autoencoder = self.autoencoder_network(data_root).map_err(|fault| faults.push(fault));
        let pretrained = self.pretrained_denoiser(data_root).map_err(|fault| faults.push(fault));
        let train = demanded("denoiser", &self.denoiser.train).map_err(|fault| faults.push(fault));
        let (Ok((encoder, input)), Ok(autoencoder), Ok(pretrained), Ok(train)) =
            (encoder, autoencoder, pretrained, train)
        else {
            return Err(faults);
        };
        let (sees, shrinks) = (encoder.config(), autoencoder.config());
        let side = self.data.size / shrinks.factor();
        let latent_shape = [shrinks.latent_channels(), side, side];
        let num_tokens = num_tokens(self.condition.tokens, sees.num_registers());
        let token_shape = [num_tokens, sees.hidden_size()];
        let (mut config, start) = match pretrained {
            Some((backbone, weights)) => {
                let width = backbone.context_width();
                let condition = ConditionConfig { num_tokens, token_width: token_shape[1], width };
                let learns = self.denoiser.learns.clone();
                let config = DenoiserConfig { backbone, condition, projector: None };
                (config, Start::Pretrained { weights, learns })
            }
            None => {
                let from = &self.denoiser.from;
                let config = from.architecture(latent_shape, token_shape, &self.condition);
                let mut config = config.expect("what is no folder is an architecture");
                if self.diffusion().self_consistency.is_some() {
                    let width = num_tokens * config.condition.width;
                    config.backbone = config.backbone.with_steps(width);
                }
                (config, Start::Random)
            }
        };
        if let Some(alignment) = &self.diffusion().alignment
            && let Some([_, num_in, _]) = config.backbone.blocks_of_tokens(side)
        {
            let Alignment { blocks, hidden, .. } = *alignment;
            config.projector =
                Some(ProjectorConfig { blocks, num_in, hidden, num_out: token_shape[1] });
        }
        let denoiser = Training { config, start, task: self.diffusion().clone(), train };
        Ok(Networks { encoder, input, autoencoder, denoiser, latent_shape, token_shape })
    }

    fn encoder_network(&self, data_root: &Path) -> Result<(Encoder, Preprocessing), String> {
        let section = &self.encoder;
        let EncoderTask::Dino(dino) = &section.task;
        let (path, blake3, side) = match &section.from {
            EncoderFrom::Vit(vit) => {
                let train = demanded("encoder", &section.train)?;
                // The size that position embeddings are learned at; others are interpolated.
                let config = vit.config(dino.views.global_size.unwrap_or(self.data.size));
                let training = distillation(config, Start::Random, dino, train);
                return Ok((Network::Trained(training), trained_input(self.data.size)));
            }
            EncoderFrom::Folder { path, blake3, side } => (path, blake3, side),
        };
        let weights = Pinned::open("encoder", data_root, path, blake3.as_deref())?;
        let config = ImageEncoderConfig::from_transformers(&weights.folder.config)
            .map_err(|error| weights.fault(error))?;
        // The whole chain: what is wrong stands at its end.
        let mut input = Preprocessing::of_folder(&weights.folder, &config)
            .map_err(|error| weights.fault(format!("{:#}", anyhow::Error::from(error))))?;
        if let Some(side) = *side {
            input = input
                .with_side(side, config.patch_size())
                .map_err(|error| format!("encoder.from.side: {error}"))?;
        }
        let encoder = match (&section.train, config) {
            (None, config) => Network::Given { config, weights },
            (Some(train), ImageEncoderConfig::Vit(config)) => {
                let start = Start::Pretrained { weights, learns: section.learns.clone() };
                // A pooler learns nothing here, and nobody asks it.
                let config = VitConfig { pooler_size: None, ..config };
                Network::Trained(distillation(config, start, dino, train.clone()))
            }
            (Some(_), ImageEncoderConfig::Dinov3(_)) => {
                return Err(weights.fault(
                    "only DINO v1 and DINOv2, with registers or without, can be trained on; leave encoder.train out",
                ));
            }
        };
        Ok((encoder, input))
    }

    fn autoencoder_network(&self, data_root: &Path) -> Result<Autoencoder, String> {
        let section = &self.autoencoder;
        let AutoencoderTask::Reconstruct(loss) = &section.task;
        let fresh = |config| {
            let train = demanded("autoencoder", &section.train)?;
            let (start, task) = (Start::Random, loss.clone());
            Ok(Network::Trained(Training { config, start, task, train }))
        };
        let (path, blake3) = match &section.from {
            AutoencoderFrom::Kl(kl) => return fresh(AutoencoderConfig::Kl(kl.config())),
            AutoencoderFrom::Tiny(tiny) => return fresh(AutoencoderConfig::Tiny(tiny.config())),
            AutoencoderFrom::Folder { path, blake3 } => (path, blake3),
        };
        let weights = Pinned::open("autoencoder", data_root, path, blake3.as_deref())?;
        let config = AutoencoderConfig::from_diffusers(&weights.folder.config)
            .map_err(|error| weights.fault(error))?;
        Ok(match &section.train {
            None => Network::Given { config, weights },
            Some(train) => {
                let start = Start::Pretrained { weights, learns: section.learns.clone() };
                let (task, train) = (loss.clone(), train.clone());
                Network::Trained(Training { config, start, task, train })
            }
        })
    }

    /// The network and the folder that the denoiser starts from, if it does.
    fn pretrained_denoiser(
        &self,
        data_root: &Path,
    ) -> Result<Option<(BackboneConfig, Pinned)>, String> {
        let DenoiserFrom::Folder { path, blake3 } = &self.denoiser.from else { return Ok(None) };
        let weights = Pinned::open("denoiser", data_root, path, blake3.as_deref())?;
        let config = BackboneConfig::from_diffusers(&weights.folder.config)
            .map_err(|error| weights.fault(error))?;
        Ok(Some((config, weights)))
    }

    /// What the denoiser is trained at.
    pub fn diffusion(&self) -> &Diffusion {
        let DenoiserTask::Denoise(diffusion) = &self.denoiser.task;
        diffusion
    }
}

/// Self-distillation of the network of `config`: with a token for patches if they are masked, its layers at their paces.
fn distillation(
    mut config: VitConfig,
    start: Start,
    dino: &Dino,
    mut train: Train,
) -> Training<VitConfig, Dino> {
    config.mask_token |= dino.ibot.is_some();
    train.optimizer.groups.extend(dino.groups(config.num_hidden_layers));
    Training { config, start, task: dino.clone(), train }
}

/// The `train` section of a network that must have one.
fn demanded(network: &str, train: &Option<Train>) -> Result<Train, String> {
    let missing = || format!("{network}.train is missing; say how long and how fast it is trained");
    train.clone().ok_or_else(missing)
}
