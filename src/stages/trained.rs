//! What the stages that train have in common.

use super::{Cost, Made, Run, Stage, State};
use crate::artifact::{self, Hasher};
use crate::train::task::Task;
use crate::train::{self, Done, Procedure, Setup, Train, checkpoint};
use anyhow::{Context, Result};
use indicatif::HumanCount;
use std::fs;
use std::path::PathBuf;

/// Forward and backward passes cost about three forward ones.
const TRAINING_FACTOR: f64 = 3.0;

/// What a stage that trains adds to what all of them share.
pub(super) trait Trains: Sync {
    /// As [`Stage::inputs`].
    fn inputs(&self, run: &Run) -> Result<Option<String>>;

    /// How it trains; `None` where its network is given, and there is nothing to do.
    fn training<'a>(&self, run: &'a Run) -> Option<TrainingStage<'a>>;

    /// As [`Stage::cost`].
    fn cost(&self, run: &Run) -> Result<Cost>;

    /// As [`Stage::make`]; not asked where the network is given.
    fn make(&self, run: &Run, inputs: &str) -> Result<Made>;
}

/// A stage that trains, or takes what it is given.
pub(super) struct Trained<T>(pub(super) T);

impl<T: Trains> Stage for Trained<T> {
    fn inputs(&self, run: &Run) -> Result<Option<String>> {
        self.0.inputs(run)
    }

    fn state(&self, run: &Run, inputs: &str) -> Result<State> {
        self.0.training(run).map_or(Ok(State::UpToDate), |training| training.state(inputs))
    }

    fn output(&self, run: &Run, inputs: &str) -> Result<String> {
        self.0.training(run).map_or(Ok(inputs.to_owned()), |training| training.output())
    }

    fn origin(&self, run: &Run, inputs: &str, state: State) -> Result<Option<String>> {
        self.0.training(run).map_or(Ok(None), |training| training.origin(inputs, state))
    }

    fn cost(&self, run: &Run) -> Result<Cost> {
        self.0.cost(run)
    }

    fn make(&self, run: &Run, inputs: &str) -> Result<Made> {
        self.0.make(run, inputs)
    }
}

/// A training, as its files say.
pub(super) struct TrainingStage<'a> {
    pub(super) run: &'a Run,
    pub(super) name: &'static str,
    pub(super) section: &'a Train,
}

/// One image through the network, in training.
pub(super) struct Pass {
    pub(super) parameters: u64,
    /// Operations of the forward pass whose gradient is taken.
    pub(super) forward: f64,
    /// Those of what no gradient is taken of.
    pub(super) extra: f64,
}

impl TrainingStage<'_> {
    /// What its newest checkpoint is worth to somebody who wants `inputs`.
    fn state(&self, inputs: &str) -> Result<State> {
        let Some(folder) = checkpoint::newest(&self.folder())? else { return Ok(State::ToDo) };
        let header = checkpoint::header(&folder)?;
        Ok(match header.images_seen {
            _ if header.inputs_hash != inputs => State::ToDo,
            seen if seen >= self.section.images => State::UpToDate,
            seen => State::Resume { done: seen as f64 / self.section.images as f64 },
        })
    }

    /// The hash of the averaged weights.
    fn output(&self) -> Result<String> {
        Ok(artifact::file_hash(&self.run.newest(self.name)?.join("ema.safetensors"))?)
    }

    /// The inputs, and the way through all restarts that asked for something else.
    fn origin(&self, inputs: &str, state: State) -> Result<Option<String>> {
        let (mut history, mut seen) = (Vec::new(), 0);
        if let State::Resume { .. } = state
            && let Some(folder) = checkpoint::newest(&self.folder())?
        {
            let header = checkpoint::header(&folder)?;
            if header.history.is_empty() {
                // Of an umbra that kept none.
                return Ok(None);
            }
            (history, seen) = (header.history, header.images_seen);
        }
        let environment = self.run.environment();
        let history = checkpoint::with_leg(history, seen, self.section.images, &environment);
        let hasher = Hasher::new(self.name, 0).upstream(inputs);
        let with = |hasher: Hasher, leg: &_| hasher.section(&super::text(leg));
        Ok(Some(history.iter().fold(hasher, with).finish()))
    }

    pub(super) fn cost(&self, pass: &Pass) -> Cost {
        let Train { images, batch_size, micro_batch_size, compute, keep, ref ema, .. } =
            *self.section;
        let others = ema.averages().len() as u64 - 1;
        let snapshots =
            images.div_ceil(self.section.snapshot_every().max(1)) * ema.sigma_rel.len() as u64;
        let Pass { parameters, forward, extra } = *pass;
        let batch = micro_batch_size.unwrap_or(batch_size) as f64;
        Cost {
            what: format!("{} images in batches of {batch_size}", HumanCount(images)),
            parameters: Some(parameters),
            operations: images as f64 * (TRAINING_FACTOR * forward + extra),
            compute,
            // Weights, gradients, two moments and the averages.
            weights: (20 + 4 * others) * parameters,
            kept: batch * forward,
            disk: ((16 + 4 * others) * keep as u64 + 4 * snapshots) * parameters,
        }
    }

    /// Trains `task`, which starts at `fresh`.
    pub(super) fn make<T: Task>(
        &self,
        inputs: &str,
        data: &str,
        task: &mut T,
        fresh: impl FnOnce() -> Result<T::Model>,
    ) -> Result<Made> {
        self.set_aside(inputs)?;
        made(train::run(task, &self.setup(inputs, data), fresh)?)
    }

    /// The same for a procedure of several learners, which `fresh` makes.
    pub(super) fn make_procedure<P: Procedure>(
        &self,
        inputs: &str,
        data: &str,
        fresh: impl FnOnce() -> Result<P>,
    ) -> Result<Made> {
        self.set_aside(inputs)?;
        made(train::run_procedure(&mut fresh()?, &self.setup(inputs, data))?)
    }

    fn setup(&self, inputs: &str, data: &str) -> Setup {
        let run = self.run;
        Setup {
            section: self.section.clone(),
            seed: run.recipe.seed,
            device: run.place.device.clone(),
            folder: self.folder(),
            threads: run.place.threads,
            data_fingerprint: data.to_owned(),
            inputs_hash: inputs.to_owned(),
            name: run.recipe.name.clone(),
            recipe: run.resolved.clone(),
            environment: run.environment(),
        }
    }

    /// Images per forward pass where nothing is kept for a backward pass.
    pub(super) fn measuring_batch(&self) -> usize {
        self.section.micro_batch_size.unwrap_or(self.section.batch_size).max(16)
    }

    fn folder(&self) -> PathBuf {
        self.run.stage_folder(self.name)
    }

    /// Renames the folder of a stage that was trained from other inputs: nothing stale is used, nothing lost.
    fn set_aside(&self, inputs: &str) -> Result<()> {
        let folder = self.folder();
        let Some(newest) = checkpoint::newest(&folder)? else { return Ok(()) };
        let old = checkpoint::header(&newest)?.inputs_hash;
        if old == inputs {
            return Ok(());
        }
        let name = format!("{}-superseded-{}", self.name, &old[..old.len().min(8)]);
        let aside = self.run.folder.join(name);
        tracing::warn!(
            "what {} depends on has changed since it was trained; the old checkpoints are kept in {}",
            self.name,
            aside.display()
        );
        if aside.exists() {
            fs::remove_dir_all(&aside)
                .with_context(|| format!("cannot replace {}", aside.display()))?;
        }
        fs::rename(&folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
    }
}

fn made(done: Done) -> Result<Made> {
    Ok(Made::Done { images: done.images_seen, seconds: Some(done.seconds) })
}

impl Run {
    /// The newest whole checkpoint of a stage that trains.
    pub(super) fn newest(&self, stage: &str) -> Result<PathBuf> {
        checkpoint::newest(&self.stage_folder(stage))?
            .with_context(|| format!("{stage} is not trained yet"))
    }
}
