//! A folder in the Hugging Face layout: `config.json` and its weights, in one file or in shards.

use super::file::{self, FileError, NonFinite};
use super::{StateDict, WeightsError, consume_state_dict};
use crate::models::{ConfigError, Init};
use crate::random::Stream;
use burn::module::Module;
use burn::tensor::Device;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest `config.json` read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Longest index of shards read, in bytes.
const MAX_INDEX: u64 = 16 << 20;

/// One file with every tensor, as transformers and diffusers name it; the first that is there counts.
const WHOLE: [&str; 4] = [
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
];
/// The list of shards, as they name it.
const INDICES: [&str; 2] =
    ["model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json"];
/// Two files whose names are what their tensors' names lack: the TAESD family.
const HALVES: [&str; 2] = ["encoder", "decoder"];

/// A network on disk whose config is read and whose weights are found but not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// The text of its `config.json`.
    pub config: String,
    weights: Files,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Files {
    Whole(PathBuf),
    /// Which tensors the index promises in which file.
    Shards(BTreeMap<PathBuf, BTreeSet<String>>),
    /// Prefix and file.
    Halves([(String, PathBuf); 2]),
}

impl ModelFolder {
    /// Reads `config.json` and finds the weights.
    ///
    /// Fails where there is no config, no weights, only pickles, or an index that names files outside the folder.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let config = read_config(path, "config.json")?;
        Ok(Self { path: path.into(), config, weights: find(path)? })
    }

    /// The config, as `from_json` reads it.
    pub fn parsed<C>(
        &self,
        from_json: impl FnOnce(&str) -> Result<C, ConfigError>,
    ) -> Result<C, FolderError> {
        from_json(&self.config)
            .map_err(|source| FolderError::Config { path: self.path.join("config.json"), source })
    }

    /// The network that `build` builds, not learning, with the folder's weights under the names that `rename` gives
    /// them.
    pub fn network<M: Module>(
        &self,
        build: impl FnOnce(&mut Init) -> M,
        rename: impl FnOnce(StateDict) -> StateDict,
        device: &Device,
    ) -> Result<M, FolderError> {
        self.fit(build, rename(self.weights()?), device)
    }

    /// The same, with the weights `state`, which are this folder's.
    pub fn fit<M: Module>(
        &self,
        build: impl FnOnce(&mut Init) -> M,
        state: StateDict,
        device: &Device,
    ) -> Result<M, FolderError> {
        // Every number comes from the file: the stream is never drawn from, but names the parameters.
        let mut init = Init::new(Stream::new(0, "folder"), device).deferred();
        consume_state_dict(build(&mut init).no_grad(), state)
            .map_err(|source| FolderError::Fit { path: self.path.clone(), source })
    }

    /// Every tensor, as [`file::read`] gives it. Fails if shards and index do not agree, naming every tensor
    /// at fault.
    pub fn weights(&self) -> Result<StateDict, FolderError> {
        match &self.weights {
            Files::Whole(path) => Ok(file::read(path, NonFinite::Refuse)?),
            Files::Halves(halves) => {
                let mut state = StateDict::new();
                for (prefix, path) in halves {
                    let half = file::read(path, NonFinite::Refuse)?;
                    state.extend(
                        half.into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)),
                    );
                }
                Ok(state)
            }
            Files::Shards(shards) => {
                for (path, promised) in shards {
                    let held: BTreeSet<String> = file::shapes(path)?.into_keys().collect();
                    let names = |names: Vec<&String>| {
                        let names: Vec<&str> =
                            names.into_iter().take(8).map(String::as_str).collect();
                        names.join(", ")
                    };
                    let lacking: Vec<_> = promised.difference(&held).collect();
                    let extra: Vec<_> = held.difference(promised).collect();
                    let what = match (lacking.is_empty(), extra.is_empty()) {
                        (true, true) => continue,
                        (false, _) => format!("lacks {} that the index promises", names(lacking)),
                        (true, false) => {
                            format!("has {}, which the index does not place there", names(extra))
                        }
                    };
                    return Err(FolderError::Shard { path: path.clone(), what });
                }
                let mut state = StateDict::new();
                for path in shards.keys() {
                    state.extend(file::read(path, NonFinite::Refuse)?);
                }
                Ok(state)
            }
        }
    }

    /// The files that decide what the network computes: the config, the index of shards, the weights.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.join("config.json")];
        if let Files::Shards(_) = &self.weights {
            let indices = INDICES.map(|name| self.path.join(name));
            files.extend(indices.into_iter().find(|path| path.is_file()));
        }
        files.extend(self.weight_files());
        files
    }

    /// The safetensors files.
    pub fn weight_files(&self) -> Vec<PathBuf> {
        match &self.weights {
            Files::Whole(path) => vec![path.clone()],
            Files::Shards(shards) => shards.keys().cloned().collect(),
            Files::Halves(halves) => halves.iter().map(|(_, path)| path.clone()).collect(),
        }
    }

    /// One hash over [`files`](Self::files), BLAKE3 in hexadecimal: what a recipe pins and a stage depends on.
    pub fn hash(&self) -> Result<String, FolderError> {
        let mut hasher = blake3::Hasher::new();
        for path in self.files() {
            let mut file_hasher = blake3::Hasher::new();
            let read = |source| FolderError::Read { path: path.clone(), source };
            file_hasher.update_reader(fs::File::open(&path).map_err(read)?).map_err(read)?;
            hasher.update(file_hasher.finalize().as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// The text of a config file in `folder`: `config.json`, `scheduler_config.json`, `preprocessor_config.json` ….
pub fn read_config(folder: &Path, name: &'static str) -> Result<String, FolderError> {
    if !folder.is_dir() {
        return Err(FolderError::NotAFolder { path: folder.into() });
    }
    let path = folder.join(name);
    if !path.is_file() {
        return Err(FolderError::NoConfig { path: folder.into(), name });
    }
    read_text(&path, MAX_CONFIG)
}

fn read_text(path: &Path, most: u64) -> Result<String, FolderError> {
    let read = |source| FolderError::Read { path: path.into(), source };
    let length = fs::metadata(path).map_err(read)?.len();
    if length > most {
        let what = format!("{length} bytes long, at most {most} are read");
        return Err(FolderError::Json { path: path.into(), what });
    }
    fs::read_to_string(path).map_err(read)
}

fn find(folder: &Path) -> Result<Files, FolderError> {
    let is_there = |name: &str| folder.join(name).is_file();
    if let Some(name) = WHOLE.into_iter().find(|name| is_there(name)) {
        return Ok(Files::Whole(folder.join(name)));
    }
    if let Some(name) = INDICES.into_iter().find(|name| is_there(name)) {
        return shards(folder, &folder.join(name));
    }
    let halves = HALVES.map(|half| (half.to_owned(), folder.join(format!("{half}.safetensors"))));
    if halves.iter().all(|(_, path)| path.is_file()) {
        return Ok(Files::Halves(halves));
    }
    let entries =
        fs::read_dir(folder).map_err(|source| FolderError::Read { path: folder.into(), source })?;
    let pickle =
        entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| file::is_pickle(path));
    Err(match pickle {
        Some(path) => FileError::Pickle { path }.into(),
        None => FolderError::NoWeights { path: folder.into() },
    })
}

/// What `index` says, checked: an index comes with the weights and may say anything.
fn shards(folder: &Path, index: &Path) -> Result<Files, FolderError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let fault = |what: String| FolderError::Json { path: index.into(), what };
    let Index { weight_map } = serde_json::from_str(&read_text(index, MAX_INDEX)?)
        .map_err(|error| fault(format!("not an index of shards: {error}")))?;
    let mut shards: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (tensor, name) in weight_map {
        let is_plain = name.ends_with(".safetensors")
            && !name.starts_with('.')
            && !name.contains(['/', '\\', ':', '\0']);
        if !is_plain {
            let name = name.escape_debug();
            return Err(fault(format!(
                "the shard of {tensor} is \"{name}\"; expected the plain name of a safetensors file beside the index"
            )));
        }
        let path = folder.join(&name);
        if !path.is_file() {
            return Err(fault(format!("the shard {name} is not there")));
        }
        shards.entry(path).or_default().insert(tensor);
    }
    if shards.is_empty() {
        Err(fault("it names no shard".into()))
    } else {
        Ok(Files::Shards(shards))
    }
}

/// Why a folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such folder.
    #[error("{} is not a folder; expected one with config.json and safetensors files", path.display())]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The config is not there.
    #[error("{} has no {name}; expected a model's folder in the Hugging Face layout", path.display())]
    NoConfig {
        /// The folder.
        path: PathBuf,
        /// The file that is missing.
        name: &'static str,
    },
    /// No file that could hold weights is there.
    #[error(
        "{} has no weights; expected model.safetensors, diffusion_pytorch_model.safetensors, either in shards \
         with its index.json, or encoder.safetensors and decoder.safetensors",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A JSON file does not say what it should.
    #[error("{}: {what}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A shard does not hold what the index says.
    #[error("{} {what}", path.display())]
    Shard {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The config is of another network, or of none that can be built here.
    #[error("cannot use {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// The weights are not the network's.
    #[error("cannot use the weights in {}", path.display())]
    Fit {
        /// The folder.
        path: PathBuf,
        /// Every tensor at fault.
        source: WeightsError,
    },
    /// A weights file is damaged, or a pickle.
    #[error(transparent)]
    File(#[from] FileError),
}
