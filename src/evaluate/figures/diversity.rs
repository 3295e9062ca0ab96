//! How unlike each other generated images are.

use super::{Looks, Measure, at_least, of_strategy, part, refused};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Finding, Taken};
use crate::evaluate::sets::TITLE;
use crate::evaluate::subset;
use crate::evaluate::words::{count, number, of, real_images};
use crate::metric;
use crate::random::Stream;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Settings of diversity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diversity {
    /// Pairs of samples compared, and pairs of training images.
    pub pairs: usize,
    /// The only strategy whose samples are looked at, by its number in the recipe's `sample`, beside real images of the
    /// split that it starts from. None: all that start from training images.
    pub strategy: Option<usize>,
}

impl Default for Diversity {
    fn default() -> Self {
        Self { pairs: 500, strategy: None }
    }
}

impl Measure for Diversity {
    fn name(&self) -> &'static str {
        "Diversity"
    }

    fn key(&self) -> String {
        of_strategy("diversity".to_owned(), self.strategy)
    }

    fn faults(&self) -> Vec<String> {
        at_least("pairs", self.pairs, 1).into_iter().collect()
    }

    fn looks(&self) -> Looks {
        Looks::At(self.strategy)
    }

    /// MS-SSIM over pairs of samples, and over as many pairs of as many real images.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { seed, samples, .. } = *evidence;
        let of_drawn = samples.chosen(self.strategy);
        let split = samples.split(self.strategy);
        let real_set = evidence.images(split);
        let stream = Stream::new(seed, "evaluate/diversity");
        let chosen = subset::shuffled(stream, real_set.len(), of_drawn.len());
        let real = |at: usize| Ok(real_set.get(chosen[at])?.square.pixels.clone());
        let (drawn, size) = (|at: usize| samples.pixels(of_drawn[at]), real_set.size());
        let found = refused(metric::diversity(of_drawn.len(), drawn, size, self.pairs, seed))?;
        let of_real = refused(metric::diversity(chosen.len(), real, size, self.pairs, seed))?;
        let scales = found.as_ref().map_or(0, |found| found.scales as u64);
        let pairs = found.as_ref().map_or(0, |found| found.pairs as u64);
        let taken = Taken::new(of_drawn.len(), of_drawn.len());
        let images = Taken::new(chosen.len(), real_set.len());
        let mut finding = Finding::new(self.key(), TITLE);
        finding.figure(
            "ms_ssim",
            &part(&found, |it| it.ms_ssim),
            number,
            "Likeness among generated images",
            format!(
                "MS-SSIM over {} pairs of {}, {scales} scales. Less is more diverse.",
                count(pairs),
                of(taken, "generated images"),
            ),
        );
        finding.figure(
            "ms_ssim_real",
            &part(&of_real, |it| it.ms_ssim),
            number,
            "Likeness among real images",
            format!(
                "The same of {}: more than this, and the generated images are less diverse \
                 than the real ones.",
                of(images, real_images(split)),
            ),
        );
        finding.other("scales", scales);
        finding.other("pairs", pairs);
        finding.taken("samples", taken);
        finding.taken("images", images);
        Ok(finding)
    }
}
