//! Spherical interpolation that keeps norms.

/// The point `weight` of the way from `a` to `b`: directions along the great circle, norms along a
/// line.
///
/// `weight` 0 is `a`, 1 is `b`. A zero vector has no direction and takes that of the other. Opposite
/// directions have no shortest way; the way then leads through the axis that `a` points along least.
pub fn slerp(a: &[f32], b: &[f32], weight: f64) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "both ends have the same number of values");
    let (norm_a, norm_b) = (norm(a), norm(b));
    let length = (1.0 - weight) * norm_a + weight * norm_b;
    if norm_a == 0.0 || norm_b == 0.0 {
        let (direction, norm) = if norm_a == 0.0 { (b, norm_b) } else { (a, norm_a) };
        let scale = if norm == 0.0 { 0.0 } else { length / norm };
        return direction.iter().map(|&x| (f64::from(x) * scale) as f32).collect();
    }
    let unit = |x: &[f32], norm: f64| x.iter().map(|&x| f64::from(x) / norm).collect::<Vec<_>>();
    let (a, b) = (unit(a, norm_a), unit(b, norm_b));
    let along: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    let mut across: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - along * a).collect();
    let mut across_norm = across.iter().map(|x| x * x).sum::<f64>().sqrt();
    // atan2 keeps its precision where the arc cosine of a number near 1 has none left.
    let angle = across_norm.atan2(along);
    if across_norm < 1e-9 {
        across = perpendicular(&a);
        across_norm = 1.0;
    }
    let (sin, cos) = (weight * angle).sin_cos();
    let mixed =
        |(a, across): (&f64, &f64)| (length * (cos * a + sin * across / across_norm)) as f32;
    a.iter().zip(&across).map(mixed).collect()
}

/// [`slerp`] token by token, for tokens [N · `width`].
pub fn slerp_tokens(a: &[f32], b: &[f32], width: usize, weight: f64) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "both ends have the same number of tokens");
    assert!(width > 0 && a.len().is_multiple_of(width), "tokens are whole");
    a.chunks(width).zip(b.chunks(width)).flat_map(|(a, b)| slerp(a, b, weight)).collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// A unit vector perpendicular to the unit vector `a`; zero where there is none (one dimension).
fn perpendicular(a: &[f64]) -> Vec<f64> {
    let axis = (0..a.len()).min_by(|&i, &j| a[i].abs().total_cmp(&a[j].abs())).unwrap_or(0);
    let mut out: Vec<f64> = a.iter().map(|x| -a[axis] * x).collect();
    out[axis] += 1.0;
    let norm = out.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        out.iter_mut().for_each(|x| *x /= norm);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn ends_norms_and_angles_are_kept() {
        let mut draws = Stream::new(1, "slerp").at(0);
        for _ in 0..100 {
            let (a, b) = (draws.normals(16), draws.normals(16));
            assert!(close(&slerp(&a, &b, 0.0), &a) && close(&slerp(&a, &b, 1.0), &b));
            let weight = draws.uniform();
            let between = slerp(&a, &b, weight);
            let length = (1.0 - weight) * norm(&a) + weight * norm(&b);
            assert!((norm(&between) / length - 1.0).abs() < 1e-6);
            let angle = |x: &[f32], y: &[f32]| {
                let dot: f64 = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                (dot / norm(x) / norm(y)).acos()
            };
            assert!((angle(&a, &between) - weight * angle(&a, &b)).abs() < 1e-5);
            assert!(close(&between, &slerp(&b, &a, 1.0 - weight)), "the way back is the same");
        }
    }

    #[test]
    fn a_quarter_turn_is_known() {
        let between = slerp(&[2.0, 0.0], &[0.0, 4.0], 1.0 / 3.0);
        // Thirty degrees, norm 2 + 2 / 3.
        let length = 8.0 / 3.0;
        assert!(close(&between, &[length * 3f32.sqrt() / 2.0, length / 2.0]), "{between:?}");
    }

    #[test]
    fn odd_ends_stay_finite() {
        assert_eq!(slerp(&[0.0, 0.0], &[0.0, 0.0], 0.5), [0.0, 0.0]);
        assert!(close(&slerp(&[0.0, 0.0], &[0.0, 2.0], 0.5), &[0.0, 1.0]));
        assert!(close(&slerp(&[3.0, 0.0], &[3.0, 0.0], 0.4), &[3.0, 0.0]));
        let opposite = slerp(&[1.0, 0.0, 0.0], &[-3.0, 0.0, 0.0], 0.5);
        assert!((norm(&opposite) - 2.0).abs() < 1e-6 && opposite[0].abs() < 1e-6, "{opposite:?}");
        let near = slerp(&[1.0, 0.0], &[1.0, 1e-7], 0.5);
        assert!(close(&near, &[1.0, 5e-8]), "{near:?}");
        assert!(slerp(&[1.0], &[-1.0], 0.5)[0].is_finite());
    }
}
