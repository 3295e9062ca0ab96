//! Power-function averages (Karras et al. 2023, section 3.1 and appendix C): at time t, weights of time τ count τ^γ.

/// The longest average, nearly: with γ = 0 all weights since the beginning count alike, and sigma_rel is 1 / √12.
pub const MOST_SIGMA_REL: f64 = 0.2886;

/// The exponent γ whose average has this length: the largest root of (γ + 1) = sigma² (γ + 2)² (γ + 3), eq. 126, for
/// `sigma_rel` in (0, [`MOST_SIGMA_REL`]].
pub fn exponent(sigma_rel: f64) -> f64 {
    let inverse = sigma_rel.powi(-2);
    // γ³ + 7 γ² + (16 − s⁻²) γ + 12 − s⁻², which is not above 0 at γ = 0 and rises for good from its root on. Newton from
    // above comes down to it without passing it.
    let value = |x: f64| ((x + 7.0) * x + 16.0 - inverse) * x + 12.0 - inverse;
    let slope = |x: f64| (3.0 * x + 14.0) * x + 16.0 - inverse;
    let mut gamma = 1.0 / sigma_rel;
    for _ in 0..100 {
        let next = gamma - value(gamma) / slope(gamma);
        if next >= gamma {
            break;
        }
        gamma = next;
    }
    gamma
}

/// Share of itself that the average keeps over the last `step` of all time so far (1 at the very first), eq. 127:
/// (1 − step)^(γ + 1).
pub(super) fn decay(gamma: f64, step: f64) -> f64 {
    (1.0 - step).powf(gamma + 1.0)
}

/// The average of exponent γ at the end of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Profile {
    pub(super) gamma: f64,
    pub(super) end: f64,
}

impl Profile {
    /// ∫ of the product of both weightings over all time, eq. 151.
    pub(super) fn dot(&self, other: &Self) -> f64 {
        let [first, last] = if self.end < other.end { [self, other] } else { [other, self] };
        let ratio = (first.end / last.end).powf(last.gamma);
        (self.gamma + 1.0) * (other.gamma + 1.0) * ratio
            / ((self.gamma + other.gamma + 1.0) * last.end)
    }
}
