//! Overlap of masks.

/// Overlap of two masks in [0, 1]: twice the shared pixels over the sum of both (Dice 1945).
///
/// 1 when both are empty, which is agreement.
pub fn dice(a: &[bool], b: &[bool]) -> f64 {
    assert_eq!(a.len(), b.len(), "two masks of different sizes");
    let count = |mask: &[bool]| mask.iter().filter(|&&inside| inside).count();
    let shared = a.iter().zip(b).filter(|&(&a, &b)| a && b).count();
    match count(a) + count(b) {
        0 => 1.0,
        sum => 2.0 * shared as f64 / sum as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_over_size() {
        assert_eq!(dice(&[true, true, false], &[true, true, false]), 1.0);
        assert_eq!(dice(&[true, true, false], &[false, true, false]), 2.0 / 3.0);
        assert_eq!(dice(&[true, false], &[false, true]), 0.0);
        assert_eq!(dice(&[false; 3], &[false; 3]), 1.0);
    }
}
