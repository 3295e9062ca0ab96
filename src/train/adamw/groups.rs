//! Weights that learn at a pace of their own.

use crate::faults::{demand, within};
use crate::models::weights::is_named;
use serde::{Deserialize, Serialize};

/// Weights whose learning rate or decay differs from the others'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// Which weights: patterns over the names in a checkpoint, in which `*` stands for any text.
    pub weights: Vec<String>,
    /// Times the learning rate.
    pub rate: f64,
    /// Times the weight decay, of weights that decay.
    pub decay: f64,
}

impl Default for Group {
    fn default() -> Self {
        Self { weights: Vec::new(), rate: 1.0, decay: 1.0 }
    }
}

/// How fast one parameter goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    pub(super) rate: f64,
    pub(super) decay: f64,
}

impl Group {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub(super) fn check(&self) -> Vec<String> {
        let factor = |name, value: f64| {
            demand(value >= 0.0 && value.is_finite(), name, value, "a number from 0 up")
        };
        let is_named = !self.weights.is_empty();
        let expected = "at least one pattern, as in \"*.patch_embeddings.*\"";
        [
            demand(is_named, "weights", "empty", expected),
            factor("rate", self.rate),
            factor("decay", self.decay),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The pace of the parameter called `name`: the factors of all groups that name it, multiplied.
pub(super) fn pace(groups: &[Group], name: &str) -> Pace {
    let names = |group: &&Group| group.weights.iter().any(|pattern| is_named(name, pattern));
    groups.iter().filter(names).fold(Pace { rate: 1.0, decay: 1.0 }, |pace, group| Pace {
        rate: pace.rate * group.rate,
        decay: pace.decay * group.decay,
    })
}

/// Every pattern of `groups` that names none of `names`, a sentence each.
pub fn check_names(groups: &[Group], names: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let is_used = |pattern: &str| names.iter().any(|name| is_named(name, pattern));
        for (place, pattern) in group.weights.iter().enumerate().filter(|(_, it)| !is_used(it)) {
            let example = names.first().map_or("none", String::as_str);
            let expected = format!("a pattern that names weights, such as {example}");
            let fault =
                demand(false, &format!("weights[{place}]"), format!("{pattern:?}"), expected);
            faults.extend(within(&format!("groups[{at}]"), fault));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_name_the_same_weight_multiply() {
        let group =
            |weights: &str, rate, decay| Group { weights: vec![weights.into()], rate, decay };
        let groups = [group("*.patch_embeddings.*", 0.2, 0.5), group("backbone.*", 0.5, 0.0)];
        let pace = |name| pace(&groups, name);
        assert_eq!(pace("head.last_layer"), Pace { rate: 1.0, decay: 1.0 });
        assert_eq!(pace("backbone.layernorm.weight"), Pace { rate: 0.5, decay: 0.0 });
        let both = "backbone.embeddings.patch_embeddings.projection.weight";
        assert_eq!(pace(both), Pace { rate: 0.1, decay: 0.0 });
    }

    #[test]
    fn a_pattern_that_names_nothing_has_its_sentence() {
        let names = ["head.last_layer".to_owned()];
        let group = Group { weights: vec!["head.*".into(), "tail".into()], ..Group::default() };
        let faults = check_names(&[group], &names);
        assert_eq!(
            faults,
            [
                "groups[0].weights[1] is \"tail\"; expected a pattern that names weights, such as head.last_layer"
            ]
        );
    }
}
