//! Who trains, who validates, who tests: by patient, official splits first.

use crate::data::catalog::{PatientKey, Split};
use crate::data::section::Fractions;
use crate::data::source::{Listed, ListedAt};
use crate::random::Stream;
use std::collections::{BTreeMap, BTreeSet};

/// The official splits divide a patient.
#[derive(Debug, thiserror::Error)]
#[error(
    "{first} is in {} and {second} in {}, but both show one patient; correct the split column, or leave such \
     patients out with data.split_conflict: Drop",
    first_split.name(), second_split.name()
)]
pub struct SplitError {
    /// One image of the patient.
    first: Box<ListedAt>,
    first_split: Split,
    /// Another one.
    second: Box<ListedAt>,
    second_split: Split,
}

/// One image, as far as its split depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) dataset: &'a str,
    pub(super) patient: PatientKey,
    pub(super) official: Option<Split>,
    pub(super) is_phantom: bool,
}

/// The split of every image, in order.
pub(super) struct Assigned {
    pub(super) splits: Vec<Split>,
    /// Whether the official splits divide the image's patient.
    pub(super) is_divided: Vec<bool>,
}

/// Fails where the official splits divide a patient.
pub(super) fn refuse_divided(listed: &[Listed]) -> Result<(), SplitError> {
    let mut first_of: BTreeMap<PatientKey, (&Listed, Split)> = BTreeMap::new();
    for listed in listed {
        let Some(split) = listed.split else { continue };
        let (first, first_split) = *first_of.entry(listed.patient).or_insert((listed, split));
        if first_split != split {
            return Err(SplitError {
                first: Box::new(first.origin.clone()),
                first_split,
                second: Box::new(listed.origin.clone()),
                second_split: split,
            });
        }
    }
    Ok(())
}

/// The split of every one of `members`.
///
/// An official split wins. Patients without one are divided by a keyed hash of the patient: in a dataset
/// of files each patient falls by its own hash, so that new patients move no old ones (fractions hold on
/// average); phantoms fill the fractions exactly, as far as whole patients can. A dataset with an official
/// split fills only the splits which that split has: no test set is invented.
pub(super) fn assign(members: &[Member<'_>], fractions: &Fractions, seed: u64) -> Assigned {
    let mut split_of: BTreeMap<PatientKey, Split> = BTreeMap::new();
    let mut divided: BTreeSet<PatientKey> = BTreeSet::new();
    let mut used_by: BTreeMap<&str, BTreeSet<Split>> = BTreeMap::new();
    for member in members {
        used_by.entry(member.dataset).or_default().extend(member.official);
        if let Some(split) = member.official
            && *split_of.entry(member.patient).or_insert(split) != split
        {
            divided.insert(member.patient);
        }
    }
    let stream = Stream::new(seed, "data/split");
    let mut phantoms: BTreeMap<PatientKey, u64> = BTreeMap::new();
    let mut by_hash: BTreeMap<PatientKey, Split> = BTreeMap::new();
    for member in members.iter().filter(|it| !split_of.contains_key(&it.patient)) {
        if member.is_phantom {
            *phantoms.entry(member.patient).or_default() += 1;
        } else {
            let allowed = &used_by[member.dataset];
            by_hash.insert(member.patient, fall(fractions, allowed, place(stream, member.patient)));
        }
    }
    split_of.append(&mut by_hash);
    split_of.extend(fill_exactly(&phantoms, fractions, stream));
    Assigned {
        splits: members.iter().map(|member| split_of[&member.patient]).collect(),
        is_divided: members.iter().map(|member| divided.contains(&member.patient)).collect(),
    }
}

/// Where in [0, 1) a patient lies.
fn place(stream: Stream, patient: PatientKey) -> f64 {
    let position = u64::from_le_bytes(patient.0[..8].try_into().expect("8 bytes of 16"));
    stream.at(position).uniform()
}

/// The split whose share of [0, 1) holds `place`, among the allowed ones (all, if none is named).
fn fall(fractions: &Fractions, allowed: &BTreeSet<Split>, place: f64) -> Split {
    let shares = Split::ALL.into_iter().zip(fractions.in_order());
    let shares: Vec<(Split, f64)> = shares
        .filter(|(split, share)| *share > 0.0 && (allowed.is_empty() || allowed.contains(split)))
        .collect();
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut left = place * total;
    for &(split, share) in &shares {
        if left < share {
            return split;
        }
        left -= share;
    }
    shares.last().map_or(Split::Train, |(split, _)| *split)
}

/// Divides patients, given with their number of images, so that every split gets its share of the images
/// to the image, or as near below it as whole patients can come; train takes what is left.
fn fill_exactly(
    images_of: &BTreeMap<PatientKey, u64>,
    fractions: &Fractions,
    stream: Stream,
) -> BTreeMap<PatientKey, Split> {
    let mut patients: Vec<(PatientKey, u64)> =
        images_of.iter().map(|(patient, images)| (*patient, *images)).collect();
    patients.sort_by(|(a, _), (b, _)| {
        place(stream, *a).total_cmp(&place(stream, *b)).then_with(|| a.cmp(b))
    });
    let total: u64 = images_of.values().sum();
    let quota = |fraction: f64| (fraction * total as f64).round() as u64;
    let mut split_of = BTreeMap::new();
    for (split, quota) in
        [(Split::Test, quota(fractions.test)), (Split::Valid, quota(fractions.valid))]
    {
        let (taken, rest) = take(patients, quota);
        split_of.extend(taken.into_iter().map(|(patient, _)| (patient, split)));
        patients = rest;
    }
    split_of.extend(patients.into_iter().map(|(patient, _)| (patient, Split::Train)));
    split_of
}

type Patients = Vec<(PatientKey, u64)>;

/// Takes patients in order until their images fill `quota`, passing over those that no longer fit; then
/// closes a remaining gap by exchanging one patient for one with exactly that many images more.
fn take(patients: Patients, quota: u64) -> (Patients, Patients) {
    let mut gap = quota;
    let (mut taken, mut rest) = (Patients::new(), Patients::new());
    for (patient, images) in patients {
        if images <= gap {
            gap -= images;
            taken.push((patient, images));
        } else {
            rest.push((patient, images));
        }
    }
    let exchange = (0..taken.len()).find_map(|out| {
        let wanted = taken[out].1 + gap;
        Some((out, rest.iter().position(|(_, images)| *images == wanted)?))
    });
    if let (true, Some((out, back))) = (gap > 0, exchange) {
        std::mem::swap(&mut taken[out], &mut rest[back]);
    }
    (taken, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images_of(sizes: impl Iterator<Item = u64>) -> BTreeMap<PatientKey, u64> {
        let key = |at: usize| PatientKey::of_phantom(&at.to_string());
        sizes.enumerate().map(|(at, images)| (key(at), images)).collect()
    }

    fn count(images_of: &BTreeMap<PatientKey, u64>, seed: u64) -> BTreeMap<Split, u64> {
        let mut images = BTreeMap::new();
        for (patient, split) in
            fill_exactly(images_of, &Fractions::default(), Stream::new(seed, "data/split"))
        {
            *images.entry(split).or_default() += images_of[&patient];
        }
        images
    }

    #[test]
    fn fractions_are_exact_whatever_the_patients_sizes() {
        let exact = [(Split::Train, 1024), (Split::Valid, 128), (Split::Test, 128)].into();
        for seed in 0..20 {
            assert_eq!(count(&images_of((0..1280).map(|_| 1)), seed), exact);
            assert_eq!(count(&images_of((0..640).map(|_| 2)), seed), exact);
            assert_eq!(count(&images_of((0..512).map(|at| 2 + at % 2)), seed), exact);
            assert_eq!(count(&images_of((0..512).map(|at| [1, 1, 3, 5][at % 4])), seed), exact);
        }
    }

    #[test]
    fn hashed_fractions_hold_on_average_and_a_masked_split_stays_empty() {
        let stream = Stream::new(5, "data/split");
        let fractions = Fractions::default();
        let draw = |allowed: &[Split]| {
            let allowed = allowed.iter().copied().collect();
            let mut counts: BTreeMap<Split, u64> = BTreeMap::new();
            for patient in images_of((0..20_000).map(|_| 1)).into_keys() {
                let split = fall(&fractions, &allowed, place(stream, patient));
                *counts.entry(split).or_default() += 1;
            }
            counts
        };
        let free = draw(&[]);
        // Four standard deviations of a binomial: √(20,000 · 0.1 · 0.9) = 42.
        assert!(free[&Split::Valid].abs_diff(2_000) < 170, "{free:?}");
        assert!(free[&Split::Test].abs_diff(2_000) < 170, "{free:?}");
        let masked = draw(&[Split::Train, Split::Valid]);
        assert_eq!(masked.get(&Split::Test), None);
        assert!(masked[&Split::Valid].abs_diff(2_222) < 180, "{masked:?}");
    }

    #[test]
    fn another_seed_divides_otherwise() {
        let images = images_of((0..100).map(|_| 1));
        let split =
            |seed| fill_exactly(&images, &Fractions::default(), Stream::new(seed, "data/split"));
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }
}
