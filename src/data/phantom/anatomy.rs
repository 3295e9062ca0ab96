//! What stays the same in all images of one patient.

use super::cavity::Cavity;
use super::shape::{Point, at};
use super::vessel;
use super::{Side, between};
use crate::random::Draws;

/// One patient's measures, in cm unless said otherwise. The midline is x = 0, the lungs' top y = 0.
#[derive(Debug, Clone)]
pub(super) struct Anatomy {
    /// Half of the chest's inner width.
    pub(super) half_width: f32,
    /// From the top of the lungs to the right dome of the diaphragm.
    pub(super) lung_height: f32,
    /// Front to back.
    pub(super) depth: f32,
    /// Skin, fat and muscle beside the ribs.
    pub(super) wall: f32,
    /// Share of tissue in the lung, by volume.
    pub(super) lung_density: f32,
    /// Right, left.
    pub(super) cavities: [Cavity; 2],
    /// Heart's width over the chest's inner width, when the heart is of normal size.
    pub(super) cardiothoracic_ratio: f32,
    /// Heart's long axis below the horizontal, rad.
    pub(super) heart_tilt: f32,
    /// Share of the heart's width that lies left of the midline.
    pub(super) heart_left: f32,
    /// Half-width of the upper mediastinum.
    pub(super) mediastinum: f32,
    /// Aortic knob and its radius.
    pub(super) knob: (Point, f32),
    /// Radius of the windpipe, and how far it stands to the right.
    pub(super) trachea: (f32, f32),
    /// Sideways bend of the spine and where along y it is, rad.
    pub(super) spine_bend: (f32, f32),
    /// Height of a vertebra.
    pub(super) vertebra: f32,
    /// How much bone the bones hold, around 1.
    pub(super) bone: f32,
    /// First rib at the spine, distance to the next, how far a ring slopes down to the front.
    pub(super) ribs: (f32, f32, f32),
    /// Radius of a rib.
    pub(super) rib_radius: f32,
    /// Collar bones: y of the inner end, how much higher the outer end is, S-bend.
    pub(super) clavicles: (f32, f32, f32),
    /// How far the shoulder blades are drawn outwards.
    pub(super) scapulae: f32,
    /// Half-width of the neck.
    pub(super) neck: f32,
    /// Radius of the upper arms.
    pub(super) arm: f32,
    /// Radius of the breasts and how thick they are, where seen.
    pub(super) breasts: Option<(f32, f32)>,
    /// Vessels of the lungs, right and left.
    pub(super) vessels: Vec<super::shape::Stroke>,
}

impl Anatomy {
    /// Draws a patient.
    pub(super) fn draw(draws: &mut Draws) -> Self {
        let half_width = between(draws, 12.0, 15.4);
        let lung_height = half_width * between(draws, 1.38, 1.86);
        let corpulence = between(draws, 0.0, 1.0);
        let depth = 17.0 + 7.5 * corpulence + between(draws, -1.0, 1.0);
        let cavities = Cavity::draw_pair(draws, half_width, lung_height);
        let knob = (at(between(draws, 1.7, 2.5), lung_height * between(draws, 0.25, 0.31)), {
            between(draws, 1.1, 1.9)
        });
        let arm = 3.4 + 1.2 * corpulence;
        let mut anatomy = Self {
            half_width,
            lung_height,
            depth,
            wall: 1.6 + 3.0 * corpulence + between(draws, -0.3, 0.3),
            lung_density: between(draws, 0.19, 0.29),
            cavities,
            cardiothoracic_ratio: between(draws, 0.39, 0.495),
            heart_tilt: between(draws, 0.6, 0.95),
            heart_left: between(draws, 0.65, 0.75),
            mediastinum: between(draws, 2.1, 3.1),
            knob,
            trachea: (between(draws, 0.75, 1.0), between(draws, -0.1, 0.6)),
            spine_bend: (between(draws, 0.0, 0.7), between(draws, 0.0, std::f64::consts::TAU)),
            vertebra: lung_height / between(draws, 8.8, 10.2),
            bone: between(draws, 0.75, 1.2),
            ribs: (
                between(draws, -0.9, 0.2),
                lung_height * between(draws, 0.094, 0.108),
                between(draws, 0.27, 0.42),
            ),
            rib_radius: between(draws, 0.55, 0.72),
            clavicles: (
                lung_height * between(draws, 0.08, 0.17),
                between(draws, -0.3, 3.4),
                between(draws, 0.2, 1.0),
            ),
            scapulae: between(draws, 0.0, 2.6),
            neck: between(draws, 5.2, 6.4) + 0.9 * corpulence,
            arm,
            breasts: draws
                .chance(0.42)
                .then(|| (half_width * between(draws, 0.40, 0.56), between(draws, 1.6, 3.8))),
            vessels: Vec::new(),
        };
        for side in [Side::Right, Side::Left] {
            let cavity = &anatomy.cavities[side as usize];
            vessel::grow(draws, side, cavity, lung_height, &mut anatomy.vessels);
        }
        anatomy
    }
}
