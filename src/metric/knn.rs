//! Labels told by nearest neighbours.

use super::features::dot;
use super::{Features, Refusal, at_least};
use rayon::prelude::*;

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

/// Predicts each image's labels from its `k` nearest images of other `groups` (patients, say), by cosine after
/// subtracting the mean: an image's own group, which shares its labels for other reasons than likeness, has no
/// vote.
///
/// For each label the `k` nearest of those where it is known vote: present when it is more frequent among them
/// than among all of those, a tie goes the way of the nearest. Balanced accuracy is the mean of the accuracies
/// where the label is present and where it is absent. Labels that are not known to be present in one image and
/// absent in another are left out; refuses when none is left.
pub fn accuracy_leave_group_out<G: PartialEq + Sync>(
    features: Features,
    labels: Labels,
    groups: &[G],
    k: usize,
) -> Result<KnnAccuracy, Refusal> {
    assert!(k > 0, "no neighbours, no votes");
    assert_eq!(groups.len(), features.len(), "each image has one group");
    assert!(labels.iter().all(|label| label.len() == features.len()));
    at_least(2, features.len())?;
    features.finite()?;
    // Without the mean, what all images have in common would decide.
    let rows = features.directions(Some(&features.mean()));
    let predictions: Vec<Vec<Option<bool>>> = rows
        .par_iter()
        .zip(groups)
        .map(|(row, group)| {
            let likeness: Vec<f64> = rows.iter().map(|other| dot(row, other)).collect();
            let mut nearest: Vec<usize> =
                (0..rows.len()).filter(|&other| groups[other] != *group).collect();
            nearest.sort_by(|&a, &b| likeness[b].total_cmp(&likeness[a]));
            labels.iter().map(|known| vote(known, &nearest, k)).collect()
        })
        .collect();
    let labels: Vec<Option<f64>> = labels
        .iter()
        .enumerate()
        .map(|(label, truth)| {
            balanced_accuracy(truth, predictions.iter().map(|prediction| prediction[label]))
        })
        .collect();
    let judged: Vec<f64> = labels.iter().flatten().copied().collect();
    if judged.is_empty() {
        return Err(Refusal::NoLabel);
    }
    Ok(KnnAccuracy { mean: judged.iter().sum::<f64>() / judged.len() as f64, labels })
}

/// Whether the label is more frequent among the first `k` with a known value than among all of them; None when
/// it is known for none.
///
/// A plain majority would call a finding of one image in six absent everywhere.
fn vote(known: &[Option<bool>], nearest: &[usize], k: usize) -> Option<bool> {
    let values: Vec<bool> = nearest.iter().filter_map(|&index| known[index]).collect();
    let votes = &values[..k.min(values.len())];
    let present = |values: &[bool]| values.iter().filter(|&&is_present| is_present).count();
    // present(votes) / len(votes) against present(values) / len(values), without rounding.
    match (present(votes) * values.len()).cmp(&(present(&values) * votes.len())) {
        std::cmp::Ordering::Greater => Some(true),
        std::cmp::Ordering::Less => Some(false),
        std::cmp::Ordering::Equal => votes.first().copied(),
    }
}

fn balanced_accuracy(
    truth: &[Option<bool>],
    predictions: impl Iterator<Item = Option<bool>>,
) -> Option<f64> {
    let (mut right, mut all) = ([0.0; 2], [0.0; 2]);
    for (truth, prediction) in truth.iter().zip(predictions) {
        if let (&Some(truth), Some(prediction)) = (truth, prediction) {
            all[usize::from(truth)] += 1.0;
            right[usize::from(truth)] += f64::from(u8::from(truth == prediction));
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
        let always_absent = std::iter::repeat_n(Some(false), 5);
        assert_eq!(balanced_accuracy(&truth, always_absent), Some(0.5));
    }

    #[test]
    fn a_tied_vote_goes_the_way_of_the_nearest() {
        let known = [Some(false), None, Some(true)];
        assert_eq!(vote(&known, &[1, 2, 0], 2), Some(true));
        assert_eq!(vote(&known, &[1, 0, 2], 2), Some(false));
        assert_eq!(vote(&known, &[1], 2), None);
    }
}
