//! Adapters: a network's weights, re-expressed as frozen ones and a small change that learns. No network knows of it.

use super::parameters::former_names;
use crate::faults::demand;
use crate::models::layers::affine;
use crate::models::weights::{self, StateDict, WeightsError, is_named};
use crate::models::{Fill, Init};
use anyhow::{Result, ensure};
use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Low-rank adaptation (LoRA, arXiv 2106.09685): W + alpha / rank · B A. Of a convolution, A sees all but the outputs, as
/// peft has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What the change is scaled by, over `rank`.
    pub alpha: f64,
    /// Which weights are adapted: patterns over their names in the file, in which `*` stands for any text.
    pub targets: Vec<String>,
}

/// The change of one weight.
#[derive(Module, Debug)]
pub struct LowRank {
    /// A, [rank, inputs]: starts as peft's.
    lora_a: Param<Tensor<2>>,
    /// B, [outputs, rank]: starts at 0, so that nothing changes before the first step.
    lora_b: Param<Tensor<2>>,
    #[module(skip)]
    scale: f64,
}

impl Reparameterization for LowRank {
    const NAME: &'static str = "lora";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let change = affine(self.lora_b.val(), self.lora_a.val().transpose(), None) * self.scale;
        let change = change.reshape(base.shape());
        base + change
    }
}

impl Lora {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_scale = self.alpha > 0.0 && self.alpha.is_finite();
        let rank = demand(self.rank > 0, "rank", self.rank, "at least 1");
        rank.into_iter().chain(demand(is_scale, "alpha", self.alpha, "a number above 0")).collect()
    }

    /// `module`, frozen, with a change that learns for each of the targets; changes are drawn by `init`. Fails where a
    /// pattern names no weight of two axes or more.
    pub fn attach<M: Module>(&self, module: M, init: &mut Init) -> Result<M> {
        let names = former_names(&module).into_iter().map(|(name, path)| (path, name)).collect();
        let mut used = BTreeSet::new();
        let attach = Attach { lora: self, names, init, used: &mut used };
        let adapted = module.apply_reparameterization(attach);
        for (at, pattern) in self.targets.iter().enumerate() {
            ensure!(
                used.contains(&at),
                "targets[{at}] is {pattern:?}; expected the name of a matrix or a kernel"
            );
        }
        Ok(adapted)
    }
}

struct Attach<'a> {
    lora: &'a Lora,
    /// Names in the file by the path through the structs.
    names: BTreeMap<String, String>,
    init: &'a mut Init,
    /// Which patterns have named something.
    used: &'a mut BTreeSet<usize>,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = LowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        let Lora { rank, alpha, targets } = self.lora;
        let name = self.names.get(path).map_or(path, String::as_str);
        let naming = |(at, pattern): (usize, &String)| is_named(name, pattern).then_some(at);
        let named: Vec<usize> = targets.iter().enumerate().filter_map(naming).collect();
        let frozen = param.set_require_grad(false);
        if D < 2 || named.is_empty() {
            return (frozen, None);
        }
        self.used.extend(named);
        let dims = frozen.lazy_shape().to_vec();
        let (outputs, inputs) = (dims[0], dims[1..].iter().product());
        let change = LowRank {
            lora_a: self.init.param([*rank, inputs], Fill::torch_default(inputs)),
            lora_b: self.init.param([outputs, *rank], Fill::Zeros),
            scale: alpha / *rank as f64,
        };
        (frozen, Some(change))
    }
}

/// Is `name` that of a part of an adapter?
fn is_adapter(name: &str) -> bool {
    name.contains(".lora.")
}

/// The adapters of `module` alone: what a file of them holds.
pub fn state_dict<M: Module>(module: &M) -> StateDict {
    weights::state_dict(module).into_iter().filter(|(name, _)| is_adapter(name)).collect()
}

/// `module` with the adapters of `state`; what they adapt stays as it is. Fails, naming every tensor at fault, unless they
/// are exactly the module's.
pub fn load_state_dict<M: Module>(module: M, state: &StateDict) -> Result<M, WeightsError> {
    weights::load_part(module, state, is_adapter)
}

/// `module` with its adapters merged into its weights: the same outputs, and no adapter.
pub fn merge<M: Module>(module: M) -> M {
    module.materialize()
}

#[cfg(test)]
mod tests;
