//! Exponentials without branches or calls, so that compilers take many at once.

/// 1 / (1 + e^-x), to 3 units in the last place.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// e^x for x within ±87, which is where it is clamped to: 2^n times a polynomial in the rest
/// (Cephes' `expf`).
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let rest = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut poly = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        poly = poly * rest + coefficient;
    }
    let fraction = poly * rest * rest + rest + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    fraction * f32::from_bits(power)
}

/// The error function, to 3e-7: an odd polynomial over an even one on ±4 (the minimax pair that Eigen uses).
pub(super) fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let above = ABOVE.into_iter().reduce(|sum, next| sum * square + next).unwrap_or_default();
    let below = BELOW.into_iter().reduce(|sum, next| sum * square + next).unwrap_or(1.0);
    x * above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for step in -8700..=8700 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 3e-7, "e^{x}: {error:e}");
        }
        assert_eq!(sigmoid(1e4), 1.0);
        assert!(sigmoid(-1e4) < 1e-37);
    }

    #[test]
    fn the_error_function_is_the_integral_of_the_bell() {
        for step in -500..=500 {
            let x = f64::from(step) / 100.0;
            // Simpson's rule over 2,000 intervals.
            let bell = |at: f64| (-at * at).exp();
            let width = x / 2000.0;
            let inner: f64 =
                (1..2000).map(|at| f64::from(2 + 2 * (at % 2)) * bell(f64::from(at) * width)).sum();
            let exact = (1.0 + inner + bell(x)) * width / 3.0 * std::f64::consts::FRAC_2_SQRT_PI;
            let error = (f64::from(erf(x as f32)) - exact).abs();
            assert!(error < 4e-7, "erf({x}): {error:e}");
        }
    }
}
