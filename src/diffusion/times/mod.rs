//! At which times a network is trained: how often each noise level is seen.

use super::Schedule;
use crate::faults::demand;
use crate::random::Stream;
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_PI_2, PI};

/// How training's times are spread over [0, 1], as a recipe names it; a flow's shift comes after it, in training as in
/// sampling. Esser et al. (2024), section 3.1, for flows; on a discrete schedule, a time is its share of the timesteps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub enum Times {
    /// All alike.
    #[default]
    Uniform,
    /// The logistic function of a normal number: more of the middle. (Diffusers' training scripts count time from the
    /// noise: their `logit_mean` is minus this one.)
    LogitNormal {
        /// Of the normal number: above 0 for more noise, below for less.
        mean: f64,
        /// Its standard deviation, above 0: the smaller, the more of the middle.
        std: f64,
    },
    /// Heavy in the middle (above 0) or at both ends (below), but nowhere empty.
    Mode {
        /// How much, from −1 to 2 / (π − 2).
        scale: f64,
    },
    /// As the logarithm of the SNR of a flow is spread by the cosine schedule.
    CosMap,
}

/// Largest scale at which [`Times::Mode`] still rises everywhere.
const MOST_SCALE: f64 = 2.0 / (PI - 2.0);

/// Least share of training's times that must lie in the last quarter, where sampling starts.
const LEAST_LAST_QUARTER: f64 = 1e-3;

impl Times {
    /// The time below which the share `u` in [0, 1] of all times lies. Rises with `u`.
    pub fn quantile(self, u: f64) -> f64 {
        match self {
            Self::Uniform => u,
            Self::LogitNormal { mean, std } => 1.0 / (1.0 + (-(mean + std * normal(u))).exp()),
            Self::Mode { scale } => {
                // The paper's falls with u; all of its numbers are as likely the other way round.
                let v = 1.0 - u;
                let bend = (FRAC_PI_2 * v).cos().powi(2) - 1.0 + v;
                (1.0 - v - scale * bend).clamp(0.0, 1.0)
            }
            Self::CosMap => 1.0 - 1.0 / ((FRAC_PI_2 * u).tan() + 1.0),
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(self) -> Vec<String> {
        let faults: Vec<String> = match self {
            Self::Uniform | Self::CosMap => Vec::new(),
            Self::LogitNormal { mean, std } => [
                demand(mean.is_finite(), "mean", mean, "a number"),
                demand(std > 0.0 && std.is_finite(), "std", std, "a number above 0"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::Mode { scale } => {
                let holds = (-1.0..=MOST_SCALE).contains(&scale);
                let expected = format!("-1 to {MOST_SCALE:.4}");
                demand(holds, "scale", scale, expected).into_iter().collect()
            }
        };
        let Self::LogitNormal { mean, std } = self else { return faults };
        if !faults.is_empty() || self.quantile(1.0 - LEAST_LAST_QUARTER) > 0.75 {
            return faults;
        }
        let what = format!(
            "a mean and std with at least {:.1} % of all times above 0.75: sampling starts at 1",
            LEAST_LAST_QUARTER * 100.0
        );
        demand(false, "mean", format!("{mean} with std {std}"), what).into_iter().collect()
    }
}

/// The times of a training, by position.
#[derive(Debug, Clone)]
pub struct TimeDraws {
    /// Which times there are.
    pub schedule: Schedule,
    /// How they are spread.
    pub times: Times,
    /// Positions that share out all times evenly, each its own stretch of them: those of a batch (Kingma et al. 2021,
    /// appendix I.1). None: each position draws for itself.
    pub strata: Option<usize>,
    /// What they are drawn from.
    pub stream: Stream,
}

impl TimeDraws {
    /// The time at `position`.
    pub fn at(&self, position: u64) -> f64 {
        let u = match self.strata {
            None => self.stream.at(position).uniform(),
            Some(strata) => {
                let strata = strata.max(1) as u64;
                let first = self.stream.at(position / strata).uniform();
                (first + (position % strata) as f64 / strata as f64).fract()
            }
        };
        self.schedule.draw(self.times.quantile(u))
    }
}

/// The standard normal number below which the share `p` lies: Wichura (1988), algorithm AS 241, to 16 digits. Infinite at
/// both ends.
fn normal(p: f64) -> f64 {
    let ratio = |x: f64, above: &[f64; 8], below: &[f64; 7]| {
        let above = above.iter().rev().fold(0.0, |sum, term| sum * x + term);
        let below = below.iter().rev().fold(0.0, |sum, term| (sum + term) * x);
        above / (below + 1.0)
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(0.180_625 - q * q, &CENTRE.0, &CENTRE.1);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return q.signum() * f64::INFINITY;
    }
    let r = (-tail.ln()).sqrt();
    let size = match r {
        _ if r <= 5.0 => ratio(r - 1.6, &NEAR.0, &NEAR.1),
        _ => ratio(r - 5.0, &FAR.0, &FAR.1),
    };
    q.signum() * size
}

type Terms = ([f64; 8], [f64; 7]);

#[expect(clippy::excessive_precision, reason = "as they were published")]
const CENTRE: Terms = (
    [
        3.387_132_872_796_366_608,
        1.331_416_678_917_843_774_5e2,
        1.971_590_950_306_551_442_7e3,
        1.373_169_376_550_946_112_5e4,
        4.592_195_393_154_987_145_7e4,
        6.726_577_092_700_870_085_3e4,
        3.343_057_558_358_812_810_5e4,
        2.509_080_928_730_122_672_7e3,
    ],
    [
        4.231_333_070_160_091_125_2e1,
        6.871_870_074_920_579_083e2,
        5.394_196_021_424_751_107_7e3,
        2.121_379_430_158_659_586_7e4,
        3.930_789_580_009_271_061e4,
        2.872_908_573_572_194_267_4e4,
        5.226_495_278_852_854_561e3,
    ],
);

#[expect(clippy::excessive_precision, reason = "as they were published")]
const NEAR: Terms = (
    [
        1.423_437_110_749_683_577_34,
        4.630_337_846_156_545_295_9,
        5.769_497_221_460_691_405_5,
        3.647_848_324_763_204_605_04,
        1.270_458_252_452_368_382_58,
        2.417_807_251_774_506_117_7e-1,
        2.272_384_498_926_918_458_33e-2,
        7.745_450_142_783_414_076_4e-4,
    ],
    [
        2.053_191_626_637_758_821_87,
        1.676_384_830_183_803_849_4,
        6.897_673_349_851_000_045_5e-1,
        1.481_039_764_274_800_745_9e-1,
        1.519_866_656_361_645_719_66e-2,
        5.475_938_084_995_344_946e-4,
        1.050_750_071_644_416_843_24e-9,
    ],
);

#[expect(clippy::excessive_precision, reason = "as they were published")]
const FAR: Terms = (
    [
        6.657_904_643_501_103_777_2,
        5.463_784_911_164_114_369_9,
        1.784_826_539_917_291_335_8,
        2.965_605_718_285_048_912_3e-1,
        2.653_218_952_657_612_309_3e-2,
        1.242_660_947_388_078_438_6e-3,
        2.711_555_568_743_487_578_15e-5,
        2.010_334_399_292_288_132_65e-7,
    ],
    [
        5.998_322_065_558_879_376_9e-1,
        1.369_298_809_227_358_053_1e-1,
        1.487_536_129_085_061_485_25e-2,
        7.868_691_311_456_132_591e-4,
        1.846_318_317_510_054_681_8e-5,
        1.421_511_758_316_445_888_7e-7,
        2.044_263_103_389_939_785_64e-15,
    ],
);

#[cfg(test)]
mod tests;
