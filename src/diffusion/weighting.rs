//! How much an error counts, by the noise it was made at.

use super::Objective;
use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// The weight of a sample's squared error in the loss, as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub enum Weighting {
    /// Every error of the prediction counts alike.
    #[default]
    Uniform,
    /// Min-SNR-γ (Hang et al. 2023, section 3.4). Predicted noise: min(SNR, γ) / SNR. All else: an error of the
    /// image counts min(SNR + 1, γ), the SNR + 1 of Salimans & Ho (2022), section 4, capped. With the bare SNR,
    /// what is asked first when sampling, at no signal, would never be learned.
    MinSnr {
        /// Where the weight stops growing with SNR = alpha² / sigma²; the paper's is 5.
        gamma: f64,
    },
}

impl Weighting {
    /// The factor of the squared error of `objective`'s prediction. Finite; above 0 wherever there is noise.
    pub fn weight(self, objective: Objective, alpha: f64, sigma: f64) -> f64 {
        match self {
            Self::Uniform => 1.0,
            Self::MinSnr { gamma } if objective == Objective::Epsilon => {
                // min(SNR, gamma) · (sigma / alpha)², which is 1 where alpha is 0.
                let snr = (alpha / sigma).powi(2);
                (gamma / snr).min(1.0)
            }
            Self::MinSnr { gamma } => {
                // An error e of the prediction is an error gain · e of the image.
                let snr = (alpha / sigma).powi(2);
                (snr + 1.0).min(gamma) * objective.gain(alpha, sigma).powi(2)
            }
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(self) -> Vec<String> {
        let Self::MinSnr { gamma } = self else { return Vec::new() };
        let is_bound = gamma > 0.0 && gamma.is_finite();
        demand(is_bound, "gamma", gamma, "a number above 0").into_iter().collect()
    }
}

#[cfg(test)]
impl Weighting {
    pub(crate) fn examples() -> Vec<Self> {
        vec![Self::Uniform, Self::MinSnr { gamma: 5.0 }, Self::MinSnr { gamma: 1.0 }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Schedule;

    #[test]
    fn min_snr_weighs_the_image_alike_for_every_objective_that_is_no_noise() {
        let gamma = 5.0;
        for schedule in Schedule::examples() {
            for i in 1..1000 {
                let (alpha, sigma) = schedule.alpha_sigma(f64::from(i) / 1000.0);
                let capped = ((alpha / sigma).powi(2) + 1.0).min(gamma);
                let others = Objective::ALL.into_iter().filter(|it| *it != Objective::Epsilon);
                for objective in others {
                    let weight = Weighting::MinSnr { gamma }.weight(objective, alpha, sigma);
                    let of_image = weight / objective.gain(alpha, sigma).powi(2);
                    assert!(
                        (of_image / capped - 1.0).abs() < 1e-9,
                        "{schedule:?} {objective:?} step {i}: {of_image}"
                    );
                }
            }
        }
    }

    /// The forms in which papers and public trainers give them.
    #[test]
    fn min_snr_has_the_known_forms() {
        let weighting = Weighting::MinSnr { gamma: 5.0 };
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        for i in 1..1000 {
            let t = f64::from(i) / 1000.0;
            let (alpha, sigma) = Schedule::default().alpha_sigma(t);
            let snr = (alpha / sigma).powi(2);
            let capped = (snr + 1.0).min(5.0);
            assert!(close(weighting.weight(Objective::Epsilon, alpha, sigma), snr.min(5.0) / snr));
            assert!(close(weighting.weight(Objective::Clean, alpha, sigma), capped));
            assert!(close(
                weighting.weight(Objective::Velocity, alpha, sigma),
                capped / (snr + 1.0)
            ));
            let (alpha, sigma) = Schedule::RectifiedFlow(Default::default()).alpha_sigma(t);
            let capped = ((alpha / sigma).powi(2) + 1.0).min(5.0);
            assert!(close(weighting.weight(Objective::Flow, alpha, sigma), capped * t * t));
        }
    }

    #[test]
    fn weights_are_finite_at_both_ends() {
        for weighting in Weighting::examples() {
            assert!(weighting.check().is_empty());
            for objective in Objective::ALL {
                for (alpha, sigma) in [(1.0, 0.0), (0.0, 1.0)] {
                    let weight = weighting.weight(objective, alpha, sigma);
                    assert!(
                        weight.is_finite() && weight >= 0.0,
                        "{weighting:?} {objective:?} at {alpha}, {sigma}: {weight}"
                    );
                }
            }
        }
        assert_eq!(Weighting::MinSnr { gamma: 0.0 }.check().len(), 1);
    }

    /// Every sampler begins at t = 1. An answer that no gradient ever touched would be noise itself.
    #[test]
    fn what_a_sampler_asks_first_is_learned() {
        let num_times = 1000;
        for schedule in Schedule::examples() {
            for objective in Objective::ALL {
                if crate::diffusion::check(&schedule, objective).is_some() {
                    continue;
                }
                for weighting in Weighting::examples() {
                    let at = |t: f64| {
                        let (alpha, sigma) = schedule.alpha_sigma(t);
                        weighting.weight(objective, alpha, sigma)
                    };
                    let drawn = (0..num_times)
                        .map(|i| schedule.draw((f64::from(i) + 0.5) / f64::from(num_times)));
                    let mean = drawn.map(at).sum::<f64>() / f64::from(num_times);
                    let first = at(1.0);
                    assert!(
                        first > 0.2 * mean,
                        "{schedule:?} {objective:?} {weighting:?}: {first} at t = 1, {mean} on average"
                    );
                }
            }
        }
    }
}
