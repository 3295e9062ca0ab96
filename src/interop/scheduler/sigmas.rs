//! Noise levels as ratios of noise to signal, and the curves they can be put on.

use super::SchedulerError;
use super::fields::{Fields, Named};
use super::grid::{interpolate, linspace};
use serde_json::{Value, json};

/// The curve that the noise levels of a scheduler lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// The training's own levels at the timesteps.
    Trained,
    /// Karras et al. (2022), eq. 5, rho = 7 (`use_karras_sigmas`).
    Karras,
    /// Evenly in the logarithm (`use_exponential_sigmas`).
    Exponential,
    /// The same between the training's own ends: Lu et al. (2022) (`use_lu_lambdas`).
    Lu,
}

impl Curve {
    const SWITCHES: [(&'static str, Self); 3] = [
        ("use_karras_sigmas", Self::Karras),
        ("use_exponential_sigmas", Self::Exponential),
        ("use_lu_lambdas", Self::Lu),
    ];
}

/// The curve and its ends, as diffusers' configs say them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sigmas {
    /// The curve.
    pub curve: Curve,
    /// Lowest noise level of a curve; the timesteps' own where absent.
    pub sigma_min: Option<f64>,
    /// Highest noise level of a curve; the timesteps' own where absent.
    pub sigma_max: Option<f64>,
}

impl Default for Sigmas {
    fn default() -> Self {
        Self { curve: Curve::Trained, sigma_min: None, sigma_max: None }
    }
}

impl Sigmas {
    /// `curves` are those that the class has.
    pub(super) fn read(fields: &mut Fields, curves: &[Curve]) -> Result<Self, SchedulerError> {
        fields.refuse("use_beta_sigmas")?;
        let mut found = None;
        for (switch, curve) in Curve::SWITCHES.into_iter().filter(|(_, at)| curves.contains(at)) {
            if fields.flag(switch, false)? && found.replace(curve).is_some() {
                let expected = "one curve only: another is on already";
                return Err(fields.fault(switch, &Value::Bool(true), expected));
            }
        }
        let mut end = |field| match fields.optional(field)? {
            Some(sigma) if !(sigma > 0.0 && sigma.is_finite()) => {
                Err(fields.fault(field, &json!(sigma), "a number above 0 or null"))
            }
            sigma => Ok(sigma),
        };
        let (sigma_min, sigma_max) = (end("sigma_min")?, end("sigma_max")?);
        Ok(Self { curve: found.unwrap_or(Curve::Trained), sigma_min, sigma_max })
    }

    pub(super) fn write(&self, curves: &[Curve]) -> Vec<(&'static str, Value)> {
        let switches = Curve::SWITCHES.into_iter().filter(|(_, at)| curves.contains(at));
        let mut fields: Vec<_> =
            switches.map(|(switch, curve)| (switch, json!(self.curve == curve))).collect();
        let ends = [("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)];
        fields.extend(ends.into_iter().filter_map(|(field, end)| Some((field, json!(end?)))));
        fields
    }

    /// `num_steps` levels on the curve between the `first` and `last` of the timesteps, from the
    /// noisiest down; none where the training's own are used.
    pub(super) fn on_curve(&self, first: f64, last: f64, num_steps: usize) -> Option<Vec<f64>> {
        let (low, high) = (self.sigma_min.unwrap_or(last), self.sigma_max.unwrap_or(first));
        let evenly = |from: f64, to: f64, back: fn(f64) -> f64| {
            let ramp = linspace(0.0, 1.0, num_steps).into_iter();
            Some(ramp.map(|weight| back(from + weight * (to - from))).collect())
        };
        match self.curve {
            Curve::Trained => None,
            Curve::Karras => {
                let [high, low] = [high, low].map(|sigma| sigma.powf(1.0 / 7.0));
                evenly(high, low, |root| root.powf(7.0))
            }
            Curve::Exponential => {
                let levels = linspace(high.ln(), low.ln(), num_steps);
                Some(levels.into_iter().map(f64::exp).collect())
            }
            // diffusers has these logarithms as f32.
            Curve::Lu => {
                evenly(f64::from(first.ln() as f32), f64::from(last.ln() as f32), f64::exp)
            }
        }
    }
}

/// The noise level that the last step goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalSigma {
    /// None.
    Zero,
    /// That of timestep 0.
    SigmaMin,
}

impl Named for FinalSigma {
    const NAMES: &'static [(&'static str, Self)] =
        &[("zero", Self::Zero), ("sigma_min", Self::SigmaMin)];
}

impl FinalSigma {
    pub(super) fn of(self, table: &SigmaTable) -> f32 {
        match self {
            Self::Zero => 0.0,
            Self::SigmaMin => table.sigmas[0],
        }
    }
}

/// The ratio of noise to signal at each timestep of the training, and its logarithm.
pub(super) struct SigmaTable {
    pub(super) sigmas: Vec<f32>,
    pub(super) logs: Vec<f32>,
}

impl SigmaTable {
    /// Fails where no signal is left: the ratio is infinite there.
    pub(super) fn new(
        class: &'static str,
        num_steps: usize,
        alpha_bars: &[f32],
    ) -> Result<Self, SchedulerError> {
        let sigmas: Vec<f32> =
            alpha_bars.iter().map(|&power| ((1.0 - power) / power).sqrt()).collect();
        if !sigmas.iter().all(|sigma| sigma.is_finite()) {
            let why = "its noise levels are ratios of noise to signal, and trained_betas leave no \
                       signal; expected betas below 1";
            return Err(SchedulerError::Steps { class, num_steps, why: why.into() });
        }
        let logs = sigmas.iter().map(|sigma| sigma.ln()).collect();
        Ok(Self { sigmas, logs })
    }

    /// The level at a timestep, which may be a fraction.
    pub(super) fn sigma(&self, timestep: f64) -> f64 {
        interpolate(timestep, &self.sigmas)
    }

    /// The timestep of a level, interpolated in its logarithm.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log = sigma.max(1e-10).ln();
        let Some(end) = self.logs.len().checked_sub(2) else { return 0.0 };
        let below = self.logs.iter().rposition(|&at| f64::from(at) <= log).unwrap_or(0).min(end);
        let (low, high) = (self.logs[below], self.logs[below + 1]);
        let weight = ((f64::from(low) - log) / f64::from(low - high)).clamp(0.0, 1.0);
        (1.0 - weight) * below as f64 + weight * (below + 1) as f64
    }
}
