//! The report's contact sheets.

use super::{AUTOENCODER, Candidate, Run, SAMPLE};
use crate::data::picture::{self, Contents, Depth, Provenance};
use crate::evaluate::report::{Page, Picture};
use anyhow::{Context, Result};
use std::fs;

/// Candidates shown in the fidelity sheet.
const SHOWN: usize = 24;

impl Run {
    pub(super) fn fidelity_sheet(
        &self,
        candidates: &[Candidate],
        drawn: &[Vec<f32>],
        size: usize,
    ) -> Result<Picture> {
        let tiles: Vec<&[f32]> = candidates
            .iter()
            .zip(drawn)
            .take(SHOWN)
            .flat_map(|(candidate, drawn)| [&candidate.square.pixels[..], &drawn[..]])
            .collect();
        let sheet = picture::contact_sheet(&tiles, size, 8, 2, &["source", "sample"].repeat(4));
        let contents = Contents::SyntheticAndReal;
        let from = Provenance { contents, recipe: &self.recipe.name, seed: self.recipe.seed };
        Ok(Picture {
            title: "Held-out images, drawn again from their embedding alone".to_owned(),
            caption: "Each pair: a validation image that no network has trained on, and what the denoiser \
                      makes of nothing but its embedding and noise."
                .to_owned(),
            png: picture::gray_png(&sheet, Depth::Eight, &from.text())?,
        })
    }

    /// The contact sheets that sampling and autoencoder training left.
    pub(super) fn add_sheets(&self, page: &mut Page) -> Result<()> {
        for (number, strategy) in self.recipe.sample.iter().enumerate() {
            let name = format!("sheet-{number}-{}.png", strategy.name().to_lowercase());
            let path = self.stage_folder(SAMPLE).join(name);
            page.pictures.push(Picture {
                title: format!("{} ({} images)", strategy.name(), strategy.images()),
                caption: match strategy.name() {
                    "Interpolate" => {
                        "Each triple: two training images with equal labels, and between them an \
                                      image drawn from a point between their embeddings."
                    }
                    _ => "Each pair: a training image and an image drawn from its embedding.",
                }
                .to_owned(),
                png: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            });
        }
        let previews = self.stage_folder(AUTOENCODER).join("previews");
        let newest = fs::read_dir(previews)
            .ok()
            .and_then(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).max());
        if let Some(path) = newest {
            page.pictures.push(Picture {
                title: "Autoencoder".to_owned(),
                caption: "Each pair: a validation image and what the autoencoder restores of it."
                    .to_owned(),
                png: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            });
        }
        Ok(())
    }
}
