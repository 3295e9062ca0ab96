//! Pearson's correlation.

/// Pearson's correlation of two images in [-1, 1], over the pixels where all `masks` are true.
///
/// None when fewer than two pixels count or an image is constant over them.
pub fn pearson(a: &[f32], b: &[f32], masks: &[&[bool]]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "two images of different sizes");
    for mask in masks {
        assert_eq!(a.len(), mask.len(), "an image and a mask of different sizes");
    }
    let counted = || {
        let counts = |&index: &usize| masks.iter().all(|mask| mask[index]);
        (0..a.len()).filter(counts).map(|index| (f64::from(a[index]), f64::from(b[index])))
    };
    let (mut num_pixels, mut mean_a, mut mean_b) = (0.0, 0.0, 0.0);
    for (a, b) in counted() {
        num_pixels += 1.0;
        mean_a += a;
        mean_b += b;
    }
    (mean_a, mean_b) = (mean_a / num_pixels, mean_b / num_pixels);
    let (mut variance_a, mut variance_b, mut covariance) = (0.0, 0.0, 0.0);
    for (a, b) in counted() {
        variance_a += (a - mean_a).powi(2);
        variance_b += (b - mean_b).powi(2);
        covariance += (a - mean_a) * (b - mean_b);
    }
    let scale = (variance_a * variance_b).sqrt();
    // Rounding leaves a constant image a variance of about n·ε²; that is not contrast.
    let floor = num_pixels * f64::EPSILON;
    (variance_a > floor && variance_b > floor).then(|| (covariance / scale).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: numpy's `corrcoef`.
    #[test]
    fn matches_the_reference() {
        let (a, b) = (golden::image(64, 3, 0.02), golden::image(64, 4, 0.2));
        golden::assert_close(pearson(&a, &b, &[]).unwrap(), "/pearson");
    }

    /// Reference: numpy's `corrcoef` of the pixels that both masks let through.
    #[test]
    fn masked_pixels_match_the_reference() {
        let (a, b) = (golden::image(64, 3, 0.02), golden::image(64, 4, 0.2));
        let columns: Vec<bool> = (0..64 * 64).map(|at| (5..50).contains(&(at % 64))).collect();
        let rows: Vec<bool> = (0..64 * 64).map(|at| (11..64).contains(&(at / 64))).collect();
        golden::assert_close(pearson(&a, &b, &[&columns, &rows]).unwrap(), "/pearson_masked");
    }

    #[test]
    fn counts_where_all_masks_agree() {
        let (a, b) = ([0.0, 0.1, 0.2, 1.0, 0.0], [1.0, 0.2, 0.3, 0.4, 0.9]);
        let first = [false, true, true, true, true];
        let second = [true, true, true, true, false];
        let cut = pearson(&a[1..4], &b[1..4], &[]).unwrap();
        assert_eq!(pearson(&a, &b, &[&first, &second]), Some(cut));
    }

    #[test]
    fn a_constant_image_correlates_with_nothing() {
        assert_eq!(pearson(&[0.3; 4096], &golden::image(64, 3, 0.1), &[]), None);
        assert_eq!(pearson(&[0.3], &[0.4], &[]), None);
        assert_eq!(pearson(&[], &[], &[]), None);
    }
}
