//! Kernel distance (KID, Bińkowski et al. 2018) between generated and real images.

use super::{Looks, MOST_IMAGES, Measure, at_least, of_strategy, part};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::extractor::Extractor;
use crate::evaluate::finding::Finding;
use crate::evaluate::sets::TITLE;
use crate::evaluate::words::{count, number};
use crate::metric::{self, Features, Subsets};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Settings of the kernel distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Subsets that the mean is over.
    pub subsets: usize,
    /// Images per subset; fewer where there are not so many.
    pub subset_size: usize,
    /// Most images on a side that subsets are drawn from.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
    /// The only strategy whose samples are looked at, by its number in the recipe's `sample`, beside real images of the
    /// split that it starts from. None: all that start from training images.
    pub strategy: Option<usize>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            subsets: 50,
            subset_size: 100,
            images: MOST_IMAGES,
            features: Extractor::Own,
            strategy: None,
        }
    }
}

impl Measure for Kernel {
    fn name(&self) -> &'static str {
        "Kernel"
    }

    fn key(&self) -> String {
        of_strategy(self.features.key("kernel_distance"), self.strategy)
    }

    fn faults(&self) -> Vec<String> {
        let subsets = at_least("subsets", self.subsets, 1);
        subsets.into_iter().chain(at_least("subset_size", self.subset_size, 2)).collect()
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
        let distance = |a: Features<'_>, b: Features<'_>| {
            let size = self.subset_size.min(a.len()).min(b.len());
            let subsets = Subsets { count: self.subsets, size, seed: evidence.seed };
            metric::kernel_distance(a, b, &subsets)
        };
        let found = distance(compared.real, compared.generated);
        let [first, second] = compared.real_vs_real;
        let floor = distance(first, second);
        let subset_size = self.subset_size.min(compared.real.len()) as u64;
        let described = sets.described(&compared);
        let mut finding = Finding::new(self.key(), TITLE);
        finding.figure(
            "value",
            &part(&found, |it| it.mean),
            number,
            "Kernel distance",
            format!(
                "Unbiased squared maximum mean discrepancy with a cubic kernel (KID), mean \
                 over random subsets of {}, between {}. 0 is best; it may fall a little below.",
                count(subset_size),
                described.compared(),
            ),
        );
        finding.figure(
            "std",
            &part(&found, |it| it.std),
            number,
            "Kernel distance, deviation",
            "Standard deviation over the subsets.",
        );
        finding.other("subset_size", subset_size);
        finding.figure(
            "real_vs_real",
            &part(&floor, |it| it.mean),
            number,
            "Kernel distance, real to real",
            format!("The mean {}: 0 but for chance.", described.floor()),
        );
        described.note(&mut finding);
        Ok(finding)
    }
}
