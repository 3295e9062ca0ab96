//! AdamW over any module: Loshchilov & Hutter (2019), step for step as `torch.optim.AdamW`, with
//! what a long training needs around it (accumulation, global-norm clipping, a guard against
//! numbers that are none, exact saving).

mod groups;

pub use groups::{Group, check_names};

use super::parameters::{
    flat_values, former_names, names, put_flat_values, take_flat_gradients, take_flat_values,
};
use crate::engine::descent::{self, Descent, Moving, Parameter};
use crate::faults::{demand, within};
use burn::{
    module::Module,
    tensor::{DType, Gradients, Tensor, TensorData},
};
use groups::{Pace, pace};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Weights that learn faster or slower than the others, or decay otherwise: torch's parameter groups. Where several
    /// name a weight, their factors multiply.
    pub groups: Vec<Group>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-2,
            clip_norm: Some(1.0),
            groups: Vec::new(),
        }
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
        let mut faults: Vec<String> = [
            beta("beta1", self.beta1),
            beta("beta2", self.beta2),
            demand(is_positive(self.epsilon), "epsilon", self.epsilon, "a number above 0"),
            demand(is_decay, "weight_decay", decay, "a number from 0 up"),
            self.clip_norm.and_then(clip),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (at, group) in self.groups.iter().enumerate() {
            faults.extend(within(&format!("groups[{at}]"), group.check()));
        }
        faults
    }
}

/// The optimizer and what it remembers of each parameter, in the order in which a module is visited.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Empty before the first step.
    names: Vec<String>,
    /// Of each of them.
    paces: Vec<Pace>,
    moments: Vec<Option<Moments>>,
    /// Of the last step, until it is known whether it moved anything.
    last: Option<Norm>,
}

#[derive(Debug)]
struct Moments {
    mean: Tensor<1>,
    square: Tensor<1>,
    /// The last one counted, also while nobody knows yet whether it was left out.
    steps: u64,
    /// Whether it had a gradient in the last step.
    moved_last: bool,
}

/// Norm of all gradients together, before clipping; still on the device, and reading waits for it.
#[derive(Debug, Clone)]
pub struct Norm(Tensor<1>);

impl Norm {
    /// A norm from elsewhere: `[1]`.
    pub fn new(norm: Tensor<1>) -> Self {
        Self(norm)
    }

    /// `taken` where the step was taken, `left_out` where it was not; waits for nothing.
    pub fn choose<const D: usize>(&self, taken: Tensor<D>, left_out: Tensor<D>) -> Tensor<D> {
        let is_taken = self.0.clone().is_finite().reshape([1; D]).expand(taken.shape());
        left_out.mask_where(is_taken, taken)
    }

    /// `averages` after `values`, where the step was taken, and as they are where it was left out: [`descent::follow`].
    pub(super) fn follow(
        &self,
        values: &[Tensor<1>],
        averages: Vec<Tensor<1>>,
        decay: f64,
    ) -> Vec<Tensor<1>> {
        descent::follow(values, averages, decay, &self.0)
    }

    /// The number. Where it is none, the step was left out: weights, moments and average are as they were.
    pub fn read(&self) -> f64 {
        f64::from(self.0.clone().into_scalar::<f32>())
    }
}

/// Gradients of one or more rounds, to be averaged into one step.
#[derive(Debug, Default)]
pub struct GradientSum {
    sums: Vec<Option<Tensor<1>>>,
    rounds: u32,
}

impl GradientSum {
    /// Adds a round: the gradients of `module`, of a loss that is a mean over the round's samples.
    ///
    /// Rounds of equal size then give the gradient of the mean over all of them. A parameter with
    /// no gradient in a round counts as 0 there.
    pub fn add<M: Module>(&mut self, module: &M, mut gradients: Gradients) {
        let round = take_flat_gradients(module, &mut gradients);
        self.sums.resize(round.len(), None);
        for (sum, gradient) in self.sums.iter_mut().zip(round) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
        self.rounds += 1;
    }

    /// The mean of each parameter's, as a module is visited.
    #[cfg(test)]
    pub(super) fn means(&self) -> Vec<Option<Vec<f32>>> {
        let mean = |sum: &Tensor<1>| (sum.clone() / self.rounds as f32).into_data();
        let values = |sum: &Tensor<1>| mean(sum).try_into_vec::<f32>().expect("sums are f32");
        self.sums.iter().map(|sum| sum.as_ref().map(values)).collect()
    }
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, names: Vec::new(), paces: Vec::new(), moments: Vec::new(), last: None }
    }

    /// From the next step on, another weight decay.
    pub fn set_weight_decay(&mut self, weight_decay: f64) {
        self.config.weight_decay = weight_decay;
    }

    /// One step down the mean of `gradients`, and `average` after it, of which each value keeps the share `decay`.
    ///
    /// A parameter without gradient stays as it is and does not decay, as in torch. Waits for the step before this one,
    /// but not for this one.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        average: Option<(M, f64)>,
        gradients: GradientSum,
        learning_rate: f64,
    ) -> (M, Option<M>, Norm) {
        self.settle();
        if self.names.is_empty() {
            self.take_names(names(&module));
            self.moments.resize_with(self.names.len(), || None);
        }
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip_norm, .. } = self.config;
        let GradientSum { mut sums, rounds } = gradients;
        sums.resize(self.names.len(), None);
        let (module, values) = take_flat_values(module);
        let decay = average.as_ref().map_or(0.0, |(_, decay)| *decay);
        let (hollow, averages) = average.map(|(average, _)| take_flat_values(average)).unzip();
        let mut averages = averages.into_iter().flatten();
        let mut parameters = Vec::with_capacity(values.len());
        let mut counts = Vec::with_capacity(values.len());
        let gradients = sums.into_iter().zip(&self.paces).zip(&mut self.moments);
        for ((rank, value), ((sum, pace), moments)) in values.into_iter().zip(gradients) {
            let average = averages.next().map(|(_, average)| average);
            let gradient = sum.map(|sum| {
                let Moments { mean, square, steps, .. } = moments.take().unwrap_or_else(|| {
                    let zeros = value.zeros_like();
                    Moments { mean: zeros.clone(), square: zeros, steps: 0, moved_last: false }
                });
                let correction = |beta: f64| 1.0 - beta.powf((steps + 1) as f64);
                let corrections = [correction(beta1), correction(beta2)];
                let weight_decay = if rank >= 2 { weight_decay * pace.decay } else { 0.0 };
                let rate = pace.rate;
                (steps + 1, Moving { sum, mean, square, rate, weight_decay, corrections })
            });
            let (count, gradient) = gradient.unzip();
            counts.push(count);
            if let Some(moments) = moments {
                moments.moved_last = false;
            }
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
        let mut values = Vec::with_capacity(parameters.len());
        let mut averages = Vec::with_capacity(parameters.len());
        let moments = self.moments.iter_mut().zip(counts);
        for (parameter, (moments, count)) in parameters.into_iter().zip(moments) {
            if let (Some(steps), Some(Moving { mean, square, .. })) = (count, parameter.gradient) {
                *moments = Some(Moments { mean, square, steps, moved_last: true });
            }
            averages.extend(parameter.average);
            values.push(parameter.value);
        }
        let module = put_flat_values(module, values);
        let average = hollow.map(|hollow| put_flat_values(hollow, averages));
        let norm = Norm(norm);
        self.last = Some(norm.clone());
        (module, average, norm)
    }

    fn take_names(&mut self, names: Vec<String>) {
        self.paces = names.iter().map(|name| pace(&self.config.groups, name)).collect();
        self.names = names;
    }

    /// Takes back the count of the last step where it moved nothing.
    fn settle(&mut self) {
        if self.last.take().is_none_or(|norm| norm.read().is_finite()) {
            return;
        }
        for moments in &mut self.moments {
            let left_out = moments.as_mut().filter(|moments| moments.moved_last);
            if let Some(left_out) = left_out {
                left_out.steps -= 1;
            }
            // A parameter whose every step was left out has no moments yet.
            moments.take_if(|moments| moments.steps == 0);
        }
    }

    /// Everything to save, exact to the bit: `mean.*` and `square.*` (flat, f32) and `steps.*` of each
    /// parameter that has had a gradient.
    pub fn state_dict(&mut self) -> BTreeMap<String, TensorData> {
        self.settle();
        let mut state = BTreeMap::new();
        for (name, moments) in self.names.iter().zip(&self.moments) {
            let Some(moments) = moments else { continue };
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
        let mut moments = Vec::new();
        let mut used = BTreeSet::new();
        let former = former_names(module);
        for (name, value) in flat_values(module) {
            let [mean, square, steps] = ["mean", "square", "steps"].map(|kind| {
                let entry = |name: &String| state.get(&format!("{kind}.{name}"));
                entry(&name).or_else(|| entry(former.get(&name)?))
            });
            let (mean, square, steps) = match (mean, square, steps) {
                (None, None, None) => {
                    moments.push(None);
                    continue;
                }
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
            moments.push(Some(Moments { mean, square, steps, moved_last: false }));
            used.insert(name);
        }
        if 3 * used.len() != state.len() {
            let is_known =
                |key: &str| key.split_once('.').is_some_and(|(_, name)| used.contains(name));
            let stranger = state.keys().find(|key| !is_known(key)).cloned().unwrap_or_default();
            return Err(StateError::Stranger { key: stranger });
        }
        self.take_names(names(module));
        self.moments = moments;
        self.last = None;
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
