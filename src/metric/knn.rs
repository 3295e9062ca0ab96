//! Labels told by nearest neighbours.

use super::features::dot;
use super::{Features, Refusal, at_least, products};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// For each label, what is known of it in each image; None is *unknown*, which is not *absent*.
pub type Labels<'a> = &'a [Vec<Option<bool>>];

/// How well an image's nearest neighbours tell its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct KnnAccuracy {
    /// Mean balanced accuracy over the labels that could be judged, in [0, 1]; chance is 0.5.
    pub mean: f64,
    /// Balanced accuracy of each label in the order given; None where it could not be judged.
    pub labels: Vec<Option<f64>>,
}

/// What an image's nearest neighbours said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told<'a> {
    labels: Labels<'a>,
    /// Of each label, what was said of each image.
    predictions: Vec<Vec<Option<bool>>>,
}

impl Told<'_> {
    /// How often it was right, every image being there once or, if given, as often as `counts` has it. None where no
    /// label can be judged.
    pub fn accuracy(&self, counts: Option<&[u32]>) -> Option<KnnAccuracy> {
        let labels: Vec<Option<f64>> = self
            .labels
            .iter()
            .zip(&self.predictions)
            .map(|(known, said)| balanced_accuracy(known, said, counts))
            .collect();
        let judged: Vec<f64> = labels.iter().flatten().copied().collect();
        let mean = judged.iter().sum::<f64>() / judged.len() as f64;
        (!judged.is_empty()).then_some(KnnAccuracy { mean, labels })
    }
}

/// [`told_leave_group_out`], and how often it was right.
pub fn accuracy_leave_group_out<G: Ord>(
    features: Features,
    labels: Labels,
    groups: &[G],
    k: usize,
) -> Result<KnnAccuracy, Refusal> {
    told_leave_group_out(features, labels, groups, k)?.accuracy(None).ok_or(Refusal::NoLabel)
}

/// Predicts each image's labels from its `k` nearest images of other `groups` (patients, say), by cosine after
/// subtracting the mean: an image's own group, which shares its labels for other reasons than likeness, has no
/// vote.
///
/// For each label the `k` nearest of those where it is known vote: present when it is more frequent among them
/// than among all of those, a tie goes the way of the nearest. Balanced accuracy is the mean of the accuracies
/// where the label is present and where it is absent. Labels that [`check_labels`] would refuse are left out;
/// refuses when none is left.
pub fn told_leave_group_out<'a, G: Ord>(
    features: Features,
    labels: Labels<'a>,
    groups: &[G],
    k: usize,
) -> Result<Told<'a>, Refusal> {
    assert!(k > 0, "no neighbours, no votes");
    assert_eq!(groups.len(), features.len(), "each image has one group");
    assert!(labels.iter().all(|label| label.len() == features.len()));
    at_least(2, features.len())?;
    check_labels(labels)?;
    features.finite()?;
    let (groups, members) = grouped(groups);
    let electorates = electorates(labels);
    // Without the mean, what all images have in common would decide.
    let rows = features.directions(Some(&features.mean()));
    let rounded: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
    let predict = |image: usize, likeness: &[f32]| {
        let told = electorates.iter().flat_map(|Electorate { voters, labels }| {
            let own = groups[image];
            let others = voters.iter().copied().filter(|&voter| groups[voter] != own).collect();
            let exact = |voter: usize| dot(&rows[image], &rows[voter]);
            let nearest = nearest(others, likeness, k, products::error(features.width()), exact);
            let vote = |label: &Label| {
                let known = |image: &usize| label.known[*image];
                let own = tally(members[own].iter().filter_map(known));
                let votes: Vec<bool> = nearest.iter().filter_map(known).collect();
                vote(&votes, [label.tally[0] - own[0], label.tally[1] - own[1]])
            };
            labels.iter().map(vote).collect::<Vec<_>>()
        });
        told.collect::<Vec<Option<bool>>>()
    };
    let said = products::map_rows(&rounded, &rounded, features.width(), predict)?;
    let mut predictions = vec![Vec::new(); labels.len()];
    for (at, label) in electorates.iter().flat_map(|it| &it.labels).enumerate() {
        predictions[label.number] = said.iter().map(|said| said[at]).collect();
    }
    Ok(Told { labels, predictions })
}

/// Refuses labels none of which is known to be present in one image and absent in another: there is nothing to
/// tell, and no need of features to see it.
pub fn check_labels(labels: Labels) -> Result<(), Refusal> {
    let is_told =
        |known: &Vec<Option<bool>>| [true, false].iter().all(|&it| known.contains(&Some(it)));
    if labels.iter().any(is_told) { Ok(()) } else { Err(Refusal::NoLabel) }
}

/// Labels that are known in the same images, and so are told by the same neighbours.
struct Electorate<'a> {
    /// Where they are known.
    voters: Vec<usize>,
    labels: Vec<Label<'a>>,
}

struct Label<'a> {
    number: usize,
    known: &'a [Option<bool>],
    /// Of all images.
    tally: [usize; 2],
}

fn electorates(labels: Labels) -> Vec<Electorate> {
    let mut by_voters: BTreeMap<Vec<usize>, Vec<Label>> = BTreeMap::new();
    for (number, known) in labels.iter().enumerate() {
        let voters = (0..known.len()).filter(|&image| known[image].is_some()).collect();
        let tally = tally(known.iter().copied().flatten());
        by_voters.entry(voters).or_default().push(Label { number, known, tally });
    }
    by_voters.into_iter().map(|(voters, labels)| Electorate { voters, labels }).collect()
}

/// How often absent, how often present.
fn tally(values: impl Iterator<Item = bool>) -> [usize; 2] {
    let mut tally = [0; 2];
    values.for_each(|is_present| tally[usize::from(is_present)] += 1);
    tally
}

/// The number of each image's group, and the images of each.
fn grouped<G: Ord>(groups: &[G]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut members: BTreeMap<&G, Vec<usize>> = BTreeMap::new();
    for (image, group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(image);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let mut numbers = vec![0; groups.len()];
    for (number, images) in members.iter().enumerate() {
        images.iter().for_each(|&image| numbers[image] = number);
    }
    (numbers, members)
}

/// The `k` of `voters` with the greatest exact likeness, greatest first; of equals, the first. `likeness` tells all
/// but those whose order its error `off` leaves open.
fn nearest(
    mut voters: Vec<usize>,
    likeness: &[f32],
    k: usize,
    off: f64,
    exact: impl Fn(usize) -> f64,
) -> Vec<usize> {
    if voters.len() > k {
        let mut values: Vec<f32> = voters.iter().map(|&voter| likeness[voter]).collect();
        let (_, kth, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let least = f64::from(*kth) - 2.0 * off;
        voters.retain(|&voter| f64::from(likeness[voter]) >= least);
    }
    let mut ranked: Vec<(f64, usize)> = voters.iter().map(|&voter| (exact(voter), voter)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().take(k).map(|(_, voter)| voter).collect()
}

/// Whether the label is more frequent among `votes`, the nearest first, than in the `tally` of all who could have
/// voted; None when there is no vote.
///
/// A plain majority would call a finding of one image in six absent everywhere.
fn vote(votes: &[bool], [num_absent, num_present]: [usize; 2]) -> Option<bool> {
    let present = votes.iter().filter(|&&is_present| is_present).count();
    // present / votes against num_present / (num_absent + num_present), without rounding.
    match (present * (num_absent + num_present)).cmp(&(num_present * votes.len())) {
        Ordering::Greater => Some(true),
        Ordering::Less => Some(false),
        Ordering::Equal => votes.first().copied(),
    }
}

fn balanced_accuracy(
    truth: &[Option<bool>],
    predictions: &[Option<bool>],
    counts: Option<&[u32]>,
) -> Option<f64> {
    let (mut right, mut all) = ([0.0; 2], [0.0; 2]);
    for (image, (&truth, &prediction)) in truth.iter().zip(predictions).enumerate() {
        if let (Some(truth), Some(prediction)) = (truth, prediction) {
            let times = counts.map_or(1.0, |counts| f64::from(counts[image]));
            all[usize::from(truth)] += times;
            right[usize::from(truth)] += times * f64::from(u8::from(truth == prediction));
        }
    }
    (all[0] > 0.0 && all[1] > 0.0).then(|| (right[0] / all[0] + right[1] / all[1]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Two opposite directions with a little noise, one per value of the first label.
    fn two_clusters() -> (Vec<f32>, Vec<Option<bool>>) {
        let noise = golden::features(3, 40, 2, 0.0);
        let labels: Vec<bool> = (0..40).map(|index| index % 3 == 0).collect();
        let rows = noise.chunks(2).zip(&labels).flat_map(|(noise, &is_present)| {
            let side = if is_present { 10.0 } else { -10.0 };
            [side + noise[0], noise[1]]
        });
        (rows.collect(), labels.iter().copied().map(Some).collect())
    }

    #[test]
    fn clusters_are_told_apart_and_noise_is_not() {
        let (rows, label) = two_clusters();
        let rows = Features::new(&rows, 2);
        let blind: Vec<Option<bool>> = (0..40).map(|index| Some(index * 7 % 40 < 20)).collect();
        let each_its_own: Vec<usize> = (0..rows.len()).collect();
        let found = accuracy_leave_group_out(rows, &[label, blind], &each_its_own, 5).unwrap();
        assert_eq!(found.labels[0], Some(1.0));
        let chance = found.labels[1].unwrap();
        assert!((0.2..0.8).contains(&chance), "{chance}");
        assert_eq!(found.mean, (1.0 + chance) / 2.0);
    }

    /// Twins that only each other could tell: without the group's own votes they are told no better than wrongly.
    #[test]
    fn a_group_has_no_vote_on_its_own() {
        let angles = (0..20).map(|pair| pair as f32 * std::f32::consts::TAU / 20.0);
        let rows: Vec<f32> = angles.flat_map(|at| [at.cos(), at.sin()].repeat(2)).collect();
        // Neighbouring pairs alternate, so the nearest other pair is always of the other kind.
        let label: Vec<Option<bool>> = (0..40).map(|image| Some(image / 2 % 2 == 0)).collect();
        let (features, labels) = (Features::new(&rows, 2), [label]);
        let pairs: Vec<usize> = (0..40).map(|image| image / 2).collect();
        let images: Vec<usize> = (0..40).collect();
        let accuracy =
            |groups: &[usize]| accuracy_leave_group_out(features, &labels, groups, 1).unwrap().mean;
        assert_eq!((accuracy(&images), accuracy(&pairs)), (1.0, 0.0));
    }

    #[test]
    fn the_unknown_neither_votes_nor_counts() {
        let (rows, mut label) = two_clusters();
        let features = Features::new(&rows, 2);
        let wrong_but_unknown = vec![None; 40];
        label[0] = None;
        label[1] = None;
        let labels = [label.clone(), wrong_but_unknown];
        let each_its_own: Vec<usize> = (0..features.len()).collect();
        let found = accuracy_leave_group_out(features, &labels, &each_its_own, 1).unwrap();
        assert_eq!(found, KnnAccuracy { mean: 1.0, labels: vec![Some(1.0), None] });
        let only_present = [vec![Some(true); 40]];
        let found = accuracy_leave_group_out(features, &only_present, &each_its_own, 1);
        assert_eq!(found, Err(Refusal::NoLabel));
    }

    #[test]
    fn a_rare_label_weighs_as_much_as_a_common_one() {
        let truth = [Some(true), Some(false), Some(false), Some(false), None];
        let always_absent = [Some(false); 5];
        assert_eq!(balanced_accuracy(&truth, &always_absent, None), Some(0.5));
        // An image that is there twice counts twice; one that is not there does not.
        let said = [Some(true), Some(true), Some(false), Some(false), None];
        let counts = [2, 2, 1, 0, 3];
        assert_eq!(balanced_accuracy(&truth, &said, Some(&counts)), Some((1.0 + 1.0 / 3.0) / 2.0));
        assert_eq!(balanced_accuracy(&truth, &said, Some(&[0, 1, 1, 1, 1])), None);
    }

    #[test]
    fn a_tied_vote_goes_the_way_of_the_nearest() {
        assert_eq!(vote(&[true, false], [1, 1]), Some(true));
        assert_eq!(vote(&[false, true], [1, 1]), Some(false));
        assert_eq!(vote(&[], [0, 0]), None);
    }

    /// Hundreds of rows that single precision cannot tell apart: the order is that of f64, of equals the first.
    #[test]
    fn the_nearest_are_those_of_double_precision() {
        let off = 1e-3f64;
        let exact = |voter: usize| [0.5f64, 0.50001, 0.50002, 0.9, 0.1][voter % 5];
        let likeness: Vec<f32> = (0..500)
            .map(|voter| (exact(voter) + off * [0.9f64, -0.9, 0.3][voter % 3]) as f32)
            .collect();
        let mut sorted: Vec<usize> = (0..500).collect();
        sorted.sort_by(|&a, &b| exact(b).total_cmp(&exact(a)));
        for k in [1, 7, 100, 105, 250, 499, 500, 501] {
            let found = nearest((0..500).collect(), &likeness, k, off, exact);
            assert_eq!(found, sorted[..k.min(500)], "{k}");
        }
    }

    #[test]
    fn labels_that_tell_nothing_are_refused_before_any_work() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(check_labels(&[]), Err(Refusal::NoLabel));
        assert_eq!(check_labels(&[vec![yes, None], vec![None, no]]), Err(Refusal::NoLabel));
        assert_eq!(check_labels(&[vec![yes, yes], vec![yes, no]]), Ok(()));
        // Refused for its labels, although its features are no numbers.
        let rows = Features::new(&[f32::NAN; 4], 2);
        let found = accuracy_leave_group_out(rows, &[vec![yes, yes]], &[1, 2], 1);
        assert_eq!(found, Err(Refusal::NoLabel));
    }

    /// Reference: the same definition in numpy, over labels half of which are unknown.
    #[test]
    fn matches_the_reference() {
        let (rows, generated) = golden::real_and_generated();
        let column = |at: usize| generated.iter().skip(at).step_by(12);
        let labels: Vec<Vec<Option<bool>>> = (0..3)
            .map(|label| {
                let value = column(label).map(|&value| f64::from(value));
                let known = column(label + 3).map(|&value| f64::from(value) > 0.3 || label == 0);
                value.zip(known).map(|(value, known)| known.then_some(value > 0.5)).collect()
            })
            .collect();
        let groups: Vec<usize> = (0..96).map(|image| image / 3).collect();
        let found =
            accuracy_leave_group_out(Features::new(&rows, 12), &labels, &groups, 7).unwrap();
        for (label, found) in found.labels.iter().enumerate() {
            golden::assert_close(found.unwrap(), &format!("/knn/{label}"));
        }
    }
}
