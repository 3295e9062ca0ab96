//! The mathematics of noising: how much noise at which time, what a network predicts, how errors
//! are weighted. Schedules are formulas in f64; tensors appear only in [`objective`] and
//! [`guidance`].
//!
//! Everything speaks of a noisy image `alpha · clean + sigma · noise`, at a time `t` in [0, 1]:
//! 0 is the clean image, 1 is (nearly) pure noise.

pub mod guidance;
pub mod objective;
pub mod schedule;
pub mod weighting;

pub use {objective::Objective, schedule::Schedule, weighting::Weighting};

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
            "objective Epsilon cannot start from schedule {}: its last timestep keeps {:.4} % of \
             the signal, and the noise alone does not tell the image; use Velocity, Flow or Clean",
            schedule.name(),
            alpha * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
