//! The stages of a recipe: what each needs, what decides its result, where it is, what it costs, how it is made.
//!
//! A stage is one file and one line of `GRAPH`. [`Run`] walks the graph and asks every stage the same questions;
//! `umbra check` asks all but the last, so that it says what `umbra run` will do.

mod autoencoder;
mod averages;
mod clean;
mod curves;
mod denoiser;
mod encode;
mod encoder;
mod evaluate;
mod export;
mod ingest;
mod known;
mod networks;
mod plan;
pub mod rates;
mod reference;
pub mod requests;
mod run;
mod sample;
mod sheets;
mod trained;

pub use averages::{AverageError, Averaged};
pub use clean::{Leftover, leftovers};
pub use export::{open_model, open_run};
pub use plan::{Plan, StagePlan};
pub use run::{Did, Ended, Place, Run, Walked};

use crate::artifact::Hasher;
use crate::models::Compute;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use trained::Trained;

/// Files to catalog.
pub const INGEST: &str = "ingest";
/// Training the encoder.
pub const ENCODER: &str = "encoder";
/// Training the autoencoder.
pub const AUTOENCODER: &str = "autoencoder";
/// Images to latents and tokens.
pub const ENCODE: &str = "encode";
/// Training the denoiser.
pub const DENOISER: &str = "denoiser";
/// Drawing images.
pub const SAMPLE: &str = "sample";
/// Measuring.
pub const EVALUATE: &str = "evaluate";

/// Every stage and what it needs; each behind all of that.
#[rustfmt::skip]
static GRAPH: [Node; 7] = [
    Node { name: INGEST, kind: Kind::Ingest, needs: &[], stage: &ingest::Ingest },
    Node { name: ENCODER, kind: Kind::Train, needs: &[INGEST], stage: &Trained(encoder::Encoder) },
    Node { name: AUTOENCODER, kind: Kind::Train, needs: &[INGEST], stage: &Trained(autoencoder::Autoencoder) },
    Node { name: ENCODE, kind: Kind::Compute, needs: &[INGEST, ENCODER, AUTOENCODER], stage: &encode::Encode },
    Node { name: DENOISER, kind: Kind::Train, needs: &[ENCODE], stage: &Trained(denoiser::Denoiser) },
    Node { name: SAMPLE, kind: Kind::Sample, needs: &[ENCODE, DENOISER], stage: &sample::Sample },
    Node { name: EVALUATE, kind: Kind::Evaluate, needs: &[SAMPLE], stage: &evaluate::Evaluate },
];

/// A stage in its place.
struct Node {
    /// As folders, logs and reports name it.
    name: &'static str,
    /// What sort of work it is.
    kind: Kind,
    /// The stages whose results it reads, but for those that these need.
    needs: &'static [&'static str],
    stage: &'static dyn Stage,
}

/// All that anybody knows of a stage beside its place in the graph.
trait Stage: Sync {
    /// The hash of everything that decides its result: sections of the recipe, and the [`output`](Self::output) of
    /// what it needs. The only place where it is made. `None` while the output of something it needs is not known.
    fn inputs(&self, run: &Run) -> Result<Option<String>>;

    /// Where its result is, or will be: the folder of its `name`, unless it says otherwise.
    fn place(&self, run: &Run, name: &str) -> Result<PathBuf> {
        Ok(run.stage_folder(name))
    }

    /// What is there of a result that follows from `inputs`. Reads only.
    fn state(&self, run: &Run, inputs: &str) -> Result<State>;

    /// The hash of its finished result, as later stages take it in: that of what it was made from, where equal inputs
    /// make equal results.
    fn output(&self, _run: &Run, inputs: &str) -> Result<String> {
        Ok(inputs.to_owned())
    }

    /// What a result that is still to be made will follow from, to the last bit, if it is known now: two that are equal
    /// give equal outputs.
    fn origin(&self, _run: &Run, inputs: &str, _state: State) -> Result<Option<String>> {
        Ok(Some(inputs.to_owned()))
    }

    /// What it takes.
    fn cost(&self, run: &Run) -> Result<Cost>;

    /// Makes the result, or goes on with it. Fails with [`Interrupted`](crate::interrupt::Interrupted) once a signal
    /// came; what was done is saved then.
    fn make(&self, run: &Run, inputs: &str) -> Result<Made>;

    /// What is to be looked at, or said, where there is nothing to do.
    fn confirm(&self, _run: &Run) -> Result<()> {
        Ok(())
    }
}

/// What sort of work a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Reads the user's files.
    Ingest,
    /// Trains a network.
    Train,
    /// Computes with networks that are trained.
    Compute,
    /// Draws.
    Sample,
    /// Measures.
    Evaluate,
}

/// What is there of a stage's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// All of it: nothing to do.
    UpToDate,
    /// A part, from the same inputs.
    Resume {
        /// Its share of the whole, from 0 to 1.
        done: f64,
    },
    /// Nothing that can be used.
    ToDo,
}

impl State {
    /// As `check --json` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "up_to_date",
            Self::Resume { .. } => "resume",
            Self::ToDo => "to_do",
        }
    }

    /// The share that is there already.
    fn done(self) -> f64 {
        match self {
            Self::UpToDate => 1.0,
            Self::Resume { done } => done,
            Self::ToDo => 0.0,
        }
    }
}

/// What a stage takes, roughly.
#[derive(Debug, Clone, Default, PartialEq)]
struct Cost {
    /// What it does, in words.
    what: String,
    /// Trainable parameters, or those of a network that is given.
    parameters: Option<u64>,
    /// Floating-point operations from the start; a whole number, but of more digits than 64 bits have.
    operations: f64,
    /// Number format of the operations.
    compute: Compute,
    /// Bytes of weights and whatever else a training keeps from step to step.
    weights: u64,
    /// Operations of the forward pass whose results are kept for a backward pass.
    kept: f64,
    /// Bytes on disk when it is done.
    disk: u64,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Made {
    /// It is there now.
    Done {
        /// Images gone through.
        images: u64,
        /// Seconds over all restarts, if the stage counts them itself.
        seconds: Option<f64>,
    },
    /// Somebody else has made it meanwhile.
    ByOther,
}

/// How long a stage took, and over how many images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Timing {
    /// Wall-clock seconds.
    seconds: f64,
    /// Images gone through.
    images: u64,
}

/// The stage called `name`.
fn node(name: &str) -> &'static Node {
    GRAPH.iter().find(|node| node.name == name).expect("a name of this module")
}

/// `target` and all that it needs, in an order in which they can run.
fn order(target: &str) -> Vec<&'static Node> {
    let mut wanted = vec![target];
    let mut at = 0;
    while let Some(name) = wanted.get(at) {
        let needs = node(name).needs.iter().copied();
        let new: Vec<&str> = needs.filter(|name| !wanted.contains(name)).collect();
        wanted.extend(new);
        at += 1;
    }
    GRAPH.iter().filter(|node| wanted.contains(&node.name)).collect()
}

/// Starts the hash of a stage's inputs with what every stage depends on.
fn hasher(run: &Run, stage: &str, version: u32) -> Hasher {
    Hasher::new(stage, version).section(&run.recipe.seed.to_string())
}

/// Fields that came after runs had been made, and what they are where a recipe does not name them. Then they leave no
/// trace in a hash: a run of before is still of its recipe.
const LATER: [(&str, &str); 21] = [
    ("adversarial", "null"),
    ("alignment", "null"),
    ("drop_path", "0.0"),
    ("feed_forward", "\"Mlp\""),
    ("gram", "null"),
    ("groups", "[]"),
    ("half_life", "null"),
    ("ibot", "null"),
    ("late", "null"),
    ("layer_decay", "1.0"),
    ("layer_scale", "null"),
    ("milestones", "[]"),
    ("perceptual", "null"),
    ("ramp_up", "null"),
    ("self_consistency", "null"),
    ("sigma_rel", "[]"),
    ("snapshot_every", "null"),
    ("split", "\"Train\""),
    ("strategy", "null"),
    ("stratified", "false"),
    ("times", "\"Uniform\""),
];

/// A section as text for a hash: compact, every default written out but those of [`LATER`].
fn text<T: Serialize>(section: &T) -> String {
    let mut section = serde_json::to_value(section).expect("a section is plain data");
    without_later(&mut section);
    section.to_string()
}

fn without_later(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let (text, later) = (value.to_string(), LATER.iter().find(|(it, _)| it == name));
                later.is_none_or(|(_, default)| text != *default)
            });
            fields.values_mut().for_each(without_later);
        }
        Value::Array(values) => values.iter_mut().for_each(without_later),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use std::path::Path;

    /// Every name is one of a field, and its default is that of the field.
    #[test]
    fn what_came_later_leaves_no_trace_where_it_is_not_named() {
        let path = Path::new("recipes/tiny.ron");
        let recipe = Recipe::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
        let whole = serde_json::to_string(&recipe).unwrap();
        for (name, default) in LATER {
            assert!(whole.contains(&format!("\"{name}\":{default}")), "{name}: {whole}");
        }
        let hashed = text(&recipe);
        assert!(
            LATER.iter().all(|(name, default)| !hashed.contains(&format!("\"{name}\":{default}")))
        );
        let kl = text(&recipe.autoencoder.task);
        assert_eq!(
            kl,
            r#"{"Reconstruct":{"reconstruction":"Squared","kl_weight":1e-6,"crop":null,"gradient_weight":0.0}}"#
        );
        let mut named = recipe.clone();
        named.denoiser.train.as_mut().unwrap().milestones = vec![64];
        assert!(text(&named).contains("\"milestones\":[64]"));
    }

    #[test]
    fn every_stage_stands_behind_what_it_needs() {
        for (at, node) in GRAPH.iter().enumerate() {
            for need in node.needs {
                assert!(GRAPH[..at].iter().any(|other| other.name == *need), "{need}");
            }
        }
        let names = |target| order(target).iter().map(|node| node.name).collect::<Vec<_>>();
        assert_eq!(names(AUTOENCODER), [INGEST, AUTOENCODER]);
        assert_eq!(names(ENCODE), [INGEST, ENCODER, AUTOENCODER, ENCODE]);
        assert_eq!(names(EVALUATE).len(), GRAPH.len());
    }
}
