//! At which times a sampler asks.

use super::Schedule;
use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// How a sampler's times are spread between noise and image, as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Spacing {
    /// Evenly in time: [`Schedule::grid`], "trailing" in diffusers.
    #[default]
    Even,
    /// Evenly in the `rho`-th root of sigma / alpha: Karras et al. (2022), eq. 5. The larger `rho`, the shorter the steps
    /// near the image; the paper's is 7.
    Karras {
        /// Above 0.
        rho: f64,
    },
}

/// Karras et al. (2022), table 1: noise above this ratio to the image is noise alone.
const MOST_NOISE: f64 = 80.0;

/// And below this one it is not seen.
const LEAST_NOISE: f64 = 0.002;

impl Spacing {
    /// The `num_steps` + 1 times of a sampler on `schedule`, from 1 down to 0.
    pub fn times(self, schedule: &Schedule, num_steps: usize) -> Vec<f64> {
        let Self::Karras { rho } = self else { return schedule.grid(num_steps) };
        let num_steps = num_steps.max(1);
        let ratio = |t: f64| {
            let (alpha, sigma) = schedule.alpha_sigma(t);
            sigma / alpha
        };
        let least = LEAST_NOISE.max(ratio(schedule.draw(0.0)));
        let [most, least] = [ratio(1.0).min(MOST_NOISE), least].map(|it| it.powf(1.0 / rho));
        let time = |step: usize| match step {
            // Where no signal is left, that is where noise alone belongs.
            0 => 1.0,
            step if step == num_steps => 0.0,
            step => {
                let share = step as f64 / (num_steps - 1) as f64;
                time_of(&ratio, (most + share * (least - most)).powf(rho))
            }
        };
        (0..=num_steps).map(time).collect()
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(self) -> Vec<String> {
        let Self::Karras { rho } = self else { return Vec::new() };
        let is_root = rho > 0.0 && rho.is_finite();
        demand(is_root, "rho", rho, "a number above 0").into_iter().collect()
    }
}

/// The time at which `ratio`, which grows with it, is `wanted`.
fn time_of(ratio: &impl Fn(f64) -> f64, wanted: f64) -> f64 {
    let [mut low, mut high] = [0.0, 1.0];
    for _ in 0..52 {
        let middle = 0.5 * (low + high);
        match ratio(middle) < wanted {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::schedule::{RectifiedFlow, ScaledLinear};

    #[test]
    fn times_fall_from_noise_to_image_on_every_schedule() {
        for schedule in Schedule::examples() {
            for spacing in
                [Spacing::Even, Spacing::Karras { rho: 7.0 }, Spacing::Karras { rho: 1.0 }]
            {
                for steps in [1, 2, 5, 40] {
                    let times = spacing.times(&schedule, steps);
                    assert_eq!((times.len(), times[0], times[steps]), (steps + 1, 1.0, 0.0));
                    assert!(times.is_sorted_by(|a, b| a > b), "{schedule:?} {spacing:?} {times:?}");
                }
            }
        }
    }

    /// Reference: `DPMSolverMultistepScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear", beta_start=0.00085,
    /// beta_end=0.012)` of diffusers 0.42.1 with five steps.
    #[test]
    fn sigmas_are_those_of_the_reference() {
        let schedule = Schedule::ScaledLinear(ScaledLinear::default());
        let found: Vec<f64> = Spacing::Karras { rho: 7.0 }
            .times(&schedule, 5)
            .into_iter()
            .map(|t| schedule.alpha_sigma(t))
            .map(|(alpha, sigma)| sigma / alpha)
            .collect();
        let expected = [14.614_647, 4.796_544, 1.274_105_3, 0.247_951_72, 0.029_167_535];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
        }
        assert_eq!(found[5], 0.0);
    }

    #[test]
    fn a_flow_begins_at_noise_and_goes_on_from_the_paper_s_largest_ratio() {
        let flow = Schedule::RectifiedFlow(RectifiedFlow { shift: 3.0 });
        let times = Spacing::Karras { rho: 7.0 }.times(&flow, 5);
        let ratio = |t: f64| {
            let (alpha, sigma) = flow.alpha_sigma(t);
            sigma / alpha
        };
        let root = |ratio: f64| ratio.powf(1.0 / 7.0);
        let step = (root(80.0) - root(0.002)) / 4.0;
        for (at, &t) in times.iter().enumerate().take(5).skip(1) {
            let expected = (root(80.0) - step * at as f64).powi(7);
            assert!((ratio(t) / expected - 1.0).abs() < 1e-9, "{at}: {} {expected}", ratio(t));
        }
    }
}
