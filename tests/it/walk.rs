//! What `umbra check` says is what `umbra run` then does, whatever was run, changed, deleted or killed before.
//!
//! `UMBRA_WALKS` says how many steps are walked (40 where it is not set), `UMBRA_WALK_SEED` which.

use crate::binary::{done, umbra};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use umbra::random::{Draws, Stream};

/// Verbs, and the stage that each ends with.
const VERBS: [(&[&str], &str); 7] = [
    (&["ingest"], "ingest"),
    (&["train", "encoder"], "encoder"),
    (&["train", "autoencoder"], "autoencoder"),
    (&["encode"], "encode"),
    (&["train", "denoiser"], "denoiser"),
    (&["sample"], "sample"),
    (&["evaluate"], "evaluate"),
];

/// Fields that are changed, and what to.
const FIELDS: [(&str, &[&str]); 12] = [
    ("seed", &["1", "2"]),
    ("data.size", &["32", "16"]),
    ("data.seed", &["1", "2"]),
    ("encoder.train.images", &["32", "48", "96"]),
    ("encoder.task.koleo", &["0.1", "0.2"]),
    ("autoencoder.train.images", &["32", "64"]),
    ("autoencoder.task.kl_weight", &["1e-6", "1e-5"]),
    ("condition.tokens", &["Class", "ClassAndMean"]),
    ("denoiser.train.images", &["32", "64", "48"]),
    ("denoiser.train.learning_rate.peak", &["2e-3", "1e-3"]),
    ("sample[0].images", &["8", "12"]),
    ("evaluate", &["[Diversity(pairs: 8)]", "[Neighbours()]"]),
];

/// A run, and what its recipe says at the moment.
struct World {
    home: tempfile::TempDir,
    settings: BTreeMap<&'static str, &'static str>,
}

impl World {
    fn new() -> Self {
        let settings = FIELDS.map(|(field, values)| (field, values[0])).into();
        Self { home: tempfile::tempdir().unwrap(), settings }
    }

    fn checkpoints(&self) -> PathBuf {
        self.home.path().join("checkpoints")
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = umbra();
        command.args(verb).args(["recipes/tiny.ron", "--json", "--threads", "2"]);
        command.arg("--checkpoints").arg(self.checkpoints());
        for setting in [
            "data.source=Phantom(images: 48)",
            "encoder.from=Vit(patch: 8, width: 16, depth: 1, heads: 2)",
            "encoder.task.head=(hidden: 16, bottleneck: 8, prototypes: 16)",
            "encoder.task.views=(local_size: 8, num_local: 1)",
            "encoder.train.learning_rate.warm_up=8",
            "encoder.train.save_every=16",
            "autoencoder.train.learning_rate.warm_up=8",
            "autoencoder.train.save_every=16",
            "denoiser.train.learning_rate.warm_up=8",
            "denoiser.train.save_every=16",
            "sample[0].sampler=Ddim(steps: 2)",
            "sample[1].sampler=Ddim(steps: 2)",
            "sample[1].images=4",
        ] {
            command.args(["--set", setting]);
        }
        for (field, value) in &self.settings {
            command.args(["--set", &format!("{field}={value}")]);
        }
        command
    }

    /// What `check` says of each stage.
    fn plan(&self) -> BTreeMap<String, String> {
        let before = listing(&self.checkpoints());
        let said = json(&mut self.command(&["check"]));
        assert_eq!(listing(&self.checkpoints()), before, "check has written something");
        field_by_name(&said, "state")
    }

    /// Runs up to a stage; what was done with each.
    fn run(&self, verb: &[&str]) -> BTreeMap<String, String> {
        field_by_name(&json(&mut self.command(verb)), "did")
    }

    /// A folder of a result, if there is one.
    fn some_folder(&self, draws: &mut Draws) -> Option<PathBuf> {
        let run = self.checkpoints().join("tiny");
        let mut found: Vec<PathBuf> =
            ["encoder", "autoencoder", "denoiser", "sample", "evaluate", ""]
                .iter()
                .map(|name| run.join(name))
                .chain(
                    fs::read_dir(self.checkpoints().join("stores"))
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|it| it.path()),
                )
                .chain([run.join("catalog.sqlite")])
                .filter(|path| path.exists())
                .filter(|path| !path.ends_with("known.txt"))
                .collect();
        found.sort();
        (!found.is_empty()).then(|| found.swap_remove(draws.below(found.len() as u64) as usize))
    }
}

fn json(command: &mut Command) -> serde_json::Value {
    serde_json::from_str(&done(command).stdout).unwrap()
}

fn field_by_name(said: &serde_json::Value, field: &str) -> BTreeMap<String, String> {
    let stages = said["stages"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    stages.iter().map(|stage| (text(&stage["name"]), text(&stage[field]))).collect()
}

/// Every file below `folder`, with its size and time.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            let metadata = path.metadata().unwrap();
            found.insert(path, (metadata.len(), metadata.modified().unwrap()));
        }
    }
    found
}

/// Takes a random step; what it was, in words.
fn step(world: &mut World, draws: &mut Draws, cold: Duration) -> String {
    match draws.below(10) {
        0..=2 => {
            let (field, values) = FIELDS[draws.below(FIELDS.len() as u64) as usize];
            let value = values[draws.below(values.len() as u64) as usize];
            world.settings.insert(field, value);
            format!("{field} = {value}")
        }
        3 | 4 => match world.some_folder(draws) {
            Some(path) => {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                format!("removed {}", path.strip_prefix(world.home.path()).unwrap().display())
            }
            None => "nothing".to_owned(),
        },
        5 | 6 => {
            let moment = cold.mul_f64(draws.uniform());
            let mut command = world.command(&["run"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(moment);
            let _ = child.kill();
            child.wait().unwrap();
            format!("killed after {moment:?}")
        }
        _ => {
            let (verb, target) = VERBS[draws.below(VERBS.len() as u64) as usize];
            let plan = world.plan();
            let did = world.run(verb);
            for (stage, did) in &did {
                let expected = match &*plan[stage] {
                    "up_to_date" => "nothing",
                    "resume" => "resumed",
                    "to_do" => "made",
                    other => panic!("{other}"),
                };
                assert_eq!(did, expected, "{stage} on the way to {target}: {plan:?}");
            }
            assert!(did.contains_key(target));
            // And now all of that is there.
            let plan = world.plan();
            for stage in did.keys() {
                assert_eq!(plan[stage], "up_to_date", "{stage} behind {target}");
            }
            format!("ran to {target}")
        }
    }
}

#[test]
fn what_check_says_is_what_run_does() {
    let setting = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let steps = setting("UMBRA_WALKS").unwrap_or(40);
    let seed = setting("UMBRA_WALK_SEED").unwrap_or(1);
    let mut world = World::new();
    let start = std::time::Instant::now();
    let first = world.run(&["run"]);
    let cold = start.elapsed();
    assert!(first.values().all(|did| did == "made"), "{first:?}");
    let mut draws = Stream::new(seed, "walk").at(0);
    let mut log: Vec<String> = Vec::new();
    for number in 0..steps {
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            step(&mut world, &mut draws, cold)
        }));
        match taken {
            Ok(taken) => log.push(taken),
            Err(panic) => {
                eprintln!("seed {seed}, step {number}, behind:\n  {}", log.join("\n  "));
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{steps} steps of seed {seed}, a whole run in {cold:?}");
}
