//! Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

use super::{BETWEEN, Looks, MOST_IMAGES, Measure, at_least, of_strategy, part, titled};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::extractor::Extractor;
use crate::evaluate::finding::{Finding, Meter, Tile};
use crate::evaluate::sets::{Compared, TITLE};
use crate::evaluate::words::{number, percent};
use crate::metric;
use crate::metric::bootstrap::interval_of_mean;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Settings of precision, recall, density and coverage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coverage {
    /// Neighbours that span an image's ball.
    pub neighbours: usize,
    /// Most images on a side.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
    /// The only strategy whose samples are looked at, by its number in the recipe's `sample`, beside real images of the
    /// split that it starts from. None: all that start from training images.
    pub strategy: Option<usize>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { neighbours: 5, images: MOST_IMAGES, features: Extractor::Own, strategy: None }
    }
}

impl Measure for Coverage {
    fn name(&self) -> &'static str {
        "Coverage"
    }

    fn key(&self) -> String {
        of_strategy(self.features.key("coverage"), self.strategy)
    }

    fn faults(&self) -> Vec<String> {
        at_least("neighbours", self.neighbours, 1).into_iter().collect()
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
        let each = metric::prdc_each(compared.real, compared.generated, self.neighbours);
        let found = each.as_ref().map(|each| each.shares()).map_err(Clone::clone);
        let floor = metric::prdc(first, second, self.neighbours);
        let described = sets.described(&compared);
        let [precision, recall] = [part(&found, |it| it.precision), part(&found, |it| it.recall)];
        let [density, coverage] = [part(&found, |it| it.density), part(&found, |it| it.coverage)];
        // Each is a mean over the images of one side, the other side being as it is.
        let [precision, recall, density, coverage] = match &each {
            Err(_) => [precision, recall, density, coverage],
            Ok(each) => {
                let share = |flags: &[bool]| -> Vec<f64> {
                    flags.iter().map(|&flag| f64::from(u8::from(flag))).collect()
                };
                let is_precise: Vec<bool> = each.num_balls.iter().map(|&it| it > 0).collect();
                let (seed, Compared { patients, groups, .. }) = (evidence.seed, &compared);
                [
                    precision.within(interval_of_mean(&share(&is_precise), groups, seed)?),
                    recall.within(interval_of_mean(&share(&each.is_reached), patients, seed)?),
                    density.within(interval_of_mean(&each.densities(), groups, seed)?),
                    coverage.within(interval_of_mean(&share(&each.is_covered), patients, seed)?),
                ]
            }
        };
        let of_real = part(&floor, |it| it.coverage);
        let mut finding = Finding::new(self.key(), TITLE);
        finding.figure(
            "precision",
            &precision,
            percent,
            "Precision",
            format!(
                "Generated images that lie in the neighbourhood of a real one: are they \
                 plausible? This and the next three of {}. {BETWEEN}",
                described.compared(),
            ),
        );
        finding.figure(
            "recall",
            &recall,
            percent,
            "Recall",
            "Real images that lie in the neighbourhood of a generated one: are they reachable?",
        );
        finding.figure(
            "density",
            &density,
            number,
            "Density",
            "As precision, counting how many neighbourhoods; about 1 for equal sets.",
        );
        finding.figure(
            "coverage",
            &coverage,
            percent,
            "Coverage",
            "Real images with a generated one in their neighbourhood.",
        );
        finding.figure(
            "real_vs_real.precision",
            &part(&floor, |it| it.precision),
            percent,
            "Precision, real to real",
            format!(
                "This and the next three: the same {}. What a perfect generator would reach.",
                described.floor(),
            ),
        );
        let again = "See above.";
        let recall_of_real = part(&floor, |it| it.recall);
        finding.figure(
            "real_vs_real.recall",
            &recall_of_real,
            percent,
            "Recall, real to real",
            again,
        );
        let density_of_real = part(&floor, |it| it.density);
        finding.figure(
            "real_vs_real.density",
            &density_of_real,
            number,
            "Density, real to real",
            again,
        );
        finding.figure("real_vs_real.coverage", &of_real, percent, "Coverage, real to real", again);
        described.note(&mut finding);
        finding.tiles.push(Tile {
            rank: 5,
            label: titled("Coverage", self.strategy),
            value: coverage.shown(percent),
            reason: coverage.reason(),
            beside: vec![
                ("Real images of other patients".into(), of_real.shown(percent)),
                ("Precision".into(), precision.shown(percent)),
                ("Recall".into(), recall.shown(percent)),
                ("Density (about 1 is best)".into(), density.shown(number)),
            ],
            meaning:
                "Share of the real images that have a generated one in their neighbourhood: is \
                      the variety there? Of as many real as generated images."
                    .into(),
            meter: Meter::new(&coverage, &[&of_real]),
        });
        Ok(finding)
    }
}
