//! From attenuation to brightness: scatter, the display curve, shutters, the side marker, noise.

use super::anatomy::Anatomy;
use super::body::{BONE, TISSUE};
use super::noise::Noise;
use super::shape::{Point, Stroke, at, ramp};
use super::{Side, between};
use crate::random::Draws;

/// How one image was exposed and processed.
#[derive(Debug, Clone)]
pub(super) struct Exposure {
    /// Scattered radiation, as a share of the unattenuated beam.
    scatter: f32,
    /// Display curve over −ln of the signal: a logistic with this centre and steepness.
    center: f32,
    steepness: f32,
    /// Change of the logistic's argument per cm across the field.
    gradient: Point,
    /// The field's half width and height inside the shutters.
    shutters: [f32; 2],
    marker: Vec<Stroke>,
    /// Standard deviation of the noise, as a share of the display range.
    pub(super) noise_sigma: f32,
}

impl Exposure {
    pub(super) fn draw(draws: &mut Draws, anatomy: &Anatomy, field: [f32; 2]) -> Self {
        let scatter = between(draws, 0.004, 0.016);
        // Where the lung and the spine shall come out; the curve goes through both.
        let lung = between(draws, 0.17, 0.44);
        let spine = between(draws, 0.74, 0.93);
        let logit = |value: f32| (value / (1.0 - value)).ln();
        let air = 0.9 * (anatomy.depth - 4.5) * (1.0 - anatomy.lung_density);
        let lung_signal = signal(TISSUE * (anatomy.depth - air), scatter);
        let spine_signal = signal(TISSUE * anatomy.depth + BONE * 1.1, scatter);
        let steepness = (logit(spine) - logit(lung)) / (spine_signal - lung_signal);
        let center = lung_signal - logit(lung) / steepness;
        let gradient = at(between(draws, -0.012, 0.012), between(draws, -0.008, 0.008));
        let shutters = field.map(|side| {
            let inset = between(draws, -1.6, 1.6).max(0.0);
            0.5 * side - inset
        });
        let has_marker = draws.chance(0.35);
        let side = if draws.chance(0.6) { Side::Right } else { Side::Left };
        let height = between(draws, 1.5, 2.2);
        let corner = at(
            side.sign() * (shutters[0] - between(draws, 1.6, 2.4)),
            -shutters[1] + between(draws, 1.8, 5.0),
        );
        let marker = if has_marker { letter(side, corner, height) } else { Vec::new() };
        let noise_sigma = between(draws, 0.005, 0.015);
        Self { scatter, center, steepness, gradient, shutters, marker, noise_sigma }
    }

    /// Brightness in [0, 1], dense bright (MONOCHROME2), of a ray at `field`.
    pub(super) fn brightness(&self, attenuation: f32, field: Point, sample_cm: f32) -> f32 {
        let tilt = self.gradient.x * field.x + self.gradient.y * field.y;
        let level = (signal(attenuation, self.scatter) - self.center) * self.steepness + tilt;
        let shown = 1.0 / (1.0 + (-level).exp());
        let soft = sample_cm.max(0.12);
        let [half_width, half_height] = self.shutters;
        let open = ramp((half_width - field.x.abs()) / soft + 0.5)
            * ramp((half_height - field.y.abs()) / soft + 0.5);
        let is_near_marker = |stroke: &Stroke| (field.y - stroke.from.y).abs() < 3.0;
        let marker = self.marker.iter().filter(|stroke| is_near_marker(stroke)).map(|stroke| {
            let (distance_squared, radius) = stroke.distance_squared(field);
            ramp((radius - distance_squared.sqrt()) / soft + 0.5)
        });
        let marker = 0.96 * marker.fold(0.0, f32::max);
        (shown * open).max(marker)
    }

    /// Noise for an image of this many pixels on its longer side.
    pub(super) fn noise(&self, draws: Draws, size: usize) -> Noise {
        Noise::new(draws, self.noise_sigma, size)
    }
}

/// −ln of what reaches the detector (Beer–Lambert and a veil of scatter).
fn signal(attenuation: f32, scatter: f32) -> f32 {
    -((-attenuation).exp() + scatter).ln()
}

/// R or L in lead, upright, `height` cm.
fn letter(side: Side, center: Point, height: f32) -> Vec<Stroke> {
    let place = |x: f32, y: f32| at(center.x + 0.32 * height * x, center.y + 0.5 * height * y);
    let radius = 0.075 * height;
    let line = |points: &[[f32; 2]]| -> Vec<Stroke> {
        let pairs = points.windows(2).map(|pair| Stroke {
            from: place(pair[0][0], pair[0][1]),
            to: place(pair[1][0], pair[1][1]),
            radii: [radius; 2],
        });
        pairs.collect()
    };
    match side {
        Side::Left => line(&[[-1.0, -1.0], [-1.0, 1.0], [0.9, 1.0]]),
        Side::Right => {
            let bow = [[-1.0, -1.0], [0.4, -1.0], [0.9, -0.75], [0.9, -0.25], [0.4, 0.0]];
            let leg = [[0.0, 0.0], [1.0, 1.0]];
            let stem = [[-1.0, 0.0], [0.4, 0.0]];
            [line(&[[-1.0, 1.0], [-1.0, -1.0]]), line(&bow), line(&stem), line(&leg)].concat()
        }
    }
}
