//! The noise schedule of a variance preserving scheduler, in diffusers' f32.

use super::SchedulerError;
use super::fields::{Fields, Named};
use super::grid::linspace_f32;
use serde_json::{Value, json};
use std::f64::consts::FRAC_PI_2;

/// The share of signal power that each training timestep takes away, as diffusers' configs say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Betas {
    /// Timesteps of the training.
    pub num_train_timesteps: usize,
    /// Beta of timestep 0.
    pub beta_start: f64,
    /// Beta of the last timestep.
    pub beta_end: f64,
    /// How they go from one to the other.
    pub beta_schedule: BetaSchedule,
    /// Every beta, instead of these three.
    pub trained_betas: Option<Vec<f64>>,
    /// Rescales so that nothing of the image is left at the last timestep (Lin et al. 2023).
    pub rescale_betas_zero_snr: bool,
}

/// How betas go from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BetaSchedule {
    /// On a line.
    Linear,
    /// Their square roots on a line.
    ScaledLinear,
    /// Signal power along a squared cosine: Nichol & Dhariwal (2021), eq. 17.
    SquaredcosCapV2,
}

impl Named for BetaSchedule {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("linear", Self::Linear),
        ("scaled_linear", Self::ScaledLinear),
        ("squaredcos_cap_v2", Self::SquaredcosCapV2),
    ];
}

impl Default for Betas {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            rescale_betas_zero_snr: false,
        }
    }
}

impl Betas {
    /// Reads the fields of a class with the defaults of `self`.
    ///
    /// Fails where the betas do not describe a loss of signal.
    pub(super) fn read(self, fields: &mut Fields) -> Result<Self, SchedulerError> {
        let betas = Self {
            num_train_timesteps: fields.count("num_train_timesteps", self.num_train_timesteps)?,
            beta_start: fields.number("beta_start", self.beta_start)?,
            beta_end: fields.number("beta_end", self.beta_end)?,
            beta_schedule: fields.choice("beta_schedule", self.beta_schedule)?,
            trained_betas: fields.numbers("trained_betas")?,
            rescale_betas_zero_snr: self.rescale_betas_zero_snr,
        };
        let count = betas.num_train_timesteps;
        if !(1..=MOST_TIMESTEPS).contains(&count) {
            let expected = format!("1 to {MOST_TIMESTEPS}");
            return Err(fields.fault("num_train_timesteps", &json!(count), &expected));
        }
        let given = betas.trained_betas.as_ref();
        if let Some(given) = given.filter(|given| given.len() != count) {
            let length = Value::from(format!("a list of {}", given.len()));
            return Err(fields.fault("trained_betas", &length, &format!("{count} numbers")));
        }
        // A beta of 1 leaves no signal: only a list says so, for its last timestep.
        let bad = match given {
            Some(given) => given.iter().find(|beta| !(**beta > 0.0 && **beta <= 1.0)).copied(),
            None => [betas.beta_start, betas.beta_end]
                .into_iter()
                .find(|beta| !(*beta > 0.0 && *beta < 1.0)),
        };
        match bad {
            Some(beta) => {
                let field = if given.is_some() { "trained_betas" } else { "beta_start, beta_end" };
                Err(fields.fault(field, &json!(beta), "numbers above 0 and below 1"))
            }
            None => Ok(betas),
        }
    }

    /// As [`Self::read`], for the classes that have `rescale_betas_zero_snr`.
    pub(super) fn read_rescaled(self, fields: &mut Fields) -> Result<Self, SchedulerError> {
        let rescale_betas_zero_snr =
            fields.flag("rescale_betas_zero_snr", self.rescale_betas_zero_snr)?;
        Ok(Self { rescale_betas_zero_snr, ..self.read(fields)? })
    }

    pub(super) fn write(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("num_train_timesteps", json!(self.num_train_timesteps)),
            ("beta_start", json!(self.beta_start)),
            ("beta_end", json!(self.beta_end)),
            ("beta_schedule", json!(self.beta_schedule.name())),
            ("trained_betas", json!(self.trained_betas)),
        ]
    }

    pub(super) fn write_rescaled(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.write();
        fields.push(("rescale_betas_zero_snr", json!(self.rescale_betas_zero_snr)));
        fields
    }

    /// Share of signal power (ᾱ) after each timestep, from timestep 0.
    pub(super) fn alpha_bars(&self) -> Vec<f32> {
        let betas = self.betas();
        let powers = cumulative_power(&betas);
        if !self.rescale_betas_zero_snr {
            return powers;
        }
        // Shifted so that the last root is 0, scaled so that the first is what it was.
        let roots: Vec<f32> = powers.iter().map(|power| power.sqrt()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        let gain = first / (first - last);
        let powers: Vec<f32> = roots.iter().map(|root| ((root - last) * gain).powi(2)).collect();
        // Through betas, as diffusers goes: it rounds differently.
        let after = powers.windows(2).map(|pair| 1.0 - pair[1] / pair[0]);
        let betas: Vec<f32> = std::iter::once(1.0 - powers[0]).chain(after).collect();
        cumulative_power(&betas)
    }

    /// As [`Self::alpha_bars`], but never 0 where they were rescaled: the ratio of noise to signal has
    /// to stay finite.
    pub(super) fn alpha_bars_above_zero(&self) -> Vec<f32> {
        let mut powers = self.alpha_bars();
        if self.rescale_betas_zero_snr
            && let Some(last) = powers.last_mut()
        {
            *last = LEAST_ALPHA_BAR;
        }
        powers
    }

    fn betas(&self) -> Vec<f32> {
        let count = self.num_train_timesteps;
        if let Some(betas) = &self.trained_betas {
            return betas.iter().map(|&beta| beta as f32).collect();
        }
        match self.beta_schedule {
            BetaSchedule::Linear => {
                linspace_f32(self.beta_start as f32, self.beta_end as f32, count)
            }
            BetaSchedule::ScaledLinear => {
                let [start, end] = [self.beta_start, self.beta_end].map(|beta| beta.sqrt() as f32);
                linspace_f32(start, end, count).into_iter().map(|root| root * root).collect()
            }
            BetaSchedule::SquaredcosCapV2 => {
                let power = |timestep: usize| {
                    let t = timestep as f64 / count as f64;
                    ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)
                };
                let beta = |at: usize| (1.0 - power(at + 1) / power(at)).min(0.999) as f32;
                (0..count).map(beta).collect()
            }
        }
    }
}

/// Enough for any training, and little memory.
const MOST_TIMESTEPS: usize = 100_000;

/// 2⁻²⁴, which diffusers puts in the place of zero.
const LEAST_ALPHA_BAR: f32 = 1.0 / 16_777_216.0;

/// Products of 1 − beta, multiplied in f64 and kept as f32, as torch's `cumprod` does.
fn cumulative_power(betas: &[f32]) -> Vec<f32> {
    let mut power = 1.0;
    let mut next = |beta: &f32| {
        power *= f64::from(1.0 - beta);
        power as f32
    };
    betas.iter().map(&mut next).collect()
}
