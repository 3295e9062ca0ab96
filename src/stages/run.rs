//! A recipe at a place: the walk over its stages, and what one stage keeps for the others.

use super::ingest::Ingested;
use super::known::Known;
use super::{EVALUATE, Made, Node, State, Timing, node, order};
use crate::artifact::{self, Hasher, Lock};
use crate::data::ingest::{self, Probe};
use crate::device;
use crate::interop::export::ExportError;
use crate::interrupt::{self, Interrupted};
use crate::recipe::resolve::Networks;
use crate::recipe::{Checked, Recipe, RecipeError};
use crate::telemetry::{log, progress};
use crate::train::checkpoint::Environment;
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::Serialize;
use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Where a recipe runs. None of it decides a result.
#[derive(Debug, Clone)]
pub struct Place {
    /// As `--device` names it.
    pub device_name: String,
    /// The same, without autodiff.
    pub device: Device,
    /// Threads of the tensor library and of the loader.
    pub threads: usize,
    /// Where relative data paths start.
    pub data_root: PathBuf,
    /// Where runs are kept.
    pub checkpoints: PathBuf,
    /// The file with the patient secret, if there is a place for one.
    pub patient_secret: Option<PathBuf>,
    /// How ingest opens a file that an earlier one died of.
    pub probe: Option<Probe>,
}

/// A recipe at a place, its folder locked unless it is only looked at.
pub struct Run {
    /// What to do.
    pub recipe: Recipe,
    /// Where.
    pub place: Place,
    /// The run's folder.
    pub folder: PathBuf,
    /// Its networks.
    pub networks: Networks,
    pub(super) resolved: String,
    pub(super) looked: RefCell<Option<ingest::Looked>>,
    pub(super) catalog: OnceCell<Ingested>,
    pub(super) summary: OnceCell<ingest::Summary>,
    pub(super) encoded: OnceCell<super::encode::Encoded>,
    seen: RefCell<BTreeMap<&'static str, Seen>>,
    known: Known,
    pub(super) mode: Mode,
    _lock: Option<Lock>,
}

/// What a run is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To be made.
    Make,
    /// To say what making it would do.
    Plan,
    /// To read what was made, wherever the images are now.
    Read,
}

/// What the walk has found out about a stage.
#[derive(Debug, Clone)]
struct Seen {
    inputs: Option<String>,
    /// Of the finished result: as it is, or as it will be.
    output: Option<String>,
}

/// A stage as the walk met it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Walked {
    /// Its name.
    pub name: &'static str,
    /// What was done.
    pub did: Did,
    /// How long it took.
    pub seconds: f64,
}

/// What a run did with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Did {
    /// It was up to date.
    Nothing,
    /// Went on with what was there.
    Resumed,
    /// Made it from nothing.
    Made,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing to do.
    UpToDate,
    /// Done now.
    Done,
    /// A signal came; what was done is saved.
    Interrupted,
}

impl Run {
    /// Opens the run's folder, makes it if need be, and locks it. Writes the resolved recipe into it.
    pub fn open(checked: Checked, place: Place) -> Result<Self> {
        let folder = place.checkpoints.join(&checked.recipe.name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = Lock::acquire(&folder)?;
        artifact::write_file(&folder.join("recipe.ron"), checked.recipe.resolved().as_bytes())?;
        log::to_file(&folder.join("log.txt"))?;
        Ok(Self::at(checked, place, folder, Mode::Make, Some(lock)))
    }

    /// The run of a recipe at `place`, to ask what it would do: nothing is made, written or locked.
    pub fn plan(checked: Checked, place: Place) -> Self {
        let folder = place.checkpoints.join(&checked.recipe.name);
        Self::at(checked, place, folder, Mode::Plan, None)
    }

    /// The run in `folder` as it is, to read from: nothing is made, written, locked or computed on a GPU.
    ///
    /// Fails where there is no run. Not for [`Run::run`].
    ///
    /// Folders that its recipe names are looked for below `data_root`.
    pub fn look(folder: &Path, data_root: &Path) -> Result<Self> {
        let path = folder.join("recipe.ron");
        if !path.is_file() {
            return Err(ExportError::NoRun { path: folder.to_owned() }.into());
        }
        let recipe = Recipe::read(&path, &[])?;
        let place = Place {
            device_name: "cpu".to_owned(),
            device: device::parse("cpu")?,
            threads: 1,
            data_root: data_root.to_owned(),
            checkpoints: folder.parent().unwrap_or(Path::new("")).to_owned(),
            patient_secret: None,
            probe: None,
        };
        let networks =
            recipe.networks(data_root).map_err(|faults| RecipeError::Faults { path, faults })?;
        let checked = Checked { recipe, networks };
        Ok(Self::at(checked, place, folder.to_owned(), Mode::Read, None))
    }

    fn at(checked: Checked, place: Place, folder: PathBuf, mode: Mode, lock: Option<Lock>) -> Self {
        let Checked { recipe, networks } = checked;
        Self {
            resolved: recipe.resolved(),
            known: Known::below(&place.checkpoints),
            recipe,
            place,
            folder,
            networks,
            looked: RefCell::default(),
            catalog: OnceCell::new(),
            summary: OnceCell::new(),
            encoded: OnceCell::new(),
            seen: RefCell::default(),
            mode,
            _lock: lock,
        }
    }

    /// Makes `target` and what it needs, each stage where it is not up to date. What was done with each of them.
    pub fn run(&self, target: &str) -> Result<(Ended, Vec<Walked>)> {
        if target == EVALUATE {
            self.check_extractors()?;
        }
        let mut walked = Vec::new();
        for node in order(target) {
            let start = Instant::now();
            let name = node.name;
            let did = match self.bring(node) {
                Err(error) if error.is::<Interrupted>() => {
                    return Ok((Ended::Interrupted, walked));
                }
                other => other.with_context(|| format!("stage {name} failed"))?,
            };
            let seconds = start.elapsed().as_secs_f64();
            match did {
                Did::Nothing => tracing::info!("{name:<12} up to date"),
                _ => tracing::info!("{name:<12} done in {}", progress::duration(seconds)),
            }
            walked.push(Walked { name, did, seconds });
        }
        let is_last_done = walked.last().is_some_and(|last| last.did != Did::Nothing);
        Ok((if is_last_done { Ended::Done } else { Ended::UpToDate }, walked))
    }

    /// Brings a stage up to date. Fails with [`Interrupted`] where a signal came first.
    fn bring(&self, node: &'static Node) -> Result<Did> {
        let &Node { name, stage, .. } = node;
        interrupt::unless_requested()?;
        let start = Instant::now();
        let inputs = stage.inputs(self)?.context("what it needs is not there")?;
        let known = Seen { inputs: Some(inputs.clone()), output: None };
        self.seen.borrow_mut().insert(name, known);
        let state = stage.state(self, &inputs)?;
        let did = match state {
            State::UpToDate => {
                stage.confirm(self)?;
                self.see(node, &inputs)?;
                return Ok(Did::Nothing);
            }
            State::Resume { .. } => Did::Resumed,
            State::ToDo => Did::Made,
        };
        let origin = stage.origin(self, &inputs, state)?;
        let made = stage.make(self, &inputs)?;
        let Made::Done { images, seconds } = made else {
            self.see(node, &inputs)?;
            return Ok(Did::Nothing);
        };
        let seconds = seconds.unwrap_or_else(|| start.elapsed().as_secs_f64());
        self.write_timing(name, Timing { seconds, images })?;
        let output = self.see(node, &inputs)?;
        if let Some(origin) = origin {
            self.known.put(&origin, &output);
        }
        Ok(did)
    }

    /// Notes what a finished stage is.
    fn see(&self, node: &'static Node, inputs: &str) -> Result<String> {
        let output = node.stage.output(self, inputs)?;
        let seen = Seen { inputs: Some(inputs.to_owned()), output: Some(output.clone()) };
        self.seen.borrow_mut().insert(node.name, seen);
        Ok(output)
    }

    /// What [`run`](Self::run) would find of `target` and what it needs.
    pub(super) fn survey(&self, target: &str) -> Result<Vec<(&'static Node, State)>> {
        let mut states = Vec::new();
        for node in order(target) {
            let stage = node.stage;
            let inputs = stage.inputs(self)?;
            let state = match &inputs {
                Some(inputs) => stage.state(self, inputs)?,
                None => State::ToDo,
            };
            let output = match (&inputs, state) {
                (None, _) => None,
                (Some(inputs), State::UpToDate) => Some(stage.output(self, inputs)?),
                (Some(inputs), state) => {
                    stage.origin(self, inputs, state)?.and_then(|origin| self.known.get(&origin))
                }
            };
            self.seen.borrow_mut().insert(node.name, Seen { inputs, output });
            states.push((node, state));
        }
        Ok(states)
    }

    /// `hasher` with the outputs of all that `stage` needs; `None` while one of them is not known.
    pub(super) fn with_upstream(&self, stage: &str, hasher: Hasher) -> Option<String> {
        let needs = node(stage).needs.iter();
        let add = |hasher: Hasher, need: &&str| Some(hasher.upstream(&self.output(need)?));
        Some(needs.copied().try_fold(hasher, |hasher, need| add(hasher, &need))?.finish())
    }

    /// The output of a stage that the walk has passed, if it is known.
    pub(super) fn output(&self, name: &str) -> Option<String> {
        self.seen.borrow().get(name)?.output.clone()
    }

    /// The inputs of a stage that the walk has passed, if they are known.
    pub(super) fn inputs(&self, name: &str) -> Option<String> {
        self.seen.borrow().get(name)?.inputs.clone()
    }

    /// Where `stage` keeps what it makes of its own.
    pub(super) fn stage_folder(&self, stage: &str) -> PathBuf {
        self.folder.join(stage)
    }

    /// Where the result of `stage` is.
    pub fn result(&self, name: &str) -> Result<PathBuf> {
        node(name).stage.place(self, name)
    }

    /// What ingest found, once it has run.
    pub fn ingest_summary(&self) -> Option<&ingest::Summary> {
        self.summary.get()
    }

    pub(super) fn environment(&self) -> Environment {
        Environment {
            device: self.place.device_name.clone(),
            threads: self.place.threads,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn write_timing(&self, stage: &str, timing: Timing) -> Result<()> {
        let path = self.folder.join("timing");
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = path.join(format!("{stage}.json"));
        Ok(artifact::write_file(&path, &serde_json::to_vec(&timing)?)?)
    }

    /// How long `stage` took, if it is known.
    pub(super) fn timing(&self, stage: &str) -> Option<Timing> {
        let path = self.folder.join("timing").join(format!("{stage}.json"));
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// The stages whose time a report tells, in order.
    pub(super) fn stage_names() -> impl Iterator<Item = &'static str> {
        super::GRAPH.iter().map(|node| node.name)
    }
}
