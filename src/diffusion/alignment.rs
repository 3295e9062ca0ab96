//! Representation alignment (REPA): Yu et al. (2024), arXiv 2410.06940.
//!
//! What a denoiser knows of an image after its first blocks is held to what the frozen encoder sees in the clean image,
//! patch by patch: so it need not find out for itself what images are made of.

use crate::faults::demand;
use serde::{Deserialize, Serialize};

/// How the denoiser's tokens are held to the encoder's patches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alignment {
    /// Weight of one minus the mean cosine; the paper's is 0.5.
    pub weight: f64,
    /// Blocks after which the tokens are looked at; the paper's is 8 of 28.
    pub blocks: usize,
    /// Width of the two hidden layers between them and the patches.
    pub hidden: usize,
}

impl Default for Alignment {
    fn default() -> Self {
        Self { weight: 0.5, blocks: 4, hidden: 2048 }
    }
}

impl Alignment {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let is_weight = self.weight >= 0.0 && self.weight.is_finite();
        let faults = [
            demand(is_weight, "weight", self.weight, "a number from 0 up"),
            demand(self.blocks > 0, "blocks", self.blocks, "at least 1"),
            demand(self.hidden > 0, "hidden", self.hidden, "at least 1"),
        ];
        faults.into_iter().flatten().collect()
    }
}

/// What makes `to` × `to` fields of `from` × `from` patches, rows of weights [to², from²] that sum to 1: each field is the
/// mean of what it covers, or the patch that covers it.
pub fn resampling(from: usize, to: usize) -> Vec<f32> {
    // Of one axis: how much of each patch lies in a field.
    let overlap = |field: usize, patch: usize| {
        let (a, b) = (field as f64 / to as f64, (field + 1) as f64 / to as f64);
        let (c, d) = (patch as f64 / from as f64, (patch + 1) as f64 / from as f64);
        (b.min(d) - a.max(c)).max(0.0) * to as f64
    };
    let mut weights = Vec::with_capacity(to * to * from * from);
    for (row, column) in (0..to * to).map(|field| (field / to, field % to)) {
        for (y, x) in (0..from * from).map(|patch| (patch / from, patch % from)) {
            weights.push((overlap(row, y) * overlap(column, x)) as f32);
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_means_of_what_they_cover() {
        let apply = |from: usize, to: usize, patches: &[f32]| -> Vec<f32> {
            let weights = resampling(from, to);
            let mean = |row: &[f32]| row.iter().zip(patches).map(|(a, b)| a * b).sum();
            weights.chunks(from * from).map(mean).collect()
        };
        let patches: Vec<f32> = (0..16).map(|at| at as f32).collect();
        assert_eq!(apply(4, 4, &patches), patches);
        assert_eq!(apply(4, 2, &patches), [2.5, 4.5, 10.5, 12.5]);
        assert_eq!(apply(2, 4, &[1.0, 2.0, 3.0, 4.0])[..4], [1.0, 1.0, 2.0, 2.0]);
        let thirds = apply(4, 3, &[1.0; 16]);
        assert!(thirds.iter().all(|value| (value - 1.0).abs() < 1e-6), "{thirds:?}");
    }
}
