//! From what each row says to three values for every name its dataset knows.

use super::super::Listed;
use crate::data::catalog::Label;
use std::collections::{BTreeMap, BTreeSet};

/// What public datasets write where every finding is absent.
const NO_FINDING: &str = "No Finding";

/// What one row says about labels.
pub(super) struct Said {
    /// The names it lists, `No Finding` left out; `None` where it lists nothing at all.
    present: Option<BTreeSet<String>>,
    /// The names it gives a number.
    numbered: BTreeMap<String, Label>,
}

impl Said {
    /// Reads a field of names separated by `|`, and fields of one number each.
    pub(super) fn read<'a>(
        names: &str,
        numbers: impl Iterator<Item = (&'a String, &'a str)>,
    ) -> Result<Self, String> {
        let names: Vec<&str> =
            names.split('|').map(str::trim).filter(|name| !name.is_empty()).collect();
        let present = names.iter().filter(|name| **name != NO_FINDING);
        let present = (!names.is_empty()).then(|| present.map(|name| (*name).to_owned()).collect());
        let numbered = numbers
            .filter(|(name, _)| *name != NO_FINDING)
            .map(|(name, text)| match Label::from_number(text) {
                Some(label) => Ok((name.clone(), label)),
                None => Err(format!("label `{name}` is none of 1, 0, -1 and nothing")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { present, numbered })
    }
}

/// Gives every row a value for every name that its dataset's rows list.
pub(super) fn fill(rows: &mut [Listed], said: &[Said]) {
    let mut vocabularies: BTreeMap<String, BTreeSet<&String>> = BTreeMap::new();
    for (row, said) in rows.iter().zip(said) {
        let vocabulary = vocabularies.entry(row.dataset.clone()).or_default();
        vocabulary.extend(said.present.iter().flatten());
    }
    for (row, said) in rows.iter_mut().zip(said) {
        for &name in &vocabularies[&row.dataset] {
            let label = match &said.present {
                None => Label::Unknown,
                Some(present) if present.contains(name) => Label::Present,
                Some(_) => Label::Absent,
            };
            row.labels.insert(name.clone(), label);
        }
        row.labels.extend(said.numbered.clone());
    }
}
