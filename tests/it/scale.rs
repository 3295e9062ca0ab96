//! An evaluation of as many images as there are chest radiographs in public: how long, how much memory, how soon a
//! signal is answered. Not run by default:
//! `cargo test --release --test it scale -- --ignored --nocapture`, with `UMBRA_STOP_AFTER=5` for a signal after five
//! seconds of measuring.
//!
//! What the figures' paths see is there in full: every entry with its labels, every row of the store, ten thousand drawn
//! images. The images are phantoms, rendered when they are looked at; the networks are those of recipes/tiny.ron, untrained.

#![expect(clippy::print_stdout, reason = "the times are what this is for")]

use burn::tensor::Device;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use umbra::data::catalog::{Entry, Label, Location, PatientKey, Split};
use umbra::data::file::Window;
use umbra::data::image::Gray;
use umbra::data::latents::{Latents, key};
use umbra::data::picture::{self, Contents, Provenance};
use umbra::data::radiographs::Radiographs;
use umbra::data::store::{Check, ColumnSpec, Dtype, Store, StoreSpec, StoreWriter, Values};
use umbra::evaluate::{Cache, Drawn, Evaluation, Evidence, Shelves, figures, measure_all};
use umbra::interrupt;
use umbra::models::Init;
use umbra::models::encoder::{Embedder, trained_input};
use umbra::random::Stream;
use umbra::recipe::Recipe;
use umbra::sample::generate::Generator;
use umbra::sample::manifold::{Reconstruct, Strategy};
use umbra::sample::sampler::{Ddim, Sampler};
use umbra::sample::stage::{SampleRow, TABLE};

/// Chest radiographs of the public collections together.
const IMAGES: u64 = 868_394;
const SAMPLES: usize = 10_000;
const SIZE: usize = 32;

#[test]
#[ignore = "minutes of work, for its printed times"]
fn an_evaluation_of_every_public_radiograph() {
    let home = tempfile::tempdir().unwrap();
    let checked = Recipe::read(Path::new("recipes/tiny.ron"), &[]).unwrap();
    let checked = checked.check(Path::new("recipes/tiny.ron"), Path::new(".")).unwrap();
    let networks = &checked.networks;
    let device = Device::flex();
    let init = |name: &str| Init::new(Stream::new(1, name), &device);

    let (entries, seconds) = timed(entries);
    println!("{IMAGES} entries: {seconds:.1} s, {}", memory());
    let (store, seconds) =
        timed(|| store(home.path(), &entries, networks.latent_shape, networks.token_shape));
    println!("store: {seconds:.1} s, {}", memory());
    let split = |split: Split| -> Vec<Entry> {
        entries.iter().filter(|entry| entry.split == split).cloned().collect()
    };
    let [train, valid, test] =
        Split::ALL.map(|it| Radiographs::open(split(it), Path::new("."), SIZE, 0));
    drop(entries);
    let (latents, seconds) = timed(|| {
        let of_train = Latents::new(store.clone(), train.entries(), None).unwrap();
        let scale = of_train.scale().clone();
        [of_train, Latents::new(store, valid.entries(), Some(scale)).unwrap()]
    });
    println!("latents and their scale: {seconds:.1} s, {}", memory());
    let strategies = [Strategy::Reconstruct(Reconstruct { images: SAMPLES, ..Default::default() })];
    samples(home.path(), &train);
    let samples = Drawn::open(home.path(), &strategies).unwrap();

    let network = networks.encoder.config().init(&mut init("encoder"));
    let encoder = Embedder { network, input: trained_input(SIZE), device: device.clone() };
    let autoencoder = networks.autoencoder.config().init(&mut init("autoencoder"));
    let denoiser = networks.denoiser.config.init(&mut init("denoiser"));
    let generator = Generator {
        denoiser: &denoiser,
        weaker: &[],
        autoencoder: &autoencoder,
        diffusion: &networks.denoiser.task,
        scale: latents[0].scale(),
        latent_shape: networks.latent_shape,
        token_shape: networks.token_shape,
        sampler: Sampler::Ddim(Ddim::default()),
        device: &device,
    };
    let evaluations = [
        Evaluation::Neighbours(Default::default()),
        Evaluation::Frechet(Default::default()),
        Evaluation::Kernel(figures::Kernel { subset_size: 1000, ..Default::default() }),
        Evaluation::Coverage(Default::default()),
        Evaluation::DataCopying(Default::default()),
        Evaluation::Diversity(Default::default()),
        Evaluation::ConditionFidelity(Default::default()),
        Evaluation::NearestTrain(Default::default()),
    ];
    let shelves = Shelves::new(home.path(), home.path());
    let hash = "0".repeat(64);
    interrupt::install().unwrap();
    let stop_after = std::env::var("UMBRA_STOP_AFTER").ok().map(|it| it.parse::<f64>().unwrap());
    let signalled = stop_after.map(|seconds| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            let sent = Instant::now();
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            sent
        })
    });
    // As `umbra evaluate` does, but a figure at a time: each kind has its own time.
    for evaluation in evaluations.chunks(1) {
        let evidence = Evidence {
            recipe: "scale",
            seed: 1,
            evaluations: evaluation,
            data_root: Path::new("."),
            device: &device,
            train: &train,
            valid: &valid,
            test: &test,
            latents: [&latents[0], &latents[1]],
            samples: &samples,
            encoder: (&encoder, &hash),
            untrained: Some(&encoder),
            autoencoder: &autoencoder,
            generator: &generator,
            records: &[],
            shelves: &shelves,
            sets: Cache::default(),
        };
        let (found, seconds) = timed(|| measure_all(&evidence, home.path()));
        if let Some(signalled) = &signalled
            && interrupt::requested()
        {
            assert!(found.is_err(), "what a signal has cut short is no finding");
            while !signalled.is_finished() {}
        }
        let name = evaluation[0].get().name();
        println!("{name}: {seconds:.1} s, {}", memory());
        if found.is_err() {
            break;
        }
    }
    if let Some(signalled) = signalled {
        let waited = signalled.join().unwrap().elapsed();
        println!("answered the signal after {:.2} s", waited.as_secs_f64());
        assert!(waited < Duration::from_secs(10));
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let found = work();
    (found, start.elapsed().as_secs_f64())
}

/// The most that was resident so far.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    most.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Four images of each patient, fourteen labels, a tenth each for validation and test.
fn entries() -> Vec<Entry> {
    let names: Vec<String> = (0..14).map(|label| format!("finding {label}")).collect();
    let stream = Stream::new(1, "labels");
    let entry = |index: u64| {
        let patient = index / 4;
        let mut draws = stream.at(index);
        let label = |name: &String| {
            let label = match draws.uniform() {
                ..0.15 => Label::Present,
                ..0.9 => Label::Absent,
                _ => Label::Unknown,
            };
            (name.clone(), label)
        };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&patient.to_le_bytes());
        Entry {
            id: index as i64,
            dataset: "phantom".to_owned(),
            location: Location::Phantom { seed: 1, index },
            patient: PatientKey(key),
            view: None,
            labels: names.iter().map(label).collect::<BTreeMap<_, _>>(),
            report: None,
            mask: None,
            window: Window::Raw,
            hash: *blake3::hash(&index.to_le_bytes()).as_bytes(),
            split: match patient % 10 {
                0 => Split::Valid,
                1 => Split::Test,
                _ => Split::Train,
            },
            width: SIZE as u32,
            height: SIZE as u32,
            quarantine: None,
        }
    };
    (0..IMAGES).map(entry).collect()
}

fn store(home: &Path, entries: &[Entry], latent: [usize; 3], tokens: [usize; 2]) -> Arc<Store> {
    let path = home.join("store");
    let spec = StoreSpec {
        inputs_hash: "0".repeat(64),
        notes: BTreeMap::new(),
        columns: vec![
            ColumnSpec::new("mean", Dtype::F16, &latent),
            ColumnSpec::new("logvar", Dtype::F16, &latent),
            ColumnSpec::new("tokens", Dtype::F16, &tokens),
        ],
        shard_rows: 4096,
    };
    let mut writer = StoreWriter::open(&path, spec).unwrap();
    let count = latent.iter().product();
    // As many draws as a row has, over and over, but for the tokens.
    let (mean, logvar) = (Stream::new(2, "mean").at(0).normals(count), vec![-4.0; count]);
    let stream = Stream::new(2, "tokens");
    for (at, entry) in entries.iter().enumerate() {
        let tokens = stream.at(at as u64).normals(tokens.iter().product());
        let row = [&mean, &logvar, &tokens].map(|values| Values::Floats(values));
        writer.push(key(entry), &row).unwrap();
    }
    writer.finish().unwrap();
    Arc::new(Store::open(&path, Check::Hashes).unwrap())
}

/// What a sample stage would have drawn, were phantoms what it draws.
fn samples(home: &Path, train: &Radiographs) {
    fs::create_dir_all(home.join("images")).unwrap();
    let mut table = csv::Writer::from_path(home.join(TABLE)).unwrap();
    for at in 0..SAMPLES {
        let source = at * 7;
        let hash = train.entries()[source].hash;
        let file = format!("images/0-reconstruct-{at:06}.png");
        let pixels = train.get(source + 1).unwrap().square.pixels.clone();
        let image = Gray { width: SIZE, height: SIZE, pixels };
        let from = Provenance { contents: Contents::Synthetic, recipe: "scale", seed: 1 };
        picture::write(&home.join(&file), &image, &from).unwrap();
        let row = SampleRow {
            file,
            synthetic: true,
            strategy: "Reconstruct".to_owned(),
            source: hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            source_2: None,
            weight: None,
            seed: at as u64,
            guidance: "None".to_owned(),
            guidance_scale: 1.0,
            labels_present: String::new(),
            labels_absent: String::new(),
            patient_group: source / 4,
            split: "train".to_owned(),
        };
        table.serialize(row).unwrap();
    }
    table.flush().unwrap();
}
