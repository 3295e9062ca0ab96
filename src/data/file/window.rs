//! From a range of values to brightness in [0, 1].

use serde::{Deserialize, Serialize};

use super::Refusal;

/// How stored values become brightness, as a recipe names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Window {
    /// The file's own VOI window or table. Without one: images of up to 8 bits as they are, deeper ones from the
    /// 0.5th to the 99.5th percentile.
    #[default]
    Auto,
    /// The file's own VOI window or table; a DICOM file without one is refused. PNG and JPEG as they are.
    Voi,
    /// From the smallest to the largest value.
    MinMax,
    /// From one percentile of the values to another, in percent.
    Percentile {
        /// What becomes black, 0 to 100.
        low: f64,
        /// What becomes white, above `low`, up to 100.
        high: f64,
    },
    /// The whole range that the stored bits could hold; no modality or VOI transform.
    Raw,
}

/// The curve of a DICOM window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Function {
    /// PS3.3 C.11.2.1.2.1: linear, with half a unit's shift; width at least 1.
    #[default]
    #[serde(rename = "LINEAR")]
    Linear,
    /// PS3.3 C.11.2.1.3.2: linear; width above 0.
    #[serde(rename = "LINEAR_EXACT")]
    LinearExact,
    /// PS3.3 C.11.2.1.3.1: logistic; width above 0.
    #[serde(rename = "SIGMOID")]
    Sigmoid,
}

impl Window {
    /// What [`Window::Auto`] does with a deep image that has no window of its own.
    pub(super) const AUTO: Self = Self::Percentile { low: 0.5, high: 99.5 };

    pub(super) fn check(&self) -> Result<(), Refusal> {
        match *self {
            Self::Percentile { low, high } if !(0.0 <= low && low < high && high <= 100.0) => {
                Err(Refusal::Percentiles)
            }
            _ => Ok(()),
        }
    }
}

impl Function {
    /// Maps a modality value to display brightness in [0, 1]. `center` and `width` are in modality units.
    pub(super) fn brightness(self, value: f64, center: f64, width: f64) -> f64 {
        match self {
            Self::Linear if width <= 1.0 => f64::from(value > center - 0.5),
            Self::Linear => ((value - (center - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0),
            Self::LinearExact => ((value - center) / width + 0.5).clamp(0.0, 1.0),
            Self::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        }
    }

    /// Is there a curve of this width?
    pub(super) fn takes(self, width: f64) -> bool {
        match self {
            Self::Linear => width.is_finite() && width >= 1.0,
            Self::LinearExact | Self::Sigmoid => width.is_finite() && width > 0.0,
        }
    }
}

/// Brightness of `value` on a straight line from `low` (0) to `high` (1). A range without extent is black.
pub(super) fn ramp(value: f64, low: f64, high: f64) -> f64 {
    if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_follow_the_standard() {
        // PS3.3 C.11.2.1.2.1 gives for center 2048, width 4096: 0 → 0, 4095 → full; C.11.2.1.3.2 for the exact one:
        // 0 → 0, 4096 → full.
        let linear = |value| Function::Linear.brightness(value, 2048.0, 4096.0);
        assert_eq!(
            (linear(-1.0), linear(0.0), linear(4095.0), linear(5000.0)),
            (0.0, 0.0, 1.0, 1.0)
        );
        let exact = |value| Function::LinearExact.brightness(value, 2048.0, 4096.0);
        assert_eq!((exact(0.0), exact(2048.0), exact(4096.0)), (0.0, 0.5, 1.0));
        let threshold = |value| Function::Linear.brightness(value, 10.0, 1.0);
        assert_eq!((threshold(9.0), threshold(9.5), threshold(10.0)), (0.0, 0.0, 1.0));
        assert_eq!(Function::Sigmoid.brightness(100.0, 100.0, 50.0), 0.5);
    }

    #[test]
    fn functions_never_fall() {
        for function in [Function::Linear, Function::LinearExact, Function::Sigmoid] {
            for width in [0.5, 1.0, 2.0, 300.0] {
                if !function.takes(width) {
                    continue;
                }
                let at = |i: i32| function.brightness(f64::from(i), 3.0, width);
                let curve: Vec<f64> = (-500..500).map(at).collect();
                assert!(curve.is_sorted() && curve.iter().all(|v| (0.0..=1.0).contains(v)));
            }
        }
    }

    #[test]
    fn percentiles_must_be_a_range() {
        assert!(Window::AUTO.check().is_ok());
        for (low, high) in [(1.0, 1.0), (-1.0, 5.0), (5.0, 101.0), (f64::NAN, 5.0)] {
            assert_eq!(Window::Percentile { low, high }.check(), Err(Refusal::Percentiles));
        }
    }

    #[test]
    fn an_empty_range_is_black() {
        assert_eq!(ramp(3.0, 3.0, 3.0), 0.0);
        assert_eq!(
            (ramp(1.0, 1.0, 3.0), ramp(2.0, 1.0, 3.0), ramp(9.0, 1.0, 3.0)),
            (0.0, 0.5, 1.0)
        );
    }
}
