//! Features of different units at one scale.

use super::Features;

/// What brings each feature of a set to mean 0 and standard deviation 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Standard {
    mean: Vec<f64>,
    /// None where the feature does not vary.
    deviation: Vec<Option<f64>>,
}

/// Below this part of its mean, a feature's deviation is rounding.
const LEAST_DEVIATION: f64 = 1e-6;

impl Standard {
    /// That of `features` (deviation over n).
    pub fn of(features: Features) -> Self {
        let mean = features.mean();
        let mut squares = vec![0.0; features.width()];
        for row in features.rows() {
            for ((square, &value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                *square += (f64::from(value) - mean).powi(2);
            }
        }
        let deviation = squares
            .iter()
            .zip(&mean)
            .map(|(square, mean)| {
                let deviation = (square / features.len().max(1) as f64).sqrt();
                (deviation > LEAST_DEVIATION * mean.abs()).then_some(deviation)
            })
            .collect();
        Self { mean, deviation }
    }

    /// Features that vary.
    pub fn width(&self) -> usize {
        self.deviation.iter().flatten().count()
    }

    /// `features` at that scale, row after row, without those that do not vary.
    pub fn apply(&self, features: Features) -> Vec<f32> {
        let scale = || self.mean.iter().zip(&self.deviation);
        let row = |row: &[f32]| -> Vec<f32> {
            let values = row.iter().zip(scale());
            let scaled = |(&value, (mean, deviation)): (&f32, (&f64, &Option<f64>))| {
                deviation.map(|deviation| ((f64::from(value) - mean) / deviation) as f32)
            };
            values.filter_map(scaled).collect()
        };
        features.rows().flat_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::golden;

    #[test]
    fn every_feature_has_mean_0_and_deviation_1() {
        let (mut rows, other) = golden::real_and_generated();
        rows.chunks_mut(12).for_each(|row| {
            row[3] = 1e9 + row[3] * 1e7;
            row[5] = 0.25;
        });
        let standard = Standard::of(Features::new(&rows, 12));
        assert_eq!(standard.width(), 11);
        let scaled = standard.apply(Features::new(&rows, 12));
        let again = Standard::of(Features::new(&scaled, 11));
        for (mean, deviation) in again.mean.iter().zip(&again.deviation) {
            assert!(mean.abs() < 1e-6 && (deviation.unwrap() - 1.0).abs() < 1e-6);
        }
        // Another set is seen at the first one's scale.
        let scaled = standard.apply(Features::new(&other, 12));
        let expected = (f64::from(other[0]) - standard.mean[0]) / standard.deviation[0].unwrap();
        assert_eq!(scaled[0], expected as f32);
        assert_eq!(scaled.len(), 96 * 11);
    }

    #[test]
    fn of_nothing_nothing_varies() {
        assert_eq!(Standard::of(Features::new(&[], 3)).width(), 0);
    }
}
