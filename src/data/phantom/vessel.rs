//! The lungs' vessels: trees that leave the hilum and fade towards the periphery.

use super::cavity::Cavity;
use super::shape::{Point, Stroke, at, chord};
use super::view::View;
use super::{Side, between};
use crate::random::Draws;

/// Thinnest vessel drawn, cm.
const THINNEST: f32 = 0.05;

/// Grows the vessels of one lung.
pub(super) fn grow(
    draws: &mut Draws,
    side: Side,
    cavity: &Cavity,
    lung_height: f32,
    vessels: &mut Vec<Stroke>,
) {
    let higher = if side == Side::Left { 0.045 } else { 0.0 };
    let hilum = [between(draws, 3.0, 3.8), lung_height * (between(draws, 0.42, 0.47) - higher)];
    // Angles below the horizontal; the lower lobe has the larger vessels.
    for (angle, radius, length) in [
        (-1.45, 0.34, 3.2),
        (-0.95, 0.34, 3.0),
        (-0.4, 0.30, 2.8),
        (0.15, 0.32, 3.0),
        (0.6, 0.40, 3.4),
        (1.0, 0.46, 3.8),
        (1.35, 0.44, 3.8),
    ] {
        let angle = angle + between(draws, -0.2, 0.2);
        let radius = radius * between(draws, 0.8, 1.2);
        let length = length * lung_height / 22.0 * between(draws, 0.8, 1.2);
        branch(draws, side, cavity, hilum, angle, radius, length, vessels);
    }
}

/// One branch with all its children: a gentle curve of two strokes, then a fork.
fn branch(
    draws: &mut Draws,
    side: Side,
    cavity: &Cavity,
    start: [f32; 2],
    angle: f32,
    radius: f32,
    length: f32,
    vessels: &mut Vec<Stroke>,
) {
    let (mut point, mut angle, mut width) = (start, angle, radius);
    for _ in 0..2 {
        angle += between(draws, -0.22, 0.22);
        let step = 0.5 * length;
        let next = [point[0] + step * angle.cos(), point[1] + step * angle.sin()];
        let place = |[x, y]: [f32; 2]| at(side.sign() * x, y);
        vessels.push(Stroke { from: place(point), to: place(next), radii: [width, 0.88 * width] });
        (point, width) = (next, 0.88 * width);
    }
    if width < THINNEST || cavity.level(point[0], point[1]) < 0.04 {
        return;
    }
    let fork = between(draws, 0.3, 0.7);
    let share = between(draws, 0.35, 0.65);
    for (turn, share) in [(-fork * share, 1.0 - share), (fork * (1.0 - share), share)] {
        let width = width * (0.62 + 0.42 * share);
        let length = length * between(draws, 0.68, 0.95);
        branch(draws, side, cavity, point, angle + turn, width, length, vessels);
    }
}

/// Thickness of the vessels at every sample of `view`, in cm.
///
/// A vessel thinner than a sample is drawn as wide as one and as much fainter, so that it neither
/// breaks up nor twinkles at any size.
pub(super) fn thickness(strokes: &[Stroke], view: &View) -> Vec<f32> {
    let mut map = vec![0.0f32; view.columns * view.rows];
    let thinnest = 0.75 * view.sample_cm;
    for stroke in strokes {
        let (from, to) = (view.sample_of(stroke.from), view.sample_of(stroke.to));
        let reach = stroke.radii[0].max(stroke.radii[1]).max(thinnest) / view.sample_cm;
        let span = |a: f32, b: f32, end: usize| {
            let first = (a.min(b) - reach).ceil().max(0.0) as usize;
            let last = (a.max(b) + reach).floor().max(-1.0) + 1.0;
            first..(last as usize).min(end)
        };
        for row in span(from.y, to.y, view.rows) {
            for column in span(from.x, to.x, view.columns) {
                let point: Point = view.body_at(column, row);
                let (distance_squared, radius) = stroke.distance_squared(point);
                let drawn = radius.max(thinnest);
                let faint = radius / drawn;
                let value = chord(distance_squared, drawn) * faint * faint;
                let to = &mut map[row * view.columns + column];
                *to = to.max(value);
            }
        }
    }
    map
}
