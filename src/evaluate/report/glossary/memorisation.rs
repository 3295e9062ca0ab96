//! Likeness to the nearest training image.

use super::super::NearestTrain;
use super::super::html::{count, number};
use super::super::tiles::whole;
use super::{Row, of, row};

pub(super) fn rows(found: &NearestTrain) -> Vec<Row> {
    let NearestTrain { samples, valid, num_samples, num_valid, num_train, .. } = found;
    vec![
        row(
            "nearest_train.max_pearson",
            "Nearest training image",
            &samples.mean,
            number,
            &format!(
                "Pearson correlation at 64 × 64 with the most similar of {}, where neither is padded; \
                 mean over {}. Each one's own source may be among them.",
                of(*num_train, "training images"),
                of(*num_samples, "generated images"),
            ),
        ),
        row(
            "nearest_train.max_pearson_median",
            "Nearest training image, median",
            &samples.median,
            number,
            "Half of the generated images are below.",
        ),
        row(
            "nearest_train.max_pearson_p95",
            "Nearest training image, 95 %",
            &samples.p95,
            number,
            "95 of 100 are below. A few copies show in the tail, not in the mean.",
        ),
        row(
            "nearest_train.max_pearson_p99",
            "Nearest training image, 99 %",
            &samples.p99,
            number,
            "99 of 100 are below.",
        ),
        row(
            "nearest_train.max_pearson_max",
            "Nearest training image, greatest",
            &samples.max,
            number,
            "Of the generated image that is most like a training image. 1 is a copy.",
        ),
        row(
            "nearest_train.max_pearson_valid_vs_train",
            "Validation to training images",
            &valid.mean,
            number,
            &format!(
                "The same for {}, real and held out: the likeness there is without copying. Its \
                 median, 95th and 99th percentile and greatest follow.",
                of(*num_valid, "validation images"),
            ),
        ),
        row(
            "nearest_train.max_pearson_valid_vs_train_median",
            "Validation to training, median",
            &valid.median,
            number,
            "Half of the validation images are below.",
        ),
        row(
            "nearest_train.max_pearson_valid_vs_train_p95",
            "Validation to training, 95 %",
            &valid.p95,
            number,
            "95 of 100 are below.",
        ),
        row(
            "nearest_train.max_pearson_valid_vs_train_p99",
            "Validation to training, 99 %",
            &valid.p99,
            number,
            "99 of 100 are below.",
        ),
        row(
            "nearest_train.max_pearson_valid_vs_train_max",
            "Validation to training, greatest",
            &valid.max,
            number,
            "Of the validation image that is most like a training image.",
        ),
        row(
            "nearest_train.above_valid_p99",
            "Above the validation images' 99 %",
            &found.above_valid_p99,
            whole,
            &format!(
                "Generated images above the 99th percentile of the validation images, of {}; one in \
                 a hundred is chance.",
                count(num_samples.used),
            ),
        ),
    ]
}
