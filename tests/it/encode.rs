//! The encode stage as a user runs it, when files, disks and processes fail.

mod processes;
mod unreadable;

use super::binary::{done, files, umbra};
use super::foreign::{FROM_SCRATCH, write};
use super::models::golden::Golden;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Networks of the reference, a source of images, and runs over them.
struct Place {
    home: TempDir,
}

impl Place {
    /// With the recipe `a` over `source`.
    fn new(source: &str) -> Self {
        let place = Self { home: tempfile::tempdir().unwrap() };
        let home = place.home.path();
        write(&Golden::read("dinov2"), &home.join("dino"), "model.safetensors");
        write(
            &Golden::read("autoencoder"),
            &home.join("vae"),
            "diffusion_pytorch_model.safetensors",
        );
        place.recipe("a", source, FROM_SCRATCH);
        place
    }

    /// Over a folder of `images` small pictures, `set/00.png` and on.
    fn of_files(images: u8) -> Self {
        let place = Self::new("Folder(path: \"set\", patient: File)");
        fs::create_dir(place.home.path().join("set")).unwrap();
        for at in 0..images {
            let image = image::GrayImage::from_fn(40, 36, |x, y| {
                image::Luma([(u32::from(at) * 5 + x * (1 + u32::from(at) % 7) + 3 * y) as u8])
            });
            image.save(place.home.path().join(format!("set/{at:02}.png"))).unwrap();
        }
        place
    }

    fn recipe(&self, name: &str, source: &str, denoiser: &str) {
        let text = format!(
            "(
                name: \"{name}\",
                data: (source: {source}, size: 32, max_damaged: 0.05, cache_mib: 0),
                encoder: (from: Folder(path: \"dino\", side: 28)),
                autoencoder: (from: Folder(path: \"vae\")),
                denoiser: (
                    from: {denoiser},
                    task: Denoise(schedule: ScaledLinear(), objective: Epsilon),
                    train: (images: 32, batch_size: 8, learning_rate: (warm_up: 0), validate_every: 32,
                            preview_every: 32, save_every: 16),
                ),
                sample: [Reconstruct(images: 8, sampler: Ddim(steps: 2))],
                evaluate: [ConditionFidelity(candidates: 4, sampler: Ddim(steps: 2)), NearestTrain()],
            )"
        );
        fs::write(self.home.path().join(format!("{name}.ron")), text).unwrap();
    }

    /// `umbra <verb>` on the recipe `name`.
    fn umbra(&self, verb: &str, name: &str) -> Command {
        let home = self.home.path();
        let mut command = umbra();
        command.arg(verb).arg(home.join(format!("{name}.ron"))).arg("--data-root").arg(home);
        command.args(["--threads", "1", "--checkpoints"]).arg(self.checkpoints());
        command
    }

    fn checkpoints(&self) -> PathBuf {
        self.home.path().join("checkpoints")
    }

    /// The files of the one store there is, with their bytes.
    fn store(&self) -> BTreeMap<String, Vec<u8>> {
        let mut folders = fs::read_dir(self.checkpoints().join("stores"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir());
        let folder = folders.next().expect("a store");
        assert_eq!(folders.next(), None, "one store, and nothing half done beside it");
        files(&folder)
    }

    fn index(&self) -> serde_json::Value {
        serde_json::from_slice(&self.store()["index.json"]).unwrap()
    }
}

/// Enough phantoms for three shards: ingested once, and encoded without a disturbance.
struct Undisturbed {
    place: Place,
    store: BTreeMap<String, Vec<u8>>,
    /// Of encode alone.
    duration: Duration,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let place = Place::new("Phantom(images: 2200)");
    done(&mut place.umbra("ingest", "a"));
    let start = Instant::now();
    done(&mut place.umbra("encode", "a"));
    let duration = start.elapsed();
    let store = place.store();
    assert_eq!(store.len(), 4, "three shards and the index: {:?}", store.keys());
    Undisturbed { place, store, duration }
});

/// A place like [`UNDISTURBED`], ingested and not yet encoded, with the runs called `names`.
fn ingested(names: &[&str]) -> Place {
    let place = Place::new("Phantom(images: 2200)");
    let from = UNDISTURBED.place.checkpoints().join("a/catalog.sqlite");
    for (at, name) in names.iter().enumerate() {
        let denoiser = FROM_SCRATCH.replace("[8, 16]", &format!("[8, {}]", 16 + 8 * at));
        place.recipe(name, "Phantom(images: 2200)", &denoiser);
        let run = place.checkpoints().join(name);
        fs::create_dir_all(&run).unwrap();
        fs::copy(&from, run.join("catalog.sqlite")).unwrap();
    }
    place
}

fn assert_same(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    when: &str,
) {
    let names = |store: &BTreeMap<String, Vec<u8>>| store.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{when}");
    let other: Vec<&String> =
        expected.keys().filter(|name| found[*name] != expected[*name]).collect();
    assert!(other.is_empty(), "{when}: other bytes in {other:?}");
}
