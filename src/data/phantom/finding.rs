//! What may be wrong: the findings, and the lesions that are their cause.

use super::anatomy::Anatomy;
use super::body::{Body, Pose};
use super::cavity::Cavity;
use super::shape::{Ellipse, Point, at, chord, ramp};
use super::{Side, between};
use crate::random::Draws;

/// A finding of a phantom radiograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Fluid between lung and chest wall, with a meniscus.
    Effusion,
    /// One or two round shadows in a lung.
    Nodule,
    /// A heart wider than half of the chest.
    Cardiomegaly,
    /// Air between lung and chest wall; the lung's edge is seen.
    Pneumothorax,
    /// Patchy consolidation of a lobe.
    Opacity,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 5] =
        [Self::Effusion, Self::Nodule, Self::Cardiomegaly, Self::Pneumothorax, Self::Opacity];

    /// The finding's name in tables: lower case, one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Effusion => "effusion",
            Self::Nodule => "nodule",
            Self::Cardiomegaly => "cardiomegaly",
            Self::Pneumothorax => "pneumothorax",
            Self::Opacity => "opacity",
        }
    }
}

/// Share of images without any finding, and with exactly one; the rest has two.
pub(super) const NORMAL: f64 = 0.4;
pub(super) const SINGLE: f64 = 0.4;

/// A third of a lung, as reports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Upper,
    Middle,
    Lower,
}

/// The cause of a finding, placed in the body. Lengths in cm.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lesion {
    Effusion {
        side: Side,
        /// Of the fluid above the dome of the diaphragm, in the middle of the lung.
        height: f32,
        /// How much higher the fluid stands at the chest wall.
        rise: f32,
    },
    Nodule {
        side: Side,
        zone: Zone,
        /// Centres and radii.
        spots: Vec<(Point, f32)>,
    },
    Cardiomegaly {
        /// Heart's width over the chest's.
        ratio: f32,
    },
    Pneumothorax {
        side: Side,
        /// Width of the air at the chest wall, and at the apex.
        gaps: [f32; 2],
    },
    Opacity {
        side: Side,
        zone: Zone,
        /// Patches and how dense each is, up to 1.
        patches: Vec<(Patch, f32)>,
    },
}

/// One patch of consolidation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patch(Ellipse);

impl PartialEq for Patch {
    fn eq(&self, other: &Self) -> bool {
        self.0.center == other.0.center && self.0.axes == other.0.axes
    }
}

impl Lesion {
    /// Draws what ails the patient in this image: nothing, one lesion, or two of different kinds.
    pub(super) fn draw_all(draws: &mut Draws, anatomy: &Anatomy, pose: &Pose) -> Vec<Self> {
        let many = draws.uniform();
        let num_findings = usize::from(many >= NORMAL) + usize::from(many >= NORMAL + SINGLE);
        let first = draws.below(5) as usize;
        let second = (first + 1 + draws.below(4) as usize) % 5;
        let mut kinds = [first, second].map(|at| Finding::ALL[at])[..num_findings].to_vec();
        // The heart decides where the lungs are; the rest is placed in what it leaves.
        kinds.sort_by_key(|&kind| kind != Finding::Cardiomegaly);
        let mut lesions: Vec<Self> = Vec::new();
        for kind in kinds {
            let side = Self::side_beside(draws, kind, &lesions);
            let body = Body::new(anatomy, pose, &lesions);
            let shares_lung = lesions.iter().any(|lesion| lesion.side() == Some(side));
            let lesion = Self::draw(draws, kind, side, shares_lung, &body);
            lesions.push(lesion);
        }
        lesions
    }

    /// The finding that this lesion is seen as.
    pub(super) fn finding(&self) -> Finding {
        match self {
            Self::Effusion { .. } => Finding::Effusion,
            Self::Nodule { .. } => Finding::Nodule,
            Self::Cardiomegaly { .. } => Finding::Cardiomegaly,
            Self::Pneumothorax { .. } => Finding::Pneumothorax,
            Self::Opacity { .. } => Finding::Opacity,
        }
    }

    /// The lung it is in, if it is in one.
    pub(super) fn side(&self) -> Option<Side> {
        match self {
            Self::Effusion { side, .. }
            | Self::Nodule { side, .. }
            | Self::Pneumothorax { side, .. }
            | Self::Opacity { side, .. } => Some(*side),
            Self::Cardiomegaly { .. } => None,
        }
    }

    /// Share of the air that an effusion replaces at distance `x` from the midline.
    pub(super) fn fluid(&self, cavity: &Cavity, x: f32, y: f32) -> f32 {
        let Self::Effusion { height, rise, .. } = self else { return 0.0 };
        let out = (x / cavity.reach).clamp(0.0, 1.2);
        let inwards = 1.0 - out / 0.35;
        let surface =
            cavity.dome[1] - height - rise * out.powi(5) - 0.35 * rise * inwards.max(0.0).powi(2);
        ramp((y - surface) / 3.0 + 0.5)
    }

    /// Thickness of a nodule along the ray at `point`.
    pub(super) fn solid(&self, point: Point) -> f32 {
        let Self::Nodule { spots, .. } = self else { return 0.0 };
        let chords = spots.iter().map(|&(center, radius)| {
            let (dx, dy) = (point.x - center.x, point.y - center.y);
            chord(dx * dx + dy * dy, radius)
        });
        chords.fold(0.0, f32::max)
    }

    /// Share of the air spaces that consolidation has filled at `point`.
    pub(super) fn filled(&self, point: Point) -> f32 {
        let Self::Opacity { patches, .. } = self else { return 0.0 };
        let clear = patches.iter().fold(1.0, |clear, (Patch(ellipse), density)| {
            let level = ellipse.level(point).max(0.0);
            clear * (1.0 - density * level)
        });
        1.0 - clear
    }

    /// A side at random, but never a pneumothorax and another lesion of the lung on the same one.
    fn side_beside(draws: &mut Draws, kind: Finding, others: &[Self]) -> Side {
        let side = if draws.chance(0.5) { Side::Right } else { Side::Left };
        let taken = others.iter().find_map(|other| {
            let excludes = [kind, other.finding()].contains(&Finding::Pneumothorax)
                || other.finding() != Finding::Effusion;
            other.side().filter(|_| excludes)
        });
        taken.map_or(side, Side::other)
    }

    fn draw(
        draws: &mut Draws,
        kind: Finding,
        side: Side,
        shares_lung: bool,
        body: &Body<'_>,
    ) -> Self {
        let cavity = body.cavity(side);
        let height = cavity.dome[1];
        match kind {
            Finding::Effusion => Self::Effusion {
                side,
                height: height * between(draws, 0.12, 0.45),
                rise: between(draws, 2.6, 4.4),
            },
            Finding::Cardiomegaly => Self::Cardiomegaly { ratio: between(draws, 0.60, 0.72) },
            Finding::Pneumothorax => {
                let lateral = between(draws, 2.8, 5.6);
                Self::Pneumothorax { side, gaps: [lateral, lateral * between(draws, 1.0, 1.6)] }
            }
            Finding::Nodule => {
                let zone = Zone::draw(draws, shares_lung);
                let num_spots = 1 + usize::from(draws.chance(0.3));
                let spots = (0..num_spots).map(|_| {
                    // Up to 30 mm across: what is larger is called a mass.
                    let radius = between(draws, 1.25, 1.5);
                    let (center, fits) = zone.place(draws, side, body, radius + 0.4);
                    // In a lung that little is left of, a smaller one.
                    (center, if fits { radius } else { 0.85 * radius })
                });
                Self::Nodule { side, zone, spots: spots.collect() }
            }
            Finding::Opacity => {
                let zone = Zone::draw(draws, shares_lung);
                let (center, _) = zone.place(draws, side, body, 2.2);
                let num_patches = 5 + draws.below(4);
                let patches = (0..num_patches).map(|patch| {
                    // The first lies in the middle, so that the whole never falls outside the lung.
                    let spread = if patch == 0 { 0.0 } else { 0.13 * height };
                    let x = center.x + 0.8 * spread * between(draws, -1.0, 1.0);
                    let y = center.y + spread * between(draws, -1.0, 1.0);
                    let long = 0.18 * height * between(draws, 0.9, 1.4);
                    let axes = [long, long * between(draws, 0.55, 0.9)];
                    let tilt = between(draws, 0.0, std::f64::consts::PI);
                    (Patch(Ellipse::new(at(x, y), axes, tilt)), between(draws, 0.45, 0.75))
                });
                Self::Opacity { side, zone, patches: patches.collect() }
            }
        }
    }
}

impl Zone {
    /// Any third; not the lower one where fluid may hide it.
    fn draw(draws: &mut Draws, lower_is_hidden: bool) -> Self {
        let zones = [Self::Upper, Self::Middle, Self::Lower];
        let num_zones = if lower_is_hidden { 1 } else { 3 };
        zones[draws.below(num_zones) as usize]
    }

    /// A point of this third of a lung, `margin` away from whatever is not lung; as far as there is one,
    /// which the second value tells.
    fn place(self, draws: &mut Draws, side: Side, body: &Body<'_>, margin: f32) -> (Point, bool) {
        let cavity = body.cavity(side);
        let (first, last) = match self {
            Self::Upper => (0.12, 0.38),
            Self::Middle => (0.38, 0.66),
            Self::Lower => (0.66, 0.95),
        };
        let mut best =
            (0, at(side.sign() * 0.68 * cavity.reach, 0.5 * (first + last) * cavity.dome[1]));
        for _ in 0..40 {
            let x = cavity.reach * between(draws, 0.25, 0.95);
            let y = cavity.dome[1] * between(draws, f64::from(first), f64::from(last));
            let center = at(side.sign() * x, y);
            let around = (0..8).filter(|&k| {
                let (sin, cos) = (k as f32 * std::f32::consts::FRAC_PI_4).sin_cos();
                body.is_lung(at(center.x + margin * cos, center.y + margin * sin))
            });
            let clear = around.count() + usize::from(body.is_lung(center));
            if clear > best.0 {
                best = (clear, center);
            }
            if clear == 9 {
                break;
            }
        }
        (best.1, best.0 == 9)
    }
}
