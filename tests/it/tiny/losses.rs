//! What the three trainings of recipes/tiny.ron computed when they were last looked at: the licence to change how it
//! is computed.

use super::run;
use crate::binary::project;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use umbra::telemetry::metrics;
use umbra::train::CLOCKED;

/// Set, it writes the record anew (`just bless`).
const BLESS: &str = "UMBRA_BLESS";

/// Largest relative difference from the record.
///
/// On one machine all are equal to the bit. Another processor adds in another order, which training hardly enlarges:
/// learning rates that differ by a millionth move no number by more than 7e-6, gradients summed in several rounds none
/// by more than 1e-6. A mistake is larger: a learning rate 1 % too high moves the denoiser's loss by 3e-3, a `beta2` of
/// 0.998 for 0.999 by 1e-4 and its gradient's norm by 1e-3.
const TOLERANCE: f64 = 1e-4;

/// The numbers of one moment.
#[derive(Debug, Serialize, Deserialize)]
struct Moment {
    images_seen: u64,
    values: BTreeMap<String, f64>,
}

fn recorded() -> BTreeMap<String, Vec<Moment>> {
    let read = |network: &str| {
        let records = metrics::read(&run().join(network)).unwrap();
        let moments = records.into_iter().map(|record| {
            let mut values = record.values;
            // A clock decides them.
            values.retain(|name, _| !CLOCKED.contains(&name.as_str()));
            Moment { images_seen: record.images_seen, values }
        });
        (network.to_owned(), moments.collect())
    };
    ["encoder", "autoencoder", "denoiser"].map(read).into_iter().collect()
}

#[test]
fn the_tiny_recipe_learns_as_it_did() {
    let path = project().join("tests/golden/tiny_losses.json");
    let found = recorded();
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let text = fs::read_to_string(&path).unwrap();
    let expected: BTreeMap<String, Vec<Moment>> = serde_json::from_str(&text).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut different = Vec::new();
    for (network, expected) in &expected {
        let found = &found[network];
        assert_eq!(found.len(), expected.len(), "{network}: records");
        for (found, expected) in found.iter().zip(expected) {
            let place = format!("{network} at {} images", expected.images_seen);
            assert_eq!(found.images_seen, expected.images_seen, "{place}");
            let names = |moment: &Moment| moment.values.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(found), names(expected), "{place}");
            for (name, expected) in &expected.values {
                let found = found.values[name];
                let error = (found - expected).abs() / expected.abs().max(1e-9);
                if error.is_nan() || error >= TOLERANCE {
                    different.push(format!("{place}, {name}: {found}, recorded {expected}"));
                }
            }
        }
    }
    assert!(
        different.is_empty(),
        "{} numbers differ from tests/golden/tiny_losses.json; where that is meant, `just bless`:\n{}",
        different.len(),
        different.join("\n")
    );
}
