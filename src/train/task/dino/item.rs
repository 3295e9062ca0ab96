//! One image as a training sees it, with everything random drawn by its position.

use super::views::Drawn;
use super::{Dino, Views};
use crate::data::image::Square;
use crate::data::loader::{SampleError, Samples};
use crate::data::radiographs::Radiographs;
use crate::models::encoder::branch_factors;
use crate::random::Stream;
use std::sync::Arc;

/// The views of one image, and what the student does not see of them.
pub struct Item {
    pub(super) views: Drawn,
    /// Of both global views: which patches are masked. Empty without iBOT.
    pub(super) masks: Vec<Vec<bool>>,
    /// Of every view, the global ones first: the factors of the network's branches. Empty where no branch is dropped.
    pub(super) branches: Vec<Vec<f32>>,
}

/// Makes items.
pub(super) struct Viewed {
    pub(super) radiographs: Arc<Radiographs>,
    pub(super) dino: Dino,
    /// Side of a global view, where the recipe does not say.
    pub(super) side: usize,
    pub(super) patch: usize,
    pub(super) layers: usize,
    /// The position from which views have their last sizes.
    pub(super) late_from: Option<u64>,
    pub(super) views: Stream,
    pub(super) masks: Stream,
    pub(super) branches: Stream,
}

impl Viewed {
    /// The item of `square` at `position`.
    pub(super) fn item(&self, square: &Square, position: u64) -> Item {
        let Views { num_local, .. } = self.dino.views;
        let is_late = self.late_from.is_some_and(|from| position >= from);
        let sizes = self.dino.views.sizes(self.side, is_late);
        let grid = sizes[0] / self.patch;
        let mut masks = self.masks.at(position);
        let masks = self
            .dino
            .ibot
            .iter()
            .flat_map(|ibot| [ibot.mask(grid, &mut masks), ibot.mask(grid, &mut masks)])
            .collect();
        let rate = self.dino.drop_path;
        let dropping = if rate > 0.0 { 2 + num_local } else { 0 };
        let mut draws = self.branches.at(position);
        let branches =
            (0..dropping).map(|_| branch_factors(rate, self.layers, &mut draws)).collect();
        let views = self.dino.views.draw(square, sizes, &mut self.views.at(position));
        Item { views, masks, branches }
    }
}

impl Samples for Viewed {
    type Item = Item;

    fn len(&self) -> u64 {
        self.radiographs.len() as u64
    }

    fn get(&self, index: u64, position: u64) -> Result<Item, SampleError> {
        Ok(self.item(&self.radiographs.get(index as usize)?.square, position))
    }
}
