//! One loop for everything that learns.
//!
//! `run` is the loop, `step` the way to the loss, `task` what is trained, `checkpoint` what survives.

pub mod adamw;
pub mod checkpoint;
pub mod ema;
pub mod learning_rate;
mod parameters;
mod section;
mod step;
pub mod task;

pub use section::Train;

use crate::data::loader::{Loader, LoaderConfig};
use crate::data::picture::{self, Contents, Provenance};
use crate::interrupt;
use crate::models::weights;
use crate::telemetry::{Watch, metrics::Metrics};
use adamw::AdamW;
use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use checkpoint::{Checkpoint, Environment, Header, Leg};
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

/// What changes while training.
struct State<M> {
    model: M,
    ema: M,
    optimizer: AdamW,
    step: u64,
    images_seen: u64,
    skipped_steps: u64,
    seconds: f64,
    history: Vec<Leg>,
}

/// Trains to `setup.section.images`. Run the same again to resume.
///
/// `fresh` makes the model before its first step, on `setup.device`. Fails with [`interrupt::Interrupted`] once a signal
/// came; a checkpoint is saved then.
pub fn run<T: Task>(
    task: &mut T,
    setup: &Setup,
    fresh: impl FnOnce() -> Result<T::Model>,
) -> Result<Done> {
    fs::create_dir_all(&setup.folder)
        .with_context(|| format!("cannot create {}", setup.folder.display()))?;
    let plan = &setup.section;
    let stream = format!("{}/order", task.name());
    let mut loader = LoaderConfig {
        threads: setup.threads,
        fingerprint: setup.data_fingerprint.clone(),
        ..LoaderConfig::new(setup.seed, &stream, plan.batch_size)
    };
    let mut state = State::new(T::with_compute(fresh()?, plan.compute), plan);
    if let Some(folder) = checkpoint::newest(&setup.folder)? {
        loader = state.restore(task, setup, loader, checkpoint::load(&folder)?)?;
    }
    state.history =
        checkpoint::with_leg(state.history, state.images_seen, plan.images, &setup.environment);
    let mut metrics = Metrics::open(&setup.folder, state.images_seen)?;
    let mut batches = Loader::start(task.samples(), loader)?;
    let watch = Watch::new(task.name(), state.images_seen, plan.images);
    let mut average = step::Average::default();
    let mut skipped_in_a_row = 0;
    let mut clock = Clock::start(state.seconds);

    if state.images_seen == 0 {
        metrics.record(0, validate(task, &state)?)?;
    }
    while state.images_seen < plan.images {
        if interrupt::requested() {
            state.seconds = clock.seconds();
            state.save(task, setup, &batches)?;
            return Err(interrupt::Interrupted.into());
        }
        let batch = batches.next().context("the loader ended")??;
        let seen_before = state.images_seen;
        let report = step::descend(task, &mut state, &batch.items, setup);
        let is_due = |every: u64| seen_before / every != state.images_seen / every;
        let is_last = state.images_seen >= plan.images;
        // The next round saves before it ends.
        let _ = watch.reach(state.images_seen.min(plan.images));

        skipped_in_a_row = if report.is_skipped { skipped_in_a_row + 1 } else { 0 };
        if skipped_in_a_row > plan.max_skipped_steps {
            bail!(
                "the gradient was not finite {skipped_in_a_row} steps in a row (images {}); lower {}'s learning_rate.peak",
                state.images_seen,
                task.name()
            );
        }
        average.add(report, batch.items.len());

        // Once in a while.
        if is_due(plan.log_every) || is_last {
            let figures = average.take()?;
            watch.say(format!("loss {:.4}", figures[0].1));
            metrics.record(state.images_seen, figures)?;
        }
        if is_due(plan.validate_every) || is_last {
            metrics.record(state.images_seen, validate(task, &state)?)?;
        }
        if plan.preview_every.is_some_and(is_due)
            && let Some(sheet) = task.preview(&state.ema)?
        {
            let folder = setup.folder.join("previews");
            fs::create_dir_all(&folder)?;
            let path = folder.join(format!("{:012}.png", state.images_seen));
            let contents = Contents::SyntheticAndReal;
            let from = Provenance { contents, recipe: &setup.name, seed: setup.seed };
            picture::write(&path, &sheet, &from)?;
        }
        if is_due(plan.save_every) || is_last {
            metrics.sync()?;
            state.seconds = clock.seconds();
            state.save(task, setup, &batches)?;
        }
    }
    Ok(Done { images_seen: state.images_seen, seconds: state.seconds })
}

fn validate<T: Task>(task: &T, state: &State<T::Model>) -> Result<Vec<(&'static str, f64)>> {
    let figures = task.validate(&state.ema)?;
    let text: Vec<String> =
        figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    tracing::info!(images = state.images_seen, "{}: {}", task.name(), text.join(", "));
    Ok(figures)
}

impl<M: Module + Clone> State<M> {
    fn new(fresh: M, plan: &Train) -> Self {
        // Weights are drawn when first used; the average draws them, and the model takes the same numbers.
        let ema = fresh.valid();
        let model = ema.clone().train();
        Self {
            model,
            ema,
            optimizer: AdamW::new(plan.optimizer.clone()),
            step: 0,
            images_seen: 0,
            skipped_steps: 0,
            seconds: 0.0,
            history: Vec::new(),
        }
    }

    fn progress(&self, plan: &Train) -> Progress {
        Progress { step: self.step, images_seen: self.images_seen, images: plan.images }
    }

    fn restore<T: Task<Model = M>>(
        &mut self,
        task: &mut T,
        setup: &Setup,
        loader: LoaderConfig,
        saved: Checkpoint,
    ) -> Result<LoaderConfig> {
        let header = &saved.header;
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
        let model = std::mem::replace(&mut self.model, self.ema.clone());
        self.model = weights::load_state_dict(model, &saved.model)?;
        self.ema = weights::load_state_dict(self.ema.clone(), &saved.ema)?;
        self.optimizer.load_state_dict(&self.model, &saved.optimizer)?;
        self.step = header.step;
        self.images_seen = header.images_seen;
        self.skipped_steps = header.skipped_steps;
        self.seconds = header.seconds;
        self.history = header.history.clone();
        task.restore(saved.task)?;
        Ok(loader.resume(&saved.header.loader)?)
    }

    fn save<T: Task<Model = M>>(
        &self,
        task: &T,
        setup: &Setup,
        batches: &Loader<T::Item>,
    ) -> Result<()> {
        let header = Header {
            schema: checkpoint::schema(),
            inputs_hash: setup.inputs_hash.clone(),
            step: self.step,
            images_seen: self.images_seen,
            skipped_steps: self.skipped_steps,
            seconds: self.seconds,
            loader: batches.state(),
            task: task.name().to_owned(),
            config: task.config(),
            recipe: setup.recipe.clone(),
            environment: setup.environment.clone(),
            history: self.history.clone(),
        };
        let checkpoint = Checkpoint {
            header,
            model: weights::state_dict(&self.model),
            ema: weights::state_dict(&self.ema),
            optimizer: self.optimizer.state_dict(),
            task: task.state(),
        };
        let folder = checkpoint::save(&checkpoint, &setup.folder, setup.section.keep)
            .context("the checkpoint could not be saved; the one before it is untouched")?;
        tracing::debug!(path = %folder.display(), "saved");
        Ok(())
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
