//! The report's contact sheets.

use super::{AUTOENCODER, Run, SAMPLE};
use crate::evaluate::report::Picture;
use anyhow::{Context, Result};
use std::fs;

impl Run {
    /// The contact sheets that sampling and autoencoder training left.
    pub(super) fn sheets(&self) -> Result<Vec<Picture>> {
        let mut sheets = Vec::new();
        for (number, strategy) in self.recipe.sample.iter().enumerate() {
            let name = format!("sheet-{number}-{}.png", strategy.name().to_lowercase());
            let path = self.stage_folder(SAMPLE).join(name);
            sheets.push(Picture {
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
            sheets.push(Picture {
                title: "Autoencoder".to_owned(),
                caption: "Each pair: a validation image and what the autoencoder restores of it."
                    .to_owned(),
                png: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            });
        }
        Ok(sheets)
    }
}
