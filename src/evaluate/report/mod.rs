//! What a run is worth, as one JSON document and one page.

mod figure;
mod glossary;
mod html;
mod page;
mod plot;

pub use figure::Figure;
pub use html::html;
pub use page::{Curve, Page, Picture, Series};

use figure::FigureMap;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The version of `report.json`'s layout.
pub const SCHEMA: u32 = 1;

/// Every figure of a run. As JSON, a figure that is missing is `null`, with `<key>_reason` beside it
/// (`reason`, where the key is `value`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// What the encoder's embeddings hold.
    pub encoder: EncoderFigures,
    /// How well the autoencoder reproduces.
    pub autoencoder: AutoencoderFigures,
    /// How far the denoiser was trained.
    pub denoiser: DenoiserFigures,
    /// Whether a generated image finds its source.
    pub condition_fidelity: ConditionFidelity,
    /// Distance of two fitted normal distributions.
    pub frechet_distance: FrechetFigures,
    /// Distance by a polynomial kernel.
    pub kernel_distance: KernelFigures,
    /// How the real and the generated set overlap.
    pub coverage: CoverageFigures,
    /// How unlike the generated images are.
    pub diversity: DiversityFigures,
    /// A first look at memorisation.
    pub nearest_train: NearestTrain,
    /// How long each stage took, in order.
    pub stages: Vec<StageTime>,
}

/// What the encoder's embeddings hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncoderFigures {
    /// Directions in use, from 1 to the width; 0 when collapsed.
    pub effective_rank: Figure,
    /// Mean cosine over pairs, in [-1, 1].
    pub mean_cosine: Figure,
    /// Balanced accuracy of nearest neighbours, in [0, 1].
    pub knn_accuracy: Figure,
    /// The same before any training.
    pub knn_accuracy_untrained: Figure,
}

/// How well the autoencoder reproduces validation images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AutoencoderFigures {
    /// Mean over images, in decibels, padding left out.
    pub psnr_db: Figure,
    /// Mean multi-scale structural similarity, at most 1.
    pub ms_ssim: Figure,
}

/// How far the denoiser was trained.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DenoiserFigures {
    /// Unweighted, before any step.
    pub validation_loss_first: Figure,
    /// Unweighted, of the averaged weights at the end.
    pub validation_loss_last: Figure,
    /// Images trained on, counted over all passes.
    pub images_seen: u64,
}

/// Whether a generated image finds its source among the validation images; shares in [0, 1].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConditionFidelity {
    /// Validation images to choose from.
    pub candidates: u64,
    /// By the encoder.
    pub top1: Figure,
    /// 1 / candidates.
    pub chance: Figure,
    /// By the encoder, generated without a condition.
    pub top1_null: Figure,
    /// By the encoder, of images that went only through the autoencoder: the ceiling.
    pub top1_autoencoder: Figure,
    /// By correlation of pixels.
    pub pixel_top1: Figure,
    /// By correlation of pixels, generated without a condition.
    pub pixel_top1_null: Figure,
}

/// Fréchet distance, and what it stands on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrechetFigures {
    /// At least 0, in squared feature units.
    pub value: Figure,
    /// What made the features, e.g. `dino:` and a hash.
    pub extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    pub self_referential: bool,
    /// Generated images compared.
    pub samples: u64,
    /// The same distance between two halves of the real images: what no generator can beat.
    pub real_vs_real: Figure,
}

/// Kernel distance over subsets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelFigures {
    /// Mean.
    pub value: Figure,
    /// Standard deviation.
    pub std: Figure,
    /// What made the features, e.g. `dino:` and a hash.
    pub extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    pub self_referential: bool,
}

/// Overlap of the real and the generated set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CoverageFigures {
    /// Share of the generated images near a real one.
    pub precision: Figure,
    /// Share of the real images near a generated one.
    pub recall: Figure,
    /// As precision, less swayed by outliers; about 1 is best.
    pub density: Figure,
    /// As recall, less swayed by outliers.
    pub coverage: Figure,
    /// What made the features, e.g. `dino:` and a hash.
    pub extractor: String,
    /// True when the extractor is the run's own encoder, which then judges itself.
    pub self_referential: bool,
}

/// How unlike the generated images are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiversityFigures {
    /// Mean over pairs; lower is more diverse.
    pub ms_ssim: Figure,
    /// Scales that fit the images.
    pub scales: u64,
}

/// Likeness to the nearest training image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NearestTrain {
    /// Pearson correlation of a generated image with the training image most like it, mean over the images.
    pub max_pearson: Figure,
    /// The same for real held-out images: what likeness there is without copying.
    pub max_pearson_test_vs_train: Figure,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageTime {
    /// The stage.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: Figure,
    /// Images a second, for stages that go through images.
    pub images_per_second: Figure,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("recipe", &self.recipe)?;
        map.serialize_entry("synthetic", &true)?;
        map.serialize_entry("encoder", &self.encoder)?;
        map.serialize_entry("autoencoder", &self.autoencoder)?;
        map.serialize_entry("denoiser", &self.denoiser)?;
        map.serialize_entry("condition_fidelity", &self.condition_fidelity)?;
        map.serialize_entry("frechet_distance", &self.frechet_distance)?;
        map.serialize_entry("kernel_distance", &self.kernel_distance)?;
        map.serialize_entry("coverage", &self.coverage)?;
        map.serialize_entry("diversity", &self.diversity)?;
        map.serialize_entry("nearest_train", &self.nearest_train)?;
        map.serialize_entry("stages", &self.stages)?;
        map.end()
    }
}

impl Serialize for EncoderFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("effective_rank", &self.effective_rank)?;
        map.figure("mean_cosine", &self.mean_cosine)?;
        map.figure("knn_accuracy", &self.knn_accuracy)?;
        map.figure("knn_accuracy_untrained", &self.knn_accuracy_untrained)?;
        map.end()
    }
}

impl Serialize for AutoencoderFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("psnr_db", &self.psnr_db)?;
        map.figure("ms_ssim", &self.ms_ssim)?;
        map.end()
    }
}

impl Serialize for DenoiserFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct ValidationLoss<'a>(&'a DenoiserFigures);
        impl Serialize for ValidationLoss<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.figure("first", &self.0.validation_loss_first)?;
                map.figure("last", &self.0.validation_loss_last)?;
                map.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("validation_loss", &ValidationLoss(self))?;
        map.serialize_entry("images_seen", &self.images_seen)?;
        map.end()
    }
}

impl Serialize for ConditionFidelity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("candidates", &self.candidates)?;
        map.figure("top1", &self.top1)?;
        map.figure("chance", &self.chance)?;
        map.figure("top1_null", &self.top1_null)?;
        map.figure("top1_autoencoder", &self.top1_autoencoder)?;
        map.figure("pixel_top1", &self.pixel_top1)?;
        map.figure("pixel_top1_null", &self.pixel_top1_null)?;
        map.end()
    }
}

impl Serialize for FrechetFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("value", &self.value)?;
        map.serialize_entry("extractor", &self.extractor)?;
        map.serialize_entry("self_referential", &self.self_referential)?;
        map.serialize_entry("samples", &self.samples)?;
        map.figure("real_vs_real", &self.real_vs_real)?;
        map.end()
    }
}

impl Serialize for KernelFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("value", &self.value)?;
        map.figure("std", &self.std)?;
        map.serialize_entry("extractor", &self.extractor)?;
        map.serialize_entry("self_referential", &self.self_referential)?;
        map.end()
    }
}

impl Serialize for CoverageFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("precision", &self.precision)?;
        map.figure("recall", &self.recall)?;
        map.figure("density", &self.density)?;
        map.figure("coverage", &self.coverage)?;
        map.serialize_entry("extractor", &self.extractor)?;
        map.serialize_entry("self_referential", &self.self_referential)?;
        map.end()
    }
}

impl Serialize for DiversityFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("ms_ssim", &self.ms_ssim)?;
        map.serialize_entry("scales", &self.scales)?;
        map.end()
    }
}

impl Serialize for NearestTrain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("max_pearson", &self.max_pearson)?;
        map.figure("max_pearson_test_vs_train", &self.max_pearson_test_vs_train)?;
        map.end()
    }
}

impl Serialize for StageTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.figure("seconds", &self.seconds)?;
        map.figure("images_per_second", &self.images_per_second)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_every_key() {
        let found = serde_json::to_value(page::sample().report).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "recipe": "quickstart", "synthetic": true,
            "encoder": {"effective_rank": 9.1, "mean_cosine": 0.31, "knn_accuracy": 0.71,
                        "knn_accuracy_untrained": 0.58},
            "autoencoder": {"psnr_db": 27.1, "ms_ssim": 0.95},
            "denoiser": {"validation_loss": {"first": 1.1, "last": 0.24}, "images_seen": 5000},
            "condition_fidelity": {"candidates": 128, "top1": 0.21, "chance": 0.0078125,
                                   "top1_null": 0.01, "top1_autoencoder": 0.93,
                                   "pixel_top1": 0.19, "pixel_top1_null": 0.01},
            "frechet_distance": {"value": null,
                                 "reason": "128 images are too few: this figure needs at least 192",
                                 "extractor": "dino:3f7a90c2", "self_referential": true,
                                 "samples": 128, "real_vs_real": 4.0},
            "kernel_distance": {"value": 0.01, "std": 0.002,
                                "extractor": "xray-densenet121:3f7a90c2", "self_referential": false},
            "coverage": {"precision": 0.8, "recall": 0.5, "density": 0.9, "coverage": 0.7,
                         "extractor": "dino:3f7a90c2", "self_referential": true},
            "diversity": {"ms_ssim": 0.41, "scales": 3},
            "nearest_train": {"max_pearson": 0.93, "max_pearson_test_vs_train": 0.95},
            "stages": [
                {"name": "ingest", "seconds": 2.1, "images_per_second": 609.5},
                {"name": "encoder", "seconds": 101.2, "images_per_second": 79.1},
                {"name": "autoencoder", "seconds": 143.9, "images_per_second": 27.8},
                {"name": "encode", "seconds": 14.4, "images_per_second": 88.9},
                {"name": "denoiser", "seconds": 262.8, "images_per_second": 19.0},
                {"name": "evaluate", "seconds": 61.0, "images_per_second": null,
                 "images_per_second_reason": "this stage looks at each image several times"},
            ],
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_was_not_evaluated_has_a_reason() {
        let found = serde_json::to_value(Report::default()).unwrap();
        assert_eq!(found["autoencoder"]["psnr_db"], serde_json::Value::Null);
        assert_eq!(found["autoencoder"]["psnr_db_reason"], "not evaluated");
        assert_eq!(found["denoiser"]["validation_loss"]["first_reason"], "not evaluated");
        assert_eq!(found["frechet_distance"]["reason"], "not evaluated");
    }
}
