//! AdamW over any module: Loshchilov & Hutter (2019), step for step as `torch.optim.AdamW`, with
//! what a long training needs around it (accumulation, global-norm clipping, a guard against
//! numbers that are none, exact saving).

use super::parameters::{
    flat_values, former_names, put_flat_values, take_flat_gradients, take_flat_values,
};
use crate::engine::descent::{self, Descent, Moving, Parameter};
use crate::faults::demand;
use burn::{
    module::Module,
    tensor::{DType, Gradients, Tensor, TensorData},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Section of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Share of the mean gradient that a step keeps, in [0, 1).
    pub beta1: f64,
    /// Share of the mean squared gradient that a step keeps, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the mean square; above 0.
    pub epsilon: f64,
    /// Share of each weight taken away per step and unit of learning rate. Biases, norms and the
    /// other vectors do not decay.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it.
    pub clip_norm: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2, clip_norm: Some(1.0) }
    }
}

impl AdamWConfig {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        let beta = |name, beta: f64| {
            demand((0.0..1.0).contains(&beta), name, beta, "at least 0 and below 1")
        };
        let decay = self.weight_decay;
        let is_decay = decay >= 0.0 && decay.is_finite();
        let clip = |norm| demand(is_positive(norm), "clip_norm", norm, "a number above 0");
        [
            beta("beta1", self.beta1),
            beta("beta2", self.beta2),
            demand(is_positive(self.epsilon), "epsilon", self.epsilon, "a number above 0"),
            demand(is_decay, "weight_decay", decay, "a number from 0 up"),
            self.clip_norm.and_then(clip),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The optimizer and what it remembers of each parameter.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug)]
struct Moments {
    mean: Tensor<1>,
    square: Tensor<1>,
    steps: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Moved the weights.
    Applied {
        /// Norm of all gradients together, before clipping.
        norm: f64,
    },
    /// Left weights and moments as they were: the norm of the gradients is not a finite f32.
    Skipped,
}

/// Gradients of one or more rounds, to be averaged into one step.
#[derive(Debug, Default)]
pub struct GradientSum {
    by_name: BTreeMap<String, Tensor<1>>,
    rounds: u32,
}

impl GradientSum {
    /// Adds a round: the gradients of `module`, of a loss that is a mean over the round's samples.
    ///
    /// Rounds of equal size then give the gradient of the mean over all of them. A parameter with
    /// no gradient in a round counts as 0 there.
    pub fn add<M: Module>(&mut self, module: &M, mut gradients: Gradients) {
        for (name, gradient) in take_flat_gradients(module, &mut gradients) {
            let sum = match self.by_name.remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.by_name.insert(name, sum);
        }
        self.rounds += 1;
    }
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, moments: BTreeMap::new() }
    }

    /// From the next step on, another weight decay.
    pub fn set_weight_decay(&mut self, weight_decay: f64) {
        self.config.weight_decay = weight_decay;
    }

    /// One step down the mean of `gradients`, and `average` after it, of which each value keeps the share `decay`.
    ///
    /// A parameter without gradient stays as it is and does not decay, as in torch. Waits for the
    /// device once, for the norm, when all is queued.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        average: Option<(M, f64)>,
        gradients: GradientSum,
        learning_rate: f64,
    ) -> (M, Option<M>, Step) {
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip_norm } = self.config;
        let GradientSum { by_name: mut sums, rounds } = gradients;
        if sums.is_empty() {
            return (module, average.map(|(average, _)| average), Step::Applied { norm: 0.0 });
        }
        let (module, values) = take_flat_values(module);
        let decay = average.as_ref().map_or(0.0, |(_, decay)| *decay);
        let (hollow, mut averages) = match average {
            Some((average, _)) => {
                let (hollow, averages) = take_flat_values(average);
                (Some(hollow), averages)
            }
            None => (None, BTreeMap::new()),
        };
        let mut names = Vec::with_capacity(values.len());
        let mut parameters = Vec::with_capacity(values.len());
        for (name, (rank, value)) in values {
            let gradient = sums.remove(&name).map(|sum| {
                let Moments { mean, square, steps } =
                    self.moments.remove(&name).unwrap_or_else(|| Moments {
                        mean: value.zeros_like(),
                        square: value.zeros_like(),
                        steps: 0,
                    });
                let correction = |beta: f64| 1.0 - beta.powf((steps + 1) as f64);
                let corrections = [correction(beta1), correction(beta2)];
                let weight_decay = if rank >= 2 { weight_decay } else { 0.0 };
                (steps, Moving { sum, mean, square, weight_decay, corrections })
            });
            let (steps, gradient) = gradient.unzip();
            let average = averages.remove(&name).map(|(_, average)| average);
            names.push((name, steps));
            parameters.push(Parameter { value, gradient, average });
        }
        let descent = Descent {
            rounds,
            clip_norm: clip_norm.unwrap_or(f64::INFINITY),
            learning_rate,
            betas: [beta1, beta2],
            epsilon,
            decay,
        };
        let (parameters, norm) = descent::descend(parameters, &descent);
        let norm = f64::from(norm.into_scalar::<f32>());
        let is_applied = norm.is_finite();
        let (mut values, mut averages) = (BTreeMap::new(), BTreeMap::new());
        for ((name, steps), parameter) in names.into_iter().zip(parameters) {
            if let (Some(steps), Some(moving)) = (steps, parameter.gradient) {
                let Moving { mean, square, .. } = moving;
                let steps = steps + u64::from(is_applied);
                // A parameter whose every step was left out has no moments yet.
                if steps > 0 {
                    self.moments.insert(name.clone(), Moments { mean, square, steps });
                }
            }
            averages.extend(parameter.average.map(|average| (name.clone(), average)));
            values.insert(name, parameter.value);
        }
        let module = put_flat_values(module, values);
        let average = hollow.map(|hollow| put_flat_values(hollow, averages));
        (module, average, if is_applied { Step::Applied { norm } } else { Step::Skipped })
    }

    /// Everything to save, exact to the bit: `mean.*` and `square.*` (flat, f32) and `steps.*` of each
    /// parameter that has had a gradient.
    pub fn state_dict(&self) -> BTreeMap<String, TensorData> {
        let mut state = BTreeMap::new();
        for (name, moments) in &self.moments {
            let steps = i64::try_from(moments.steps).expect("no training has 2⁶³ steps");
            state.insert(format!("mean.{name}"), moments.mean.to_data());
            state.insert(format!("square.{name}"), moments.square.to_data());
            state.insert(format!("steps.{name}"), TensorData::new(vec![steps], [1]));
        }
        state
    }

    /// Goes on from a saved state of an optimizer over a module like `module`, on its device.
    ///
    /// Refuses a state that has other parameters, or leaves this one as it was.
    pub fn load_state_dict<M: Module>(
        &mut self,
        module: &M,
        state: &BTreeMap<String, TensorData>,
    ) -> Result<(), StateError> {
        let mut moments = BTreeMap::new();
        let mut num_used = 0;
        let former = former_names(module);
        for (name, value) in flat_values(module) {
            let [mean, square, steps] = ["mean", "square", "steps"].map(|kind| {
                let entry = |name: &String| state.get(&format!("{kind}.{name}"));
                entry(&name).or_else(|| entry(former.get(&name)?))
            });
            let (mean, square, steps) = match (mean, square, steps) {
                (None, None, None) => continue,
                (Some(mean), Some(square), Some(steps)) => (mean, square, steps),
                _ => return Err(StateError::Incomplete { name }),
            };
            let [len] = value.dims();
            let fits = |data: &TensorData| data.num_elements() == len && data.dtype() == DType::F32;
            if !fits(mean) || !fits(square) {
                return Err(StateError::Shape { name, len });
            }
            let steps = match steps.as_slice::<i64>() {
                Ok(&[steps]) if steps >= 0 => steps.unsigned_abs(),
                _ => return Err(StateError::Incomplete { name }),
            };
            let tensor = |data: &TensorData| Tensor::from_data(data.clone(), &value.device());
            let (mean, square) = (tensor(mean), tensor(square));
            moments.insert(name, Moments { mean, square, steps });
            num_used += 3;
        }
        if num_used != state.len() {
            let is_known =
                |key: &str| key.split_once('.').is_some_and(|(_, name)| moments.contains_key(name));
            let stranger = state.keys().find(|key| !is_known(key)).cloned().unwrap_or_default();
            return Err(StateError::Stranger { key: stranger });
        }
        self.moments = moments;
        Ok(())
    }
}

/// Why a saved optimizer state does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Some of a parameter's three entries are missing or unreadable.
    #[error("optimizer state of {name} is incomplete: mean, square and steps belong together")]
    Incomplete {
        /// The parameter.
        name: String,
    },
    /// The module's parameter has another size.
    #[error("optimizer state of {name} does not fit: the parameter has {len} f32 values")]
    Shape {
        /// The parameter.
        name: String,
        /// Its number of values.
        len: usize,
    },
    /// An entry that belongs to no parameter of the module.
    #[error("optimizer state has an entry {key} for which the network has no parameter")]
    Stranger {
        /// The entry.
        key: String,
    },
}

#[cfg(test)]
mod tests;
