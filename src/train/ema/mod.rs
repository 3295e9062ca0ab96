//! How slowly the running means (EMA) of a module's weights follow them. The optimizer takes the first along
//! ([`super::adamw`]), the learner the others ([`follow`]).

pub mod follow;
pub mod posthoc;
mod power;
pub mod snapshots;

pub use power::{MOST_SIGMA_REL, exponent};

use super::task::Progress;
use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// Which averages of the weights are kept. The first is what validation, previews and later stages use.
///
/// One that keeps a share of itself per step (`decay`), unless others are named: one with a half-life in images, then
/// power-function averages, in the order of their lengths here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the mean that each update keeps, in [0, 1).
    pub decay: f64,
    /// Keeps only (1 + n) / (10 + n) at update n while that is less, so that the first weights, which
    /// are random, are forgotten soon. Of `decay` alone.
    pub warm_up: bool,
    /// Images after which a weight counts half (Karras et al. 2022), whatever the batch; in the place of `decay`.
    pub half_life: Option<u64>,
    /// Largest half-life as a share of the images seen, above 0: EDM's is 0.05. None: always all of it.
    pub ramp_up: Option<f64>,
    /// Lengths of power-function averages (Karras et al. 2023, section 3.1): the standard deviation of the time that a
    /// weight entered, as a share of all training; above 0 and below 0.2886. Their snapshots are kept, from which
    /// `umbra ema` makes averages of other lengths.
    pub sigma_rel: Vec<f64>,
    /// Images between snapshots of the power-function averages; one is always written at the end. None: as often as
    /// checkpoints.
    pub snapshot_every: Option<u64>,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.999,
            warm_up: true,
            half_life: None,
            ramp_up: None,
            sigma_rel: Vec::new(),
            snapshot_every: None,
        }
    }
}

/// A running mean of the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Average {
    /// Keeps a share per step.
    Decay {
        /// The share.
        decay: f64,
        /// Less of it in the beginning.
        warm_up: bool,
    },
    /// Keeps half per so many images.
    HalfLife {
        /// How many.
        images: f64,
        /// At most this share of the images seen.
        ramp_up: Option<f64>,
    },
    /// Weighs the weights of time τ with τ^γ.
    Power {
        /// Length, as a share of all training.
        sigma_rel: f64,
    },
}

impl Average {
    /// Share of itself that it keeps in step `step` (from 0), which takes the images seen from `seen` to `seen_after`.
    pub fn decay_at(&self, step: u64, seen: u64, seen_after: u64) -> f64 {
        let images = (seen_after - seen) as f64;
        match *self {
            Self::Decay { decay, warm_up: false } => decay,
            Self::Decay { decay, warm_up: true } => {
                let n = step as f64;
                decay.min((1.0 + n) / (10.0 + n))
            }
            Self::HalfLife { images: half_life, ramp_up } => {
                let most = ramp_up.map_or(f64::INFINITY, |ratio| seen as f64 * ratio);
                0.5f64.powf(images / half_life.min(most).max(1e-8))
            }
            Self::Power { sigma_rel } => {
                power::decay(exponent(sigma_rel), images / seen_after as f64)
            }
        }
    }
}

impl EmaConfig {
    /// Every average that is kept; the first is the one in use.
    pub fn averages(&self) -> Vec<Average> {
        let half_life = self
            .half_life
            .map(|images| Average::HalfLife { images: images as f64, ramp_up: self.ramp_up });
        let powers = self.sigma_rel.iter().map(|&sigma_rel| Average::Power { sigma_rel });
        let named: Vec<Average> = half_life.into_iter().chain(powers).collect();
        let plain = || vec![Average::Decay { decay: self.decay, warm_up: self.warm_up }];
        if named.is_empty() { plain() } else { named }
    }

    /// Share of itself that each of the averages keeps at a step that makes of `progress` one of `images_after` images.
    pub fn decays(&self, progress: Progress, images_after: u64) -> Vec<f64> {
        let Progress { step, images_seen, .. } = progress;
        let decay = |it: Average| it.decay_at(step, images_seen, images_after);
        self.averages().into_iter().map(decay).collect()
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let plain = Self::default();
        let is_share = (0.0..1.0).contains(&self.decay);
        let mut faults: Vec<String> =
            demand(is_share, "decay", self.decay, "at least 0 and below 1").into_iter().collect();
        if self.half_life.is_some() || !self.sigma_rel.is_empty() {
            let what = "nothing beside half_life or sigma_rel, which are averages of their own";
            faults.extend(demand(self.decay == plain.decay, "decay", self.decay, what));
            faults.extend(demand(self.warm_up == plain.warm_up, "warm_up", self.warm_up, what));
        }
        faults.extend(
            self.half_life.and_then(|it| demand(it > 0, "half_life", it, "at least 1 image")),
        );
        faults.extend(self.ramp_up.and_then(|ratio| {
            let holds = ratio > 0.0 && ratio.is_finite() && self.half_life.is_some();
            demand(holds, "ramp_up", ratio, "a number above 0, beside half_life")
        }));
        for (at, &sigma) in self.sigma_rel.iter().enumerate() {
            let place = format!("sigma_rel[{at}]");
            let expected = format!("above 0 and at most {MOST_SIGMA_REL}");
            let fault = demand(sigma > 0.0 && sigma <= MOST_SIGMA_REL, &place, sigma, expected);
            let is_new = self.sigma_rel[..at]
                .iter()
                .all(|other| snapshots::name(*other) != snapshots::name(sigma));
            faults.extend(
                fault.or_else(|| {
                    demand(is_new, &place, sigma, "each length once, to three decimals")
                }),
            );
        }
        faults.extend(demand(
            self.sigma_rel.len() <= MOST_LENGTHS,
            "sigma_rel",
            format!("{} lengths", self.sigma_rel.len()),
            format!("at most {MOST_LENGTHS}: from two of them any other is made afterwards"),
        ));
        faults.extend(self.snapshot_every.and_then(|every| {
            let holds = every > 0 && !self.sigma_rel.is_empty();
            demand(holds, "snapshot_every", every, "at least 1 image, beside sigma_rel")
        }));
        faults
    }
}

/// Most power-function averages at once: each is the size of the network.
const MOST_LENGTHS: usize = 8;

#[cfg(test)]
mod tests;
