//! How far the denoiser was trained. Always in the report.

use super::Measure;
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Figure, Finding, Tile};
use crate::evaluate::words::{count, number, percent};
use anyhow::Result;

pub(super) struct Losses;

/// How the four quarters of the schedule's time are called.
const QUARTERS: [&str; 4] = [
    "Validation loss, least noise",
    "Validation loss, second quarter of time",
    "Validation loss, third quarter of time",
    "Validation loss, most noise",
];

impl Measure for Losses {
    fn name(&self) -> &'static str {
        "Losses"
    }

    fn key(&self) -> String {
        "denoiser".to_owned()
    }

    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let records = evidence.records.iter();
        let losses: Vec<f64> =
            records.filter_map(|record| record.values.get("validation/loss").copied()).collect();
        let known = |loss: Option<&f64>| {
            loss.map_or_else(|| Figure::missing("no validation is recorded"), |&loss| loss.into())
        };
        let (first, last) = (known(losses.first()), known(losses.last()));
        let images_seen = evidence.records.last().map_or(0, |record| record.images_seen);
        let ratio = match (last.value(), first.value()) {
            (Some(last), Some(first)) if first > 0.0 => percent(last / first),
            _ => "–".to_owned(),
        };
        let mut finding = Finding::new(self.key(), "Denoiser");
        finding.figure(
            "validation_loss.first",
            &first,
            number,
            "Validation loss, first",
            "Unweighted, fixed noise and timesteps, before any training step.",
        );
        finding.figure(
            "validation_loss.last",
            &last,
            number,
            "Validation loss, last",
            "The same at the end, with the moving average of the weights. Less is better.",
        );
        for (quarter, label) in QUARTERS.into_iter().enumerate() {
            let name = format!("validation/loss_t{quarter}");
            let last =
                evidence.records.iter().filter_map(|record| record.values.get(&name)).next_back();
            // Trainings of an older umbra recorded none, and a small split may have no image there.
            let Some(&last) = last else { continue };
            finding.figure(
                format!("validation_loss.t{quarter}"),
                &last.into(),
                number,
                label,
                "The last validation loss of the items in that quarter of the schedule's time. Less is better.",
            );
        }
        let definition = "Training images, counted over all passes.";
        finding.count("images_seen", images_seen, "Images seen", definition);
        finding.tiles.push(Tile {
            rank: 3,
            label: "Denoiser validation loss".into(),
            value: last.shown(number),
            reason: last.reason(),
            beside: vec![
                ("Before training".into(), first.shown(number)),
                ("Share of that left".into(), ratio),
                ("Images seen".into(), count(images_seen)),
            ],
            meaning: "The error on held-out images, with fixed noise. Lower is better.".into(),
            meter: None,
        });
        Ok(finding)
    }
}
