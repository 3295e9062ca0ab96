//! The one-line report: what is seen, on which side, and what is not.

use super::finding::{Finding, Lesion, Zone};
use super::{Side, anatomy::Anatomy};

/// Reports `lesions` in a radiologist's words: first what is seen, then what was looked for in vain.
pub(super) fn write(lesions: &[Lesion], anatomy: &Anatomy) -> String {
    let mut sentences: Vec<String> =
        lesions.iter().map(|lesion| describe(lesion, anatomy)).collect();
    let is_seen = |finding| lesions.iter().any(|lesion| lesion.finding() == finding);
    if lesions.is_empty() {
        sentences.push("Normal heart size".into());
        sentences.push("Clear lungs".into());
    }
    match (is_seen(Finding::Effusion), is_seen(Finding::Pneumothorax)) {
        (false, false) => sentences.push("No pleural effusion or pneumothorax".into()),
        (true, false) => sentences.push("No pneumothorax".into()),
        (false, true) => sentences.push("No pleural effusion".into()),
        (true, true) => {}
    }
    sentences.join(". ") + "."
}

fn describe(lesion: &Lesion, anatomy: &Anatomy) -> String {
    match lesion {
        Lesion::Effusion { side, height, .. } => {
            let share = height / anatomy.lung_height;
            let size = ["Small", "Moderate", "Large"]
                [usize::from(share > 0.14) + usize::from(share > 0.29)];
            format!("{size} {} pleural effusion", side.name())
        }
        Lesion::Nodule { side, zone, spots } => {
            let millimetres = spots.iter().map(|&(_, radius)| 20.0 * radius).fold(0.0, f32::max);
            let [side, zone] = [side.name(), zone.name()];
            match spots.len() {
                1 => format!("{millimetres:.0} mm nodule in the {side} {zone} zone"),
                _ => format!("Two nodules in the {side} {zone} zone, up to {millimetres:.0} mm"),
            }
        }
        Lesion::Cardiomegaly { ratio } => {
            let size = if *ratio > 0.63 { "Marked" } else { "Moderate" };
            format!("{size} cardiomegaly")
        }
        Lesion::Pneumothorax { side, gaps } => {
            let size = if gaps[0] > 3.3 { "Large" } else { "Moderate" };
            format!("{size} {} pneumothorax", side.name())
        }
        Lesion::Opacity { side, zone, .. } => {
            let lobe = match (side, zone) {
                (_, Zone::Upper) => "upper lobe",
                (Side::Right, Zone::Middle) => "middle lobe",
                (Side::Left, Zone::Middle) => "lingula",
                (_, Zone::Lower) => "lower lobe",
            };
            format!("Patchy opacity in the {} {lobe}", side.name())
        }
    }
}

impl Zone {
    fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Middle => "middle",
            Self::Lower => "lower",
        }
    }
}
