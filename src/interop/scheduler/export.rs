//! umbra's own training, as a scheduler of diffusers.

use super::{
    BetaSchedule, Betas, Clip, Ddim, FlowMatch, Prediction, SchedulerConfig, SchedulerError,
    Spacing, Visits,
};
use crate::diffusion::schedule::{Cosine, NUM_TIMESTEPS};
use crate::diffusion::{self, Objective, Schedule};

/// The scheduler under which a denoiser that was trained with `schedule` and `objective` samples
/// right in diffusers.
///
/// A variance preserving schedule becomes `DDIMScheduler` with trailing spacing, the grid of
/// [`Schedule::grid`]; where the number of steps divides 1000 it makes the very steps of umbra's own
/// sampler. A flow becomes `FlowMatchEulerDiscreteScheduler` with the same shift; its grid ends at
/// the lowest noise level of the training and not at 1 / steps, unless its `set_timesteps` is given
/// `sigmas` 1 − i / steps.
///
/// Fails where diffusers has no scheduler: [`Objective::Flow`] on a variance preserving schedule,
/// anything else on a flow, and what [`diffusion::check`] refuses.
pub fn from_umbra(
    schedule: &Schedule,
    objective: &Objective,
) -> Result<SchedulerConfig, SchedulerError> {
    if let Some(why) = diffusion::check(schedule, *objective) {
        return Err(SchedulerError::Foreign(format!("a denoiser that cannot be sampled: {why}")));
    }
    let foreign = |expected: &str| {
        let name = schedule.name();
        let what = format!("objective {objective:?} on schedule {name}; expected {expected}");
        Err(SchedulerError::Foreign(what))
    };
    let betas = match schedule {
        Schedule::RectifiedFlow(flow) => {
            return match objective {
                Objective::Flow => Ok(SchedulerConfig::FlowMatch(FlowMatch {
                    num_train_timesteps: NUM_TIMESTEPS,
                    shift: flow.shift,
                    ..FlowMatch::default()
                })),
                Objective::Epsilon | Objective::Velocity | Objective::Clean => foreign("Flow"),
            };
        }
        Schedule::Linear(linear) => Betas {
            beta_start: linear.first,
            beta_end: linear.last,
            beta_schedule: BetaSchedule::Linear,
            rescale_betas_zero_snr: linear.zero_terminal_snr,
            ..Betas::default()
        },
        Schedule::ScaledLinear(linear) => Betas {
            beta_start: linear.first,
            beta_end: linear.last,
            beta_schedule: BetaSchedule::ScaledLinear,
            rescale_betas_zero_snr: linear.zero_terminal_snr,
            ..Betas::default()
        },
        Schedule::Cosine(cosine) => Betas {
            beta_schedule: BetaSchedule::SquaredcosCapV2,
            trained_betas: (cosine.offset != Cosine::default().offset).then(|| betas_of(cosine)),
            rescale_betas_zero_snr: cosine.zero_terminal_snr,
            ..Betas::default()
        },
    };
    let prediction_type = match objective {
        Objective::Epsilon => Prediction::Epsilon,
        Objective::Velocity => Prediction::Velocity,
        Objective::Clean => Prediction::Sample,
        Objective::Flow => return foreign("Epsilon, Velocity or Clean"),
    };
    Ok(SchedulerConfig::Ddim(Ddim {
        betas: Betas { num_train_timesteps: NUM_TIMESTEPS, ..betas },
        prediction_type,
        clip: Clip::new(false),
        visits: Visits::new(Spacing::Trailing),
        set_alpha_to_one: true,
    }))
}

/// The betas of a cosine before it is rescaled.
fn betas_of(cosine: &Cosine) -> Vec<f64> {
    let schedule = Schedule::Cosine(Cosine { zero_terminal_snr: false, ..cosine.clone() });
    let power = |timesteps: usize| {
        let (alpha, _) = schedule.alpha_sigma(timesteps as f64 / NUM_TIMESTEPS as f64);
        alpha * alpha
    };
    let powers: Vec<f64> = (0..=NUM_TIMESTEPS).map(power).collect();
    powers.windows(2).map(|pair| 1.0 - pair[1] / pair[0]).collect()
}
