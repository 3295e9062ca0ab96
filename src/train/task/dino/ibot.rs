//! Patches that the student does not see and must guess: masked image modelling beside self-distillation (iBOT, arXiv
//! 2111.07832, as DINOv2 has it).

use super::masks;
use super::{HeadConfig, Item};
use crate::faults::demand;
use crate::random::Draws;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How patches are masked, and how they are guessed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ibot {
    /// Weight of the loss beside that of the class tokens.
    pub weight: f64,
    /// Probability that patches of a global view are masked at all.
    pub probability: f64,
    /// Share of its patches that are then masked, lowest and highest; at least one is.
    pub share: (f64, f64),
    /// What scores the patches.
    pub head: PatchHead,
}

/// The head that scores patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PatchHead {
    /// That of the class tokens, as in iBOT.
    Shared,
    /// One of their own, as in DINOv2.
    Own(HeadConfig),
}

impl Default for Ibot {
    fn default() -> Self {
        Self { weight: 1.0, probability: 0.5, share: (0.1, 0.5), head: PatchHead::Shared }
    }
}

impl Ibot {
    /// Every fault of the numbers a recipe gave, a sentence each.
    pub(super) fn check(&self) -> Vec<String> {
        let (low, high) = self.share;
        let is_range = low >= 0.0 && low <= high && high <= 1.0;
        let is_weight = self.weight > 0.0 && self.weight.is_finite();
        let is_probability = (0.0..=1.0).contains(&self.probability);
        let mut faults: Vec<String> = [
            demand(is_weight, "weight", self.weight, "a number above 0"),
            demand(is_probability, "probability", self.probability, "0 to 1"),
            demand(is_range, "share", format!("({low}, {high})"), "0 <= low <= high <= 1"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let PatchHead::Own(head) = &self.head {
            faults.extend(head.check("head"));
        }
        faults
    }

    /// The head of the patches, where they have one of their own.
    pub(super) fn own_head(&self) -> Option<&HeadConfig> {
        match &self.head {
            PatchHead::Shared => None,
            PatchHead::Own(head) => Some(head),
        }
    }

    /// Which patches of a view of `side` × `side` patches are masked, row by row.
    pub(super) fn mask(&self, side: usize, draws: &mut Draws) -> Vec<bool> {
        // Both are drawn, so that one setting does not shift the others.
        let (is_masked, share) = (draws.chance(self.probability), self.share);
        let share = draws.range(share.0, share.1);
        if !is_masked {
            return vec![false; side * side];
        }
        let count = ((side * side) as f64 * share) as usize;
        masks::blocks(side, count.max(1), draws)
    }
}

/// The masked patches of some images: image by image, those of the first view before those of the second.
pub(super) struct Masked {
    /// Row of each among the tokens of all views, [2 · B · T, D], all first views before all second ones.
    rows: Vec<i64>,
    /// How much each counts: an image's masked patches together as much as any other view of an image, masked or not.
    weights: Vec<f32>,
    /// Where the patches of each image begin, and where the last one's end.
    pub(super) ends: Vec<usize>,
}

impl Masked {
    /// Those of `items`, whose views have T tokens each, of which `skipped` come before the patches.
    pub(super) fn of(items: &[Item], skipped: usize) -> Self {
        let masks =
            |item: &Item| [0, 1].map(|view| item.masks.get(view).cloned().unwrap_or_default());
        Self::of_masks(&items.iter().map(masks).collect::<Vec<_>>(), skipped)
    }

    pub(super) fn of_masks(masks: &[[Vec<bool>; 2]], skipped: usize) -> Self {
        let mut masked = Self { rows: Vec::new(), weights: Vec::new(), ends: vec![0] };
        let images = masks.len();
        for (image, views) in masks.iter().enumerate() {
            for (view, mask) in views.iter().enumerate() {
                let first = (view * images + image) * (skipped + mask.len()) + skipped;
                let rows = mask.iter().enumerate().filter(|(_, is_masked)| **is_masked);
                let before = masked.rows.len();
                masked.rows.extend(rows.map(|(at, _)| (first + at) as i64));
                let count = masked.rows.len() - before;
                let weight = 1.0 / (2 * images * count.max(1)) as f64;
                masked.weights.extend(std::iter::repeat_n(weight as f32, count));
            }
            masked.ends.push(masked.rows.len());
        }
        masked
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those of some of the images, by their rows among all.
    pub(super) fn of_images(&self, images: Range<usize>) -> Range<usize> {
        self.ends[images.start]..self.ends[images.end]
    }

    /// Their tokens [M, D], of those of all views [2B, T, D]. M is not 0.
    pub(super) fn take(&self, tokens: Tensor<3>) -> Tensor<2> {
        let device = tokens.device();
        let rows = TensorData::new(self.rows.clone(), [self.rows.len()]);
        tokens.flatten::<2>(0, 1).select(0, Tensor::<1, Int>::from_data(rows, &device))
    }

    /// Their weights [M, 1], which sum to 1 where every view has masked patches.
    pub(super) fn weights(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.weights.clone(), [self.weights.len(), 1]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::super::loss;
    use super::*;
    use crate::random::Stream;

    /// The golden's masks, [2B · N] view by view.
    fn golden_masks(golden: &Golden) -> Vec<[Vec<bool>; 2]> {
        const PATCHES: usize = 6;
        let rows: Vec<Vec<bool>> = golden
            .values("ibot/masks")
            .chunks(PATCHES)
            .map(|row| row.iter().map(|&value| value == 1.0).collect())
            .collect();
        let images = rows.len() / 2;
        (0..images).map(|at| [rows[at].clone(), rows[images + at].clone()]).collect()
    }

    /// Reference: tests/golden/dino.py (versions in its header).
    #[test]
    fn masked_patches_are_judged_as_in_the_reference() {
        let golden = Golden::read();
        let masked = Masked::of_masks(&golden_masks(&golden), 0);
        let plain = Device::flex();
        let device = plain.clone().autodiff();
        let teacher = masked.take(golden.tensor("ibot/teacher", &plain));
        let center = golden.tensor("ibot/center", &plain);
        // Image by image here, view by view there: no target depends on the order of the rows.
        for (name, targets) in [
            ("mean", loss::centered(teacher.clone(), center, 0.04)),
            ("sinkhorn_3", loss::sinkhorn_knopp(teacher.clone() / 0.04, 3)),
        ] {
            let student = golden.tensor::<3>("ibot/student", &device).require_grad();
            let scores = masked.take(student.clone());
            let weights = masked.weights(&device);
            let loss = loss::masked_patches(Tensor::from_inner(targets), scores, weights, 0.1);
            // Scores over a temperature of 0.04, as for the class tokens.
            golden.assert_close(&format!("ibot/loss/{name}"), &loss.clone().inner(), 2e-5);
            let gradient = student.grad_remove(&mut loss.backward()).unwrap();
            golden.assert_close(&format!("ibot/gradient/{name}"), &gradient, 4e-5);
        }
    }

    #[test]
    fn views_are_masked_as_often_and_as_much_as_asked() {
        const DRAWS: u64 = 4_000;
        let ibot = Ibot { probability: 0.3, share: (0.2, 0.4), ..Ibot::default() };
        let counts = (0..DRAWS).map(|position| {
            let mask = ibot.mask(10, &mut Stream::new(1, "masks").at(position));
            mask.into_iter().filter(|&is_masked| is_masked).count()
        });
        let counts: Vec<usize> = counts.filter(|&count| count > 0).collect();
        assert!(counts.iter().all(|count| (20..=40).contains(count)));
        // Four standard errors: of a share of 4,000, and of a uniform law's mean over about 1,200, rounded down.
        let share = counts.len() as f64 / DRAWS as f64;
        assert!((share - 0.3).abs() < 0.03, "{share}");
        let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        assert!((mean - 29.5).abs() < 0.7, "{mean}");
        // What is masked at all has a masked patch.
        let little = Ibot { probability: 1.0, share: (0.0, 0.0), ..Ibot::default() };
        let mask = little.mask(3, &mut Stream::new(1, "masks").at(0));
        assert_eq!(mask.iter().filter(|&&is_masked| is_masked).count(), 1);
    }
}
