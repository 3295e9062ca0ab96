//! The patient as the beam meets them: what each ray passes on its way to the detector.

use super::anatomy::Anatomy;
use super::cavity::Cavity;
use super::finding::{Finding, Lesion};
use super::shape::{Ellipse, Point, Stroke, at, bump, merge, positive, ramp};
use super::skeleton::Skeleton;
use super::{Side, between};
use crate::random::Draws;

/// Attenuation of soft tissue per cm, at the mean energy of a chest examination (about 60 keV).
pub(super) const TISSUE: f32 = 0.2;
/// What bone attenuates beyond soft tissue, per cm.
pub(super) const BONE: f32 = 0.45;

/// What differs between two images of one patient, but for the detector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pose {
    /// How deep the diaphragm stands, beside full inspiration.
    pub(super) inspiration: f32,
    /// How far the front of the chest is turned to the picture's right, cm.
    pub(super) yaw: f32,
    /// Gas in the stomach: half-width (none below 1 cm), distance from the midline.
    pub(super) stomach: (f32, f32),
}

/// A patient in a pose, with what ails them.
#[derive(Debug, Clone)]
pub(super) struct Body<'a> {
    anatomy: &'a Anatomy,
    cavities: [Cavity; 2],
    skeleton: Skeleton,
    heart: Heart,
    hila: [Ellipse; 2],
    stomach: Option<Ellipse>,
    bronchi: [Stroke; 2],
    arms: [Stroke; 2],
    shoulders: [Stroke; 2],
    head: Ellipse,
    yaw: f32,
    lesions: &'a [Lesion],
    visceral: Option<(Side, Cavity)>,
}

/// What one ray meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ray {
    /// −ln of the share that passes.
    pub(super) attenuation: f32,
    /// Passes a lung field: inside the chest, above the diaphragm, beside heart and mediastinum.
    pub(super) is_lung: bool,
    /// Passes where a finding is or, for the heart's size, would be; in the order of
    /// [`Finding::ALL`].
    pub(super) findings: [bool; 5],
}

#[derive(Debug, Clone, Copy)]
struct Heart {
    ventricles: Ellipse,
    atrium: Ellipse,
}

impl Pose {
    pub(super) fn draw(draws: &mut Draws) -> Self {
        Self {
            inspiration: between(draws, 0.90, 1.03),
            yaw: between(draws, -0.7, 0.7) + between(draws, -0.7, 0.7),
            stomach: (between(draws, -1.5, 3.2), between(draws, 0.3, 0.55)),
        }
    }
}

impl<'a> Body<'a> {
    pub(super) fn new(anatomy: &'a Anatomy, pose: &Pose, lesions: &'a [Lesion]) -> Self {
        let cavities = anatomy.cavities.map(|cavity| cavity.breathe(pose.inspiration));
        let enlarged = lesions.iter().find_map(|lesion| match lesion {
            Lesion::Cardiomegaly { ratio } => Some(*ratio),
            _ => None,
        });
        let ratio = enlarged.unwrap_or(anatomy.cardiothoracic_ratio);
        let heart = Heart::new(anatomy, &cavities[Side::Left as usize], ratio, pose.yaw);
        let height = anatomy.lung_height;
        let carina = at(-anatomy.trachea.1 * 0.5, 0.31 * height);
        let bronchus =
            |x: f32, y: f32| Stroke { from: carina, to: at(x, y * height), radii: [0.75, 0.55] };
        let visceral = lesions.iter().find_map(|lesion| match lesion {
            Lesion::Pneumothorax { side, gaps } => {
                Some((*side, cavities[*side as usize].collapsed(*gaps)))
            }
            _ => None,
        });
        Self {
            anatomy,
            skeleton: Skeleton::new(anatomy, pose.yaw),
            heart,
            hila: [
                Ellipse::new(at(-3.3, 0.44 * height), [1.7, 2.6], 0.2),
                Ellipse::new(at(3.4, 0.40 * height), [1.7, 2.4], -0.2),
            ],
            stomach: (pose.stomach.0 > 1.0).then(|| {
                let [_, dome] = cavities[Side::Left as usize].dome;
                let center = at(pose.stomach.1 * anatomy.half_width, dome + 2.0);
                Ellipse::new(center, [pose.stomach.0, 0.3 + 0.42 * pose.stomach.0], 0.15)
            }),
            bronchi: [bronchus(-2.9, 0.40), bronchus(3.2, 0.39)],
            arms: [Side::Right, Side::Left].map(|side| {
                let (shoulder, elbow) = arm_axis(anatomy, side);
                Stroke { from: shoulder, to: elbow, radii: [anatomy.arm + 0.8, anatomy.arm] }
            }),
            shoulders: [Side::Right, Side::Left].map(|side| {
                let (shoulder, _) = arm_axis(anatomy, side);
                Stroke {
                    from: at(side.sign() * 4.0, 0.3),
                    to: at(shoulder.x - side.sign() * 1.0, shoulder.y + 0.8),
                    radii: [4.0, anatomy.arm + 1.0],
                }
            }),
            head: Ellipse::new(at(1.5 * pose.yaw, -16.0), [7.0, 6.0], 0.0),
            yaw: pose.yaw,
            cavities,
            lesions,
            visceral,
        }
    }

    /// The cavity of one side, as the diaphragm stands in this image.
    pub(super) fn cavity(&self, side: Side) -> &Cavity {
        &self.cavities[side as usize]
    }

    /// True where the ray at `point` passes a lung field.
    pub(super) fn is_lung(&self, point: Point) -> bool {
        let cavity = self.cavity(Side::of(point));
        let x = point.x.abs();
        cavity.level(x, point.y) > 0.0
            && point.y < cavity.diaphragm(x)
            && self.heart.level(point) < 0.0
            && self.mediastinum(point) <= 0.0
    }

    /// Follows the ray at `point`, which passes `vessel` cm of the lungs' vessels.
    pub(super) fn ray(&self, point: Point, vessel: f32) -> Ray {
        let anatomy = self.anatomy;
        let side = Side::of(point);
        let cavity = self.cavity(side);
        let x = point.x.abs();
        let level = cavity.level(x, point.y);
        let below = point.y - cavity.diaphragm(x);

        let heart = self.heart.level(point);
        let mut tissue = self.outline(point);
        let mut findings = [false; 5];
        findings[Finding::Cardiomegaly as usize] = heart > 0.0 && below < 1.0;
        let mut is_lung = false;
        if level > 0.0 {
            let deepest = anatomy.depth - 4.5;
            let full = deepest * level.sqrt();
            let mediastinum = self.mediastinum(point);
            let organs = merge(11.0 * heart.max(0.0).sqrt(), mediastinum);
            let abdomen = (75.0 * below.max(0.0)).sqrt();
            let organs = merge(organs, abdomen);
            is_lung = below < 0.0 && heart < 0.0 && mediastinum <= 0.0;

            let mut air = positive(full - organs, 0.4).min(full);
            let mut density = anatomy.lung_density;
            let mut vessels = vessel + self.hilum(point);
            let share = air / deepest;
            for lesion in self.lesions {
                match lesion {
                    Lesion::Effusion { side: of, .. } if *of == side => {
                        let fluid = lesion.fluid(cavity, x, point.y);
                        findings[Finding::Effusion as usize] |= is_lung && fluid > 0.5;
                        air *= 1.0 - 0.96 * fluid;
                    }
                    Lesion::Nodule { side: of, .. } if *of == side => {
                        let nodule = lesion.solid(point);
                        findings[Finding::Nodule as usize] |= nodule > 0.0;
                        tissue += 1.5 * nodule;
                    }
                    Lesion::Opacity { side: of, .. } if *of == side => {
                        let filled = lesion.filled(point);
                        findings[Finding::Opacity as usize] |= is_lung && filled > 0.35;
                        air *= 1.0 - 0.72 * filled;
                        vessels *= 1.0 - 0.7 * filled;
                    }
                    _ => {}
                }
            }
            if let Some((of, visceral)) = &self.visceral
                && *of == side
            {
                let inner = visceral.level(x, point.y);
                findings[Finding::Pneumothorax as usize] |= is_lung && inner < 0.0;
                let inside = ramp(inner / 0.05 + 0.5);
                density *= 1.35 * inside;
                vessels *= inside;
                // The pleura is seen where the beam grazes it.
                vessels += 0.9 * bump((inner - 0.02) / 0.07);
            }
            tissue += (1.8 * vessels).min(air) * share.sqrt() - air * (1.0 - density);
        }
        tissue -= self.airways(point);
        if let Some(stomach) = &self.stomach {
            tissue -= stomach.chord(point, 5.0) * ramp(below / 1.2 - 0.3);
        }
        let attenuation = TISSUE * positive(tissue, 0.1) + BONE * self.skeleton.bone(point);
        Ray { attenuation, is_lung, findings }
    }

    /// Thickness of the whole body, lungs taken as filled.
    fn outline(&self, Point { x, y }: Point) -> f32 {
        let anatomy = self.anatomy;
        let ax = x.abs();
        let half_width = anatomy.half_width + anatomy.wall;
        let height = anatomy.lung_height;
        // Trunk, rounded into the shoulders.
        let reach = half_width + 1.6 * ramp((0.35 * height - y) / (0.4 * height))
            - 0.05 * (y - 0.6 * height).max(0.0);
        let up = ((0.30 * height - y) / (0.30 * height + 2.0)).max(0.0);
        let (across, up) = (ax / reach, up * up);
        let across = across * across;
        let trunk = anatomy.depth * (1.0 - across * across.sqrt() - up * up.sqrt()).max(0.0).sqrt();
        // Neck, flaring into the trapezius.
        let flare = (y + 8.0).max(0.0);
        let neck = anatomy.neck + 0.30 * flare * flare;
        let fade = ramp((5.0 - y) / 7.0);
        let neck = 13.0 * fade * (1.0 - (ax / neck).powi(2)).max(0.0).sqrt();
        let side = usize::from(x > 0.0);
        let arm = 0.9 * self.arms[side].chord(at(x, y));
        let shoulder = 1.1 * self.shoulders[side].chord(at(x, y));
        let head = self.head.chord(at(x, y), 15.0);
        let breast = anatomy.breasts.map_or(0.0, |(radius, thickness)| {
            let dx = (ax - 0.56 * anatomy.half_width) / radius;
            let dy = (y - 0.72 * height) / radius;
            let level = (1.0 - dx * dx - dy * dy).max(0.0).sqrt();
            thickness * level * ramp((dy + 1.0) / 1.1)
        });
        merge(merge(trunk, merge(shoulder, arm)), merge(neck, head)) + breast
    }

    /// Thickness of the mediastinum without the heart; 0 outside.
    fn mediastinum(&self, point: Point) -> f32 {
        let anatomy = self.anatomy;
        let down = point.y / anatomy.lung_height;
        let lower = if point.x > 0.0 { 1.4 } else { 1.0 };
        let half_width = anatomy.mediastinum + lower * ramp((down - 0.2) / 0.35);
        let x = (point.x - 0.4 * self.yaw) / half_width;
        let band = 9.0 * (1.0 - x * x).max(0.0).sqrt();
        let (center, radius) = anatomy.knob;
        let (dx, dy) = (point.x - center.x, point.y - center.y);
        let knob = 7.0 * (1.0 - (dx * dx + dy * dy) / (radius * radius)).max(0.0).sqrt();
        merge(band, knob)
    }

    fn hilum(&self, point: Point) -> f32 {
        let level = self.hila[Side::of(point) as usize].level(point).max(0.0);
        2.6 * level * level
    }

    fn airways(&self, point: Point) -> f32 {
        let (radius, right) = self.anatomy.trachea;
        let x = (point.x + 0.5 * right - 0.3 * self.yaw) / radius;
        let end = ramp((0.31 * self.anatomy.lung_height - point.y) / 1.5);
        let trachea = 1.7 * end * (1.0 - x * x).max(0.0).sqrt();
        let [right, left] = &self.bronchi;
        merge(trachea, 0.6 * merge(right.chord(point), left.chord(point)))
    }
}

impl Heart {
    fn new(anatomy: &Anatomy, left: &Cavity, ratio: f32, yaw: f32) -> Self {
        let width = 2.0 * anatomy.half_width * ratio;
        let usual = 2.0 * anatomy.half_width * 0.45;
        // A large heart is wide rather than high: it lies on the diaphragm.
        let tall = usual + 0.65 * (width - usual);
        let reach = anatomy.heart_left * width;
        let tilt = anatomy.heart_tilt - 1.6 * (ratio - 0.45).max(0.0);
        let (sin, cos) = tilt.sin_cos();
        let (long, short) = (0.57 * width.max(tall), 0.39 * tall);
        let half = (long * long * cos * cos + short * short * sin * sin).sqrt();
        let y = left.dome[1] - 0.33 * tall;
        let ventricles = Ellipse::new(at(reach - half + 0.5 * yaw, y), [long, short], tilt);
        let right = width - reach;
        let atrium = Ellipse::new(
            at(-right + 0.24 * width + 0.5 * yaw, y - 0.04 * tall),
            [0.24 * width, 0.46 * tall],
            0.1,
        );
        Self { ventricles, atrium }
    }

    /// 1 in the middle, 0 on the silhouette, negative outside.
    fn level(&self, point: Point) -> f32 {
        let (a, b) = (self.ventricles.level(point), self.atrium.level(point));
        // Smooth maximum: the two bulges share one silhouette.
        let blend = (0.5 + 2.0 * (a - b)).clamp(0.0, 1.0);
        b + (a - b) * blend + 0.25 * blend * (1.0 - blend)
    }
}

/// From the shoulder to the elbow.
pub(super) fn arm_axis(anatomy: &Anatomy, side: Side) -> (Point, Point) {
    let x = anatomy.half_width + 0.45 * anatomy.wall + 4.2;
    let y = anatomy.clavicles.0 - anatomy.clavicles.1 + 4.0;
    let out = x + 1.5 + 1.6 * anatomy.wall;
    (at(side.sign() * x, y), at(side.sign() * out, y + 30.0))
}
