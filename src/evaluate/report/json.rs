//! A report as JSON.

use super::figure::FigureMap;
use super::*;
use serde::ser::{Serialize, SerializeMap, Serializer};

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
        map.taken("images", self.images)?;
        map.taken("knn_images", self.knn_images)?;
        map.end()
    }
}

impl Serialize for AutoencoderFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("psnr_db", &self.psnr_db)?;
        map.figure("ms_ssim", &self.ms_ssim)?;
        map.taken("images", self.images)?;
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
        map.taken("candidates", self.candidates)?;
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
        map.figure("real_vs_real", &self.real_vs_real)?;
        map.sets(&self.sets)?;
        map.end()
    }
}

impl Serialize for KernelFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("value", &self.value)?;
        map.figure("std", &self.std)?;
        map.serialize_entry("subset_size", &self.subset_size)?;
        map.figure("real_vs_real", &self.real_vs_real)?;
        map.sets(&self.sets)?;
        map.end()
    }
}

impl Serialize for CoverageFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.overlap(&self.overlap)?;
        map.serialize_entry("real_vs_real", &self.real_vs_real)?;
        map.sets(&self.sets)?;
        map.end()
    }
}

impl Serialize for Overlap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.overlap(self)?;
        map.end()
    }
}

impl Serialize for DiversityFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.figure("ms_ssim", &self.ms_ssim)?;
        map.figure("ms_ssim_real", &self.ms_ssim_real)?;
        map.serialize_entry("scales", &self.scales)?;
        map.serialize_entry("pairs", &self.pairs)?;
        map.taken("samples", self.samples)?;
        map.taken("images", self.images)?;
        map.end()
    }
}

impl Serialize for NearestTrain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.likeness("max_pearson", &self.samples)?;
        map.likeness("max_pearson_valid_vs_train", &self.valid)?;
        map.figure("above_valid_p99", &self.above_valid_p99)?;
        map.taken("samples", self.num_samples)?;
        map.taken("valid_images", self.num_valid)?;
        map.taken("train_images", self.num_train)?;
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

/// What several sections write alike.
trait Parts: FigureMap {
    /// Images used under `key`, and beside it how many there are.
    fn taken(&mut self, key: &str, taken: Taken) -> Result<(), Self::Error> {
        self.serialize_entry(key, &taken.used)?;
        self.serialize_entry(&format!("{key}_available"), &taken.available)
    }

    fn sets(&mut self, sets: &Sets) -> Result<(), Self::Error> {
        self.serialize_entry("real_vs_real_images", &sets.real_vs_real_images)?;
        self.serialize_entry("extractor", &sets.extractor)?;
        self.serialize_entry("self_referential", &sets.self_referential)?;
        self.taken("samples", sets.samples)?;
        self.taken("images", sets.images)
    }

    fn overlap(&mut self, overlap: &Overlap) -> Result<(), Self::Error> {
        self.figure("precision", &overlap.precision)?;
        self.figure("recall", &overlap.recall)?;
        self.figure("density", &overlap.density)?;
        self.figure("coverage", &overlap.coverage)
    }

    /// The mean under `key` itself.
    fn likeness(&mut self, key: &str, likeness: &Likeness) -> Result<(), Self::Error> {
        self.figure(key, &likeness.mean)?;
        self.figure(&format!("{key}_median"), &likeness.median)?;
        self.figure(&format!("{key}_p95"), &likeness.p95)?;
        self.figure(&format!("{key}_p99"), &likeness.p99)?;
        self.figure(&format!("{key}_max"), &likeness.max)
    }
}

impl<M: FigureMap> Parts for M {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_every_key() {
        let found = serde_json::to_value(page::sample().report).unwrap();
        let expected = serde_json::json!({
            "schema": 2, "recipe": "quickstart", "synthetic": true,
            "encoder": {"effective_rank": 9.1, "mean_cosine": 0.31, "knn_accuracy": 0.71,
                        "knn_accuracy_untrained": 0.58, "images": 128, "images_available": 128,
                        "knn_images": 1000, "knn_images_available": 1152},
            "autoencoder": {"psnr_db": 27.1, "ms_ssim": 0.95, "images": 128, "images_available": 128},
            "denoiser": {"validation_loss": {"first": 1.1, "last": 0.24}, "images_seen": 5000},
            "condition_fidelity": {"candidates": 128, "candidates_available": 130, "top1": 0.21,
                                   "chance": 0.0078125, "top1_null": 0.01, "top1_autoencoder": 0.93,
                                   "pixel_top1": 0.19, "pixel_top1_null": 0.01},
            "frechet_distance": {"value": null,
                                 "reason": "128 images are too few: this figure needs at least 192",
                                 "real_vs_real": 4.0, "real_vs_real_images": 128,
                                 "extractor": "dino:3f7a90c2", "self_referential": true,
                                 "samples": 128, "samples_available": 136,
                                 "images": 128, "images_available": 1024},
            "kernel_distance": {"value": 0.01, "std": 0.002, "subset_size": 100, "real_vs_real": 0.0001,
                                "real_vs_real_images": 128,
                                "extractor": "xray-densenet121:3f7a90c2", "self_referential": false,
                                "samples": 128, "samples_available": 136,
                                "images": 128, "images_available": 1024},
            "coverage": {"precision": 0.8, "recall": 0.5, "density": 0.9, "coverage": 0.7,
                         "real_vs_real": {"precision": 0.85, "recall": 0.84, "density": 1.0,
                                          "coverage": 0.96},
                         "real_vs_real_images": 128,
                         "extractor": "dino:3f7a90c2", "self_referential": true,
                         "samples": 128, "samples_available": 136,
                         "images": 128, "images_available": 1024},
            "diversity": {"ms_ssim": 0.41, "ms_ssim_real": 0.38, "scales": 3, "pairs": 500,
                          "samples": 136, "samples_available": 136,
                          "images": 136, "images_available": 1024},
            "nearest_train": {
                "max_pearson": 0.93, "max_pearson_median": 0.94, "max_pearson_p95": 0.96,
                "max_pearson_p99": 0.97, "max_pearson_max": 0.98,
                "max_pearson_valid_vs_train": 0.95, "max_pearson_valid_vs_train_median": 0.95,
                "max_pearson_valid_vs_train_p95": 0.97, "max_pearson_valid_vs_train_p99": null,
                "max_pearson_valid_vs_train_p99_reason":
                    "64 images are too few: this figure needs at least 100",
                "max_pearson_valid_vs_train_max": 0.98,
                "above_valid_p99": 2.0,
                "samples": 136, "samples_available": 136, "valid_images": 64,
                "valid_images_available": 64, "train_images": 1000, "train_images_available": 1024,
            },
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
