//! Peak signal-to-noise ratio.

/// Peak signal-to-noise ratio in decibels for images of range 1; infinite for equal images.
///
/// Only pixels where `mask` is true count (all of them without one): padding is easy to reconstruct
/// and would flatter the figure. NaN when no pixel counts.
pub fn psnr(a: &[f32], b: &[f32], mask: Option<&[bool]>) -> f64 {
    assert_eq!(a.len(), b.len(), "two images of different sizes");
    if let Some(mask) = mask {
        assert_eq!(a.len(), mask.len(), "an image and a mask of different sizes");
    }
    let (mut sum, mut num_pixels) = (0.0, 0u64);
    for index in 0..a.len() {
        if mask.is_none_or(|mask| mask[index]) {
            sum += (f64::from(a[index]) - f64::from(b[index])).powi(2);
            num_pixels += 1;
        }
    }
    -10.0 * (sum / num_pixels as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    /// Reference: scikit-image.
    #[test]
    fn matches_the_reference() {
        let (a, b) = (golden::image(64, 3, 0.02), golden::image(64, 4, 0.2));
        golden::assert_close(psnr(&a, &b, None), "/psnr");
    }

    #[test]
    fn masked_pixels_do_not_count() {
        let (a, b) = ([0.0, 0.5, 0.5], [1.0, 0.5, 0.4]);
        let found = psnr(&a, &b, Some(&[false, true, true]));
        // Mean square error 0.01 / 2.
        assert!((found - 23.0103).abs() < 1e-4, "{found}");
        assert!(psnr(&a, &a, None).is_infinite());
        assert!(psnr(&a, &b, Some(&[false; 3])).is_nan());
    }
}
