use super::*;
use crate::data::catalog::{Entry, Location, PatientKey, Split};
use crate::data::file::Window;
use crate::data::loader::column;
use crate::data::radiographs::Radiographs;
use crate::models::Init;
use crate::models::autoencoder::{AutoencoderConfig, AutoencoderKlConfig, AutoencoderTinyConfig};
use crate::models::weights::file::{self, NonFinite};
use crate::models::weights::{StateDict, load_state_dict, shapes};
use crate::random::Stream;
use crate::train::checkpoint::{self, Environment};
use crate::train::learning_rate::{Decay, LearningRate};
use crate::train::parameters;
use crate::train::task::autoencoder::{Item, KlLoss, Reconstruction};
use crate::train::{Setup, run_procedure};
use burn::tensor::{Device, TensorData};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
struct Golden {
    count: usize,
    side: usize,
    weight: f64,
    kl_weight: f64,
    gradient_weight: f64,
    channels: usize,
    layers: usize,
    latents: [usize; 3],
    figures: BTreeMap<String, f64>,
    /// Of each gradient its norm and its product with cosines.
    autoencoder: BTreeMap<String, [f64; 2]>,
    discriminator: BTreeMap<String, [f64; 2]>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../../tests/golden/adversarial.json")).unwrap()
}

fn sines(count: usize, step: f64, start: f64) -> Vec<f32> {
    (0..count).map(|at| (step * at as f64 + start).sin() as f32).collect()
}

fn init(name: &str) -> Init {
    Init::new(Stream::new(1, name), &Device::flex())
}

fn task(network: AutoencoderConfig, loss: KlLoss, images: Radiographs) -> AutoencoderTask {
    let images = Arc::new(images);
    AutoencoderTask {
        network,
        loss,
        perceptual: None,
        train: images.clone(),
        valid: images,
        seed: 1,
        device: Device::flex(),
        batch_size: 4,
    }
}

/// The golden's step: its task, both networks, and the images.
fn step(golden: &Golden) -> (AutoencoderTask, (Autoencoder, Discriminator), Vec<Item>) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/autoencoder.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let config =
        AutoencoderConfig::from_diffusers(&metadata.metadata().as_ref().unwrap()["config"])
            .unwrap();
    let mut state = file::read(&path, NonFinite::Refuse).unwrap();
    state.retain(|name, _| !name.starts_with("golden/"));
    let autoencoder = load_state_dict(config.init(&mut init("autoencoder")), &state).unwrap();

    let Golden { count, side, weight, channels, layers, .. } = *golden;
    let adversarial = Adversarial { weight, channels, layers, ..Adversarial::default() };
    let judge = adversarial.config(config.out_channels()).init(&mut init("discriminator"));
    let wave = |(at, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = sines(shape.iter().product(), 0.61, 1.7 * at as f64);
        let offset = if name.ends_with("weight") { 1.0 } else { 0.0 };
        let value = |wave: &f32| match shape.len() {
            4 => (0.1 * f64::from(*wave)) as f32,
            _ => (offset + 0.2 * f64::from(*wave)) as f32,
        };
        (name, TensorData::new(values.iter().map(value).collect::<Vec<f32>>(), shape))
    };
    let state: StateDict = shapes(&judge).into_iter().enumerate().map(wave).collect();
    let judge = load_state_dict(judge, &state).unwrap();

    let area = side * side;
    let [slow, fast] = [sines(count * area, 0.013, 0.2), sines(count * area, 2.1, 0.0)];
    let pixels: Vec<f32> = slow
        .iter()
        .zip(&fast)
        .map(|(slow, fast)| (0.5 + 0.3 * f64::from(*slow) + 0.15 * f64::from(*fast)) as f32)
        .collect();
    let latent = golden.latents.iter().product();
    let noise = sines(count * latent, 1.3, 0.5);
    let items = pixels.chunks(area).zip(noise.chunks(latent));
    let items = items.map(|(pixels, noise)| Item { pixels: pixels.into(), noise: noise.into() });
    let loss = KlLoss {
        reconstruction: Reconstruction::Absolute,
        kl_weight: golden.kl_weight,
        gradient_weight: golden.gradient_weight,
        adversarial: Some(adversarial),
        ..KlLoss::default()
    };
    let nothing = Radiographs::open(Vec::new(), Path::new(""), side, 0);
    (task(config, loss, nothing), (autoencoder, judge), items.collect())
}

fn against(
    task: &mut AutoencoderTask,
    fresh: (Autoencoder, Discriminator),
) -> AgainstDiscriminator<'_> {
    let section = task.loss.adversarial.clone().unwrap();
    AgainstDiscriminator::new(task, section, fresh, &Train::default())
}

fn by_name<M: Module>(module: &M, gradients: &GradientSum) -> BTreeMap<String, Vec<f64>> {
    let wide = |gradient: Vec<f32>| gradient.into_iter().map(f64::from).collect();
    let means = gradients.means().into_iter();
    let named = parameters::names(module).into_iter().zip(means);
    named.filter_map(|(name, mean)| Some((name, wide(mean?)))).collect()
}

/// The gradients of a step down `items`.
fn gradients(both: &AgainstDiscriminator<'_>, items: &[Item], round: usize) -> Gradients {
    let batch = Batch {
        pixels: column(items, |item| &item.pixels),
        noise: column(items, |item| &item.noise),
    };
    both.gradients(&both.task.show(batch), items.len(), round)
}

/// Reference: tests/golden/adversarial.py (versions in its header).
#[test]
fn losses_the_balance_and_all_gradients_match_torch() {
    let golden = golden();
    let (mut task, fresh, items) = step(&golden);
    let both = against(&mut task, fresh);
    // At once, one by one, and in rounds of which the last is smaller: the same step.
    for round in [golden.count, 1, 2] {
        let found = gradients(&both, &items, round);
        for (name, expected) in &golden.figures {
            let value = f64::from(found.figures.get(name).into_scalar::<f32>());
            // f32 against f64, through some thirty layers.
            let error = (value - expected).abs() / expected.abs().max(0.1);
            assert!(error < 1e-4, "{name}, rounds of {round}: {value}, expected {expected}");
        }
        let gradients = [
            (by_name(both.autoencoder.model(), &found.autoencoder), &golden.autoencoder),
            (by_name(both.discriminator.model(), &found.discriminator), &golden.discriminator),
        ];
        for (found, expected) in gradients {
            assert!(found.keys().eq(expected.keys()));
            for (name, [norm, product]) in expected {
                let gradient = &found[name];
                let found_norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
                let cosines = (0..gradient.len()).map(|at| (0.37 * at as f64).cos());
                let found_product: f64 = gradient.iter().zip(cosines).map(|(a, b)| a * b).sum();
                // What cancels has an error of the size of what it is the sum of.
                let scale = norm.max(1e-3);
                for (found, expected) in [(found_norm, norm), (found_product, product)] {
                    let error = (found - expected).abs() / scale;
                    assert!(
                        error < 1e-3,
                        "{name}, rounds of {round}: {found}, expected {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_balance_is_that_of_the_whole_batch() {
    let golden = golden();
    let (mut task, fresh, items) = step(&golden);
    let both = against(&mut task, fresh);
    let weight = |items: &[Item], round| {
        let found = gradients(&both, items, round).figures.get("train/adversarial_weight");
        f64::from(found.into_scalar::<f32>())
    };
    let alone: Vec<f64> = items.chunks(1).map(|item| weight(item, 1)).collect();
    let together = weight(&items, 1);
    let spread = alone.iter().map(|one| (one / together - 1.0).abs()).fold(0.0, f64::max);
    assert!(spread > 0.01, "{alone:?} {together}: otherwise this shows nothing");
    assert!((weight(&items, items.len()) / together - 1.0).abs() < 1e-5);
}

#[test]
fn what_cannot_be_balanced_stays_within_bounds() {
    let device = Device::flex();
    let tensor = |value: f32| Tensor::<4>::full([1, 1, 2, 2], value, &device);
    let weight = |a, b| f64::from(adaptive_weight(tensor(a), tensor(b)).into_scalar::<f32>());
    assert_eq!(weight(1.0, 0.0), 1e4);
    assert_eq!(weight(0.0, 1.0), 0.0);
    assert!((weight(0.5, 0.25) - 1.0 / 0.5001).abs() < 1e-6);
}

fn phantoms(count: u64, size: usize) -> Radiographs {
    let entry = |index: u64| Entry {
        id: index as i64,
        dataset: "phantom".to_owned(),
        location: Location::Phantom { seed: 1, index },
        patient: PatientKey::of_phantom(&index.to_string()),
        view: None,
        labels: BTreeMap::new(),
        report: None,
        mask: None,
        window: Window::Auto,
        hash: [0; 32],
        split: Split::Train,
        width: 64,
        height: 64,
        quarantine: None,
    };
    Radiographs::open((0..count).map(entry).collect(), Path::new(""), size, 1 << 20)
}

fn networks() -> [AutoencoderConfig; 2] {
    let kl = AutoencoderKlConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![4, 8],
        layers_per_block: 1,
        norm_num_groups: 4,
        ..AutoencoderKlConfig::default()
    };
    let tiny = AutoencoderTinyConfig {
        in_channels: 1,
        out_channels: 1,
        encoder_block_out_channels: vec![8; 2],
        decoder_block_out_channels: vec![8; 2],
        num_encoder_blocks: vec![1, 1],
        num_decoder_blocks: vec![1, 1],
        ..AutoencoderTinyConfig::default()
    };
    [AutoencoderConfig::Kl(kl), AutoencoderConfig::Tiny(tiny)]
}

const SIZE: usize = 16;

/// Trains to `images` what the adversary enters after 16, from where `home` stands.
fn train(network: &AutoencoderConfig, home: &Path, images: u64) -> PathBuf {
    let adversarial =
        Adversarial { from: 16, channels: 8, layers: 2, learning_rate: 1e-3, ..Default::default() };
    let loss = KlLoss { adversarial: Some(adversarial.clone()), ..KlLoss::default() };
    let mut task = task(network.clone(), loss, phantoms(12, SIZE));
    let learning_rate = LearningRate { peak: 1e-3, warm_up: 0, after: Decay::Constant };
    let setup = Setup {
        section: Train { images, batch_size: 8, learning_rate, log_every: 8, ..Train::default() },
        seed: 1,
        device: Device::flex(),
        folder: home.to_owned(),
        threads: 2,
        data_fingerprint: "phantoms".to_owned(),
        inputs_hash: "adversarial".to_owned(),
        name: "adversarial".to_owned(),
        recipe: String::new(),
        environment: Environment { device: "cpu".to_owned(), threads: 2, version: "0".to_owned() },
    };
    let judge = adversarial.config(1).init(&mut init("discriminator"));
    let fresh = (network.init(&mut init("autoencoder")), judge);
    let mut both = AgainstDiscriminator::new(&mut task, adversarial, fresh, &setup.section);
    run_procedure(&mut both, &setup).unwrap();
    checkpoint::newest(home).unwrap().unwrap()
}

#[test]
fn both_learners_resume_bit_for_bit_before_and_after_the_discriminator_enters() {
    const PARTS: [&str; 6] = [
        "model",
        "ema",
        "optimizer",
        "discriminator-model",
        "discriminator-optimizer",
        "discriminator-ema",
    ];
    for network in networks() {
        let parts = |folder: &Path| {
            let saved = checkpoint::load(folder).unwrap().parts;
            PARTS.map(|name| saved.get(name).unwrap().clone())
        };
        let [once, twice] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let whole = parts(&train(&network, once.path(), 48));
        let early = parts(&train(&network, twice.path(), 8));
        train(&network, twice.path(), 32);
        assert_eq!(whole, parts(&train(&network, twice.path(), 48)));
        assert!(early[4].is_empty(), "the discriminator has not begun");
        for (at, name) in PARTS.iter().enumerate() {
            assert_ne!(early[at], whole[at], "{name} has moved");
        }
        assert_eq!(whole[3], whole[5], "its average is itself");

        let records = crate::telemetry::metrics::read(once.path()).unwrap();
        let has = |images: u64, name: &str| {
            let mut of = records.iter().filter(|record| record.images_seen == images);
            of.any(|record| record.values.contains_key(name))
        };
        for name in ["train/discriminator", "train/adversarial", "train/adversarial_weight"] {
            assert!(!has(16, name) && has(24, name) && has(48, name), "{name}");
        }
        assert_eq!(has(48, "train/kl"), network.has_variances());
    }
}

#[test]
fn a_section_that_makes_no_sense_is_refused_in_words() {
    let faults = |section: Adversarial| section.check(64, 1000);
    assert!(faults(Adversarial::default()).is_empty());
    let wrong =
        Adversarial { weight: f64::NAN, from: 1000, channels: 12, layers: 3, learning_rate: 0.0 };
    assert_eq!(
        faults(wrong),
        [
            "weight is NaN; expected a number from 0 up",
            "from is 1000; expected fewer than the training's 1000 images",
            "learning_rate is 0; expected a number above 0",
            "discriminator: channels is 12, which must be a positive multiple of its unit (8)",
        ]
    );
    assert_eq!(
        faults(Adversarial { layers: 5, ..Adversarial::default() }),
        [
            "layers is 5, which needs images of at least 96 pixels; they have 64 (task.crop or data.size)"
        ]
    );
}
