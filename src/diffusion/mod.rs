//! The mathematics of noising: how much noise at which time, what a network predicts, how errors
//! are weighted. Schedules are formulas in f64; tensors appear only in [`objective`] and
//! [`guidance`].
//!
//! Everything speaks of a noisy image `alpha · clean + sigma · noise`, at a time `t` in [0, 1]:
//! 0 is the clean image, 1 is (nearly) pure noise.

pub mod alignment;
pub mod guidance;
pub mod objective;
pub mod schedule;
pub mod self_consistency;
pub mod times;
pub mod weighting;

pub use {
    alignment::Alignment,
    guidance::Guidance,
    objective::Objective,
    schedule::{Schedule, Spacing},
    self_consistency::SelfConsistency,
    times::Times,
    weighting::Weighting,
};

use crate::faults::within;
use serde::{Deserialize, Serialize};

/// The recipe's `diffusion` section: how noise comes and goes, and what the network predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diffusion {
    /// How much noise, when.
    pub schedule: Schedule,
    /// What the network predicts.
    pub objective: Objective,
    /// How errors at different noise levels are weighted against each other.
    pub weighting: Weighting,
    /// How often each noise level is seen in training.
    pub times: Times,
    /// Whether the times of a batch share out all of them evenly, each its own stretch: the loss of a batch then varies
    /// less.
    pub stratified: bool,
    /// Trains it for few long steps, too: what sampler `Shortcut` needs.
    pub self_consistency: Option<SelfConsistency>,
    /// Holds what a transformer knows of an image to what the encoder sees in it.
    pub alignment: Option<Alignment>,
}

impl Default for Diffusion {
    /// As Stable Diffusion 1.x was trained.
    fn default() -> Self {
        Self {
            schedule: Schedule::ScaledLinear(schedule::ScaledLinear::default()),
            objective: Objective::Epsilon,
            weighting: Weighting::Uniform,
            self_consistency: None,
            alignment: None,
            times: Times::Uniform,
            stratified: false,
        }
    }
}

impl Diffusion {
    /// Every fault of the section, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut faults: Vec<String> = within("schedule", self.schedule.check()).collect();
        faults.extend(within("weighting", self.weighting.check()));
        faults.extend(within("times", self.times.check()));
        faults.extend(check(&self.schedule, self.objective));
        if let Some(it) = &self.alignment {
            faults.extend(within("alignment", it.check()));
        }
        if let Some(it) = &self.self_consistency {
            faults.extend(within("self_consistency", it.check()));
            faults.extend(SelfConsistency::misfit(&self.schedule, self.objective));
        }
        if faults.is_empty() {
            faults.extend(self.check_start());
        }
        faults
    }
}

impl Diffusion {
    /// Why nothing would be learnt where sampling starts, in one sentence; `None` when it would.
    fn check_start(&self) -> Option<String> {
        let Weighting::MinSnr { gamma } = self.weighting else { return None };
        let weight = |t: f64| {
            let (alpha, sigma) = self.schedule.alpha_sigma(t);
            self.weighting.weight(self.objective, alpha, sigma)
        };
        let drawn = |i| {
            let u = self.times.quantile((f64::from(i) + 0.5) / f64::from(DRAWS));
            weight(self.schedule.draw(u))
        };
        let mean = (0..DRAWS).map(drawn).sum::<f64>() / f64::from(DRAWS);
        let share = weight(1.0) / mean;
        (share < LEAST_WEIGHT_AT_START).then(|| {
            format!(
                "weighting.gamma is {gamma}, so that errors of {:?} at t = 1, where sampling starts, have {:.2} % of \
                 the mean weight; expected at least {:.0} %: lower gamma, or predict Velocity or Flow",
                self.objective,
                share * 100.0,
                LEAST_WEIGHT_AT_START * 100.0
            )
        })
    }
}

/// Times over which a mean weight is taken.
const DRAWS: u32 = 200;

/// Least weight of an error at t = 1, as a share of the mean weight. Below it, batches of usual sizes have as good as
/// no gradient there.
const LEAST_WEIGHT_AT_START: f64 = 0.05;

/// Below this share of signal at t = 1, an error of a predicted noise grows more than 1,000-fold
/// on its way to the image.
const LEAST_ALPHA_FOR_EPSILON: f64 = 1e-3;

/// Why `schedule` and `objective` do not go together, in one sentence; `None` when they do.
///
/// [`Objective::Velocity`] and [`Objective::Flow`] tell image and noise apart at every time of every
/// schedule, and [`Objective::Clean`] is the image itself. [`Objective::Epsilon`] says nothing about
/// the image where no signal is left, which is where sampling starts.
pub fn check(schedule: &Schedule, objective: Objective) -> Option<String> {
    let (alpha, _) = schedule.alpha_sigma(1.0);
    let blind = objective == Objective::Epsilon && alpha < LEAST_ALPHA_FOR_EPSILON;
    blind.then(|| {
        format!(
            "objective is Epsilon, which cannot start from schedule {}: its last timestep keeps {:.4} % of \
             the signal, and the noise alone does not tell the image; expected Velocity, Flow or Clean",
            schedule.name(),
            alpha * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weighting_that_leaves_the_start_of_sampling_untrained_is_refused() {
        let faults = |objective, gamma| {
            let schedule = Schedule::Cosine(Default::default());
            let weighting = Weighting::MinSnr { gamma };
            Diffusion { schedule, objective, weighting, ..Diffusion::default() }.check()
        };
        for gamma in [1.0, 5.0, 20.0] {
            for objective in [Objective::Velocity, Objective::Clean, Objective::Flow] {
                assert_eq!(faults(objective, gamma), Vec::<String>::new(), "{objective:?} {gamma}");
            }
        }
        let told = faults(Objective::Clean, 1e4);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("weighting.gamma is 10000, ")
                && told[0].contains("where sampling starts"),
            "{told:?}"
        );
    }

    #[test]
    fn epsilon_is_refused_exactly_where_no_signal_is_left() {
        for schedule in Schedule::examples() {
            for objective in Objective::ALL {
                let refused = check(&schedule, objective).is_some();
                let (alpha, _) = schedule.alpha_sigma(1.0);
                assert_eq!(
                    refused,
                    objective == Objective::Epsilon && alpha < 1e-3,
                    "{schedule:?} {objective:?}"
                );
            }
        }
        let flow = Schedule::RectifiedFlow(Default::default());
        let sentence = check(&flow, Objective::Epsilon).unwrap();
        assert!(sentence.contains("RectifiedFlow") && sentence.contains("Velocity"), "{sentence}");
    }
}
