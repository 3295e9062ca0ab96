//! A running mean of a module's weights.

use super::parameters::{flat_values, map_flat_values};
use crate::faults::demand;
use burn::module::Module;
use serde::{Deserialize, Serialize};

/// How slowly the mean follows the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the mean that each update keeps, in [0, 1).
    pub decay: f64,
    /// Keeps only (1 + n) / (10 + n) at update n while that is less, so that the first weights, which
    /// are random, are forgotten soon.
    pub warm_up: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999, warm_up: true }
    }
}

impl EmaConfig {
    /// Share of the mean that update `n`, from 0, keeps.
    pub fn decay_at(&self, n: u64) -> f64 {
        let n = n as f64;
        if self.warm_up { self.decay.min((1.0 + n) / (10.0 + n)) } else { self.decay }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_share = (0.0..1.0).contains(&self.decay);
        demand(is_share, "decay", self.decay, "at least 0 and below 1").into_iter().collect()
    }
}

/// `decay` · `mean` + (1 − `decay`) · `module`, parameter by parameter, as `mean` + (1 − `decay`) · (`module` −
/// `mean`): what does not change, because it does not learn, stays as it is to the bit.
pub fn blend<M: Module>(mean: M, module: &M, decay: f64) -> M {
    let mut values = flat_values(module);
    map_flat_values(mean, &mut |name, _rank, mean| {
        let value = values.remove(name).expect("the mean has the parameters of its module");
        mean.clone() + (value - mean).mul_scalar(1.0 - decay)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::Param,
        tensor::{Device, Tensor},
    };

    #[derive(Module, Debug)]
    struct Net {
        weight: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
    }

    fn net(weight: f32, bias: f32) -> Net {
        let device = Device::flex().autodiff();
        Net {
            weight: Param::from_data([[weight, 2.0 * weight]], &device),
            bias: Param::from_data([bias], &device),
        }
    }

    fn values(net: &Net) -> Vec<f32> {
        let read = |data: burn::tensor::TensorData| data.try_to_vec::<f32>().unwrap();
        [read(net.weight.val().into_data()), read(net.bias.val().into_data())].concat()
    }

    #[test]
    fn the_mean_follows_by_its_formula() {
        let mean = blend(net(1.0, 8.0).valid(), &net(5.0, 0.0), 0.75);
        assert_eq!(values(&mean), [2.0, 4.0, 6.0]);
        let mean = blend(mean, &net(6.0, 2.0), 0.75);
        assert_eq!(values(&mean), [3.0, 6.0, 5.0]);
        assert!(!mean.weight.val().device().is_autodiff());
    }

    #[test]
    fn what_does_not_change_stays_to_the_bit() {
        let module = net(0.1, 1.0 / 3.0);
        let mut mean = module.valid();
        for decay in [0.1, 0.5, 0.9, 0.999] {
            mean = blend(mean, &module, decay);
        }
        assert_eq!(values(&mean), values(&module));
    }

    #[test]
    fn warm_up_forgets_the_beginning() {
        let config = EmaConfig { decay: 0.999, warm_up: true };
        assert_eq!((config.decay_at(0), config.decay_at(1)), (0.1, 2.0 / 11.0));
        assert_eq!(config.decay_at(1_000_000), 0.999);
        assert_eq!(EmaConfig { warm_up: false, ..config.clone() }.decay_at(0), 0.999);
        assert!(config.check().is_empty());
        assert_eq!(EmaConfig { decay: 1.0, ..config }.check().len(), 1);
    }

    #[test]
    fn the_followed_module_still_learns() {
        let module = net(1.0, 1.0);
        blend(module.valid(), &module, 0.5);
        assert!(module.weight.val().is_require_grad());
        let blended = blend(net(0.0, 0.0), &module, 0.5);
        assert!(blended.weight.val().is_require_grad(), "a leaf stays a leaf");
    }
}
