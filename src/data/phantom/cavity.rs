//! One half of the chest's inside: what the lung may fill, from its apex to the diaphragm.

use super::between;
use crate::random::Draws;

/// The outline of one pleural cavity. Here x is the distance from the midline, whatever the side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cavity {
    /// Highest point.
    pub(super) apex: [f32; 2],
    /// Lateral wall at `base`.
    pub(super) reach: f32,
    /// Where the lung ends towards the midline, under the mediastinum.
    medial: f32,
    /// Where the lateral wall is vertical; below, it runs straight by `flare` cm per cm.
    pub(super) base: f32,
    flare: f32,
    /// Roundness of the shoulder between apex and lateral wall: powers of x and of y.
    powers: [f32; 2],
    /// Highest point of the diaphragm.
    pub(super) dome: [f32; 2],
    /// How much deeper the diaphragm is at the lateral wall, and at the midline.
    drops: [f32; 2],
    /// Width of the empty rim at the lateral wall and above the apex: a lung that has come off.
    gaps: [f32; 2],
}

impl Cavity {
    /// Right and left; the right dome stands at `lung_height`, the left one a little lower.
    pub(super) fn draw_pair(draws: &mut Draws, half_width: f32, lung_height: f32) -> [Self; 2] {
        let apex_x = half_width * between(draws, 0.33, 0.43);
        let base = lung_height * between(draws, 0.72, 0.95);
        let flare = between(draws, -0.05, 0.05);
        let powers = [between(draws, 1.65, 2.5), between(draws, 1.5, 2.1)];
        let dome_x = half_width * between(draws, 0.42, 0.56);
        let drops = [between(draws, 2.6, 5.2), between(draws, 0.8, 2.2)];
        let left_is_lower = between(draws, 0.3, 2.0);
        [0.0, left_is_lower].map(|lower| Self {
            apex: [apex_x * between(draws, 0.95, 1.05), between(draws, -0.4, 0.4)],
            reach: half_width * between(draws, 0.965, 1.035),
            medial: 0.4,
            base,
            flare: flare + between(draws, -0.02, 0.02),
            powers: powers.map(|power| power * between(draws, 0.95, 1.05)),
            dome: [dome_x * between(draws, 0.93, 1.07), lung_height + lower],
            drops: drops.map(|drop| drop * between(draws, 0.88, 1.12)),
            gaps: [0.0; 2],
        })
    }

    /// The visceral pleura of a lung that stands off the wall by `gaps` (lateral, apical).
    pub(super) fn collapsed(&self, gaps: [f32; 2]) -> Self {
        let apex = [self.apex[0] - 0.2 * gaps[0], self.apex[1] + gaps[1]];
        Self { apex, gaps, ..*self }
    }

    /// The cavity when the diaphragm stands at `inspiration` of its usual depth.
    pub(super) fn breathe(&self, inspiration: f32) -> Self {
        let [x, y] = self.dome;
        Self { dome: [x, y * inspiration], base: self.base * inspiration, ..*self }
    }

    /// 1 deep inside, 0 on the outline, negative outside. Ignores the diaphragm.
    pub(super) fn level(&self, x: f32, y: f32) -> f32 {
        let up = ((self.base - y) / (self.base - self.apex[1])).max(0.0);
        let across = if x > self.apex[0] {
            let across = (x - self.apex[0]) / (self.reach_at(y) - self.apex[0]);
            if across > 1.2 { return -1.0 } else { across.powf(self.powers[0]) }
        } else {
            let across = (self.apex[0] - x) / (self.apex[0] - self.medial);
            across * across * across
        };
        1.0 - across - up.powf(self.powers[1])
    }

    /// Lateral wall at height `y`.
    pub(super) fn wall(&self, y: f32) -> f32 {
        let up = ((self.base - y) / (self.base - self.apex[1])).clamp(0.0, 1.0);
        let across = (1.0 - up.powf(self.powers[1])).powf(1.0 / self.powers[0]);
        self.apex[0] + (self.reach_at(y) - self.apex[0]) * across
    }

    /// Height of the diaphragm at `x`.
    pub(super) fn diaphragm(&self, x: f32) -> f32 {
        let [dome_x, dome_y] = self.dome;
        if x > dome_x {
            let out = (x - dome_x) / (self.reach - dome_x);
            let square = out * out;
            dome_y + self.drops[0] * square * (0.55 + 0.45 * square)
        } else {
            let inwards = (dome_x - x) / dome_x;
            dome_y + self.drops[1] * inwards * inwards
        }
    }

    fn reach_at(&self, y: f32) -> f32 {
        let below = (y - self.base).max(0.0);
        let gap = self.gaps[0] * (1.0 - super::shape::ramp((below + 6.0) / 14.0));
        self.reach + self.flare * below - gap
    }
}
