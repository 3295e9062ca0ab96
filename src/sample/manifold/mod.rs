//! Where on the manifold of embeddings to start: which real images guide a synthetic one.

pub mod interpolate;
pub mod neighbours;
pub mod slerp;

pub use {
    interpolate::{ManifoldError, interpolation_plan},
    neighbours::{Candidates, neighbours},
    slerp::{slerp, slerp_tokens},
};

use super::sampler::Sampler;
use crate::data::catalog::Split;
use crate::diffusion::{Guidance, Schedule};
use crate::faults::{demand, within};
use crate::random::{Permutation, Stream};
use serde::{Deserialize, Serialize};

/// How synthetic images get their condition, as a recipe names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Strategy {
    /// The embedding of one real image.
    Reconstruct(Reconstruct),
    /// A point between the embeddings of two neighbours with equal labels.
    Interpolate(Interpolate),
}

/// Section of [`Strategy::Reconstruct`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reconstruct {
    /// Images to make. Above the number of real images, each serves again with other noise.
    pub images: usize,
    /// The part of the data whose images guide. Held-out ones are for measuring, not for training on what comes of them.
    pub split: Split,
    /// How the condition guides.
    pub guidance: Guidance,
    /// From noise to image.
    pub sampler: Sampler,
}

/// Section of [`Strategy::Interpolate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interpolate {
    /// Images to make.
    pub images: usize,
    /// The part of the data whose images guide. Held-out ones are for measuring, not for training on what comes of them.
    pub split: Split,
    /// Partners are drawn among this many nearest neighbours.
    pub neighbours: usize,
    /// Range from which the partner's weight is drawn, within [0, 1].
    pub weight: (f64, f64),
    /// How the condition guides.
    pub guidance: Guidance,
    /// From noise to image.
    pub sampler: Sampler,
}

impl Default for Reconstruct {
    fn default() -> Self {
        Self {
            images: 64,
            split: Split::Train,
            guidance: Guidance::None,
            sampler: Sampler::default(),
        }
    }
}

impl Default for Interpolate {
    fn default() -> Self {
        Self {
            images: 64,
            split: Split::Train,
            neighbours: 20,
            weight: (0.3, 0.7),
            guidance: Guidance::None,
            sampler: Sampler::default(),
        }
    }
}

impl Strategy {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reconstruct(_) => "Reconstruct",
            Self::Interpolate(_) => "Interpolate",
        }
    }

    /// Images to make.
    pub fn images(&self) -> usize {
        match self {
            Self::Reconstruct(section) => section.images,
            Self::Interpolate(section) => section.images,
        }
    }

    /// The part of the data whose images guide.
    pub fn split(&self) -> Split {
        match self {
            Self::Reconstruct(section) => section.split,
            Self::Interpolate(section) => section.split,
        }
    }

    /// How the condition guides.
    pub fn guidance(&self) -> &Guidance {
        match self {
            Self::Reconstruct(section) => &section.guidance,
            Self::Interpolate(section) => &section.guidance,
        }
    }

    /// Evaluations of a denoiser (NFE) per image on `schedule`.
    pub fn num_evaluations(&self, schedule: &Schedule) -> usize {
        let times = self.sampler().times(schedule);
        let guided = times.iter().filter(|t| self.guidance().is_on(**t)).count();
        let per_step =
            self.sampler().num_evaluations() as f64 / self.sampler().num_steps().max(1) as f64;
        self.sampler().num_evaluations() + (guided as f64 * per_step).round() as usize
    }

    /// From noise to image.
    pub fn sampler(&self) -> &Sampler {
        match self {
            Self::Reconstruct(section) => &section.sampler,
            Self::Interpolate(section) => &section.sampler,
        }
    }

    /// Which real images, weights and seeds the synthetic images come from, `candidates` being all
    /// real images of its split.
    pub fn plan<L: Ord + Sync, P: Eq + Sync>(
        &self,
        candidates: &Candidates<'_, L, P>,
        seed: u64,
    ) -> Result<Vec<Origin>, ManifoldError> {
        match self {
            Self::Reconstruct(section) => {
                reconstruction_plan(candidates.len(), section.images, seed)
            }
            Self::Interpolate(section) => interpolation_plan(candidates, section, seed),
        }
    }

    /// Every fault of the numbers a recipe gave, a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut faults = check_drawing(self.sampler(), self.guidance());
        faults.extend(demand(self.images() > 0, "images", self.images(), "at least 1"));
        if let Self::Interpolate(Interpolate { neighbours, weight: (low, high), .. }) = self {
            let is_range = 0.0 <= *low && low <= high && *high <= 1.0;
            let weight = format!("({low}, {high})");
            faults.extend(demand(*neighbours > 0, "neighbours", neighbours, "at least 1"));
            faults.extend(demand(is_range, "weight", weight, "a range within 0 to 1"));
        }
        faults
    }
}

/// What is wrong with a sampler and a guidance, each and together, a sentence each.
pub fn check_drawing(sampler: &Sampler, guidance: &Guidance) -> Vec<String> {
    let mut faults: Vec<String> = within("sampler", sampler.check()).collect();
    faults.extend(within("guidance", guidance.check()));
    if matches!(guidance, Guidance::PlusPlus(_)) && !sampler.takes_noise() {
        faults.push(format!(
            "guidance is PlusPlus, which goes on with another noise than {} finds; expected sampler Ddim or Euler",
            sampler.name()
        ));
    }
    faults
}

/// Where a synthetic image comes from. It inherits the labels of its sources, which are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the [`Strategy`].
    pub strategy: String,
    /// Indices of the real images, one or two.
    pub sources: Vec<usize>,
    /// How far from the first source to the second, in [0, 1]; none for one source.
    pub weight: Option<f64>,
    /// Seed of the noise, below 2⁵³ so that any table reader keeps it.
    pub seed: u64,
}

impl Origin {
    /// The condition's tokens [N · `width`], `tokens` giving those of a source.
    pub fn condition<'a>(&self, width: usize, tokens: impl Fn(usize) -> &'a [f32]) -> Vec<f32> {
        match (&self.sources[..], self.weight) {
            (&[first, second], Some(weight)) => {
                slerp_tokens(tokens(first), tokens(second), width, weight)
            }
            (&[first, ..], _) => tokens(first).to_vec(),
            ([], _) => panic!("a synthetic image comes from at least one real one"),
        }
    }
}

/// `images` reconstructions of `num_sources` real images, each used equally often, in keyed order.
pub fn reconstruction_plan(
    num_sources: usize,
    images: usize,
    seed: u64,
) -> Result<Vec<Origin>, ManifoldError> {
    if num_sources == 0 {
        return Err(ManifoldError::Empty);
    }
    let order = Stream::new(seed, "manifold/reconstruct/order");
    let seeds = Stream::new(seed, "manifold/reconstruct");
    let origin = |image: u64| Origin {
        strategy: "Reconstruct".into(),
        sources: vec![in_turn(num_sources, order, image)],
        weight: None,
        seed: seeds.at(image).below(1 << 53),
    };
    Ok((0..images as u64).map(origin).collect())
}

/// Member `image` of an endless sequence that goes through 0..`n` in another order each time.
fn in_turn(n: usize, order: Stream, image: u64) -> usize {
    let n = n as u64;
    Permutation::new(n, order, image / n).apply(image % n) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconstructions_use_every_image_equally_often() {
        let plan = reconstruction_plan(10, 25, 1).unwrap();
        let mut counts = [0; 10];
        plan.iter().for_each(|origin| counts[origin.sources[0]] += 1);
        assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
        let mut seeds: Vec<u64> = plan.iter().map(|origin| origin.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 25);
        assert_eq!(plan, reconstruction_plan(10, 25, 1).unwrap());
        assert_eq!(plan[..7], reconstruction_plan(10, 7, 1).unwrap(), "a longer plan goes on");
        assert_ne!(plan, reconstruction_plan(10, 25, 2).unwrap());
        assert!(matches!(reconstruction_plan(0, 25, 1), Err(ManifoldError::Empty)));
    }

    #[test]
    fn conditions_come_from_their_sources() {
        let tokens: [&[f32]; 2] = [&[1.0, 0.0, 0.0, 2.0], &[0.0, 1.0, 0.0, 4.0]];
        let origin = |sources: &[usize], weight| Origin {
            strategy: String::new(),
            sources: sources.to_vec(),
            weight,
            seed: 0,
        };
        assert_eq!(origin(&[1], None).condition(2, |at| tokens[at]), tokens[1]);
        let between = origin(&[0, 1], Some(0.5)).condition(2, |at| tokens[at]);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        for (value, expected) in between.iter().zip([half, half, 0.0, 3.0]) {
            assert!((value - expected).abs() < 1e-6, "{between:?}");
        }
    }

    #[test]
    fn recipes_read_as_they_are_written() {
        use ron::extensions::Extensions;
        let syntax = ron::Options::default().with_default_extension(
            Extensions::UNWRAP_VARIANT_NEWTYPES | Extensions::IMPLICIT_SOME,
        );
        let read = |text: &str| syntax.from_str::<Strategy>(text);
        let strategy =
            read("Interpolate(images: 8, weight: (0.4, 0.6), sampler: Heun(steps: 9))").unwrap();
        assert_eq!((strategy.images(), strategy.sampler().num_steps()), (8, 9));
        assert!(strategy.check().is_empty());
        assert_eq!(read("Reconstruct()").unwrap(), Strategy::Reconstruct(Reconstruct::default()));
        assert!(read("Reconstruct(neighbours: 3)").is_err());
        assert_eq!(read(&syntax.to_string(&strategy).unwrap()).unwrap(), strategy);
        let held_out = read("Reconstruct(split: Test)").unwrap();
        assert_eq!(held_out.split(), Split::Test);
        assert_eq!(read(&syntax.to_string(&held_out).unwrap()).unwrap(), held_out);
        let wrong = "Interpolate(images: 0, neighbours: 0, weight: (0.7, 0.3), guidance: Scale(scale: -1.0), \
                     sampler: Ddim(steps: 0))";
        assert_eq!(read(wrong).unwrap().check().len(), 5);
    }
}
