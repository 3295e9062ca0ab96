//! `report.json` and `report.html`.

use super::run;
use serde_json::Value;
use std::fs;

/// Every figure that a report has, by its place.
const FIGURES: &[&str] = &[
    "/encoder/effective_rank",
    "/encoder/mean_cosine",
    "/encoder/knn_accuracy",
    "/encoder/knn_accuracy_untrained",
    "/autoencoder/psnr_db",
    "/autoencoder/ms_ssim",
    "/denoiser/validation_loss/first",
    "/denoiser/validation_loss/last",
    "/condition_fidelity/top1",
    "/condition_fidelity/chance",
    "/condition_fidelity/top1_null",
    "/condition_fidelity/top1_autoencoder",
    "/condition_fidelity/pixel_top1",
    "/condition_fidelity/pixel_top1_null",
    "/frechet_distance/value",
    "/frechet_distance/real_vs_real",
    "/kernel_distance/value",
    "/kernel_distance/std",
    "/kernel_distance/real_vs_real",
    "/coverage/precision",
    "/coverage/recall",
    "/coverage/density",
    "/coverage/coverage",
    "/coverage/real_vs_real/precision",
    "/coverage/real_vs_real/recall",
    "/coverage/real_vs_real/density",
    "/coverage/real_vs_real/coverage",
    "/diversity/ms_ssim",
    "/diversity/ms_ssim_real",
    "/nearest_train/max_pearson",
    "/nearest_train/max_pearson_median",
    "/nearest_train/max_pearson_p95",
    "/nearest_train/max_pearson_p99",
    "/nearest_train/max_pearson_max",
    "/nearest_train/max_pearson_valid_vs_train",
    "/nearest_train/max_pearson_valid_vs_train_median",
    "/nearest_train/max_pearson_valid_vs_train_p95",
    "/nearest_train/max_pearson_valid_vs_train_p99",
    "/nearest_train/max_pearson_valid_vs_train_max",
    "/nearest_train/above_valid_p99",
];

#[test]
fn the_report_has_every_figure_or_its_reason() {
    let report: Value =
        serde_json::from_slice(&fs::read(run().join("report.json")).unwrap()).unwrap();
    for place in FIGURES {
        is_figure(&report, place);
    }
    let integer = |place: &str| report.pointer(place).and_then(Value::as_u64);
    assert_eq!(integer("/schema"), Some(3));
    assert_eq!(integer("/denoiser/images_seen"), Some(1280));
    assert_eq!(integer("/condition_fidelity/candidates"), Some(16));
    assert_eq!(integer("/frechet_distance/samples"), Some(72));
    assert!(integer("/diversity/scales").unwrap() >= 1);
    assert_eq!(integer("/diversity/pairs"), Some(50));
    assert_eq!(report["recipe"], "tiny");
    assert_eq!(report["synthetic"], true);
    assert_eq!(report["frechet_distance"]["self_referential"], true);
    assert!(report["frechet_distance"]["extractor"].as_str().unwrap().starts_with("dino:"));
    assert_eq!(report["condition_fidelity"]["chance"], 1.0 / 16.0);
    let interval = report["condition_fidelity"]["top1_interval"].as_array().unwrap();
    let [low, high] = [0, 1].map(|at| interval[at].as_f64().unwrap());
    let top1 = report["condition_fidelity"]["top1"].as_f64().unwrap();
    assert!(low < high && (low..=high).contains(&top1), "{interval:?} {top1}");
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["ingest", "encoder", "autoencoder", "encode", "denoiser", "sample", "evaluate"]
    );
    for at in 0..stages.len() {
        is_figure(&report, &format!("/stages/{at}/seconds"));
        is_figure(&report, &format!("/stages/{at}/images_per_second"));
    }
    // Training must have taught something, even this little of it.
    let figure = |place: &str| report.pointer(place).and_then(Value::as_f64).unwrap();
    assert!(
        figure("/denoiser/validation_loss/last") < 0.7 * figure("/denoiser/validation_loss/first")
    );
    assert!(figure("/autoencoder/psnr_db") > 17.0);
}

/// Fewer images are further apart and cover less: what is compared is of one size, and says which.
#[test]
fn sets_are_compared_at_equal_sizes() {
    let report: Value =
        serde_json::from_slice(&fs::read(run().join("report.json")).unwrap()).unwrap();
    for section in ["frechet_distance", "kernel_distance", "coverage"] {
        let count =
            |key: &str| report[section][key].as_u64().unwrap_or_else(|| panic!("{section}: {key}"));
        assert_eq!(count("samples"), count("images"), "{section}");
        assert_eq!(count("samples_available"), 72);
        let (beside, real) = (count("real_vs_real_images"), count("images_available"));
        assert!(
            beside <= count("images") && 2 * beside + 4 >= real.min(144),
            "{section}: {beside} of {real}"
        );
    }
    let count = |place: &str| report.pointer(place).and_then(Value::as_u64).unwrap();
    assert_eq!(count("/nearest_train/samples"), 72);
    assert_eq!(count("/nearest_train/train_images"), count("/coverage/images_available"));
    assert_eq!(count("/nearest_train/valid_images"), count("/encoder/images_available"));
    assert_eq!(count("/encoder/images"), count("/autoencoder/images"));
    assert_eq!(
        count("/encoder/knn_images"),
        count("/nearest_train/train_images") + count("/nearest_train/valid_images"),
        "all phantoms have labels"
    );
    assert_eq!(
        count("/condition_fidelity/candidates_available"),
        count("/encoder/images_available")
    );
}

/// A number, or null with a sentence beside it that says why.
fn is_figure(report: &Value, place: &str) {
    let value = report.pointer(place).unwrap_or_else(|| panic!("{place} is missing"));
    if value.is_null() {
        let (section, name) = place.rsplit_once('/').unwrap();
        let beside = if name == "value" { "reason".to_owned() } else { format!("{name}_reason") };
        let reason = report.pointer(&format!("{section}/{beside}")).and_then(Value::as_str);
        assert!(
            reason.is_some_and(|reason| !reason.is_empty()),
            "{place} is null without a reason"
        );
    } else {
        assert!(value.is_number(), "{place} is {value}");
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = fs::read_to_string(run().join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"));
    assert!(page.to_lowercase().contains("not for clinical use"));
    assert!(page.contains("data:image/png;base64,"), "the page has no pictures");
    for opening in ["src=\"", "href=\"", "url(", "srcset=\"", "action=\"", "@import"] {
        for (at, _) in page.match_indices(opening) {
            let target: String = page[at + opening.len()..].chars().take(40).collect();
            let target = target.trim_start_matches(['\'', '"']);
            let is_inside = target.starts_with('#') || target.starts_with("data:");
            // A reference to a paper is for reading, and nothing is loaded from it.
            let is_reading = opening == "href=\"" && target.starts_with("https://");
            assert!(is_inside || is_reading, "the page needs {target}");
        }
    }
    for tag in ["<script src", "<link", "<iframe", "<object", "<embed"] {
        assert!(!page.contains(tag), "the page has {tag}");
    }
}
