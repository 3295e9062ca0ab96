//! What learns: weights with their average and their optimizer, saved under one name.

use super::Train;
use super::adamw::{AdamW, GradientSum, Norm};
use super::checkpoint::Parts;
use super::ema::{Average, follow::follow, snapshots};
use crate::models::weights::{self, StateDict};
use anyhow::Result;
use burn::module::Module;

/// Weights that learn. A procedure trains one of it, or several against each other.
#[derive(Debug)]
pub struct Learner<M> {
    /// What its files are called by; the only one of a procedure needs no name.
    name: Option<&'static str>,
    /// The weights, and their average. Nobody else holds them while a step changes them.
    weights: Option<[M; 2]>,
    /// Power-function averages beside the first, each with its length.
    others: Vec<(f64, M)>,
    /// The length of the first, if it is such an average, too.
    length: Option<f64>,
    optimizer: AdamW,
}

/// How far one step goes.
#[derive(Debug, Clone, Copy)]
pub struct Stride {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Weight decay of this step.
    pub weight_decay: f64,
    /// Share of itself that the average keeps.
    pub ema_decay: f64,
}

impl<M: Module + Clone> Learner<M> {
    /// A learner at its first weights, on the device they are for.
    pub fn new(name: Option<&'static str>, fresh: M, plan: &Train) -> Self {
        // Weights are drawn when first used; the average draws them, and the model takes the same numbers.
        let ema = fresh.valid();
        let model = ema.clone().train();
        let optimizer = AdamW::new(plan.optimizer.clone());
        let length = |average: &Average| match average {
            Average::Power { sigma_rel } => Some(*sigma_rel),
            _ => None,
        };
        let averages = plan.ema.averages();
        let others = averages[1..].iter().filter_map(length).map(|it| (it, ema.clone())).collect();
        let length = length(&averages[0]);
        Self { name, weights: Some([model, ema]), others, length, optimizer }
    }

    /// The weights, which know their gradients.
    pub fn model(&self) -> &M {
        &self.weights()[0]
    }

    /// Their average, which knows none.
    pub fn ema(&self) -> &M {
        &self.weights()[1]
    }

    /// Takes a step down the mean of `gradients`, and the average after it; neither, where they are not finite.
    pub fn step(&mut self, gradients: GradientSum, stride: Stride) -> Norm {
        self.optimizer.set_weight_decay(stride.weight_decay);
        let [model, ema] = self.take();
        let (model, ema, norm) = self.optimizer.step(
            model,
            Some((ema, stride.ema_decay)),
            gradients,
            stride.learning_rate,
        );
        self.weights = ema.map(|ema| [model, ema]);
        norm
    }

    /// Takes the averages beside the first after the step of `norm`: each keeps its share of itself in `decays`.
    pub fn follow(&mut self, norm: &Norm, decays: &[f64]) {
        let others = std::mem::take(&mut self.others);
        let moved = others.into_iter().zip(decays).map(|((length, average), decay)| {
            (length, follow(average, self.model(), *decay, norm))
        });
        self.others = moved.collect();
    }

    /// The power-function averages, each with its length.
    pub fn powers(&self) -> Vec<(f64, StateDict)> {
        let first = self.length.map(|length| (length, weights::state_dict(self.ema())));
        let others = self.others.iter().map(|(length, it)| (*length, weights::state_dict(it)));
        first.into_iter().chain(others).collect()
    }

    /// Puts all that it needs to go on into `parts`.
    pub fn save(&mut self, parts: &mut Parts) {
        for (length, average) in &self.others {
            parts.insert(self.other(*length), weights::state_dict(average));
        }
        parts.insert(self.part("model"), weights::state_dict(self.model()));
        parts.insert(self.part("ema"), weights::state_dict(self.ema()));
        parts.insert(self.part("optimizer"), self.optimizer.state_dict());
    }

    /// Takes back what [`Learner::save`] gave. Fails where a part is missing or of another network.
    pub fn load(&mut self, parts: &Parts) -> Result<()> {
        let [model, ema] = self.weights().clone();
        let model = weights::load_state_dict(model, parts.get(&self.part("model"))?)?;
        let ema = weights::load_state_dict(ema, parts.get(&self.part("ema"))?)?;
        self.optimizer.load_state_dict(&model, parts.get(&self.part("optimizer"))?)?;
        let others = self.others.iter().map(|(length, average)| {
            let state = parts.get(&self.other(*length))?;
            Ok((*length, weights::load_state_dict(average.clone(), state)?))
        });
        self.others = others.collect::<Result<_>>()?;
        self.weights = Some([model, ema]);
        Ok(())
    }

    fn other(&self, length: f64) -> String {
        self.part(&format!("ema-{}", snapshots::name(length)))
    }

    fn weights(&self) -> &[M; 2] {
        self.weights.as_ref().expect("weights are away only inside of `step`")
    }

    fn take(&mut self) -> [M; 2] {
        self.weights.take().expect("weights are away only inside of `step`")
    }

    fn part(&self, what: &str) -> String {
        self.name.map_or_else(|| what.to_owned(), |name| format!("{name}-{what}"))
    }
}
