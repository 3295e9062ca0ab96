//! Whether generated images are nearer to training images than held-out ones are.

use super::{BETWEEN, Looks, MOST_IMAGES, Measure, at_least, of_strategy, part};
use crate::data::catalog::{PatientKey, Split};
use crate::evaluate::evidence::Evidence;
use crate::evaluate::extractor::Extractor;
use crate::evaluate::finding::{Figure, Finding, Taken};
use crate::evaluate::sets::{self, eight_bits};
use crate::evaluate::subset;
use crate::evaluate::words::{count, number, of, percent, real_images};
use crate::metric::bootstrap::interval_of_mean;
use crate::metric::copying::{self, cells_of, data_copying, is_authentic, k_means};
use crate::metric::{Features, Refusal, Standard};
use crate::random::Stream;
use crate::telemetry::Watch;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Generated images that a cell must hold to be looked at (Meehan et al. 2020).
const LEAST_IN_CELL: f64 = 20.0;

/// Settings of authenticity and of the test for data copying.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataCopying {
    /// Cells that the training images are divided into.
    pub cells: usize,
    /// Most training, held-out and generated images. A copy of a training image that was not chosen is not found.
    pub images: usize,
    /// What sees the images.
    pub features: Extractor,
    /// The only strategy whose samples are looked at, by its number in the recipe's `sample`. None: all that start from
    /// training images.
    pub strategy: Option<usize>,
}

impl Default for DataCopying {
    fn default() -> Self {
        Self { cells: 5, images: MOST_IMAGES, features: Extractor::Own, strategy: None }
    }
}

impl Measure for DataCopying {
    fn name(&self) -> &'static str {
        "DataCopying"
    }

    fn key(&self) -> String {
        of_strategy(self.features.key("data_copying"), self.strategy)
    }

    fn faults(&self) -> Vec<String> {
        at_least("cells", self.cells, 1).into_iter().collect()
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
        let seed = evidence.seed;
        let most = self.images.min(self.features.most_images());
        // What was never drawn from, and is not what was drawn from either.
        let split = match evidence.samples.split(self.strategy) {
            Split::Test => Split::Test,
            Split::Train | Split::Valid => Split::Valid,
        };
        let (train, held_out) = (evidence.train, evidence.images(split));
        let chosen = |name: &str, count: usize| {
            subset::chosen(Stream::new(seed, &format!("evaluate/copying/{name}")), count, most)
        };
        let of_train = chosen("train", train.len());
        let of_held_out = chosen("held-out", held_out.len());
        let all = evidence.sets(&self.features, self.strategy)?;
        let eye = evidence.eye(&self.features)?;
        let watch = Watch::new("copying", 0, (of_train.len() + of_held_out.len()) as u64);
        let seen =
            |images, indices: &[usize]| sets::of_real(&eye, images, indices, eight_bits, &watch);
        let raw = [seen(train, &of_train)?, seen(held_out, &of_held_out)?];
        let [raw_train, raw_held_out] = raw.each_ref().map(|it| Features::new(it, eye.width()));
        let (raw_generated, groups) = all.raw(most);
        let is_scaled = self.features.is_scaled();
        let standard = is_scaled.then(|| Standard::of(raw_train));
        let scaled = [raw_train, raw_held_out, raw_generated].map(|features| match &standard {
            Some(standard) => standard.apply(features),
            None => features.rows().flatten().copied().collect(),
        });
        let width = standard.as_ref().map_or(eye.width(), Standard::width).max(1);
        let features = scaled.each_ref().map(|rows| Features::new(rows, width));
        let [train_features, held_out_features, generated] = features;

        let patients: Vec<PatientKey> =
            of_held_out.iter().map(|&at| held_out.entries()[at].patient).collect();
        let ours = share(is_authentic(train_features, generated), groups, seed)?;
        let theirs = share(is_authentic(train_features, held_out_features), &patients, seed)?;
        let least = LEAST_IN_CELL / generated.len().max(1) as f64;
        let found = self.copied(features, least, seed);
        let taken = [
            Taken::new(generated.len(), all.num_available()),
            Taken::new(of_held_out.len(), held_out.len()),
            Taken::new(of_train.len(), train.len()),
        ];
        let cells = found.as_ref().map_or(0, |it| it.cells as u64);

        let mut finding = Finding::new(self.key(), "Memorisation, a first look");
        let [drawn, real, references] = taken;
        finding.figure(
            "authenticity",
            &ours,
            percent,
            "Authentic images",
            format!(
                "Of {}: further from the nearest of {} than that one is from its own nearest \
                 (features: {}). {BETWEEN}",
                of(drawn, "generated images"),
                of(references, "training images"),
                all.extractor(),
            ),
        );
        finding.figure(
            "authenticity_held_out",
            &theirs,
            percent,
            "Authentic, held out",
            format!(
                "The same of {}: what images have that cannot be copies.",
                of(real, real_images(split)),
            ),
        );
        finding.figure(
            "c_t",
            &part(&found, |it| it.c_t),
            number,
            "Data copying, C_T",
            format!(
                "How many standard deviations generated images are further from their nearest \
                 training image than held-out ones are; ranks, mean over {} cells. Far below 0: \
                 copies. Far above 0: unlike the data.",
                count(cells),
            ),
        );
        finding.other("cells", cells);
        finding.other("extractor", all.extractor());
        finding.other("split", split.name());
        finding.taken("samples", drawn);
        finding.taken("held_out_images", real);
        finding.taken("train_images", references);
        Ok(finding)
    }
}

impl DataCopying {
    /// Of training, held-out and generated images.
    fn copied(
        &self,
        sets: [Features<'_>; 3],
        least: f64,
        seed: u64,
    ) -> Result<copying::DataCopying, Refusal> {
        let centres = k_means(sets[0], self.cells, seed)?;
        let centres = Features::new(&centres, sets[0].width());
        let [train, held_out, generated] = sets.map(|set| cells_of(set, centres));
        let (train, held_out, generated) = (train?, held_out?, generated?);
        data_copying(sets, [&train, &held_out, &generated], least)
    }
}

/// The share of those that are, and between which it lies for other draws of their groups.
fn share<G: Ord>(found: Result<Vec<bool>, Refusal>, groups: &[G], seed: u64) -> Result<Figure> {
    let flags: Vec<f64> = match found {
        Ok(flags) => flags.into_iter().map(|it| f64::from(u8::from(it))).collect(),
        Err(refusal) => return Ok(Err(refusal).into()),
    };
    let mean = flags.iter().sum::<f64>() / flags.len() as f64;
    Ok(Figure::from(mean).within(interval_of_mean(&flags, groups, seed)?))
}
