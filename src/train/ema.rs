//! How slowly the running mean of a module's weights follows them. The optimizer takes it along: [`super::adamw`].

use crate::faults::demand;
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

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn warm_up_forgets_the_beginning() {
        let config = EmaConfig { decay: 0.999, warm_up: true };
        assert_eq!((config.decay_at(0), config.decay_at(1)), (0.1, 2.0 / 11.0));
        assert_eq!(config.decay_at(1_000_000), 0.999);
        assert_eq!(EmaConfig { warm_up: false, ..config.clone() }.decay_at(0), 0.999);
        assert!(config.check().is_empty());
        assert_eq!(EmaConfig { decay: 1.0, ..config }.check().len(), 1);
    }
}
