//! Which images a figure looks at, where it does not look at all of them.

use crate::random::{Permutation, Stream};
use std::collections::{BTreeMap, BTreeSet};

/// At most `most` of `count` indices, drawn by `stream`, in order.
pub(super) fn chosen(stream: Stream, count: usize, most: usize) -> Vec<usize> {
    let chosen: BTreeSet<usize> = shuffled(stream, count, most).into_iter().collect();
    chosen.into_iter().collect()
}

/// The same indices in the order in which they are drawn: the first of them are a fair draw as well.
pub(super) fn shuffled(stream: Stream, count: usize, most: usize) -> Vec<usize> {
    let order = Permutation::new(count as u64, stream, 0);
    (0..count.min(most) as u64).map(|at| order.apply(at) as usize).collect()
}

/// Two sets of at most `most` indices each, none of whose `groups` (patients, say) is in both; in the order in which
/// groups are drawn by `stream`.
///
/// Groups go to the smaller side as they are drawn, so the two differ by no more than a group.
pub(super) fn apart<G: Ord>(groups: &[G], stream: Stream, most: usize) -> [Vec<usize>; 2] {
    // Numbered as they come: what a group is called decides nothing.
    let mut numbers: BTreeMap<&G, usize> = BTreeMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let number = *numbers.entry(group).or_insert(members.len());
        if number == members.len() {
            members.push(Vec::new());
        }
        members[number].push(index);
    }
    let mut sides = [Vec::new(), Vec::new()];
    for number in shuffled(stream, members.len(), members.len()) {
        let smaller = usize::from(sides[1].len() < sides[0].len());
        if sides[smaller].len() >= most {
            break;
        }
        sides[smaller].append(&mut members[number]);
    }
    sides.iter_mut().for_each(|side| side.truncate(most));
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u64) -> Stream {
        Stream::new(seed, "subset")
    }

    #[test]
    fn a_subset_is_drawn_by_the_seed() {
        assert_eq!(chosen(stream(1), 5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(stream(1), 5, usize::MAX), [0, 1, 2, 3, 4]);
        assert!(chosen(stream(1), 0, 5).is_empty());
        let some = chosen(stream(1), 1000, 50);
        assert_eq!(some.len(), 50);
        assert!(some.is_sorted_by(|a, b| a < b) && *some.last().unwrap() < 1000);
        assert_eq!(some, chosen(stream(1), 1000, 50));
        assert_ne!(some, chosen(stream(2), 1000, 50));
        let drawn = shuffled(stream(1), 1000, 50);
        assert!(!drawn.is_sorted() && drawn.iter().all(|index| some.contains(index)));
        assert_eq!(shuffled(stream(1), 1000, 20), drawn[..20]);
    }

    /// However many images patients have, and however few of them are taken.
    #[test]
    fn no_patient_is_on_both_sides() {
        for seed in 0..20 {
            let mut draws = Stream::new(seed, "patients").at(0);
            let patients: Vec<u64> = (0..500).map(|_| draws.below(1 + seed * 20)).collect();
            for most in [1, 7, 100, 250, 10_000] {
                let [a, b] = apart(&patients, stream(seed), most);
                let of =
                    |side: &[usize]| side.iter().map(|&at| patients[at]).collect::<BTreeSet<_>>();
                assert!(of(&a).is_disjoint(&of(&b)), "seed {seed}, {most}");
                let images: BTreeSet<_> = a.iter().chain(&b).collect();
                assert_eq!(images.len(), a.len() + b.len(), "an image is there twice");
                assert!(a.len() <= most && b.len() <= most);
            }
        }
    }

    #[test]
    fn sides_are_of_one_size_and_have_all_there_is() {
        let patients: Vec<usize> = (0..600).map(|image| image / 3).collect();
        let sizes = |most| apart(&patients, stream(1), most).map(|side| side.len());
        assert_eq!(sizes(10_000), [300, 300]);
        assert_eq!(sizes(300), [300, 300]);
        assert_eq!(sizes(100), [100, 100]);
        assert_eq!(apart(&[7; 5], stream(1), 10).map(|side| side.len()), [5, 0]);
        assert_eq!(apart::<u8>(&[], stream(1), 10), [Vec::<usize>::new(), vec![]]);
        // Another name for every patient changes nothing.
        let renamed: Vec<usize> = patients.iter().map(|patient| 1000 - patient).collect();
        assert_eq!(apart(&patients, stream(1), 100), apart(&renamed, stream(1), 100));
    }
}
