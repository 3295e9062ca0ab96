//! `umbra export`: a trained run, for Python.

use super::args::{Export, Library, Weights};
use super::exit;
use crate::interop::export;
use crate::stages::open_run;
use crate::telemetry::plain::plain;
use anyhow::Result;
use std::io::Write as _;

/// Writes the run's model as a new folder.
pub(super) fn export(export: &Export) -> Result<u8> {
    let weights = match export.weights {
        Weights::Ema => export::Weights::Ema,
        Weights::Raw => export::Weights::Raw,
    };
    let (run, checkpoint) = open_run(&export.run, &export.data_root)?;
    let model = run.model(weights, checkpoint)?;
    match export.to {
        Library::Diffusers => export::diffusers(&model, &export.folder)?,
    }
    let images_seen = model.card.images_seen[2];
    let mut out = std::io::stdout().lock();
    if export.json {
        let document = serde_json::json!({
            "run": export.run,
            "recipe": model.card.name,
            "to": match export.to {
                Library::Diffusers => "diffusers",
            },
            "folder": export.folder,
            "weights": match export.weights {
                Weights::Ema => "ema",
                Weights::Raw => "raw",
            },
            "images_seen": images_seen,
            "synthetic": true,
        });
        writeln!(out, "{document:#}")?;
    } else {
        let folder = plain(&export.folder.display().to_string());
        writeln!(out, "Exported {} after {images_seen} images to {folder}", model.card.name)?;
        writeln!(out, "Try: python {folder}/sample.py IMAGE.png")?;
    }
    Ok(exit::DONE)
}
