//! How signal gives way to noise.

mod cosine;
mod linear;
mod rectified_flow;
mod scaled_linear;
mod spacing;

pub use spacing::Spacing;
pub use {
    cosine::Cosine, linear::Linear, rectified_flow::RectifiedFlow, scaled_linear::ScaledLinear,
};

use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// Steps of the discrete schedules.
pub const NUM_TIMESTEPS: usize = 1000;

/// A noise schedule, as a recipe names it.
///
/// The first three are variance preserving (alpha² + sigma² = 1) and discrete: timestep k of 1000
/// is the time t = (k + 1) / 1000, and t = 0 is the clean image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// Betas on a line (DDPM).
    Linear(Linear),
    /// Square roots of betas on a line (Stable Diffusion).
    ScaledLinear(ScaledLinear),
    /// Signal power along a squared cosine.
    Cosine(Cosine),
    /// The straight line from image to noise.
    RectifiedFlow(RectifiedFlow),
}

/// A discrete schedule: the share of signal power that each timestep takes away.
trait Betas {
    /// In (0, 1), for `timestep` < [`NUM_TIMESTEPS`].
    fn beta(&self, timestep: usize) -> f64;

    /// Whether signal is rescaled to end at exactly zero (Lin et al. 2023, algorithm 1).
    fn zero_terminal_snr(&self) -> bool;
}

enum Kind<'a> {
    Discrete(&'a dyn Betas),
    Flow(&'a RectifiedFlow),
}

impl Schedule {
    /// Shares (alpha, sigma) of the clean image and of the noise at time `t`, clamped to [0, 1].
    ///
    /// Exact on the grid of a discrete schedule; between its points the logarithm of the signal
    /// power is interpolated (alpha itself in the last interval of a schedule that ends at zero).
    pub fn alpha_sigma(&self, t: f64) -> (f64, f64) {
        let t = t.clamp(0.0, 1.0);
        match self.kind() {
            Kind::Discrete(betas) => discrete(betas, t),
            Kind::Flow(flow) => flow.alpha_sigma(t),
        }
    }

    /// Training's time for a uniform `u` in [0, 1): a timestep of a discrete schedule, any time
    /// otherwise.
    pub fn draw(&self, u: f64) -> f64 {
        match self.kind() {
            Kind::Discrete(_) => {
                let timestep = (u * NUM_TIMESTEPS as f64).floor();
                (timestep + 1.0).clamp(1.0, NUM_TIMESTEPS as f64) / NUM_TIMESTEPS as f64
            }
            Kind::Flow(_) => u,
        }
    }

    /// What the network is told: the timestep in [0, 999] of a discrete schedule (a fraction between
    /// grid points), 1000 · sigma of a flow, as diffusers has both.
    pub fn timestep(&self, t: f64) -> f64 {
        match self.kind() {
            Kind::Discrete(_) => {
                let timestep = t * NUM_TIMESTEPS as f64 - 1.0;
                // t = (k + 1) / 1000 is not exact in binary; the network learned integers.
                let nearest = timestep.round();
                let exact = if (timestep - nearest).abs() < 1e-9 { nearest } else { timestep };
                exact.max(0.0)
            }
            Kind::Flow(flow) => flow.alpha_sigma(t).1 * NUM_TIMESTEPS as f64,
        }
    }

    /// The `num_steps` + 1 times of a sampler, from 1 down to 0: t = 1 − i / `num_steps`.
    ///
    /// On a discrete schedule each but the last is rounded to a timestep that training used
    /// ("trailing" spacing, Lin et al. 2023, table 2), so there are at most 1000 steps.
    pub fn grid(&self, num_steps: usize) -> Vec<f64> {
        match self.kind() {
            Kind::Discrete(_) => {
                let num_steps = num_steps.clamp(1, NUM_TIMESTEPS);
                let time = |i: usize| {
                    let left = NUM_TIMESTEPS as f64 * (num_steps - i) as f64 / num_steps as f64;
                    left.round_ties_even() / NUM_TIMESTEPS as f64
                };
                (0..=num_steps).map(time).collect()
            }
            Kind::Flow(_) => {
                let num_steps = num_steps.max(1);
                (0..=num_steps).map(|i| (num_steps - i) as f64 / num_steps as f64).collect()
            }
        }
    }

    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "Linear",
            Self::ScaledLinear(_) => "ScaledLinear",
            Self::Cosine(_) => "Cosine",
            Self::RectifiedFlow(_) => "RectifiedFlow",
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        match self {
            Self::Linear(schedule) => check_betas(schedule.first, schedule.last),
            Self::ScaledLinear(schedule) => check_betas(schedule.first, schedule.last),
            Self::Cosine(schedule) => schedule.check(),
            Self::RectifiedFlow(schedule) => schedule.check(),
        }
    }

    fn kind(&self) -> Kind<'_> {
        match self {
            Self::Linear(schedule) => Kind::Discrete(schedule),
            Self::ScaledLinear(schedule) => Kind::Discrete(schedule),
            Self::Cosine(schedule) => Kind::Discrete(schedule),
            Self::RectifiedFlow(schedule) => Kind::Flow(schedule),
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::ScaledLinear(ScaledLinear::default())
    }
}

fn discrete(betas: &dyn Betas, t: f64) -> (f64, f64) {
    let place = t * NUM_TIMESTEPS as f64;
    let nearest = place.round();
    // A time that means a grid point is that grid point, however it was rounded.
    let place = if (place - nearest).abs() < 1e-9 { nearest } else { place };
    let before = place.floor();
    let powers = powers(betas, before as usize);
    let alpha = between(powers, place - before);
    let sigma = match powers {
        // 1 − alpha² without its rounding error, which would be all of it near t = 0.
        [low, high] if high > 0.0 => {
            let log = low.ln() + (place - before) * (high.ln() - low.ln());
            (-log.exp_m1()).max(0.0).sqrt()
        }
        _ => (1.0 - alpha * alpha).max(0.0).sqrt(),
    };
    (alpha, sigma)
}

/// The share of signal, `weight` of the way between two neighbouring signal powers.
fn between([low, high]: [f64; 2], weight: f64) -> f64 {
    match weight {
        0.0 => low.sqrt(),
        1.0 => high.sqrt(),
        _ if high == 0.0 => low.sqrt() * (1.0 - weight),
        _ => (0.5 * (low.ln() + weight * (high.ln() - low.ln()))).exp(),
    }
}

/// Signal powers (alpha², ᾱ) after `num_timesteps` timesteps and one more, if there is one more.
fn powers(betas: &dyn Betas, num_timesteps: usize) -> [f64; 2] {
    let after = |start: f64, range: std::ops::Range<usize>| {
        range.fold(start, |power, timestep| power * (1.0 - betas.beta(timestep)))
    };
    let num_timesteps = num_timesteps.min(NUM_TIMESTEPS);
    let next = (num_timesteps + 1).min(NUM_TIMESTEPS);
    let here = after(1.0, 0..num_timesteps);
    let there = after(here, num_timesteps..next);
    if !betas.zero_terminal_snr() {
        return [here, there];
    }
    let first = after(1.0, 0..1).sqrt();
    let last = after(there, next..NUM_TIMESTEPS).sqrt();
    let rescale = |power: f64, num_timesteps: usize| {
        let root = (power.sqrt() - last) * first / (first - last);
        if num_timesteps == 0 { 1.0 } else { root * root }
    };
    [rescale(here, num_timesteps), rescale(there, next)]
}

fn check_betas(first: f64, last: f64) -> Vec<String> {
    let is_ordered = first > 0.0 && first <= last && last < 1.0;
    let expected = format!("above 0 and at most last ({last}), which is below 1");
    demand(is_ordered, "first", first, expected).into_iter().collect()
}

#[cfg(test)]
impl Schedule {
    /// One of each kind, and of each option that changes the formulas.
    pub(crate) fn examples() -> Vec<Self> {
        vec![
            Self::Linear(Linear::default()),
            Self::Linear(Linear { zero_terminal_snr: true, ..Linear::default() }),
            Self::ScaledLinear(ScaledLinear::default()),
            Self::ScaledLinear(ScaledLinear { zero_terminal_snr: true, ..ScaledLinear::default() }),
            Self::Cosine(Cosine::default()),
            Self::Cosine(Cosine { zero_terminal_snr: true, ..Cosine::default() }),
            Self::RectifiedFlow(RectifiedFlow::default()),
            Self::RectifiedFlow(RectifiedFlow { shift: 3.0 }),
        ]
    }

    pub(crate) fn is_variance_preserving(&self) -> bool {
        matches!(self.kind(), Kind::Discrete(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Grid points and points between them.
    fn times() -> impl Iterator<Item = f64> {
        (0..=3000).map(|i| f64::from(i) / 3000.0)
    }

    #[test]
    fn signal_never_comes_back() {
        for schedule in Schedule::examples() {
            let levels: Vec<_> = times().map(|t| schedule.alpha_sigma(t)).collect();
            assert!(levels.is_sorted_by(|a, b| a.0 > b.0), "alpha of {schedule:?}");
            assert!(levels.is_sorted_by(|a, b| a.1 < b.1), "sigma of {schedule:?}");
            let ratios: Vec<_> = levels.iter().map(|(alpha, sigma)| alpha / sigma).collect();
            assert!(ratios.is_sorted_by(|a, b| a > b), "root of the snr of {schedule:?}");
        }
    }

    #[test]
    fn both_ends_are_finite_and_where_they_should_be() {
        for schedule in Schedule::examples() {
            assert_eq!(schedule.alpha_sigma(0.0), (1.0, 0.0), "{schedule:?}");
            assert_eq!(schedule.alpha_sigma(-1.0), (1.0, 0.0), "{schedule:?}");
            let (alpha, sigma) = schedule.alpha_sigma(1.0);
            assert_eq!(schedule.alpha_sigma(2.0), (alpha, sigma), "{schedule:?}");
            assert!((0.0..0.07).contains(&alpha), "{schedule:?}: {alpha} of signal left");
            assert!((0.997..=1.0).contains(&sigma), "{schedule:?}: {sigma} of noise at the end");
            assert_eq!(schedule.timestep(0.0), 0.0, "{schedule:?}");
        }
    }

    #[test]
    fn power_is_kept_where_it_should_be() {
        for schedule in Schedule::examples() {
            for t in times() {
                let (alpha, sigma) = schedule.alpha_sigma(t);
                let sum = if schedule.is_variance_preserving() {
                    alpha * alpha + sigma * sigma
                } else {
                    alpha + sigma
                };
                assert!((sum - 1.0).abs() < 1e-12, "{schedule:?} at {t}: {sum}");
            }
        }
    }

    /// Reference: tests/golden/schedules.py. Its f64 part is the same formula; diffusers' own table
    /// is a product of up to 1000 f32 factors.
    #[test]
    fn discrete_schedules_match_diffusers() {
        #[derive(Deserialize)]
        struct Case {
            kind: String,
            first: f64,
            last: f64,
            zero_terminal_snr: bool,
            timesteps: Vec<u32>,
            diffusers: Vec<f64>,
            exact: Vec<f64>,
        }
        let golden = include_str!("../../../tests/golden/schedules.json");
        let cases: Vec<Case> = serde_json::from_str(golden).unwrap();
        for Case { kind, first, last, zero_terminal_snr, timesteps, diffusers, exact } in cases {
            let schedule = match kind.as_str() {
                "linear" => Schedule::Linear(Linear { first, last, zero_terminal_snr }),
                "scaled_linear" => {
                    Schedule::ScaledLinear(ScaledLinear { first, last, zero_terminal_snr })
                }
                _ => Schedule::Cosine(Cosine { offset: 0.008, zero_terminal_snr }),
            };
            for (at, &timestep) in timesteps.iter().enumerate() {
                let (alpha, _) = schedule.alpha_sigma(f64::from(timestep + 1) / 1000.0);
                let power = alpha * alpha;
                assert!((power - exact[at]).abs() < 1e-12, "{kind} {timestep}: {power}");
                assert!((power - diffusers[at]).abs() < 1e-6, "{kind} {timestep}: {power}");
            }
        }
    }

    #[test]
    fn training_draws_every_timestep_equally_often() {
        for schedule in Schedule::examples() {
            let mut counts = vec![0; NUM_TIMESTEPS + 1];
            for i in 0..10_000 {
                let t = schedule.draw(f64::from(i) / 10_000.0);
                assert!((0.0..=1.0).contains(&t), "{schedule:?}: {t}");
                if schedule.is_variance_preserving() {
                    assert_eq!(schedule.timestep(t).fract(), 0.0, "{schedule:?}: {t}");
                    counts[schedule.timestep(t) as usize] += 1;
                }
            }
            if schedule.is_variance_preserving() {
                assert_eq!(counts[..NUM_TIMESTEPS], vec![10; NUM_TIMESTEPS], "{schedule:?}");
            }
        }
    }

    #[test]
    fn grids_go_down_and_use_only_timesteps_of_the_training() {
        for schedule in Schedule::examples() {
            for num_steps in [1, 2, 3, 7, 16, 25, 50, 333, 999, 1000] {
                let grid = schedule.grid(num_steps);
                assert_eq!(grid.len(), num_steps + 1);
                assert_eq!((grid[0], grid[num_steps]), (1.0, 0.0));
                assert!(grid.is_sorted_by(|a, b| a > b), "{schedule:?} {num_steps}: {grid:?}");
                if schedule.is_variance_preserving() {
                    let timesteps: Vec<f64> =
                        grid[..num_steps].iter().map(|&t| schedule.timestep(t)).collect();
                    assert!(timesteps.iter().all(|t| t.fract() == 0.0), "{timesteps:?}");
                }
            }
        }
        assert_eq!(Schedule::default().grid(5000).len(), 1001);
    }

    #[test]
    fn bad_numbers_have_their_sentence() {
        for schedule in Schedule::examples() {
            assert!(schedule.check().is_empty(), "{schedule:?}");
        }
        for schedule in [
            Schedule::Linear(Linear { first: 0.02, last: 0.01, ..Linear::default() }),
            Schedule::ScaledLinear(ScaledLinear { last: 1.0, ..ScaledLinear::default() }),
            Schedule::Linear(Linear { first: f64::NAN, ..Linear::default() }),
            Schedule::Cosine(Cosine { offset: -0.1, ..Cosine::default() }),
            Schedule::RectifiedFlow(RectifiedFlow { shift: 0.0 }),
        ] {
            assert_eq!(schedule.check().len(), 1, "{schedule:?}");
        }
    }

    #[test]
    fn recipes_read_as_they_are_written() {
        let syntax = ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::UNWRAP_VARIANT_NEWTYPES);
        let read = |text: &str| syntax.from_str::<Schedule>(text);
        assert_eq!(read("Cosine()").unwrap(), Schedule::Cosine(Cosine::default()));
        assert_eq!(
            read("ScaledLinear(first: 0.00085, last: 0.012)").unwrap(),
            Schedule::ScaledLinear(ScaledLinear::default())
        );
        assert!(read("Cosine(ofset: 0.1)").is_err());
        for schedule in Schedule::examples() {
            assert_eq!(read(&syntax.to_string(&schedule).unwrap()).unwrap(), schedule);
        }
    }

    #[test]
    fn time_between_grid_points_lies_between_them() {
        let mut draws = Stream::new(1, "times").at(0);
        for schedule in Schedule::examples() {
            for _ in 0..200 {
                let t = draws.uniform();
                let low = (t * 1000.0).floor() / 1000.0;
                let (above, here) = (schedule.alpha_sigma(low).0, schedule.alpha_sigma(t).0);
                let below = schedule.alpha_sigma(low + 0.001).0;
                assert!(above >= here && here >= below, "{schedule:?} at {t}");
            }
        }
    }
}
