//! The embedding steers: another condition at the same noise gives the other image.

use super::binary::{done, newest, tiny};
use std::path::Path;
use umbra::data::catalog::{Catalog, Split};
use umbra::data::latents::Latents;
use umbra::data::radiographs::Radiographs;
use umbra::data::store::{Check, Store};
use umbra::diffusion::Guidance;
use umbra::metric;
use umbra::models::Init;
use umbra::models::encoder::Embedder;
use umbra::models::weights::load_state_dict;
use umbra::random::Stream;
use umbra::recipe::Recipe;
use umbra::recipe::resolve::Training;
use umbra::sample::generate::{Generator, Request};
use umbra::sample::sampler::{Ddim, Sampler};
use umbra::train::checkpoint;
use umbra::train::task::dino::Distilled;

/// Pairs compared.
const PAIRS: usize = 128;

/// The tiny recipe with enough training that there is something to steer.
const LONGER: [&str; 5] = [
    "data.source.images=1280",
    "encoder.train.images=3200",
    "autoencoder.train.images=2880",
    "denoiser.train.images=9600",
    "sample[0].images=16",
];

#[test]
fn swapped_embeddings_swap_what_the_outputs_look_like() {
    let home = tempfile::tempdir().unwrap();
    let mut command = tiny(home.path());
    LONGER.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
    done(&mut command);
    let [by_embedding, by_pixels] = swapped(home.path());
    // Each of a pair's two images must be nearer to its own source than to the other's, at the same noise:
    // by chance a quarter of the pairs, and none at all if the condition were ignored.
    assert!(by_embedding > 0.8, "{by_embedding} of {PAIRS} pairs (measured: 0.98)");
    assert!(by_pixels > 0.5, "{by_pixels} of {PAIRS} pairs (measured: 0.70)");
}

/// The part of the pairs whose outputs swap, told by the encoder and by correlation of pixels.
fn swapped(checkpoints: &Path) -> [f64; 2] {
    let run = checkpoints.join("tiny");
    let recipe = Recipe::read(&run.join("recipe.ron"), &[]).unwrap();
    let device = umbra::device::parse("cpu").unwrap();
    let weights = |stage| checkpoint::weights(&newest(&run, stage), "ema").unwrap();
    let mut init = Init::new(Stream::new(0, "any"), &device);
    let networks = recipe.networks(Path::new(".")).unwrap();
    let Training { config: vit, task: dino, .. } = networks.encoder.training().unwrap();
    let distilled = Distilled::new(vit, dino, 0, &device);
    let encoder = load_state_dict(distilled, &weights("encoder")).unwrap().backbone;
    let encoder = Embedder::trained_here(encoder, recipe.data.size, &device);
    let kl = &networks.autoencoder.training().unwrap().config;
    let autoencoder = load_state_dict(kl.init(&mut init), &weights("autoencoder")).unwrap();
    let denoiser =
        load_state_dict(networks.denoiser.config.init(&mut init), &weights("denoiser")).unwrap();

    let catalog = Catalog::open(&run.join("catalog.sqlite")).unwrap();
    let store = std::fs::read_to_string(run.join("store.txt")).unwrap();
    let store = Store::open(&checkpoints.join("stores").join(store.trim()), Check::Hashes)
        .map(std::sync::Arc::new)
        .unwrap();
    let learned =
        Latents::new(store.clone(), &catalog.entries(Split::Train).unwrap(), None).unwrap();
    // Images that no network has learned from.
    let entries = catalog.entries(Split::Valid).unwrap();
    let latents = Latents::new(store, &entries, Some(learned.scale().clone())).unwrap();
    let images = Radiographs::open(entries, Path::new("."), recipe.data.size, 0);
    assert_eq!(images.len(), PAIRS);

    let generator = Generator {
        denoiser: &denoiser,
        weaker: &[],
        autoencoder: &autoencoder,
        diffusion: recipe.diffusion(),
        scale: latents.scale(),
        latent_shape: latents.latent_shape(),
        token_shape: latents.token_shape(),
        sampler: Sampler::Ddim(Ddim { steps: 8, ..Ddim::default() }),
        device: &device,
    };
    let pixels: Vec<Vec<f32>> =
        (0..PAIRS).map(|at| images.get(at).unwrap().square.pixels.clone()).collect();
    let embed = |images: &[Vec<f32>]| {
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let rows = encoder.embed(&images, recipe.data.size, 32).unwrap();
        rows.chunks_exact(latents.token_shape()[1]).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let mut sources = embed(&pixels);
    let mean: Vec<f32> = (0..sources[0].len())
        .map(|axis| sources.iter().map(|row| row[axis]).sum::<f32>() / PAIRS as f32)
        .collect();
    let center = |rows: &mut Vec<Vec<f32>>| {
        rows.iter_mut()
            .for_each(|row| row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean));
    };
    center(&mut sources);

    let pairs: Vec<(usize, usize)> = (0..PAIRS).map(|at| (at, distant(&sources, at))).collect();
    let draw = |which: &dyn Fn(&(usize, usize)) -> usize| {
        let requests: Vec<Request> = pairs
            .iter()
            .map(|pair| Request { tokens: Some(latents.tokens(which(pair))), seed: pair.0 as u64 })
            .collect();
        requests
            .chunks(32)
            .flat_map(|batch| generator.images(batch, &Guidance::None).unwrap())
            .collect::<Vec<_>>()
    };
    let drawn = [draw(&|pair| pair.0), draw(&|pair| pair.1)];
    let embedded = drawn.each_ref().map(|images| {
        let mut rows = embed(images);
        center(&mut rows);
        rows
    });
    let share = |is_nearer: &dyn Fn(usize, usize, usize, usize) -> bool| {
        let count = (0..PAIRS)
            .filter(|&at| {
                let (first, second) = pairs[at];
                is_nearer(0, at, first, second) && is_nearer(1, at, second, first)
            })
            .count();
        count as f64 / PAIRS as f64
    };
    let correlation = |a: &[f32], b: &[f32]| metric::pearson(a, b, &[]).unwrap_or(0.0);
    [
        share(&|which, at, own, other| {
            let output = &embedded[which][at];
            cosine(output, &sources[own]) > cosine(output, &sources[other])
        }),
        share(&|which, at, own, other| {
            let output = &drawn[which][at];
            correlation(output, &pixels[own]) > correlation(output, &pixels[other])
        }),
    ]
}

/// One of the quarter of `rows` that are least like `rows[at]`.
fn distant(rows: &[Vec<f32>], at: usize) -> usize {
    let mut others: Vec<usize> = (0..rows.len()).collect();
    others.sort_by(|&a, &b| cosine(&rows[at], &rows[a]).total_cmp(&cosine(&rows[at], &rows[b])));
    others[Stream::new(1, "distant").at(at as u64).below(rows.len() as u64 / 4) as usize]
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
