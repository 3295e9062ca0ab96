//! What a reference library computed, and how far from it is still the same.

use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::PathBuf;
use umbra::models::Init;
use umbra::models::autoencoder::{AutoencoderKl, AutoencoderKlConfig};
use umbra::models::denoiser::{Unet, UnetConfig};
use umbra::models::encoder::{Vit, VitConfig};
use umbra::models::weights::file::{self, NonFinite};
use umbra::models::weights::load_state_dict;
use umbra::random::Stream;

/// f32 on both sides, sums in another order, some 30 layers deep.
pub(crate) const F32: f64 = 1e-4;

/// One file of a network, its inputs and its outputs.
pub(crate) struct Golden {
    name: &'static str,
    /// The `config.json` the library writes.
    pub(crate) config: String,
    /// Its tensors.
    pub(crate) weights: BTreeMap<String, TensorData>,
    /// Inputs and outputs.
    pub(crate) arrays: BTreeMap<String, TensorData>,
}

impl Golden {
    pub(crate) fn read(name: &'static str) -> Self {
        let path = golden_path(name);
        let (arrays, weights) = file::read(&path, NonFinite::Refuse)
            .unwrap()
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with("golden/"));
        let arrays = arrays
            .into_iter()
            .map(|(name, data)| (name.trim_start_matches("golden/").to_owned(), data))
            .collect();
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let config = metadata.metadata().as_ref().unwrap()["config"].clone();
        Self { name, config, weights, arrays }
    }

    pub(crate) fn vit(&self, device: &Device) -> Vit {
        let config = VitConfig::from_transformers(&self.config).unwrap();
        let vit = config.init(&mut Init::new(Stream::new(1, "vit"), device).deferred());
        load_state_dict(vit, &config.from_file(self.weights.clone())).unwrap()
    }

    pub(crate) fn autoencoder(&self, device: &Device) -> AutoencoderKl {
        let config = AutoencoderKlConfig::from_diffusers(&self.config).unwrap();
        let autoencoder =
            config.init(&mut Init::new(Stream::new(1, "autoencoder"), device).deferred());
        load_state_dict(autoencoder, &self.weights).unwrap()
    }

    pub(crate) fn unet(&self, device: &Device) -> Unet {
        let config = UnetConfig::from_diffusers(&self.config).unwrap();
        let unet = config.init(&mut Init::new(Stream::new(1, "unet"), device).deferred());
        load_state_dict(unet, &self.weights).unwrap()
    }

    pub(crate) fn predict(&self, unet: &Unet, device: &Device) -> Tensor<4> {
        let pooled = self.arrays.contains_key("pooled").then(|| self.tensor_on("pooled", device));
        let (noisy, context) = (self.tensor_on("noisy", device), self.tensor_on("context", device));
        unet.forward_pooled(noisy, self.tensor_on("timesteps", device), context, pooled)
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.tensor_on(name, &Device::flex())
    }

    pub(crate) fn tensor_on<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.arrays[name].clone(), device)
    }

    /// Every element within `tolerance` of the reference, in units of its root mean square.
    pub(crate) fn assert_close<const D: usize>(
        &self,
        name: &str,
        found: Tensor<D>,
        tolerance: f64,
    ) {
        let what = format!("{} of {}", name, self.name);
        assert_close(&what, &found.into_data(), &self.arrays[name], tolerance);
    }

    /// The root mean square of the difference within `tolerance` of that of the reference.
    pub(crate) fn assert_near<const D: usize>(&self, name: &str, found: Tensor<D>, tolerance: f64) {
        let (found, expected) = (found.into_data(), &self.arrays[name]);
        let error = rms(difference(&found, expected)) / rms(expected.iter::<f64>());
        assert!(error < tolerance, "{name} of {}: error {error:.2e}", self.name);
    }
}

pub(crate) fn golden_path(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models");
    PathBuf::from(folder).join(format!("{name}.safetensors"))
}

pub(crate) fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = difference(found, expected).fold(0.0, |max: f64, x| max.max(x.abs()));
    let error = largest / rms(expected.iter::<f64>());
    assert!(error < tolerance, "{what}: error {error:.2e}");
}

fn difference<'a>(a: &'a TensorData, b: &'a TensorData) -> impl Iterator<Item = f64> + 'a {
    a.iter::<f64>().zip(b.iter::<f64>()).map(|(a, b)| a - b)
}

fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), x| (sum + x * x, n + 1));
    (sum / f64::from(n)).sqrt()
}
