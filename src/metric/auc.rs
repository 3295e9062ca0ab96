//! Area under the ROC curve.

/// Area under the receiver operating characteristic curve, in [0, 1]; chance is 0.5.
///
/// The probability that an image with the label scores above one without it; equal scores count half
/// (Mann & Whitney 1947). None when either kind is missing or a score is not a number.
pub fn auc(scores: &[f64], is_present: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), is_present.len(), "each score has one label");
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut num_absent_below, mut pairs_won, mut num_present) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let present = tied.iter().filter(|&&index| is_present[index]).count() as f64;
        let absent = tied.len() as f64 - present;
        pairs_won += present * (num_absent_below + absent / 2.0);
        num_absent_below += absent;
        num_present += present;
    }
    let num_pairs = num_present * num_absent_below;
    (num_pairs > 0.0).then(|| pairs_won / num_pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: scikit-learn; scores rounded to one decimal, so that many tie.
    #[test]
    fn matches_the_reference() {
        let (real, generated) = golden::real_and_generated();
        let scores: Vec<f64> = real
            .iter()
            .step_by(12)
            .map(|&score| (f64::from(score) * 10.0).round_ties_even() / 10.0)
            .collect();
        let labels: Vec<bool> = generated.iter().step_by(12).map(|&value| value > 0.3).collect();
        golden::assert_close(auc(&scores, &labels).unwrap(), "/auc");
    }

    #[test]
    fn order_is_all_that_counts() {
        assert_eq!(auc(&[1.0, 2.0, 30.0], &[false, false, true]), Some(1.0));
        assert_eq!(auc(&[1.0, 1.0, 1.0], &[false, false, true]), Some(0.5));
        assert_eq!(auc(&[0.0, -0.0], &[false, true]), Some(0.5));
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auc(&[f64::NAN, 2.0], &[true, false]), None);
    }
}
