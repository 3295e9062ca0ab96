use super::fields::{Fields, Named};
use super::walk::{Plan, Walk, roots};
use super::{Betas, Method, Prediction, SchedulerError, Spacing, Visits};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const CLASS: &str = "PNDMScheduler";

/// Liu et al. (2022), "Pseudo numerical methods for diffusion models on manifolds".
///
/// With `skip_prk_steps` the first step is made twice, the second time with the mean of its two model
/// outputs: k steps take k + 1 outputs. Without, the first three steps are Runge-Kutta's of four
/// outputs each: k + 9.
#[derive(Debug, Clone, PartialEq)]
pub struct Pndm {
    /// The noise schedule.
    pub betas: Betas,
    /// What the network predicts; not [`Prediction::Sample`].
    pub prediction_type: Prediction,
    /// Which timesteps are visited.
    pub visits: Visits,
    /// Whether there are no Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// Whether the last step ends without noise; with that of timestep 0 otherwise.
    pub set_alpha_to_one: bool,
}

impl Default for Pndm {
    fn default() -> Self {
        Self {
            betas: Betas::default(),
            prediction_type: Prediction::Epsilon,
            visits: Visits::new(Spacing::Leading),
            skip_prk_steps: false,
            set_alpha_to_one: false,
        }
    }
}

/// Model outputs of the Runge-Kutta steps.
const NUM_PRK: usize = 12;

impl Pndm {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, SchedulerError> {
        let default = Self::default();
        let config = Self {
            betas: default.betas.read(fields)?,
            prediction_type: fields.choice("prediction_type", default.prediction_type)?,
            visits: default.visits.read(fields)?,
            skip_prk_steps: fields.flag("skip_prk_steps", default.skip_prk_steps)?,
            set_alpha_to_one: fields.flag("set_alpha_to_one", default.set_alpha_to_one)?,
        };
        if config.prediction_type == Prediction::Sample {
            let found = json!(config.prediction_type.name());
            return Err(fields.fault("prediction_type", &found, "epsilon or v_prediction"));
        }
        Ok(config)
    }

    /// The visited timesteps with their repetitions.
    fn grid(&self, timesteps: &[usize], half_stride: usize) -> Vec<usize> {
        if self.skip_prk_steps {
            let again = timesteps.get(1);
            let (first, rest) = timesteps.split_at(1);
            return first.iter().chain(again).chain(rest).copied().collect();
        }
        // Each of three steps: its start, twice its middle, its end.
        let middles = timesteps[..4].windows(2).flat_map(|pair| {
            let middle = pair[1] + half_stride;
            [pair[0], middle, middle, pair[1]]
        });
        middles.chain(timesteps[3..].iter().copied()).collect()
    }
}

impl Method for Pndm {
    fn class(&self) -> &'static str {
        CLASS
    }

    fn write(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.betas.write();
        fields.extend(self.visits.write());
        fields.extend([
            ("prediction_type", json!(self.prediction_type.name())),
            ("skip_prk_steps", json!(self.skip_prk_steps)),
            ("set_alpha_to_one", json!(self.set_alpha_to_one)),
        ]);
        fields
    }

    fn plan(&self, num_steps: usize) -> Result<Plan, SchedulerError> {
        let refuse =
            |why: &str| Err(SchedulerError::Steps { class: CLASS, num_steps, why: why.to_owned() });
        let num_train = self.betas.num_train_timesteps;
        let timesteps = self.visits.whole_timesteps(CLASS, num_train, num_steps)?;
        if !self.skip_prk_steps && num_steps < 4 {
            return refuse("its Runge-Kutta steps (skip_prk_steps false) need at least 4");
        }
        let alpha_bars = self.betas.alpha_bars();
        if timesteps.iter().any(|&timestep| alpha_bars[timestep] == 0.0) {
            return refuse("it divides by the signal, and trained_betas leave none");
        }
        let stride = num_train / num_steps;
        let grid = self.grid(&timesteps, stride / 2);
        let walk = PndmWalk {
            prediction_type: self.prediction_type,
            end: if self.set_alpha_to_one { 1.0 } else { alpha_bars[0] },
            alpha_bars: alpha_bars.clone(),
            num_prk: if self.skip_prk_steps { 0 } else { NUM_PRK },
            stride,
            grid: grid.clone(),
            outputs: Vec::new(),
            start: None,
            sum: None,
        };
        Ok(Plan::preserving(&grid, &alpha_bars, Box::new(walk)))
    }

    fn num_steps(&self, num_outputs: usize) -> Option<usize> {
        match (self.skip_prk_steps, num_outputs) {
            (true, 1) => Some(1),
            (true, 0 | 2) => None,
            (true, _) => Some(num_outputs - 1),
            (false, _) => num_outputs.checked_sub(NUM_PRK - 3),
        }
    }
}

struct PndmWalk {
    prediction_type: Prediction,
    /// Signal power at each timestep of the training, and where the last step ends.
    alpha_bars: Vec<f32>,
    end: f32,
    num_prk: usize,
    stride: usize,
    grid: Vec<usize>,
    /// Up to four model outputs that the multistep formula mixes, oldest first.
    outputs: Vec<Tensor<4>>,
    /// Sample where a step began that takes more than one model output.
    start: Option<Tensor<4>>,
    /// Weighted sum of a Runge-Kutta step's model outputs so far.
    sum: Option<Tensor<4>>,
}

impl Walk for PndmWalk {
    fn step(
        &mut self,
        index: usize,
        output: Tensor<4>,
        sample: Tensor<4>,
        _noise: Option<Tensor<4>>,
    ) -> Result<Tensor<4>, SchedulerError> {
        Ok(match index < self.num_prk {
            true => self.runge_kutta(index, output, sample),
            false => self.multistep(index, output, sample),
        })
    }
}

impl PndmWalk {
    fn runge_kutta(&mut self, index: usize, output: Tensor<4>, sample: Tensor<4>) -> Tensor<4> {
        let stage = index % 4;
        if stage == 0 {
            self.outputs.push(output.clone());
            self.start = Some(sample.clone());
        }
        let weight = if stage == 0 || stage == 3 { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let share = output.clone().mul_scalar(weight);
        let sum = self.sum.take().map_or(share.clone(), |sum| sum + share);
        let slope = if stage == 3 { sum.clone() } else { output };
        self.sum = (stage != 3).then_some(sum);
        // Stages 0 and 1 go half a step down, 2 and 3 the whole of it, always from the start.
        let half = if stage.is_multiple_of(2) { self.stride / 2 } else { 0 };
        let to = self.grid[index].checked_sub(half);
        let start = self.start.clone().unwrap_or(sample);
        self.transfer(start, self.grid[index - stage], to, slope)
    }

    fn multistep(&mut self, index: usize, output: Tensor<4>, sample: Tensor<4>) -> Tensor<4> {
        let timestep = self.grid[index];
        // The first step, made again with the mean of the slopes at its ends.
        if index == 1 && self.num_prk == 0 {
            let slope = (output + self.outputs[0].clone()).div_scalar(2.0);
            let start = self.start.take().unwrap_or(sample);
            return self.transfer(start, timestep + self.stride, Some(timestep), slope);
        }
        if self.outputs.len() == 4 {
            self.outputs.remove(0);
        }
        self.outputs.push(output.clone());
        if index == 0 {
            self.start = Some(sample.clone());
        }
        let mix = |weights: &[f32]| {
            let newest_first = self.outputs.iter().rev().zip(weights);
            newest_first
                .map(|(output, &weight)| output.clone().mul_scalar(weight))
                .reduce(|sum, share| sum + share)
        };
        // Adams & Bashforth's weights.
        let slope = match self.outputs.len() {
            2 => mix(&[3.0, -1.0]).map(|sum| sum.div_scalar(2.0)),
            3 => mix(&[23.0, -16.0, 5.0]).map(|sum| sum.div_scalar(12.0)),
            4 => mix(&[55.0, -59.0, 37.0, -9.0]).map(|sum| sum.mul_scalar(1.0 / 24.0)),
            _ => None,
        };
        let to = timestep.checked_sub(self.stride);
        self.transfer(sample, timestep, to, slope.unwrap_or(output))
    }

    /// Goes from one timestep to another along `slope`: Liu et al. (2022), eq. 11. No timestep is the
    /// end.
    fn transfer(
        &self,
        sample: Tensor<4>,
        from: usize,
        to: Option<usize>,
        slope: Tensor<4>,
    ) -> Tensor<4> {
        let from = self.alpha_bars[from];
        let to = to.map_or(self.end, |to| self.alpha_bars[to]);
        let noise = self.prediction_type.noise(slope, sample.clone(), roots(from));
        let whole = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        sample.mul_scalar((to / from).sqrt()) - noise.mul_scalar(to - from).div_scalar(whole)
    }
}
