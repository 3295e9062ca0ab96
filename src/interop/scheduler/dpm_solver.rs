use super::fields::{Fields, Named};
use super::grid::{arange_length, linspace};
use super::sigmas::SigmaTable;
use super::spacing::{check_num_steps, check_timesteps, trailing};
use super::walk::{Level, Plan, Walk};
use super::{
    BetaSchedule, Betas, Curve, FinalSigma, Method, Prediction, SchedulerError, Sigmas, Spacing,
    Visits,
};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "DPMSolverMultistepScheduler";
const CURVES: [Curve; 3] = [Curve::Karras, Curve::Exponential, Curve::Lu];

/// DPM-Solver++, multistep: Lu et al. (2022), algorithm 2 and its third-order companion.
#[derive(Debug, Clone, PartialEq)]
pub struct DpmSolver {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// The curve of the noise levels.
    pub sigmas: Sigmas,
    /// Where the last step goes to.
    pub final_sigmas_type: FinalSigma,
    /// Order of the method, 1 to 3.
    pub solver_order: usize,
    /// The second-order formula.
    pub solver_type: SolverType,
    /// Whether the last two of fewer than 15 steps are of lower order.
    pub lower_order_final: bool,
    /// Whether the last step is of first order.
    pub euler_at_final: bool,
    /// Timesteps whose logarithm of signal to noise lies below this are left out.
    pub lambda_min_clipped: f64,
}

/// The second-order formula of [`DpmSolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolverType {
    /// The midpoint rule.
    Midpoint,
    /// Heun's.
    Heun,
}

impl Named for SolverType {
    const NAMES: &'static [(&'static str, Self)] =
        &[("midpoint", Self::Midpoint), ("heun", Self::Heun)];
}

/// The formulas that are built here, of those that `algorithm_type` names.
#[derive(Clone, Copy, PartialEq)]
struct PlusPlus;

impl Named for PlusPlus {
    const NAMES: &'static [(&'static str, Self)] = &[("dpmsolver++", Self)];
}

impl Default for DpmSolver {
    fn default() -> Self {
        Self {
            betas: Betas::default(),
            prediction_type: Prediction::Epsilon,
            visits: Visits::new(Spacing::Linspace),
            sigmas: Sigmas::default(),
            final_sigmas_type: FinalSigma::Zero,
            solver_order: 2,
            solver_type: SolverType::Midpoint,
            lower_order_final: true,
            euler_at_final: false,
            lambda_min_clipped: f64::NEG_INFINITY,
        }
    }
}

impl DpmSolver {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        fields.choice("algorithm_type", PlusPlus)?;
        fields.refuse("thresholding")?;
        fields.refuse("use_flow_sigmas")?;
        fields.refuse("use_dynamic_shifting")?;
        fields.refuse_value("variance_type")?;
        let config = Self {
            betas: default.betas.read_rescaled(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            visits: default.visits.read(fields)?,
            sigmas: Sigmas::read(fields, &CURVES)?,
            final_sigmas_type: fields.choice("final_sigmas_type", default.final_sigmas_type)?,
            solver_order: fields.count("solver_order", default.solver_order)?,
            solver_type: fields.choice("solver_type", default.solver_type)?,
            lower_order_final: fields.flag("lower_order_final", default.lower_order_final)?,
            euler_at_final: fields.flag("euler_at_final", default.euler_at_final)?,
            lambda_min_clipped: fields.number("lambda_min_clipped", default.lambda_min_clipped)?,
        };
        match config.solver_order {
            1..=3 => Ok(config),
            order => Err(fields.fault("solver_order", &json!(order), "1, 2 or 3")),
        }
    }

    /// Timesteps of the training that are not clipped.
    fn num_timesteps(&self, alpha_bars: &[f32]) -> usize {
        let least = self.lambda_min_clipped as f32;
        let is_kept = |power: &&f32| power.sqrt().ln() - (1.0 - **power).sqrt().ln() >= least;
        alpha_bars.iter().filter(is_kept).count()
    }

    fn timesteps(&self, num_kept: usize, num_steps: usize) -> Result<Vec<f64>, SchedulerError> {
        let num_train = self.betas.num_train_timesteps;
        check_num_steps(CLASS, num_train, num_steps)?;
        if num_kept == 0 {
            let why = format!("lambda_min_clipped {} leaves no timestep", self.lambda_min_clipped);
            return Err(SchedulerError::Steps { class: CLASS, num_steps, why });
        }
        // One more than are visited: the last is where the last step ends.
        let timesteps: Vec<f64> = match self.visits.timestep_spacing {
            Spacing::Linspace => linspace(0.0, (num_kept - 1) as f64, num_steps + 1)[1..]
                .iter()
                .rev()
                .map(|timestep| timestep.round_ties_even())
                .collect(),
            Spacing::Leading => {
                let stride = num_kept / (num_steps + 1);
                let offset = self.visits.steps_offset;
                (1..=num_steps).rev().map(|i| (i * stride + offset) as f64).collect()
            }
            Spacing::Trailing => trailing(num_kept, num_train as f64 / num_steps as f64),
        };
        check_timesteps(CLASS, num_train, num_steps, &timesteps)?;
        Ok(timesteps)
    }
}

impl Method for DpmSolver {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write_rescaled();
        fields.extend(self.visits.write());
        fields.extend(self.sigmas.write(&CURVES));
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("algorithm_type", json!(PlusPlus.name())),
            ("solver_order", json!(self.solver_order)),
            ("solver_type", json!(self.solver_type.name())),
            ("lower_order_final", json!(self.lower_order_final)),
            ("euler_at_final", json!(self.euler_at_final)),
            ("final_sigmas_type", json!(self.final_sigmas_type.name())),
            ("thresholding", json!(false)),
            ("use_beta_sigmas", json!(false)),
            ("use_flow_sigmas", json!(false)),
            ("use_dynamic_shifting", json!(false)),
            ("variance_type", Value::Null),
        ]);
        // JSON has no infinity; a config without the field means it.
        if self.lambda_min_clipped.is_finite() {
            fields.push(("lambda_min_clipped", json!(self.lambda_min_clipped)));
        }
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        let alpha_bars = self.betas.alpha_bars_above_zero();
        let table = SigmaTable::new(CLASS, num_steps, &alpha_bars)?;
        let mut timesteps = self.timesteps(self.num_timesteps(&alpha_bars), num_steps)?;
        let ends = [table.sigmas[table.sigmas.len() - 1], table.sigmas[0]].map(f64::from);
        let sigmas = match self.sigmas.on_curve(ends[0], ends[1], num_steps) {
            None => timesteps.iter().map(|&timestep| table.sigma(timestep)).collect(),
            Some(curve) => {
                let is_rounded = self.sigmas.curve != Curve::Exponential
                    && self.betas.beta_schedule != BetaSchedule::SquaredcosCapV2;
                let whole = |timestep: f64| match is_rounded {
                    true => timestep.round_ties_even(),
                    false => timestep.trunc(),
                };
                timesteps = curve.iter().map(|&sigma| whole(table.timestep(sigma))).collect();
                curve
            }
        };
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        if !sigmas.is_sorted_by(|a, b| a > b) {
            let why = "two of them are at the same noise level; expected fewer steps";
            return Err(SchedulerError::Steps { class: CLASS, num_steps, why: why.into() });
        }
        sigmas.push(self.final_sigmas_type.of(&table));
        let levels: Vec<Level> = sigmas.into_iter().map(level).collect();
        Ok(Plan {
            levels: levels[..timesteps.len()].to_vec(),
            init_noise_sigma: 1.0,
            scales_input: false,
            walk: Box::new(DpmWalk {
                config: self.clone(),
                levels,
                num_timesteps: timesteps.len(),
                images: Vec::new(),
                num_before: 0,
            }),
            timesteps,
        })
    }

    /// Clipped timesteps of trailing spacing are steps that are not made.
    fn num_steps(&self, num_outputs: usize) -> Option<usize> {
        let num_train = self.betas.num_train_timesteps;
        let num_kept = self.num_timesteps(&self.betas.alpha_bars_above_zero());
        let is_clipped = num_kept < num_train
            && self.visits.timestep_spacing == Spacing::Trailing
            && self.sigmas.curve == Curve::Trained;
        if !is_clipped {
            return Some(num_outputs);
        }
        let length =
            |num_steps: usize| arange_length(num_kept as f64, num_train as f64 / num_steps as f64);
        let mut fitting = (num_outputs..=num_train).filter(|&steps| length(steps) == num_outputs);
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

/// Shares of image and noise at a ratio of noise to signal.
fn level(sigma: f32) -> Level {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    [alpha, sigma * alpha]
}

struct DpmWalk {
    config: DpmSolver,
    /// At each timestep, and where the last step ends.
    levels: Vec<Level>,
    num_timesteps: usize,
    /// Up to three images that the network meant, oldest first.
    images: Vec<Tensor<4>>,
    /// Steps made before this one, as far as the order asks.
    num_before: usize,
}

impl Walk for DpmWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        let image = self.config.prediction_type.clean(output, sample.clone(), self.levels[index]);
        if self.images.len() == 3 {
            self.images.remove(0);
        }
        self.images.push(image);
        let order = self.order(index);
        self.num_before = (self.num_before + 1).min(self.config.solver_order);
        Ok(match order {
            1 => self.first(index, sample),
            2 => self.second(index, sample),
            _ => self.third(index, sample),
        })
    }
}

impl DpmWalk {
    fn order(&self, index: usize) -> usize {
        let config = &self.config;
        let left = self.num_timesteps - index;
        let is_short = config.lower_order_final && self.num_timesteps < 15;
        let ends_in_first =
            config.euler_at_final || is_short || config.final_sigmas_type == FinalSigma::Zero;
        let most = match left {
            1 if ends_in_first => 1,
            2 if is_short => 2,
            _ => config.solver_order,
        };
        most.min(config.solver_order).min(self.num_before + 1)
    }

    fn first(&self, index: usize, sample: Tensor<4>) -> Tensor<4> {
        let (step, kept) = self.step_and_kept(index);
        sample.mul_scalar(kept) - self.image(0).mul_scalar(self.alpha(index) * gain(step))
    }

    fn second(&self, index: usize, sample: Tensor<4>) -> Tensor<4> {
        let ((step, kept), alpha) = (self.step_and_kept(index), self.alpha(index));
        let slope = self.slope(0, self.step_before(index, 1) / step);
        let first = sample.mul_scalar(kept) - self.image(0).mul_scalar(alpha * gain(step));
        match self.config.solver_type {
            SolverType::Midpoint => first - slope.mul_scalar(0.5 * (alpha * gain(step))),
            SolverType::Heun => first + slope.mul_scalar(alpha * (gain(step) / step + 1.0)),
        }
    }

    fn third(&self, index: usize, sample: Tensor<4>) -> Tensor<4> {
        let ((step, kept), alpha) = (self.step_and_kept(index), self.alpha(index));
        let ratios = [1, 2].map(|ago| self.step_before(index, ago) / step);
        let (slope, slope_before) = (self.slope(0, ratios[0]), self.slope(1, ratios[1]));
        let change = slope.clone() - slope_before;
        let whole = ratios[0] + ratios[1];
        let slope = slope + change.clone().mul_scalar(ratios[0] / whole);
        let bend = change.mul_scalar(1.0 / whole);
        let of_bend = (gain(step) + step) / (step * step) - 0.5;
        sample.mul_scalar(kept) - self.image(0).mul_scalar(alpha * gain(step))
            + slope.mul_scalar(alpha * (gain(step) / step + 1.0))
            - bend.mul_scalar(alpha * of_bend)
    }

    /// How far the step goes in the logarithm of signal to noise, and the share of noise it keeps.
    fn step_and_kept(&self, index: usize) -> (f32, f32) {
        let kept = self.levels[index + 1][1] / self.levels[index][1];
        (self.lambda(index + 1) - self.lambda(index), kept)
    }

    /// How far the step `ago` steps before went.
    fn step_before(&self, index: usize, ago: usize) -> f32 {
        self.lambda(index + 1 - ago) - self.lambda(index - ago)
    }

    fn lambda(&self, index: usize) -> f32 {
        let [alpha, sigma] = self.levels[index];
        alpha.ln() - sigma.ln()
    }

    fn alpha(&self, index: usize) -> f32 {
        self.levels[index + 1][0]
    }

    /// The image of `ago` steps before.
    fn image(&self, ago: usize) -> Tensor<4> {
        self.images[self.images.len() - 1 - ago].clone()
    }

    /// How the image changed from the step before, per step of length `ratio` of the present one.
    fn slope(&self, ago: usize, ratio: f32) -> Tensor<4> {
        (self.image(ago) - self.image(ago + 1)).mul_scalar(1.0 / ratio)
    }
}

/// exp(−step) − 1, as diffusers has it in f32.
fn gain(step: f32) -> f32 {
    (-step).exp() - 1.0
}
