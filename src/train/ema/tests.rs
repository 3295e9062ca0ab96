use super::posthoc::{Place, mix};
use super::*;
use crate::data::image::Gray;
use crate::data::loader::{Collate, SampleError, Samples};
use crate::models::layers::Linear;
use crate::models::weights::StateDict;
use crate::models::{Compute, Fill, Init};
use crate::random::Stream;
use crate::train::checkpoint::{self, Checkpoint, Environment};
use crate::train::learning_rate::{Decay, LearningRate};
use crate::train::task::{Loss, Progress, Task};
use crate::train::{Setup, Train};
use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Golden {
    exponents: Vec<(f64, f64)>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    places: Vec<(f64, f64)>,
    wanted: (f64, f64),
    shares: Vec<f64>,
    error: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/averages.json")).unwrap()
}

fn place((sigma_rel, images): (f64, f64)) -> Place {
    Place { sigma_rel, images }
}

#[test]
fn warm_up_forgets_the_beginning() {
    let config = EmaConfig { decay: 0.999, warm_up: true, ..EmaConfig::default() };
    let at = |config: &EmaConfig, n| config.averages()[0].decay_at(n, 16 * n, 16 * n + 16);
    assert_eq!((at(&config, 0), at(&config, 1)), (0.1, 2.0 / 11.0));
    assert_eq!(at(&config, 1_000_000), 0.999);
    assert_eq!(at(&EmaConfig { warm_up: false, ..config.clone() }, 0), 0.999);
    assert!(config.check().is_empty());
    assert_eq!(EmaConfig { decay: 1.0, ..config }.check().len(), 1);
}

#[test]
fn a_half_life_is_one_in_images_whatever_the_batch() {
    let average = Average::HalfLife { images: 1000.0, ramp_up: Some(0.05) };
    for batch in [10, 50, 250] {
        // Past 20,000 images the ramp is over.
        let steps = (30_000..31_000).step_by(batch as usize);
        let kept: f64 = steps.map(|seen| average.decay_at(7, seen, seen + batch)).product();
        assert!((kept - 0.5).abs() < 1e-12, "{batch}: {kept}");
    }
    // EDM: min(half-life, images seen · ratio), so that nothing is kept of the first weights.
    assert_eq!(average.decay_at(0, 0, 10), 0.0);
    assert_eq!(average.decay_at(0, 4_000, 4_010), 0.5f64.powf(10.0 / 200.0));
    assert_eq!(
        Average::HalfLife { images: 1000.0, ramp_up: None }.decay_at(0, 0, 10),
        0.5f64.powf(0.01)
    );
}

/// Reference: numpy (tests/golden/averages.py, versions in its header).
#[test]
fn lengths_are_the_exponents_of_numpy() {
    for (sigma_rel, expected) in golden().exponents {
        let found = exponent(sigma_rel);
        assert!((found / expected - 1.0).abs() < 1e-12, "{sigma_rel}: {found}, {expected}");
        let length = ((found + 1.0) / ((found + 2.0).powi(2) * (found + 3.0))).sqrt();
        assert!((length / sigma_rel - 1.0).abs() < 1e-12, "{sigma_rel}: {length}");
    }
    assert!(exponent(MOST_SIGMA_REL) > 0.0);
}

/// Shares against numpy's solution, errors against an integral over a grid.
#[test]
fn mixes_of_snapshots_are_those_of_numpy() {
    for Case { places, wanted, shares, error } in golden().cases {
        let places: Vec<Place> = places.into_iter().map(place).collect();
        let found = mix(&places, place(wanted));
        assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for (found, expected) in found.shares.iter().zip(&shares) {
            // Condition numbers of 1e6 at most, in f64.
            assert!((found - expected).abs() < 1e-8, "{wanted:?}: {found}, {expected}");
        }
        // A grid of two million points.
        assert!((found.error - error).abs() < 1e-5, "{wanted:?}: {} {error}", found.error);
    }
}

/// Weights on a way that settles, tracked step by step at each length: what is made of two lengths is as near to what a
/// third would have been as the mix says (Cauchy & Schwarz), and one of the two is itself.
#[test]
fn an_average_made_afterwards_is_the_one_that_was_not_kept() {
    let (steps, every) = (4_000u64, 400);
    let mut draws = Stream::new(1, "way").at(0);
    let mut wander = 0.0;
    let way: Vec<f64> = (1..=steps)
        .map(|step| {
            wander += 0.02 * draws.normal();
            5.0 * (-(step as f64) / 700.0).exp() + wander
        })
        .collect();
    let tracked = |sigma_rel: f64| {
        let average = Average::Power { sigma_rel };
        let follow = |mean: &mut f64, (step, value): (u64, &f64)| {
            let decay = average.decay_at(step, 16 * step, 16 * step + 16);
            *mean += (value - *mean) * (1.0 - decay);
            Some(*mean)
        };
        (0..).zip(&way).scan(0.0, follow).collect::<Vec<f64>>()
    };
    let kept = [0.05, 0.1].map(|sigma_rel| (sigma_rel, tracked(sigma_rel)));
    let (mut places, mut values) = (Vec::new(), Vec::new());
    for step in (every..=steps).step_by(every as usize) {
        for (sigma_rel, means) in &kept {
            places.push(place((*sigma_rel, (16 * step) as f64)));
            values.push(means[step as usize - 1]);
        }
    }
    let end = (16 * steps) as f64;
    for sigma_rel in [0.05, 0.06, 0.075, 0.1, 0.13, 0.15] {
        let mix = mix(&places, place((sigma_rel, end)));
        let made: f64 = mix.shares.iter().zip(&values).map(|(share, value)| share * value).sum();
        let exact = tracked(sigma_rel)[steps as usize - 1];
        if kept.iter().any(|(kept, _)| *kept == sigma_rel) {
            assert_eq!(made, exact, "{sigma_rel}");
            continue;
        }
        // √∫p² of the wanted average times √∫(way − average)², in images.
        let gamma = exponent(sigma_rel);
        let norm = ((gamma + 1.0).powi(2) / ((2.0 * gamma + 1.0) * end)).sqrt();
        let spread = way.iter().map(|value| 16.0 * (value - exact).powi(2)).sum::<f64>().sqrt();
        let error = (made - exact).abs();
        assert!(error < mix.error * norm * spread + 1e-4, "{sigma_rel}: {made}, {exact}");
        let others = [tracked(sigma_rel - 0.01), tracked(sigma_rel + 0.01)];
        let nearest = others.map(|other| (other[steps as usize - 1] - exact).abs());
        assert!(error < 0.5 * nearest[0].min(nearest[1]), "{sigma_rel}: {error}, {nearest:?}");
    }
}

#[test]
fn faults_name_the_field() {
    let plain = EmaConfig::default();
    for (config, expected) in [
        (EmaConfig { half_life: Some(0), ..plain.clone() }, "half_life is 0; expected at least"),
        (
            EmaConfig { half_life: Some(5), decay: 0.9, ..plain.clone() },
            "decay is 0.9; expected nothing beside half_life",
        ),
        (EmaConfig { ramp_up: Some(0.05), ..plain.clone() }, "ramp_up is 0.05; expected"),
        (EmaConfig { snapshot_every: Some(5), ..plain.clone() }, "snapshot_every is 5; expected"),
        (EmaConfig { sigma_rel: vec![0.1, 0.3], ..plain.clone() }, "sigma_rel[1] is 0.3; expected"),
        (
            EmaConfig { sigma_rel: vec![0.1, 0.1001], ..plain.clone() },
            "sigma_rel[1] is 0.1001; expected each length once",
        ),
        (
            EmaConfig { sigma_rel: vec![0.1], warm_up: false, ..plain.clone() },
            "warm_up is false; expected nothing beside",
        ),
    ] {
        let faults = config.check();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(expected), "{faults:?}");
    }
    let both = EmaConfig { half_life: Some(9), sigma_rel: vec![0.05, 0.1], ..plain };
    assert_eq!(both.check(), Vec::<String>::new());
    let averages = both.averages();
    assert_eq!(averages[0], Average::HalfLife { images: 9.0, ramp_up: None });
    assert_eq!(averages[1..], [0.05, 0.1].map(|sigma_rel| Average::Power { sigma_rel }));
}

/// Points on a line.
struct Line;

impl Samples for Line {
    type Item = [f32; 2];

    fn len(&self) -> u64 {
        40
    }

    fn get(&self, _: u64, position: u64) -> Result<[f32; 2], SampleError> {
        let values = Stream::new(1, "line").at(position).normals(2);
        Ok([values[0], 3.0 * values[0] + 1.0 + 0.5 * values[1]])
    }
}

impl Task for Line {
    type Model = Linear;
    type Item = [f32; 2];
    type Batch = Vec<[f32; 2]>;
    type Shared = Vec<[f32; 2]>;

    const VERSION: u32 = 1;

    fn name(&self) -> &'static str {
        "line"
    }

    fn with_compute(model: Linear, _: Compute) -> Linear {
        model
    }

    fn samples(&self) -> Arc<dyn Samples<Item = [f32; 2]>> {
        Arc::new(Line)
    }

    fn collate(&self) -> Collate<[f32; 2], Vec<[f32; 2]>> {
        Arc::new(|items| items)
    }

    fn share(
        &mut self,
        _: &Linear,
        _: &Linear,
        batch: Vec<[f32; 2]>,
        _: usize,
        _: Progress,
    ) -> Vec<[f32; 2]> {
        batch
    }

    fn loss(&self, model: &Linear, batch: &Self::Shared, rows: Range<usize>, _: Progress) -> Loss {
        let items = &batch[rows];
        let column = |at: usize| {
            let values: Vec<f32> = items.iter().map(|item| item[at]).collect();
            let data = TensorData::new(values, [items.len(), 1]);
            Tensor::<2>::from_data(data, &Device::flex().autodiff())
        };
        // Once, and for nothing, there is no gradient to go down.
        let poison = if items.iter().any(|item| item[0] > 2.6) { f64::NAN } else { 1.0 };
        let total = (model.forward(column(0)) - column(1)).square().mean() * poison;
        Loss { total, parts: Vec::new() }
    }

    fn validate(&self, _: &Linear) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }

    fn preview(&self, _: &Linear) -> Result<Option<Gray>> {
        Ok(None)
    }

    fn config(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

fn train(folder: &Path, images: u64, ema: &EmaConfig) -> Checkpoint {
    let learning_rate = LearningRate { peak: 3e-2, warm_up: 0, after: Decay::Constant };
    let section = Train {
        images,
        batch_size: 8,
        learning_rate,
        ema: ema.clone(),
        save_every: 48,
        ..Train::default()
    };
    let setup = Setup {
        section,
        seed: 1,
        device: Device::flex(),
        folder: folder.to_owned(),
        threads: 2,
        data_fingerprint: "points".to_owned(),
        inputs_hash: "line".to_owned(),
        name: "line".to_owned(),
        recipe: String::new(),
        environment: Environment { device: "cpu".to_owned(), threads: 2, version: "0".to_owned() },
    };
    let fresh = || {
        let init = &mut Init::new(Stream::new(1, "line"), &setup.device);
        Ok(Linear::filled(init, 1, 1, Fill::Normal(0.5), Some(Fill::Zeros)))
    };
    crate::train::run(&mut Line, &setup, fresh).unwrap();
    checkpoint::load(&checkpoint::newest(folder).unwrap().unwrap()).unwrap()
}

fn part(checkpoint: &Checkpoint, name: &str) -> StateDict {
    checkpoint.parts.get(name).unwrap().clone()
}

#[test]
fn averages_beside_the_first_are_what_they_would_be_as_the_first() {
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let lengths = [vec![0.05, 0.1], vec![0.1], vec![]];
    let [both, one, plain] = [0, 1, 2].map(|at| {
        let ema = EmaConfig { sigma_rel: lengths[at].clone(), ..EmaConfig::default() };
        train(homes[at].path(), 400, &ema)
    });
    assert!(both.header.skipped_steps > 0, "a step was left out on the way");
    // To the bit, the steps left out included.
    assert_eq!(part(&both, "ema-0.100"), part(&one, "ema"));
    assert_ne!(part(&both, "ema-0.100"), part(&both, "ema"));
    for name in ["model", "optimizer"] {
        assert_eq!(part(&both, name), part(&plain, name), "averages change no step: {name}");
    }
    assert!(plain.parts.get("ema-0.100").is_err());
    assert!(!homes[2].path().join("averages").exists());
}

#[test]
fn averages_and_their_snapshots_survive_a_restart_bit_for_bit() {
    let [once, twice] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ema = EmaConfig {
        half_life: Some(50),
        ramp_up: Some(0.05),
        sigma_rel: vec![0.05, 0.1],
        snapshot_every: Some(40),
        ..EmaConfig::default()
    };
    let whole = train(once.path(), 200, &ema);
    // Stopped at 96 and 120, with a snapshot at 120 that is made again.
    train(twice.path(), 120, &ema);
    fs::remove_dir_all(twice.path().join("checkpoint-000000000120")).unwrap();
    let resumed = train(twice.path(), 200, &ema);
    for name in ["model", "ema", "ema-0.050", "ema-0.100", "optimizer"] {
        assert_eq!(part(&whole, name), part(&resumed, name), "{name}");
    }
    let [first, second] = [&once, &twice].map(|home| {
        let found = snapshots::list(home.path(), "line").unwrap();
        let at: Vec<u64> = found.iter().map(|snapshot| snapshot.images_seen).collect();
        assert_eq!(at, [40, 80, 120, 160, 200]);
        assert!(snapshots::list(home.path(), "another training").unwrap().is_empty());
        found
    });
    assert_eq!(first, second);
    let places = snapshots::places(&first);
    for (at, place) in places.iter().enumerate() {
        let alone = posthoc::Mix { shares: vec![1.0], error: 0.0 };
        let [one, other] = [&once, &twice]
            .map(|home| snapshots::mixed(home.path(), &places[at..=at], &alone).unwrap());
        assert_eq!(one, other, "{place:?}");
    }
    // What was tracked is made of itself, to the bit.
    for (sigma_rel, name) in [(0.05, "ema-0.050"), (0.1, "ema-0.100")] {
        let mix = mix(&places, Place { sigma_rel, images: 200.0 });
        assert_eq!(mix.error, 0.0);
        assert_eq!(snapshots::mixed(once.path(), &places, &mix).unwrap(), part(&whole, name));
    }
}
