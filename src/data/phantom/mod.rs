//! Phantom radiographs: seeded pictures of chests, with what a radiologist would say about them.
//!
//! A phantom is modelled, not painted: thicknesses of air, tissue and bone along each beam add up to
//! an attenuation, and a display curve makes it brightness. The measures of the body come from
//! (seed, patient), those of the image from (seed, index). Nothing depends on the size: a small
//! phantom is the same chest, seen by a coarser detector.
//!
//! The arithmetic is f32: it makes a picture, not a measurement.

mod anatomy;
mod body;
mod cavity;
mod exposure;
mod finding;
mod noise;
mod report;
mod shape;
mod skeleton;
#[cfg(test)]
mod tests;
mod vessel;
mod view;

use crate::data::image::Gray;
use crate::random::{Draws, Stream};
use anatomy::Anatomy;
use body::{Body, Pose};
use exposure::Exposure;
pub use finding::Finding;
use finding::Lesion;
use shape::Point;
use std::collections::BTreeMap;
use view::{Framing, View};

/// Changes whenever the same (seed, index, size) gives another picture, mask or report.
pub const VERSION: u32 = 3;

/// One image with everything known about it. All pictures have the image's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Phantom {
    /// The radiograph, dense bright; its longer side has the size asked for.
    pub image: Gray,
    /// 1 in the lung fields, 0 elsewhere. Findings in the lung belong to it, heart and mediastinum
    /// do not.
    pub lungs: Gray,
    /// What is to be seen, each with its mask of 0 and 1. About 40 % of all images have none.
    pub findings: BTreeMap<Finding, Gray>,
    /// One line in a radiologist's words.
    pub report: String,
}

/// Renders image `index` of the endless set `seed`, `size` pixels on its longer side (at least 1).
///
/// A pure function: the same arguments give the same phantom, and every size the same anatomy.
pub fn render(seed: u64, index: u64, size: usize) -> Phantom {
    Case::draw(seed, index).render(size)
}

/// The patient shown in image `index`: a number that is unique among all seeds.
///
/// Five consecutive images belong to four patients; the first of the four has two of them.
pub fn patient(seed: u64, index: u64) -> u64 {
    let mut draws = Stream::new(seed, "phantom/patient").at(patient_number(index));
    draws.below(u64::MAX)
}

/// Everything that is drawn for one image.
#[derive(Debug, Clone)]
struct Case {
    anatomy: Anatomy,
    pose: Pose,
    framing: Framing,
    exposure: Exposure,
    lesions: Vec<Lesion>,
    noise: Draws,
}

/// The patient's right or left; the right is on the picture's left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Right,
    Left,
}

impl Case {
    fn draw(seed: u64, index: u64) -> Self {
        let draws = |stream: &str| Stream::new(seed, stream).at(index);
        let number = patient_number(index);
        let anatomy = Anatomy::draw(&mut Stream::new(seed, "phantom/anatomy").at(number));
        let mut draws_of_pose = draws("phantom/pose");
        let pose = Pose::draw(&mut draws_of_pose);
        let framing = Framing::draw(&mut draws_of_pose, &anatomy);
        let exposure = Exposure::draw(&mut draws("phantom/exposure"), &anatomy, framing.field);
        let lesions = Lesion::draw_all(&mut draws("phantom/findings"), &anatomy, &pose);
        Self { anatomy, pose, framing, exposure, lesions, noise: draws("phantom/noise") }
    }

    fn render(&self, size: usize) -> Phantom {
        let view = self.framing.at_size(size);
        let body = Body::new(&self.anatomy, &self.pose, &self.lesions);
        let vessels = vessel::thickness(&self.anatomy.vessels, &view);
        let noise = self.exposure.noise(self.noise.clone(), size);
        let mut image = Vec::with_capacity(view.width * view.height);
        let mut lungs = Vec::with_capacity(image.capacity());
        let mut findings: [Vec<f32>; 5] = Default::default();
        for row in 0..view.height {
            for column in 0..view.width {
                let pixel = self.pixel(&body, &view, &vessels, column, row);
                let grain =
                    noise.at((column as f32 + 0.5) / size as f32, (row as f32 + 0.5) / size as f32);
                // Less grain in the black beside the patient, as a display's toe leaves it.
                let grain = grain * (8.0 * pixel.brightness).min(1.0);
                image.push((pixel.brightness + grain).clamp(0.0, 1.0));
                lungs.push(pixel.lung.round());
                for (mask, share) in findings.iter_mut().zip(pixel.findings) {
                    mask.push(share.round());
                }
            }
        }
        let gray = |pixels| Gray { width: view.width, height: view.height, pixels };
        let findings = Finding::ALL.into_iter().zip(findings);
        let is_seen = |finding| self.lesions.iter().any(|lesion| lesion.finding() == finding);
        Phantom {
            image: gray(image),
            lungs: gray(lungs),
            findings: findings
                .filter(|&(finding, _)| is_seen(finding))
                .map(|(finding, mask)| (finding, gray(mask)))
                .collect(),
            report: report::write(&self.lesions, &self.anatomy),
        }
    }

    /// The mean over a pixel's samples.
    fn pixel(
        &self,
        body: &Body<'_>,
        view: &View,
        vessels: &[f32],
        column: usize,
        row: usize,
    ) -> Pixel {
        let n = view.oversampling;
        let weight = 1.0 / (n * n) as f32;
        let mut pixel = Pixel::default();
        for row in n * row..n * (row + 1) {
            for column in n * column..n * (column + 1) {
                let vessel = vessels[row * view.columns + column];
                let ray = body.ray(view.body_at(column, row), vessel);
                let field = view.field_at(column, row);
                let brightness = self.exposure.brightness(ray.attenuation, field, view.sample_cm);
                pixel.brightness += weight * brightness;
                pixel.lung += weight * f32::from(ray.is_lung);
                for (share, is_seen) in pixel.findings.iter_mut().zip(ray.findings) {
                    *share += weight * f32::from(is_seen);
                }
            }
        }
        pixel
    }
}

/// One pixel before the noise; masks as shares of its samples.
#[derive(Debug, Clone, Copy, Default)]
struct Pixel {
    brightness: f32,
    lung: f32,
    findings: [f32; 5],
}

impl Side {
    fn of(point: Point) -> Self {
        if point.x < 0.0 { Self::Right } else { Self::Left }
    }

    /// Where the side is in the picture: −1 left, 1 right.
    fn sign(self) -> f32 {
        match self {
            Self::Right => -1.0,
            Self::Left => 1.0,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Right => Self::Left,
            Self::Left => Self::Right,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Left => "left",
        }
    }
}

fn patient_number(index: u64) -> u64 {
    index / 5 * 4 + (index % 5).saturating_sub(1)
}

/// A uniform number in [low, high), as the shapes' f32.
fn between(draws: &mut Draws, low: f64, high: f64) -> f32 {
    draws.range(low, high) as f32
}
