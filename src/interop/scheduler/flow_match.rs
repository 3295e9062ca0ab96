use super::fields::Fields;
use super::grid::linspace;
use super::walk::{Plan, Walk};
use super::{Curve, Method, SchedulerError, Sigmas};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "FlowMatchEulerDiscreteScheduler";
const CURVES: [Curve; 2] = [Curve::Karras, Curve::Exponential];

/// Euler's method along the straight line from image to noise: Esser et al. (2024). The network
/// predicts noise − clean.
///
/// The grid runs evenly from the training's highest noise level to its lowest, both already shifted,
/// and is then shifted itself, as diffusers does it.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatch {
    /// Timesteps of the training.
    pub num_train_timesteps: usize,
    /// Above 1 spends more of the steps at high noise; 1 is the plain line.
    pub shift: f64,
    /// Noise level that the grid is stretched to end at.
    pub shift_terminal: Option<f64>,
    /// The curve of the noise levels.
    pub sigmas: Sigmas,
}

impl Default for FlowMatch {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            shift_terminal: None,
            sigmas: Sigmas::default(),
        }
    }
}

/// The numbers of an f32 end here.
const MOST_TIMESTEPS: usize = 1 << 24;

impl FlowMatch {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        if fields.flag("use_dynamic_shifting", false)? {
            let expected = "false: a shift that depends on the size of the image is not built here";
            return Err(fields.fault("use_dynamic_shifting", &json!(true), expected));
        }
        fields.refuse("invert_sigmas")?;
        fields.refuse("stochastic_sampling")?;
        let config = Self {
            num_train_timesteps: fields
                .count("num_train_timesteps", default.num_train_timesteps)?,
            shift: fields.number("shift", default.shift)?,
            // 0 is off, as it is to Python.
            shift_terminal: fields.optional("shift_terminal")?.filter(|end| *end != 0.0),
            sigmas: Sigmas::read(fields, &CURVES)?,
        };
        if !(1..=MOST_TIMESTEPS).contains(&config.num_train_timesteps) {
            let (found, expected) =
                (json!(config.num_train_timesteps), format!("1 to {MOST_TIMESTEPS}"));
            return Err(fields.fault("num_train_timesteps", &found, &expected));
        }
        if !(config.shift > 0.0 && config.shift.is_finite()) {
            return Err(fields.fault("shift", &json!(config.shift), "a number above 0"));
        }
        match config.shift_terminal {
            Some(end) if !(0.0..1.0).contains(&end) => {
                Err(fields.fault("shift_terminal", &json!(end), "a number in [0, 1) or null"))
            }
            _ => Ok(config),
        }
    }

    /// Lowest and highest noise level of the training, in diffusers' f32.
    fn ends(&self) -> [f64; 2] {
        let num_train = self.num_train_timesteps as f32;
        [1.0, num_train].map(|timestep| {
            let (sigma, shift) = (timestep / num_train, self.shift as f32);
            f64::from(shift * sigma / (1.0 + (self.shift - 1.0) as f32 * sigma))
        })
    }

    fn sigmas_of(&self, num_steps: usize) -> Vec<f64> {
        let num_train = self.num_train_timesteps as f64;
        let [low, high] = self.ends();
        let timesteps = linspace(high * num_train, low * num_train, num_steps);
        let shifted = timesteps.into_iter().map(|timestep| {
            let sigma = timestep / num_train;
            self.shift * sigma / (1.0 + (self.shift - 1.0) * sigma)
        });
        let mut sigmas: Vec<f64> = shifted.collect();
        let last = sigmas[num_steps - 1];
        if let Some(end) = self.shift_terminal {
            let gain = (1.0 - last) / (1.0 - end);
            sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / gain);
        }
        let (first, last) = (sigmas[0], sigmas[num_steps - 1]);
        self.sigmas.on_curve(first, last, num_steps).unwrap_or(sigmas)
    }
}

impl Method for FlowMatch {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.sigmas.write(&CURVES);
        fields.extend([
            ("num_train_timesteps", json!(self.num_train_timesteps)),
            ("shift", json!(self.shift)),
            ("shift_terminal", json!(self.shift_terminal)),
            ("use_dynamic_shifting", json!(false)),
            ("use_beta_sigmas", json!(false)),
            ("invert_sigmas", json!(false)),
            ("stochastic_sampling", json!(false)),
        ]);
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        super::spacing::check_num_steps(CLASS, self.num_train_timesteps, num_steps)?;
        let mut sigmas: Vec<f32> =
            self.sigmas_of(num_steps).into_iter().map(|sigma| sigma as f32).collect();
        if !sigmas.iter().all(|sigma| sigma.is_finite()) {
            let why = "a single step cannot be stretched to end at shift_terminal";
            return Err(SchedulerError::Steps { class: CLASS, num_steps, why: why.into() });
        }
        let num_train = self.num_train_timesteps as f32;
        let timesteps = sigmas.iter().map(|sigma| f64::from(sigma * num_train)).collect();
        let levels = sigmas.iter().map(|&sigma| [1.0 - sigma, sigma]).collect();
        sigmas.push(0.0);
        Ok(Plan {
            timesteps,
            levels,
            init_noise_sigma: 1.0,
            scales_input: false,
            walk: Box::new(FlowWalk { sigmas }),
        })
    }
}

struct FlowWalk {
    sigmas: Vec<f32>,
}

impl Walk for FlowWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        Ok(sample + output.mul_scalar(self.sigmas[index + 1] - self.sigmas[index]))
    }
}
