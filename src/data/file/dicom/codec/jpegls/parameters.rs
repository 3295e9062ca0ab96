//! What all samples of a JPEG-LS scan are coded with.

/// What an LSE segment sets; 0 stands for the default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Presets {
    pub(super) max_value: i32,
    pub(super) thresholds: [i32; 3],
    pub(super) reset: i32,
}

/// What all samples of a scan are coded with (T.87 A.2.1 and C.2.4.1.1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    pub(super) max_value: i32,
    pub(super) near: i32,
    pub(super) thresholds: [i32; 3],
    pub(super) reset: i32,
    /// Number of distinct prediction errors.
    pub(super) range: i32,
    /// Bits that hold `range`.
    pub(super) error_bits: u32,
    /// Longest code in bits.
    pub(super) limit: u32,
}

impl Parameters {
    /// `None` if the numbers contradict each other.
    pub(super) fn new(precision: u32, near: i32, presets: &Presets) -> Option<Self> {
        let highest = (1 << precision) - 1;
        let max_value = if presets.max_value == 0 { highest } else { presets.max_value };
        if max_value > highest || near > 255.min(max_value / 2) {
            return None;
        }
        let clamp =
            |value: i32, low: i32| if value > max_value || value < low { low } else { value };
        let [t1, t2, t3] = if max_value >= 128 {
            let factor = (max_value.min(4095) + 128) / 256;
            [factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near]
        } else {
            let factor = 256 / (max_value + 1);
            [
                (3 / factor + 3 * near).max(2),
                (7 / factor + 5 * near).max(3),
                (21 / factor + 7 * near).max(4),
            ]
        };
        let [p1, p2, p3] = presets.thresholds;
        let chosen = |preset: i32, default: i32, low: i32| {
            if preset == 0 { clamp(default, low) } else { preset }
        };
        let t1 = chosen(p1, t1, near + 1);
        let t2 = chosen(p2, t2, t1);
        let t3 = chosen(p3, t3, t2);
        if !(near < t1 && t1 <= t2 && t2 <= t3 && t3 <= max_value) {
            return None;
        }
        let range = (max_value + 2 * near) / (2 * near + 1) + 1;
        let bits = |count: i32| i32::BITS - (count - 1).leading_zeros();
        let sample_bits = bits(max_value + 1).max(2);
        Some(Self {
            max_value,
            near,
            thresholds: [t1, t2, t3],
            reset: if presets.reset == 0 { 64 } else { presets.reset.max(3) },
            range,
            error_bits: bits(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
        })
    }

    /// Quantises a gradient to -4 ..= 4.
    pub(super) fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let level = match size {
            _ if size <= self.near => 0,
            _ if size < t1 => 1,
            _ if size < t2 => 2,
            _ if size < t3 => 3,
            _ => 4,
        };
        level * gradient.signum()
    }

    /// Adds a (dequantised) error to a prediction, modulo the range.
    pub(super) fn reconstruct(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = prediction + error * step;
        let wrapped = match value {
            _ if value < -self.near => value + self.range * step,
            _ if value > self.max_value + self.near => value - self.range * step,
            _ => value,
        };
        wrapped.clamp(0, self.max_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T.87 table C.3: the defaults for 8, 12 and 16 bits.
    #[test]
    fn thresholds_have_their_defaults() {
        let thresholds = |precision, near| {
            Parameters::new(precision, near, &Presets::default()).unwrap().thresholds
        };
        assert_eq!(thresholds(8, 0), [3, 7, 21]);
        assert_eq!(thresholds(12, 0), [18, 67, 276]);
        assert_eq!(thresholds(16, 0), [18, 67, 276]);
        assert_eq!(thresholds(8, 2), [9, 17, 35]);
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(Parameters::new(8, 200, &Presets::default()), None);
        let presets = Presets { max_value: 300, ..Presets::default() };
        assert_eq!(Parameters::new(8, 0, &presets), None);
        let presets = Presets { thresholds: [9, 5, 20], ..Presets::default() };
        assert_eq!(Parameters::new(8, 0, &presets), None);
    }
}
