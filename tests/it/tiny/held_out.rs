//! What is drawn from held-out images and measured against them, and the features that are kept of all of them.

use crate::binary::{copy_of_finished, done, files, report, umbra};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use umbra::data::catalog::{Catalog, Entry, Split};
use umbra::sample::stage::read_table;

const SAMPLE: &str = "sample=[Reconstruct(images: 24, sampler: Ddim(steps: 2)), \
     Reconstruct(images: 12, split: Test, sampler: Ddim(steps: 2))]";
const EVALUATE: &str = "evaluate=[Kernel(subset_size: 6), Kernel(subset_size: 6, strategy: 1), \
     Coverage(features: Radiomics()), DataCopying(cells: 1), DataCopying(cells: 1, strategy: 1), \
     Diversity(pairs: 20, strategy: 1)]";

fn evaluate(checkpoints: &Path) -> Command {
    let mut command = umbra();
    command.args(["evaluate", "recipes/tiny.ron", "--set", SAMPLE, "--set", EVALUATE]);
    command.arg("--checkpoints").arg(checkpoints);
    command
}

#[test]
fn held_out_images_are_drawn_from_and_compared_with() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    done(&mut evaluate(&checkpoints));

    let catalog = Catalog::open(&run.join("catalog.sqlite")).unwrap();
    let hex = |entry: &Entry| blake3::Hash::from(entry.hash).to_hex()[..16].to_owned();
    let table = read_table(&run.join("sample")).unwrap();
    for (split, rows) in [(Split::Train, &table[..24]), (Split::Test, &table[24..])] {
        let sources: BTreeSet<String> = catalog.entries(split).unwrap().iter().map(hex).collect();
        assert!(rows.iter().all(|row| sources.contains(&row.source) && row.split == split.name()));
    }
    assert_eq!(table.len(), 36);

    let first = report(&run);
    let of = |section: &str, key: &str| first[section][key].clone();
    let num_test = catalog.entries(Split::Test).unwrap().len();
    assert_eq!(of("kernel_distance", "split"), "train");
    assert_eq!(of("kernel_distance", "samples_available"), 24);
    assert_eq!(of("kernel_distance_strategy_1", "split"), "test");
    assert_eq!(of("kernel_distance_strategy_1", "strategy"), 1);
    assert_eq!(of("kernel_distance_strategy_1", "samples_available"), 12);
    assert_eq!(of("kernel_distance_strategy_1", "images_available"), num_test);
    assert_eq!(of("diversity_strategy_1", "images_available"), num_test);
    assert_eq!(of("data_copying", "split"), "valid");
    assert_eq!(of("data_copying_strategy_1", "split"), "test");
    for section in ["data_copying", "data_copying_strategy_1"] {
        let share = of(section, "authenticity").as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share));
        assert!(of(section, "authenticity_held_out").is_number());
    }
    assert_eq!(of("coverage_radiomics", "self_referential"), false);
    assert!(of("coverage_radiomics", "extractor").as_str().unwrap().starts_with("radiomics:"));
    assert!(of("coverage_radiomics", "precision").is_number());
    // Whoever has patients enough is told how far a figure may be off.
    let interval = of("autoencoder", "psnr_db_interval");
    let [low, high] = [0, 1].map(|at| interval[at].as_f64().unwrap());
    let psnr = of("autoencoder", "psnr_db").as_f64().unwrap();
    assert!(low < psnr && psnr < high, "{interval}");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains(&format!("{psnr:.1} [{low:.1}, {high:.1}]")), "the page has intervals");
}

/// Features are made once; those that are damaged are made again, and are what they were.
#[test]
fn features_are_kept_and_mended() {
    let home = copy_of_finished();
    let checkpoints = home.path().join("checkpoints");
    let run = checkpoints.join("tiny");
    done(&mut evaluate(&checkpoints));
    let kept = || -> Vec<(String, Vec<u8>)> {
        let all = files(&checkpoints).into_iter();
        all.filter(|(name, _)| name.starts_with("stores/features/")).collect()
    };
    let (first, before) = (report(&run), kept());
    assert!(before.len() >= 3, "shelves of the encoder, of the untrained one, of radiomics");
    let again = || {
        fs::remove_file(run.join("evaluate/stamp.json")).unwrap();
        let ended = done(&mut evaluate(&checkpoints));
        (ended.stderr, without_times(report(&run)))
    };
    let (_, second) = again();
    assert_eq!(second, without_times(first.clone()));
    assert_eq!(kept(), before, "nothing was made again");

    let (name, bytes) = &before[0];
    fs::write(checkpoints.join(name), &bytes[..bytes.len() / 2]).unwrap();
    let (told, third) = again();
    assert!(told.contains("are damaged and made anew"), "{told}");
    assert_eq!(third, without_times(first));
    let rows = |kept: Vec<(String, Vec<u8>)>| kept.iter().map(|it| it.1.len()).sum::<usize>();
    assert!(rows(kept()) >= rows(before), "what was lost is there again");

    // Nobody's features are left over, until the run forgets them.
    let mut clean = umbra();
    clean.args(["clean", "--checkpoints"]).arg(&checkpoints);
    assert!(!done(&mut clean).stdout.contains("stores/features"));
    fs::remove_file(run.join("features.txt")).unwrap();
    assert!(done(&mut clean).stdout.contains("no run refers to these features"));
}

fn without_times(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("stages");
    report
}
