//! How a flow learns to take long steps: Frans et al. (2024), "One step diffusion via shortcut models".
//!
//! A denoiser is told, beside the time, how far a step leads. For a part of the training samples its answer for a whole
//! step must be what its average answers for the two halves of it, one after the other: so what it knows of short steps
//! spreads to long ones, up to the one that is the whole way.

use super::{Objective, Schedule};
use crate::faults::demand;
use crate::random::Draws;
use serde::{Deserialize, Serialize};

/// Steps of the finest walk: its steps are those of a flow, and known from the data.
pub const FINEST: usize = 128;

/// The part of the training that is spent on long steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfConsistency {
    /// Share of the samples, in (0, 1); the paper's is a quarter.
    pub share: f64,
}

impl Default for SelfConsistency {
    fn default() -> Self {
        Self { share: 0.25 }
    }
}

/// A step of a walk and its middle: times from noise to image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Where it begins.
    pub from: f64,
    /// Half way, in time.
    pub middle: f64,
    /// Where it ends.
    pub to: f64,
}

impl SelfConsistency {
    /// The step that a training sample is about, if it is about one; else about the flow itself.
    ///
    /// Its walk has 1, 2, 4 … or 64 steps, all alike often, and it is any of them.
    pub fn draw(&self, draws: &mut Draws) -> Option<Step> {
        let (is_step, walk, place) = (draws.chance(self.share), draws.uniform(), draws.uniform());
        let num_walks = FINEST.ilog2();
        let steps = f64::from(1u32 << ((walk * f64::from(num_walks)) as u32).min(num_walks - 1));
        let from = (steps - (place * steps).floor()) / steps;
        let step = Step { from, middle: from - 0.5 / steps, to: from - 1.0 / steps };
        is_step.then_some(step)
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_share = self.share > 0.0 && self.share < 1.0;
        demand(is_share, "share", self.share, "above 0 and below 1").into_iter().collect()
    }

    /// Why it does not go with `schedule` and `objective`, in one sentence; `None` where it does.
    pub fn misfit(schedule: &Schedule, objective: Objective) -> Option<String> {
        let is_flow =
            matches!(schedule, Schedule::RectifiedFlow(_)) && objective == Objective::Flow;
        (!is_flow).then(|| {
            format!(
                "self_consistency is there, with objective {objective:?} on schedule {}; expected objective Flow on \
                 RectifiedFlow, whose steps are straight lines",
                schedule.name()
            )
        })
    }
}

impl Step {
    /// Is either half a step of the finest walk, which is the flow's own?
    pub fn is_finest(&self) -> bool {
        (self.from - self.to) * FINEST as f64 <= 2.0
    }
}

/// How far a step from noise `sigma` to `sigma_to` leads, as a network is told: in the unit of its timesteps.
pub fn told(sigma: f64, sigma_to: f64) -> f64 {
    (sigma - sigma_to) * super::schedule::NUM_TIMESTEPS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use std::collections::BTreeMap;

    #[test]
    fn every_step_of_every_walk_is_drawn() {
        let consistency = SelfConsistency { share: 0.25 };
        let stream = Stream::new(1, "steps");
        let count = 40_000;
        let steps: Vec<Step> =
            (0..count).filter_map(|at| consistency.draw(&mut stream.at(at))).collect();
        let share = steps.len() as f64 / count as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        let mut walks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for step in &steps {
            let length = step.from - step.to;
            assert!(
                (step.from - step.middle) * 2.0 == length && step.to >= 0.0 && step.from <= 1.0
            );
            let walk = walks.entry((1.0 / length) as u64).or_default();
            walk.push((step.from / length) as u64);
        }
        assert_eq!(walks.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64]);
        for (steps_of_it, places) in &mut walks {
            let share = places.len() as f64 / steps.len() as f64;
            assert!((share * 7.0 - 1.0).abs() < 0.1, "{steps_of_it}: {share}");
            places.sort_unstable();
            places.dedup();
            assert_eq!(*places, (1..=*steps_of_it).collect::<Vec<_>>());
        }
        assert!(
            steps.iter().filter(|step| step.is_finest()).all(|it| it.from - it.to == 1.0 / 64.0)
        );
        assert!(steps.iter().any(Step::is_finest));
    }

    #[test]
    fn it_goes_with_a_flow_alone() {
        let flow = Schedule::RectifiedFlow(Default::default());
        assert_eq!(SelfConsistency::misfit(&flow, Objective::Flow), None);
        assert!(SelfConsistency::misfit(&flow, Objective::Velocity).is_some());
        assert!(SelfConsistency::misfit(&Schedule::default(), Objective::Flow).is_some());
        assert_eq!(SelfConsistency::default().check(), Vec::<String>::new());
        assert_eq!(SelfConsistency { share: 1.0 }.check().len(), 1);
    }
}
