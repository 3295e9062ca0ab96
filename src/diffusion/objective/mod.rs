//! What the network predicts, and how to get image and noise back from it.

mod clean;
mod epsilon;
mod flow;
mod velocity;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// What a network predicts about a noisy image, as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Objective {
    /// The noise (Ho et al. 2020).
    Epsilon,
    /// alpha · noise − sigma · clean (Salimans & Ho 2022).
    #[default]
    Velocity,
    /// The image itself.
    Clean,
    /// noise − clean, the direction of the straight line (Lipman et al. 2022).
    Flow,
}

/// A weighted sum of two things, in the order that each use names.
type Weights = [f64; 2];

/// An objective as three weighted sums, at shares `alpha` of the image and `sigma` of the noise.
///
/// Where a division by zero asks for what the prediction cannot tell (the image at alpha = 0 from the
/// noise, say), the weights are zero: the answer is the mean of what there is to guess.
trait Prediction {
    /// The target, of (clean, noise).
    fn target(&self, alpha: f64, sigma: f64) -> Weights;

    /// The image, of (noisy, prediction).
    fn clean(&self, alpha: f64, sigma: f64) -> Weights;

    /// The noise, of (noisy, prediction).
    fn noise(&self, alpha: f64, sigma: f64) -> Weights;
}

impl Objective {
    /// Every objective.
    pub const ALL: [Self; 4] = [Self::Epsilon, Self::Velocity, Self::Clean, Self::Flow];

    /// What the network should predict for each sample of a batch [B, C, H, W].
    ///
    /// `alpha` and `sigma` have one value per sample, as in every function here.
    pub fn target(
        self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        alpha: &[f64],
        sigma: &[f64],
    ) -> Tensor<4> {
        mix(clean, noise, alpha, sigma, |alpha, sigma| self.get().target(alpha, sigma))
    }

    /// The image that a prediction means.
    pub fn clean(
        self,
        prediction: Tensor<4>,
        noisy: Tensor<4>,
        alpha: &[f64],
        sigma: &[f64],
    ) -> Tensor<4> {
        mix(noisy, prediction, alpha, sigma, |alpha, sigma| self.get().clean(alpha, sigma))
    }

    /// The noise that a prediction means.
    pub fn noise(
        self,
        prediction: Tensor<4>,
        noisy: Tensor<4>,
        alpha: &[f64],
        sigma: &[f64],
    ) -> Tensor<4> {
        mix(noisy, prediction, alpha, sigma, |alpha, sigma| self.get().noise(alpha, sigma))
    }

    /// How far the image moves per unit of the prediction.
    pub fn gain(self, alpha: f64, sigma: f64) -> f64 {
        let [_, gain] = self.get().clean(alpha, sigma);
        gain.abs()
    }

    fn get(self) -> &'static dyn Prediction {
        match self {
            Self::Epsilon => &epsilon::Epsilon,
            Self::Velocity => &velocity::Velocity,
            Self::Clean => &clean::Clean,
            Self::Flow => &flow::Flow,
        }
    }
}

/// The noisy batch: alpha · clean + sigma · noise, with one alpha and sigma per sample.
pub fn add_noise(clean: Tensor<4>, noise: Tensor<4>, alpha: &[f64], sigma: &[f64]) -> Tensor<4> {
    mix(clean, noise, alpha, sigma, |alpha, sigma| [alpha, sigma])
}

fn mix(
    first: Tensor<4>,
    second: Tensor<4>,
    alpha: &[f64],
    sigma: &[f64],
    weights: impl Fn(f64, f64) -> Weights,
) -> Tensor<4> {
    let weights: Vec<Weights> =
        alpha.iter().zip(sigma).map(|(&alpha, &sigma)| weights(alpha, sigma)).collect();
    let of = |index: usize| weights.iter().map(|pair| pair[index]).collect::<Vec<_>>();
    scale_samples(first, &of(0)) + scale_samples(second, &of(1))
}

/// Multiplies each sample of a batch by its own factor; one factor for all needs no upload.
fn scale_samples(batch: Tensor<4>, factors: &[f64]) -> Tensor<4> {
    let [b, _c, _h, _w] = batch.dims();
    assert_eq!(factors.len(), b, "one alpha and one sigma for each sample of the batch");
    if factors.iter().all(|factor| factor == &factors[0]) {
        return batch.mul_scalar(factors[0]);
    }
    let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
    let factors = Tensor::from_data(TensorData::new(factors, [b, 1, 1, 1]), &batch.device());
    batch * factors
}

/// `numerator / denominator`, and 0 where the denominator is.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diffusion::{Schedule, check},
        random::Stream,
    };
    use burn::tensor::{Device, Tolerance};

    fn apply([a, b]: Weights, x: f64, y: f64) -> f64 {
        // A weight of zero means that the other side alone is asked.
        a * x + b * y
    }

    #[test]
    fn every_target_gives_image_and_noise_back() {
        let mut draws = Stream::new(1, "objective").at(0);
        for schedule in Schedule::examples() {
            for objective in Objective::ALL {
                if check(&schedule, objective).is_some() {
                    continue;
                }
                for i in 0..=1000 {
                    let (alpha, sigma) = schedule.alpha_sigma(f64::from(i) / 1000.0);
                    let (clean, noise) = (draws.normal(), draws.normal());
                    let noisy = alpha * clean + sigma * noise;
                    let formulas = objective.get();
                    let target = apply(formulas.target(alpha, sigma), clean, noise);
                    let image = apply(formulas.clean(alpha, sigma), noisy, target);
                    let back = apply(formulas.noise(alpha, sigma), noisy, target);
                    let case = format!("{schedule:?} {objective:?} step {i}");
                    // f64 rounding, grown by at most 1 / alpha = 160 (Linear, last timestep).
                    assert!((image - clean).abs() < 1e-11, "{case}: {image} is not {clean}");
                    let is_told = sigma > 0.0 || objective != Objective::Clean;
                    let noise = if is_told { noise } else { 0.0 };
                    assert!((back - noise).abs() < 1e-11, "{case}: {back} is not {noise}");
                }
            }
        }
    }

    #[test]
    fn weights_are_finite_everywhere() {
        for objective in Objective::ALL {
            for (alpha, sigma) in [(1.0, 0.0), (0.0, 1.0), (1.0, 1e-12), (1e-12, 1.0), (0.5, 0.5)] {
                let formulas = objective.get();
                let weights = [
                    formulas.target(alpha, sigma),
                    formulas.clean(alpha, sigma),
                    formulas.noise(alpha, sigma),
                ];
                assert!(
                    weights.as_flattened().iter().all(|weight| weight.is_finite()),
                    "{objective:?} at {alpha}, {sigma}: {weights:?}"
                );
            }
        }
    }

    #[test]
    fn batches_mix_sample_by_sample() {
        let device = Device::flex();
        let draw = |position| {
            let values = Stream::new(2, "batch").at(position).normals(3 * 2 * 2 * 2);
            Tensor::<4>::from_data(TensorData::new(values, [3, 2, 2, 2]), &device)
        };
        let (clean, noise) = (draw(0), draw(1));
        for times in [[0.1, 0.5, 0.9], [0.3, 0.3, 0.3]] {
            let schedule = Schedule::default();
            let (alpha, sigma): (Vec<f64>, Vec<f64>) =
                times.iter().map(|&t| schedule.alpha_sigma(t)).unzip();
            let noisy = add_noise(clean.clone(), noise.clone(), &alpha, &sigma);
            for objective in Objective::ALL {
                let target = objective.target(clean.clone(), noise.clone(), &alpha, &sigma);
                let image = objective.clean(target.clone(), noisy.clone(), &alpha, &sigma);
                let back = objective.noise(target, noisy.clone(), &alpha, &sigma);
                // f32 rounding, grown by at most 1 / alpha = 9 here.
                let tolerance = Tolerance::<f32>::absolute(1e-5);
                image.into_data().assert_approx_eq(&clean.to_data(), tolerance);
                back.into_data().assert_approx_eq(&noise.to_data(), tolerance);
            }
        }
    }
}
