//! The bones: thickness of bone along each beam, in cm.

use super::Side;
use super::anatomy::Anatomy;
use super::body::arm_axis;
use super::shape::{Point, Stroke, at, bump, chord, merge, positive, ramp, tubular_bone};

/// Rib rings drawn, from the first rib down.
const NUM_RIBS: usize = 11;

/// How much bone is in the front of each rib: the lower ones end in cartilage, or at the side.
const FRONT: [f32; NUM_RIBS] = [1.0, 1.0, 1.0, 1.0, 0.95, 0.85, 0.6, 0.4, 0.2, 0.1, 0.0];

/// The bones of one patient, placed.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    bone: f32,
    spine: Spine,
    rib_radius: f32,
    /// Half of the chest's depth: how far a rib runs along the beam.
    rib_depth: f32,
    /// Right, left.
    sides: [Half; 2],
}

#[derive(Debug, Clone)]
struct Half {
    ribs: [Ring; NUM_RIBS],
    clavicle: Clavicle,
    shoulder: Shoulder,
}

/// A rib's way round the chest, seen from the front: an ellipse. Its upper half lies behind, its
/// lower half in front.
#[derive(Debug, Clone, Copy)]
struct Ring {
    y: f32,
    axes: [f32; 2],
}

#[derive(Debug, Clone, Copy)]
struct Clavicle {
    inner: [f32; 2],
    outer: [f32; 2],
    bend: f32,
}

#[derive(Debug, Clone, Copy)]
struct Shoulder {
    /// Inner upper corner, lower tip, socket.
    blade: [Point; 3],
    rim: Stroke,
    ridge: Stroke,
    head: Point,
    shaft: Stroke,
}

#[derive(Debug, Clone, Copy)]
struct Spine {
    bend: (f32, f32),
    offset: f32,
    vertebra: f32,
    height: f32,
}

impl Skeleton {
    /// `yaw` is how far the front of the chest is turned to the picture's right, in cm.
    pub(super) fn new(anatomy: &Anatomy, yaw: f32) -> Self {
        let sides = [Side::Right, Side::Left].map(|side| Half::new(anatomy, side, yaw));
        Self {
            bone: anatomy.bone,
            spine: Spine {
                bend: anatomy.spine_bend,
                offset: -0.6 * yaw,
                vertebra: anatomy.vertebra,
                height: anatomy.lung_height,
            },
            rib_radius: anatomy.rib_radius,
            rib_depth: 0.42 * anatomy.depth,
            sides,
        }
    }

    /// Bone along the beam through `point`.
    pub(super) fn bone(&self, point: Point) -> f32 {
        let side = &self.sides[Side::of(point) as usize];
        let beside_spine = (point.x - self.spine.axis(point.y)).abs();
        let ribs = self.ribs(side, beside_spine, point);
        let rest = side.clavicle.bone(point) + side.shoulder.bone(point);
        self.bone * (self.spine.bone(point) + ribs + rest)
    }

    fn ribs(&self, side: &Half, beside_spine: f32, Point { x, y }: Point) -> f32 {
        let x = x.abs();
        let radius = self.rib_radius;
        let mut bone = 0.0;
        for (ring, front_share) in side.ribs.iter().zip(FRONT) {
            let [a, b] = ring.axes;
            let (u, v) = (x / a, (y - ring.y) / b);
            let square = u * u + v * v;
            if !(0.3..1.9).contains(&square) {
                continue;
            }
            // Distance to the ellipse, to first order.
            let level = square.sqrt();
            let slope = (u * u / (a * a) + v * v / (b * b)).sqrt() / level;
            let distance = (level - 1.0) / slope;
            if distance.abs() > radius {
                continue;
            }
            // The beam meets the rib at a slant where the rib runs along it, most at the side.
            let along = self.rib_depth * u;
            let across = a * a * v * v + b * b * u * u;
            let slant = (1.0 + along * along / across).sqrt().min(2.3);
            let front = ramp(2.0 * v + 0.5);
            let fades = front * front_share * 0.62 * ramp((u - 0.42) / 0.4)
                + (1.0 - front) * ramp((beside_spine - 1.2) / 1.0);
            bone += 0.5 * slant * fades * tubular_bone(distance * distance, radius);
        }
        bone
    }
}

impl Half {
    fn new(anatomy: &Anatomy, side: Side, yaw: f32) -> Self {
        let cavity = &anatomy.cavities[side as usize];
        let (first, spacing, slope) = anatomy.ribs;
        let ribs = std::array::from_fn(|k| {
            let k = k as f32;
            let wall = |y: f32| cavity.wall(y.max(cavity.apex[1] + 0.8)) + 0.35;
            // Two rounds find where the ring meets the wall: its width decides its slope.
            let start = first + spacing * k;
            let guess = slope * wall(start + 2.0);
            let half_width = wall(start + guess);
            let drop = slope * half_width * (0.8 + 0.04 * k);
            Ring { y: start + drop, axes: [wall(start + drop), drop] }
        });
        let out = anatomy.half_width + 0.45 * anatomy.wall;
        let (y, rise, bend) = anatomy.clavicles;
        let inner = 1.5 + side.sign() * 0.8 * yaw;
        let clavicle = Clavicle { inner: [inner, y], outer: [out + 2.2, y - rise - 0.6], bend };
        Self { ribs, clavicle, shoulder: Shoulder::new(anatomy, side, out, y - rise) }
    }
}

impl Clavicle {
    fn bone(&self, Point { x, y }: Point) -> f32 {
        let [x0, y0] = self.inner;
        let [x1, y1] = self.outer;
        let u = (x.abs() - x0) / (x1 - x0);
        if !(-0.05..1.05).contains(&u) {
            return 0.0;
        }
        let bow = self.bend * 6.0 * u * (1.0 - u) * (1.0 - 2.0 * u);
        let slope = ((y1 - y0) + self.bend * 6.0 * (1.0 - 6.0 * u + 6.0 * u * u)) / (x1 - x0);
        let distance_squared = (y - (y0 + (y1 - y0) * u + bow)).powi(2) / (1.0 + slope * slope);
        let radius = 0.55 + 0.3 * bump(u / 0.22) + 0.2 * bump((1.0 - u) / 0.25);
        let ends = ramp((u + 0.05) / 0.06) * ramp((1.05 - u) / 0.06);
        1.25 * ends * tubular_bone(distance_squared, radius)
    }
}

impl Shoulder {
    fn new(anatomy: &Anatomy, side: Side, out: f32, top: f32) -> Self {
        let sign = side.sign();
        let place = |x: f32, y: f32| at(sign * x, y);
        let drawn = anatomy.scapulae;
        let socket = place(out + 2.6, top + 3.4);
        let tip = place(0.82 * anatomy.half_width + drawn, top + 13.5);
        let corner = place(0.62 * anatomy.half_width + drawn, top + 2.6);
        let head = place(out + 4.7, top + 3.2);
        let (_, elbow) = arm_axis(anatomy, side);
        Self {
            blade: [corner, tip, socket],
            rim: Stroke { from: socket, to: tip, radii: [0.75, 0.4] },
            ridge: Stroke { from: corner, to: place(out + 4.0, top - 0.2), radii: [0.3, 0.75] },
            head,
            shaft: Stroke { from: head, to: elbow, radii: [1.35, 1.15] },
        }
    }

    fn bone(&self, point: Point) -> f32 {
        let head_dx = point.x - self.head.x;
        let head_dy = point.y - self.head.y;
        let head = 0.3 * chord(head_dx * head_dx + head_dy * head_dy, 2.2);
        let (distance_squared, radius) = self.shaft.distance_squared(point);
        let shaft = 0.7 * tubular_bone(distance_squared, radius);
        let blade = 0.32 * ramp(triangle(&self.blade, point) / 0.5 + 0.5);
        let rim = 0.4 * self.rim.chord(point);
        let ridge = 0.4 * self.ridge.chord(point);
        merge(merge(head, shaft), merge(blade, merge(rim, ridge)))
    }
}

impl Spine {
    fn axis(&self, y: f32) -> f32 {
        let (bend, phase) = self.bend;
        self.offset + bend * (1.6 * y / self.height + phase).sin()
    }

    fn bone(&self, Point { x, y }: Point) -> f32 {
        let x = (x - self.axis(y)).abs();
        if x > 3.6 {
            return 0.0;
        }
        let height = y / self.vertebra;
        // Vertebrae grow downwards; discs are gaps between them.
        let width = 1.45 + 0.45 * ramp((height + 3.0) / 16.0);
        let within = height - height.floor() - 0.5;
        let disc = bump((0.5 - within.abs()) / 0.13);
        let waist = width * (1.0 - 0.07 * bump(within / 0.35));
        let body = 0.95 * (1.0 - 0.34 * disc) * positive(1.0 - (x / waist).powi(2), 0.02).sqrt();
        let pedicle = bump(((x - 0.62 * width) / 0.38).hypot((within + 0.12) / 0.22).min(1.0));
        let spinous = bump((x / 0.4).hypot((within - 0.3) / 0.3).min(1.0));
        let arms = bump((within + 0.1) / 0.2) * ramp((3.3 - x) / 1.4) * ramp((x - 0.8) / 0.6);
        body * ramp((width + 0.2 - x) / 0.3) + 0.35 * pedicle + 0.4 * spinous + 0.25 * arms
    }
}

/// Distance inside a triangle's edges, negative outside, whichever way round it is given.
fn triangle(corners: &[Point; 3], point: Point) -> f32 {
    let edge = |from: Point, to: Point| {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        (dx * (point.y - from.y) - dy * (point.x - from.x)) / (dx * dx + dy * dy).sqrt()
    };
    let [a, b, c] = *corners;
    let turns = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
    let sides = [edge(a, b), edge(b, c), edge(c, a)];
    sides.into_iter().map(|side| side * turns.signum()).fold(f32::MAX, f32::min)
}
