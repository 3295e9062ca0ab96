//! How fast to learn, when.

use crate::faults::demand;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The learning rate over a training: a rise to the peak, then `after`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningRate {
    /// The rate after warm-up.
    pub peak: f64,
    /// Images over which the rate rises from 0 to the peak in a line.
    pub warm_up: u64,
    /// What follows the warm-up.
    pub after: Decay,
}

/// How the learning rate goes on after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Decay {
    /// At the peak.
    Constant,
    /// Down half a cosine until the last image.
    Cosine {
        /// The rate at the last image, as a share of the peak in [0, 1].
        #[serde(default)]
        last: f64,
    },
}

impl Default for LearningRate {
    fn default() -> Self {
        Self { peak: 1e-4, warm_up: 1000, after: Decay::Cosine { last: 0.01 } }
    }
}

impl LearningRate {
    /// The rate of the step that brings the count of images to `images_seen`, of `images` in all.
    ///
    /// Counting the step's own images keeps the first rate above 0. A warm-up as long as the training
    /// or longer leaves no room for the decay; past the end the rate stays at its last value.
    pub fn at(&self, images_seen: u64, images: u64) -> f64 {
        if images_seen < self.warm_up {
            return self.peak * images_seen as f64 / self.warm_up as f64;
        }
        match self.after {
            Decay::Constant => self.peak,
            Decay::Cosine { last } => {
                let length = images.saturating_sub(self.warm_up);
                let part = (images_seen - self.warm_up) as f64 / length.max(1) as f64;
                cosine(self.peak, self.peak * last, part)
            }
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_rate = self.peak > 0.0 && self.peak.is_finite();
        let peak = demand(is_rate, "peak", self.peak, "a number above 0");
        let last = match self.after {
            Decay::Cosine { last } => demand(
                (0.0..=1.0).contains(&last),
                "after.last",
                last,
                "a share of the peak, 0 to 1",
            ),
            _ => None,
        };
        peak.into_iter().chain(last).collect()
    }
}

/// From `first` at `part` 0 to `last` at `part` 1 along half a cosine; constant outside.
pub fn cosine(first: f64, last: f64, part: f64) -> f64 {
    last + (first - last) * 0.5 * (1.0 + (PI * part.clamp(0.0, 1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_the_last() {
        let rate = LearningRate { peak: 2.0, warm_up: 100, after: Decay::Cosine { last: 0.1 } };
        let at = |images_seen| rate.at(images_seen, 1100);
        assert_eq!((at(0), at(1), at(50), at(100)), (0.0, 0.02, 1.0, 2.0));
        assert!((at(600) - 1.1).abs() < 1e-12, "half way down: {}", at(600));
        assert!((at(1100) - 0.2).abs() < 1e-12 && at(1100) == at(5000));
        let rates: Vec<f64> = (100..=1100).map(at).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn constant_stays() {
        let rate = LearningRate { peak: 0.5, warm_up: 0, after: Decay::Constant };
        assert_eq!((rate.at(0, 10), rate.at(7, 10), rate.at(99, 10)), (0.5, 0.5, 0.5));
    }

    #[test]
    fn odd_lengths_stay_finite() {
        let rate = LearningRate { peak: 1.0, warm_up: 100, after: Decay::Cosine { last: 0.0 } };
        for (images_seen, images) in [(0, 0), (100, 100), (100, 50), (101, 0), (50, 10)] {
            let now = rate.at(images_seen, images);
            assert!((0.0..=1.0).contains(&now), "{images_seen} of {images}: {now}");
        }
        assert!(rate.check().is_empty());
        assert_eq!(LearningRate { peak: f64::NAN, ..rate }.check().len(), 1);
    }
}
