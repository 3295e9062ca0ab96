//! Fréchet distance (Heusel et al. 2017) between generated and real images.

use super::{Looks, MOST_IMAGES, Measure, of_strategy, titled};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::extractor::Extractor;
use crate::evaluate::finding::{Figure, Finding, Tile};
use crate::evaluate::sets::TITLE;
use crate::evaluate::words::number;
use crate::metric;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Settings of the Fréchet distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frechet {
    /// Most images on a side.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
    /// The only strategy whose samples are looked at, by its number in the recipe's `sample`, beside real images of the
    /// split that it starts from. None: all that start from training images.
    pub strategy: Option<usize>,
}

impl Default for Frechet {
    fn default() -> Self {
        Self { images: MOST_IMAGES, features: Extractor::Own, strategy: None }
    }
}

impl Measure for Frechet {
    fn name(&self) -> &'static str {
        "Frechet"
    }

    fn key(&self) -> String {
        of_strategy(self.features.key("frechet_distance"), self.strategy)
    }

    fn images(&self) -> Option<usize> {
        Some(self.images)
    }

    fn extractor(&self) -> Option<&Extractor> {
        Some(&self.features)
    }

    fn looks(&self) -> Looks {
        Looks::At(self.strategy)
    }

    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let sets = evidence.sets(&self.features, self.strategy)?;
        let compared = sets.compared(self.images);
        let [first, second] = compared.real_vs_real;
        let value: Figure = metric::frechet_distance(compared.real, compared.generated).into();
        let floor: Figure = metric::frechet_distance(first, second).into();
        let described = sets.described(&compared);
        let mut finding = Finding::new(self.key(), TITLE);
        finding.figure(
            "value",
            &value,
            number,
            "Fréchet distance",
            format!(
                "Between normal distributions fitted to the features of {}. Less is better; \
                 fewer images make it greater.",
                described.compared(),
            ),
        );
        finding.figure(
            "real_vs_real",
            &floor,
            number,
            "Fréchet distance, real to real",
            format!("The same {}: no generator can be expected to do better.", described.floor()),
        );
        described.note(&mut finding);
        finding.tiles.push(Tile {
            rank: 4,
            label: titled("Fréchet distance", self.strategy),
            value: value.shown(number),
            reason: value.reason(),
            beside: vec![("Real images of other patients".into(), floor.shown(number))],
            meaning: format!(
                "How far the generated images as a whole are from the real ones; 0 is best.{}",
                described.warning(),
            ),
            meter: None,
        });
        Ok(finding)
    }
}
