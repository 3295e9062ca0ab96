//! Reads tests/golden/dino.json.

use crate::models::weights::StateDict;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub(super) struct Golden(BTreeMap<String, Array>);

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Golden {
    pub(super) fn read() -> Self {
        serde_json::from_str(include_str!("../../../../tests/golden/dino.json")).unwrap()
    }

    pub(super) fn values(&self, name: &str) -> &[f64] {
        &self.0[name].values
    }

    pub(super) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.0[name].data(), device)
    }

    /// What is called `prefix` and a parameter's name.
    pub(super) fn state(&self, prefix: &str) -> StateDict {
        let arrays = self.0.iter();
        arrays
            .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_owned(), array.data())))
            .collect()
    }

    /// No value differs by more than `tolerance` of the largest one.
    pub(super) fn assert_close<const D: usize>(
        &self,
        name: &str,
        found: &Tensor<D>,
        tolerance: f64,
    ) {
        let found: Vec<f32> = found.to_data().try_to_vec().unwrap();
        let expected = self.values(name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let most = expected.iter().fold(0f64, |most, value| most.max(value.abs()));
        for (at, (&found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (f64::from(found) - expected).abs();
            assert!(difference <= tolerance * most, "{name}[{at}]: {found}, not {expected}");
        }
    }
}

impl Array {
    fn data(&self) -> TensorData {
        let values: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        TensorData::new(values, self.shape.clone())
    }
}
