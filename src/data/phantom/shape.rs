//! The few shapes that the body is made of, in centimetres, as smooth functions of a point.

/// A point of the body or of the field, in cm: `x` to the right of the picture, `y` down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

/// Shorthand for a point.
pub(super) fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// An ellipse whose first half-axis points `tilt` rad clockwise of the picture's right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ellipse {
    pub(super) center: Point,
    pub(super) axes: [f32; 2],
    direction: [f32; 2],
}

/// A straight piece of tube: a vessel, a bone, a pen's stroke.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) from: Point,
    pub(super) to: Point,
    /// At `from` and at `to`.
    pub(super) radii: [f32; 2],
}

impl Ellipse {
    pub(super) fn new(center: Point, axes: [f32; 2], tilt: f32) -> Self {
        Self { center, axes, direction: [tilt.cos(), tilt.sin()] }
    }

    /// 1 in the centre, 0 on the rim, negative outside.
    pub(super) fn level(&self, Point { x, y }: Point) -> f32 {
        let [cos, sin] = self.direction;
        let (dx, dy) = (x - self.center.x, y - self.center.y);
        let along = (dx * cos + dy * sin) / self.axes[0];
        let across = (dy * cos - dx * sin) / self.axes[1];
        1.0 - along * along - across * across
    }

    /// Chord of a beam through the ellipsoid of this outline, at most `thickness`.
    pub(super) fn chord(&self, point: Point, thickness: f32) -> f32 {
        thickness * self.level(point).max(0.0).sqrt()
    }
}

impl Stroke {
    /// Squared distance to the axis, and the radius there.
    pub(super) fn distance_squared(&self, Point { x, y }: Point) -> (f32, f32) {
        let (ax, ay) = (self.to.x - self.from.x, self.to.y - self.from.y);
        let (px, py) = (x - self.from.x, y - self.from.y);
        let length_squared = (ax * ax + ay * ay).max(1e-12);
        let along = ((px * ax + py * ay) / length_squared).clamp(0.0, 1.0);
        let (dx, dy) = (px - along * ax, py - along * ay);
        (dx * dx + dy * dy, self.radii[0] + along * (self.radii[1] - self.radii[0]))
    }

    /// Chord of a beam through the tube.
    pub(super) fn chord(&self, point: Point) -> f32 {
        let (distance_squared, radius) = self.distance_squared(point);
        chord(distance_squared, radius)
    }
}

/// Chord through a circle of `radius` at a squared distance from its centre.
pub(super) fn chord(distance_squared: f32, radius: f32) -> f32 {
    2.0 * (radius * radius - distance_squared).max(0.0).sqrt()
}

/// Bone per beam through a tube of `radius`: a compact shell around spongy marrow.
pub(super) fn tubular_bone(distance_squared: f32, radius: f32) -> f32 {
    chord(distance_squared, radius) - 0.5 * chord(distance_squared, 0.72 * radius)
}

/// Smooth maximum of two thicknesses: organs that share a beam without a crease between them.
pub(super) fn merge(a: f32, b: f32) -> f32 {
    let (a, b) = (a * a, b * b);
    (a * a + b * b).sqrt().sqrt()
}

/// Smooth `max(value, 0)`; `softness` is how far around 0 it bends.
pub(super) fn positive(value: f32, softness: f32) -> f32 {
    0.5 * (value + (value * value + softness * softness).sqrt())
}

/// 0 below 0, 1 above 1, smooth between (3t² − 2t³).
pub(super) fn ramp(value: f32) -> f32 {
    let t = value.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 at 0, 0 from −1 and 1 outwards, smooth between.
pub(super) fn bump(value: f32) -> f32 {
    let rest = (1.0 - value * value).max(0.0);
    rest * rest
}
