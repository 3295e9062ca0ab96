//! One loop for everything that learns.
//!
//! `run_procedure` is the loop, `learner` what learns, `step` the way to the loss, `task` what is trained, `checkpoint`
//! what survives.

pub mod adamw;
pub mod adapt;
pub mod checkpoint;
pub mod ema;
mod learner;
pub mod learning_rate;
mod parameters;
mod section;
mod step;
pub mod task;

pub use learner::{Learner, Stride};
pub use section::Train;
pub use step::Report;

use crate::data::image::Gray;
use crate::data::loader::{Loader, LoaderConfig, LoaderError};
use crate::data::picture::{self, Contents, Provenance};
use crate::interrupt;
use crate::models::weights::StateDict;
use crate::telemetry::{Watch, metrics::Metrics};
use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use checkpoint::{Checkpoint, Environment, Header, Leg, Parts};
use ema::snapshots;
use std::{fs, path::PathBuf, time::Instant};
use task::{Progress, Task};

/// Where and how a task is run; nothing here changes what a finished run has learnt, but `section` and `seed`.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How long and how fast.
    pub section: Train,
    /// The recipe's seed.
    pub seed: u64,
    /// Where it computes, without autodiff.
    pub device: Device,
    /// The stage's folder.
    pub folder: PathBuf,
    /// Loader threads.
    pub threads: usize,
    /// Says which data this is.
    pub data_fingerprint: String,
    /// Hash of what decides the result.
    pub inputs_hash: String,
    /// The recipe's name, for what pictures say of themselves.
    pub name: String,
    /// The resolved recipe, as text.
    pub recipe: String,
    /// Where it is computed, for the record.
    pub environment: Environment,
}

/// A finished run.
pub struct Done {
    /// Images seen.
    pub images_seen: u64,
    /// Seconds of training, over all restarts.
    pub seconds: f64,
}

/// What is trained: one learner or several, with any number of losses per step. [`Task`] is the simplest case.
pub trait Procedure {
    /// A batch of samples, as the loader's threads deliver it.
    type Batch: Send + 'static;

    /// The stage's name in folders, logs and reports.
    fn name(&self) -> &'static str;

    /// Starts what delivers batches, with everything random already drawn by the samples' positions.
    fn loader(&self, config: LoaderConfig) -> Result<Loader<Self::Batch>, LoaderError>;

    /// Takes a step down a batch of `plan.batch_size` images, of which `progress` knows nothing yet.
    fn step(&mut self, batch: Self::Batch, plan: &Train, progress: Progress) -> Report;

    /// Figures on the validation split, from averaged weights. Names are `group/name`.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>>;

    /// A picture of how far it is.
    fn preview(&self) -> Result<Option<Gray>> {
        Ok(None)
    }

    /// Its power-function averages, each with its length, of which snapshots are kept.
    fn powers(&self) -> Vec<(f64, StateDict)> {
        Vec::new()
    }

    /// Puts all that must survive a restart into `parts`.
    fn save(&mut self, parts: &mut Parts);

    /// Takes back what [`Procedure::save`] gave.
    fn load(&mut self, parts: &Parts) -> Result<()>;

    /// The networks' configuration, as JSON: with it a checkpoint opens without its recipe.
    fn config(&self) -> serde_json::Value;
}

/// What is counted while training.
#[derive(Debug, Default)]
struct Counters {
    step: u64,
    images_seen: u64,
    skipped_steps: u64,
    seconds: f64,
    history: Vec<Leg>,
}

/// Trains `task` to `setup.section.images`. Run the same again to resume.
///
/// `fresh` makes the model before its first step, on `setup.device`. Fails with [`interrupt::Interrupted`] once a signal
/// came; a checkpoint is saved then.
pub fn run<T: Task>(
    task: &mut T,
    setup: &Setup,
    fresh: impl FnOnce() -> Result<T::Model>,
) -> Result<Done> {
    run_procedure(&mut step::Descent::new(task, fresh()?, &setup.section), setup)
}

/// The same for any `procedure`, whose learners stand at their first weights.
pub fn run_procedure<P: Procedure>(procedure: &mut P, setup: &Setup) -> Result<Done> {
    fs::create_dir_all(&setup.folder)
        .with_context(|| format!("cannot create {}", setup.folder.display()))?;
    let (plan, name) = (&setup.section, procedure.name());
    let mut loader = LoaderConfig {
        threads: setup.threads,
        fingerprint: setup.data_fingerprint.clone(),
        ..LoaderConfig::new(setup.seed, &format!("{name}/order"), plan.batch_size)
    };
    let mut counters = Counters::default();
    if let Some(folder) = checkpoint::newest(&setup.folder)? {
        let saved = checkpoint::load(&folder)?;
        counters = Counters::of(&saved.header, setup)?;
        procedure.load(&saved.parts)?;
        loader = loader.resume(&saved.header.loader)?;
    }
    counters.history = checkpoint::with_leg(
        counters.history,
        counters.images_seen,
        plan.images,
        &setup.environment,
    );
    let mut metrics = Metrics::open(&setup.folder, counters.images_seen)?;
    snapshots::forget_after(&setup.folder, counters.images_seen)?;
    let mut batches = procedure.loader(loader)?;
    let watch = Watch::new(name, counters.images_seen, plan.images);
    let mut average = step::Average::default();
    let mut pace = Pace::default();
    let mut clock = Clock::start(counters.seconds);

    if counters.images_seen == 0 {
        metrics.record(0, validate(procedure, 0)?)?;
    }
    while counters.images_seen < plan.images {
        if interrupt::requested() {
            average.settle();
            counters.skipped_steps += average.take_skipped();
            counters.seconds = clock.seconds();
            counters.save(procedure, setup, &batches)?;
            return Err(interrupt::Interrupted.into());
        }
        let began = Instant::now();
        let batch = batches.next().context("the loader ended")??;
        pace.waited += began.elapsed().as_secs_f64();
        let seen_before = counters.images_seen;
        let report = procedure.step(batch.items, plan, counters.progress(plan));
        let images = plan.batch_size;
        counters.step += 1;
        counters.images_seen += images as u64;
        average.add(report, images);
        pace.images += images;
        pace.seconds += began.elapsed().as_secs_f64();
        let seen = counters.images_seen;
        let is_due = |every: u64| seen_before / every != seen / every;
        let is_last = seen >= plan.images;
        // The next round saves before it ends.
        let _ = watch.reach(seen.min(plan.images));
        if average.skipped_in_a_row > plan.max_skipped_steps {
            bail!(
                "the gradient was not finite {} steps in a row (images {seen}); lower {name}.train's \
                 learning_rate.peak",
                average.skipped_in_a_row
            );
        }

        // Once in a while.
        if is_due(plan.log_every) || is_last {
            let began = Instant::now();
            let mut figures = average.take();
            pace.seconds += began.elapsed().as_secs_f64();
            watch.say(format!("loss {:.4}", figures[0].1));
            figures.extend(std::mem::take(&mut pace).figures());
            metrics.record(seen, figures)?;
        }
        if is_due(plan.validate_every) || is_last {
            metrics.record(seen, validate(procedure, seen)?)?;
        }
        if plan.preview_every.is_some_and(is_due)
            && let Some(sheet) = procedure.preview()?
        {
            let folder = setup.folder.join("previews");
            fs::create_dir_all(&folder)?;
            let path = folder.join(format!("{seen:012}.png"));
            let contents = Contents::SyntheticAndReal;
            let from = Provenance { contents, recipe: &setup.name, seed: setup.seed };
            picture::write(&path, &sheet, &from)?;
        }
        if !plan.ema.sigma_rel.is_empty() && (is_due(plan.snapshot_every()) || is_last) {
            let powers = procedure.powers();
            if !powers.is_empty() {
                snapshots::write(&setup.folder, &setup.inputs_hash, seen, &powers)?;
            }
        }
        if is_due(plan.save_every) || plan.is_milestone(seen) || is_last {
            metrics.sync()?;
            average.settle();
            counters.skipped_steps += average.take_skipped();
            counters.seconds = clock.seconds();
            counters.save(procedure, setup, &batches)?;
        }
    }
    Ok(Done { images_seen: counters.images_seen, seconds: counters.seconds })
}

fn validate<P: Procedure>(procedure: &P, images: u64) -> Result<Vec<(&'static str, f64)>> {
    let figures = procedure.validate()?;
    let text: Vec<String> =
        figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    tracing::info!(images, "{}: {}", procedure.name(), text.join(", "));
    Ok(figures)
}

impl Counters {
    /// Those of a checkpoint. Fails where it is of another training than `setup` asks for.
    fn of(header: &Header, setup: &Setup) -> Result<Self> {
        ensure!(
            header.inputs_hash == setup.inputs_hash,
            "the checkpoint in {} was trained from another recipe or other data",
            setup.folder.display()
        );
        if header.environment != setup.environment {
            tracing::info!(
                saved = ?header.environment,
                here = ?setup.environment,
                "resuming elsewhere: the run goes on, but not bit for bit as it would have there"
            );
        }
        Ok(Self {
            step: header.step,
            images_seen: header.images_seen,
            skipped_steps: header.skipped_steps,
            seconds: header.seconds,
            history: header.history.clone(),
        })
    }

    fn progress(&self, plan: &Train) -> Progress {
        Progress { step: self.step, images_seen: self.images_seen, images: plan.images }
    }

    fn save<P: Procedure>(
        &self,
        procedure: &mut P,
        setup: &Setup,
        batches: &Loader<P::Batch>,
    ) -> Result<()> {
        let header = Header {
            schema: checkpoint::schema(),
            inputs_hash: setup.inputs_hash.clone(),
            step: self.step,
            images_seen: self.images_seen,
            skipped_steps: self.skipped_steps,
            seconds: self.seconds,
            loader: batches.state(),
            task: procedure.name().to_owned(),
            config: procedure.config(),
            recipe: setup.recipe.clone(),
            environment: setup.environment.clone(),
            history: self.history.clone(),
            sigma_rel: None,
        };
        let mut parts = Parts::default();
        procedure.save(&mut parts);
        let saved = checkpoint::save(&Checkpoint { header, parts }, &setup.folder, &setup.section);
        let folder =
            saved.context("the checkpoint could not be saved; the one before it is untouched")?;
        tracing::debug!(path = %folder.display(), "saved");
        Ok(())
    }
}

/// The figures of training that a clock decides: two runs of one recipe differ in them.
pub const CLOCKED: [&str; 2] = ["train/images_per_second", "train/data_wait"];

/// How fast the loop is, without validation, pictures and checkpoints.
#[derive(Default)]
struct Pace {
    images: usize,
    seconds: f64,
    /// Of those, how many it waited for the loader.
    waited: f64,
}

impl Pace {
    fn figures(self) -> [(String, f64); 2] {
        let values = [self.images as f64 / self.seconds, self.waited / self.seconds];
        let [speed, wait] = CLOCKED.map(str::to_owned);
        [(speed, values[0]), (wait, values[1])]
    }
}

/// Adds this process's time to what earlier ones spent.
struct Clock {
    before: f64,
    start: Instant,
}

impl Clock {
    fn start(before: f64) -> Self {
        Self { before, start: Instant::now() }
    }

    fn seconds(&mut self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
