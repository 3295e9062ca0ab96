use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    images: Vec<f32>,
    restored: Vec<f32>,
    mean: Vec<f32>,
    logvar: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    reconstruction: Reconstruction,
    kl_weight: f64,
    gradient_weight: f64,
    loss: f64,
    #[serde(rename = "train/reconstruction")]
    distance: f64,
    #[serde(rename = "train/kl")]
    kl: f64,
    gradients: [Vec<f32>; 3],
}

fn assert_near(found: f32, expected: f64, what: &str) {
    // f32 against f64, sums of 60 terms.
    let error = (f64::from(found) - expected).abs() / expected.abs().max(0.01);
    assert!(error < 1e-5, "{what}: {found}, expected {expected}");
}

/// Reference: tests/golden/training.py (versions in its header).
#[test]
fn loss_and_gradients_match_torch() {
    let text = include_str!("../../../../tests/golden/training.json");
    let mut golden: serde_json::Value = serde_json::from_str(text).unwrap();
    let golden: Golden = serde_json::from_value(golden["autoencoder"].take()).unwrap();
    let device = Device::flex().autodiff();
    let tensor = |values: &[f32], shape: [usize; 4]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), &device)
    };
    for case in &golden.cases {
        let loss = KlLoss {
            reconstruction: case.reconstruction,
            kl_weight: case.kl_weight,
            gradient_weight: case.gradient_weight,
            ..KlLoss::default()
        };
        let images = tensor(&golden.images, [2, 1, 6, 5]);
        let restored = tensor(&golden.restored, [2, 1, 6, 5]).require_grad();
        let mean = tensor(&golden.mean, [2, 3, 3, 2]).require_grad();
        let logvar = tensor(&golden.logvar, [2, 3, 3, 2]).require_grad();
        let moments = Moments { mean: mean.clone(), logvar: logvar.clone() };
        let found = loss.of(restored.clone(), images, Some(&moments), None);
        let what = format!("{loss:?}");
        assert_near(found.total.clone().into_scalar(), case.loss, &what);
        for ((name, part), (expected_name, expected)) in found
            .parts
            .into_iter()
            .zip([("train/reconstruction", case.distance), ("train/kl", case.kl)])
        {
            assert_eq!(name, expected_name);
            assert_near(part.into_scalar(), expected, &what);
        }
        let gradients = found.total.backward();
        for (leaf, expected) in [restored, mean, logvar].iter().zip(&case.gradients) {
            let gradient = leaf.grad(&gradients).unwrap();
            let gradient = gradient.into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(gradient.len(), expected.len());
            for (&found, &expected) in gradient.iter().zip(expected) {
                assert_near(found, f64::from(expected), &what);
            }
        }
    }
}

#[test]
fn a_crop_shows_as_little_padding_as_it_can() {
    let size = 64;
    for length in 1..=size {
        let first = (size - length) / 2;
        for side in [8, 32, 64] {
            let starts = starts(first, length, side, size);
            assert!(!starts.is_empty() && starts.end() + side <= size, "{length} {side}");
            for start in starts {
                let shown =
                    (start..start + side).filter(|at| (first..first + length).contains(at)).count();
                assert_eq!(shown, side.min(length), "content {length}, crop {side} at {start}");
            }
        }
    }
}
