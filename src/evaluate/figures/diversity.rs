//! How unlike each other generated images are.

use super::{Measure, at_least, part, refused};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::finding::{Finding, Taken};
use crate::evaluate::sets::TITLE;
use crate::evaluate::subset;
use crate::evaluate::words::{count, number, of};
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
}

impl Default for Diversity {
    fn default() -> Self {
        Self { pairs: 500 }
    }
}

impl Measure for Diversity {
    fn name(&self) -> &'static str {
        "Diversity"
    }

    fn key(&self) -> String {
        "diversity".to_owned()
    }

    fn faults(&self) -> Vec<String> {
        at_least("pairs", self.pairs, 1).into_iter().collect()
    }

    /// MS-SSIM over pairs of samples, and over as many pairs of as many training images.
    fn measure(&self, evidence: &Evidence<'_>) -> Result<Finding> {
        let Evidence { seed, samples, train, .. } = *evidence;
        let stream = Stream::new(seed, "evaluate/diversity");
        let chosen = subset::shuffled(stream, train.len(), samples.len());
        let real = |at: usize| Ok(train.get(chosen[at])?.square.pixels.clone());
        let (drawn, size) = (|at| samples.pixels(at), train.size());
        let found = refused(metric::diversity(samples.len(), drawn, size, self.pairs, seed))?;
        let of_real = refused(metric::diversity(chosen.len(), real, size, self.pairs, seed))?;
        let scales = found.as_ref().map_or(0, |found| found.scales as u64);
        let pairs = found.as_ref().map_or(0, |found| found.pairs as u64);
        let taken = Taken::new(samples.len(), samples.len());
        let images = Taken::new(chosen.len(), train.len());
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
                of(images, "training images"),
            ),
        );
        finding.other("scales", scales);
        finding.other("pairs", pairs);
        finding.taken("samples", taken);
        finding.taken("images", images);
        Ok(finding)
    }
}
