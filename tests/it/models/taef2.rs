//! The published weights of TAEF2 on real radiographs, where `UMBRA_REAL_DATA` says they are.
//!
//! Reference: tests/golden/models/variants.py, whose `Raw` is the network in PyTorch.

use super::golden::{F32, Golden};
use burn::tensor::{Device, Tensor, TensorData};
use std::path::{Path, PathBuf};
use umbra::data::file::{Window, read};
use umbra::metric::psnr;
use umbra::models::Init;
use umbra::models::autoencoder::{Autoencoder, AutoencoderConfig};
use umbra::models::images::{stack, to_images};
use umbra::models::weights::file::{self, NonFinite};
use umbra::models::weights::load_state_dict;
use umbra::random::Stream;

const SIZE: usize = 192;
const NUM_IMAGES: usize = 50;

#[test]
fn taef2_matches_torch() {
    let Some(root) = real_data() else { return };
    let golden = Golden::read("taef2");
    let autoencoder = taef2(&root, &golden.config);
    let images = rgb(golden.tensor("images"));
    let moments = autoencoder.encode(images);
    golden.assert_close("mean", moments.mean.clone(), F32);
    golden.assert_close("reconstruction", autoencoder.decode(moments.mean), F32);
}

/// The folder convention's own sentence: these radiographs come back.
#[test]
fn taef2_keeps_real_radiographs() {
    let Some(root) = real_data() else { return };
    let autoencoder = taef2(&root, &Golden::read("taef2").config);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root.join("cxr/images"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let step = (paths.len() / NUM_IMAGES).max(1);
    let mut found = Vec::new();
    for path in paths.iter().step_by(step).take(NUM_IMAGES) {
        let square = read(path, &Window::Auto).unwrap().to_square(SIZE);
        let images = stack([square.pixels.as_slice()], SIZE, &Device::flex()) * 2.0 - 1.0;
        let latents = autoencoder.encode(rgb(images)).mean;
        let reconstruction = to_images(autoencoder.decode(latents)).unwrap();
        found.push(psnr(&square.pixels, &reconstruction[0], None));
    }
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let least = found.iter().copied().fold(f64::INFINITY, f64::min);
    eprintln!(
        "TAEF2 on {} radiographs of {SIZE} px: PSNR {mean:.2} dB, least {least:.2}",
        found.len()
    );
    assert_eq!(found.len(), NUM_IMAGES);
    assert!(mean >= 32.0, "{mean}");
}

fn taef2(root: &Path, config: &str) -> Autoencoder {
    let config = AutoencoderConfig::from_diffusers(config).unwrap();
    let mut weights = std::collections::BTreeMap::<String, TensorData>::new();
    for half in ["encoder", "decoder"] {
        let path = root.join(format!("weights/taef2_{half}.safetensors"));
        let tensors = file::read(&path, NonFinite::Refuse).unwrap();
        weights.extend(tensors.into_iter().map(|(name, data)| (format!("{half}.{name}"), data)));
    }
    let mut init = Init::new(Stream::new(1, "taef2"), &Device::flex()).deferred();
    load_state_dict(config.init(&mut init), &config.from_file(weights)).unwrap()
}

fn rgb(gray: Tensor<4>) -> Tensor<4> {
    gray.repeat_dim(1, 3)
}

/// The folder of real data, or a note that there is none.
fn real_data() -> Option<PathBuf> {
    let root = std::env::var_os("UMBRA_REAL_DATA").map(PathBuf::from);
    if root.is_none() {
        crate::unrun::unrun("UMBRA_REAL_DATA is not set");
    }
    root
}
