//! Which of the training's timesteps are visited.

use super::SchedulerError;
use super::fields::{Fields, Named};
use super::grid::{arange, linspace};
use serde_json::{Value, json};

/// How timesteps are spaced: Lin et al. (2023), table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly, both ends included.
    Linspace,
    /// Multiples of a whole step, from 0.
    Leading,
    /// Multiples of a fractional step, from the last timestep.
    Trailing,
}

impl Named for Spacing {
    const NAMES: &'static [(&'static str, Self)] =
        &[("linspace", Self::Linspace), ("leading", Self::Leading), ("trailing", Self::Trailing)];
}

/// Which timesteps are visited, as diffusers' configs say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visits {
    /// How they are spaced.
    pub timestep_spacing: Spacing,
    /// Added to each timestep of [`Spacing::Leading`].
    pub steps_offset: usize,
}

impl Visits {
    pub(super) fn new(timestep_spacing: Spacing) -> Self {
        Self { timestep_spacing, steps_offset: 0 }
    }

    pub(super) fn read(self, fields: &mut Fields) -> Result<Self, SchedulerError> {
        Ok(Self {
            timestep_spacing: fields.choice("timestep_spacing", self.timestep_spacing)?,
            steps_offset: fields.count("steps_offset", self.steps_offset)?,
        })
    }

    pub(super) fn write(self) -> Vec<(&'static str, Value)> {
        vec![
            ("timestep_spacing", json!(self.timestep_spacing.name())),
            ("steps_offset", json!(self.steps_offset)),
        ]
    }

    /// `num_steps` of `num_train` timesteps, from the noisiest down. Those of [`Spacing::Linspace`]
    /// are fractions.
    ///
    /// Fails where there are more steps than timesteps, or one lies outside the training.
    pub(super) fn timesteps(
        self,
        class: &'static str,
        num_train: usize,
        num_steps: usize,
    ) -> Result<Vec<f64>, SchedulerError> {
        check_num_steps(class, num_train, num_steps)?;
        let timesteps: Vec<f64> = match self.timestep_spacing {
            Spacing::Linspace => {
                linspace(0.0, (num_train - 1) as f64, num_steps).into_iter().rev().collect()
            }
            Spacing::Leading => {
                let stride = num_train / num_steps;
                (0..num_steps).rev().map(|i| (i * stride + self.steps_offset) as f64).collect()
            }
            Spacing::Trailing => trailing(num_train, num_train as f64 / num_steps as f64),
        };
        check_timesteps(class, num_train, num_steps, &timesteps)?;
        Ok(timesteps)
    }

    /// As [`Self::timesteps`], rounded to whole ones.
    pub(super) fn whole_timesteps(
        self,
        class: &'static str,
        num_train: usize,
        num_steps: usize,
    ) -> Result<Vec<usize>, SchedulerError> {
        let timesteps = self.timesteps(class, num_train, num_steps)?;
        Ok(timesteps.into_iter().map(|timestep| timestep.round_ties_even() as usize).collect())
    }
}

/// Timesteps from `last` − 1 down in steps of `step`.
pub(super) fn trailing(last: usize, step: f64) -> Vec<f64> {
    arange(last as f64, step).into_iter().map(|place| place.round_ties_even() - 1.0).collect()
}

pub(super) fn check_num_steps(
    class: &'static str,
    num_train: usize,
    num_steps: usize,
) -> Result<(), SchedulerError> {
    match (1..=num_train).contains(&num_steps) {
        true => Ok(()),
        false => {
            let why = format!("it must be 1 to {num_train}, the timesteps of the training");
            Err(SchedulerError::Steps { class, num_steps, why })
        }
    }
}

/// Fails where diffusers would ask the network about a timestep that it was not trained on: beyond
/// the last with an offset, and at −1 where rounding gives trailing spacing one timestep too many.
pub(super) fn check_timesteps(
    class: &'static str,
    num_train: usize,
    num_steps: usize,
    timesteps: &[f64],
) -> Result<(), SchedulerError> {
    let last = (num_train - 1) as f64;
    match timesteps.iter().find(|timestep| !(0.0..=last).contains(*timestep)) {
        None => Ok(()),
        Some(timestep) => {
            let why = format!(
                "their spacing reaches timestep {timestep}, and the training has 0 to {last}"
            );
            Err(SchedulerError::Steps { class, num_steps, why })
        }
    }
}
