//! Where the field lies on the patient, and how it is cut into samples.

use super::anatomy::Anatomy;
use super::between;
use super::shape::{Point, at};
use crate::random::Draws;

/// The field of an image on a patient; the same for every size of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    /// Width and height of the field, cm.
    pub(super) field: [f32; 2],
    /// The body's origin in the field, from its centre, cm.
    shift: Point,
    /// The body's turn in the field, clockwise, rad.
    rotation: f32,
}

/// A framing at one size. A pixel is a square of `oversampling` × `oversampling` samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) oversampling: usize,
    /// Samples per row and per column.
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Side of a sample, cm.
    pub(super) sample_cm: f32,
    shift: Point,
    turn: [f32; 2],
}

impl Framing {
    pub(super) fn draw(draws: &mut Draws, anatomy: &Anatomy) -> Self {
        // Share of the field's width that the chest takes, and width over height.
        let zoom = between(draws, 0.62, 0.84);
        let aspect = between(draws, 0.84, 1.28);
        let width = 2.0 * anatomy.half_width / zoom;
        let needed = anatomy.lung_height + 6.0;
        let height = (width / aspect).max(1.08 * needed);
        let room = [0.5 * width - anatomy.half_width, 0.5 * (height - needed)];
        let x = room[0] * between(draws, -0.35, 0.35);
        let y = room[1] * between(draws, -0.75, 0.3) - 0.5 * anatomy.lung_height - 1.0;
        let degrees = between(draws, -3.5, 3.5) + between(draws, -3.5, 3.5);
        Self { field: [width, height], shift: at(x, y), rotation: degrees.to_radians() }
    }

    /// The view whose longer side has `size` pixels.
    pub(super) fn at_size(&self, size: usize) -> View {
        let [width, height] = self.field;
        let longest = width.max(height);
        let fit = |side: f32| ((side / longest * size as f32).round() as usize).clamp(1, size);
        let (width, height) = (fit(width), fit(height));
        let oversampling = if size < 256 { 2 } else { 1 };
        View {
            width,
            height,
            oversampling,
            columns: width * oversampling,
            rows: height * oversampling,
            sample_cm: longest / (size * oversampling) as f32,
            shift: self.shift,
            turn: [self.rotation.cos(), self.rotation.sin()],
        }
    }
}

impl View {
    /// The middle of a sample in the field, from the field's centre.
    pub(super) fn field_at(&self, column: usize, row: usize) -> Point {
        let from_center =
            |sample: usize, end: usize| (sample as f32 + 0.5 - 0.5 * end as f32) * self.sample_cm;
        at(from_center(column, self.columns), from_center(row, self.rows))
    }

    /// The middle of a sample in the body.
    pub(super) fn body_at(&self, column: usize, row: usize) -> Point {
        let Point { x, y } = self.field_at(column, row);
        let (x, y) = (x - self.shift.x, y - self.shift.y);
        let [cos, sin] = self.turn;
        at(x * cos + y * sin, y * cos - x * sin)
    }

    /// The sample, as a fraction, that shows a point of the body.
    pub(super) fn sample_of(&self, Point { x, y }: Point) -> Point {
        let [cos, sin] = self.turn;
        let (x, y) = (x * cos - y * sin + self.shift.x, y * cos + x * sin + self.shift.y);
        let sample = |cm: f32, end: usize| cm / self.sample_cm + 0.5 * end as f32 - 0.5;
        at(sample(x, self.columns), sample(y, self.rows))
    }
}
