//! recipes/tiny.ron end to end: what a finished run leaves, and what running it again does.

mod again;
mod canaries;
mod canary;
mod extractor;
mod held_out;
mod losses;
mod report;

use super::binary::{files, finished, newest};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use umbra::data::catalog::{Catalog, Entry, Label, Split};
use umbra::recipe::Recipe;
use umbra::sample::stage::{SampleRow, read_table};
use umbra::telemetry::metrics;

fn run() -> PathBuf {
    finished().join("tiny")
}

#[test]
fn every_sample_comes_from_training_images_and_inherits_their_labels() {
    let entries =
        Catalog::open(&run().join("catalog.sqlite")).unwrap().entries(Split::Train).unwrap();
    let hex = |entry: &Entry| blake3::Hash::from(entry.hash).to_hex()[..16].to_owned();
    let by_key: BTreeMap<String, &Entry> =
        entries.iter().map(|entry| (hex(entry), entry)).collect();
    let table = read_table(&run().join("sample")).unwrap();
    let count = |strategy: &str| table.iter().filter(|row| row.strategy == strategy).count();
    assert_eq!((count("Reconstruct"), count("Interpolate"), table.len()), (64, 8, 72));
    let drawn = fs::read_dir(run().join("sample/images")).unwrap().count();
    assert_eq!(drawn, table.len(), "one row per image");
    let mut groups = BTreeMap::new();
    for row in &table {
        let source = by_key[&row.source];
        assert_eq!((row.split.as_str(), row.synthetic), ("train", true));
        let next = groups.len() + 1;
        assert_eq!(row.patient_group, *groups.entry(source.patient).or_insert(next));
        assert_eq!(labels_of(row), source.labels, "{}", row.file);
        match row.strategy.as_str() {
            "Reconstruct" => assert_eq!((&row.source_2, row.weight), (&None, None)),
            _ => {
                let second = by_key[row.source_2.as_ref().unwrap()];
                assert_eq!(second.labels, source.labels);
                assert_ne!(second.patient, source.patient);
                assert!((0.3..=0.7).contains(&row.weight.unwrap()));
            }
        }
    }
    let distinct: std::collections::BTreeSet<u64> = table.iter().map(|row| row.seed).collect();
    assert_eq!(distinct.len(), table.len(), "a seed of its own for every image");
}

/// The keys of patients are for the catalog alone; what is there to be shared has none, in no form.
#[test]
fn no_key_of_a_patient_leaves_the_catalog() {
    let catalog = Catalog::open(&run().join("catalog.sqlite")).unwrap();
    let entries = Split::ALL.into_iter().flat_map(|split| catalog.entries(split).unwrap());
    let keys: BTreeSet<[u8; 16]> = entries.map(|entry| entry.patient.0).collect();
    assert!(keys.len() > 100, "{}", keys.len());
    let holds_key = |bytes: &[u8]| {
        let is_key = |bytes: &[u8; 16]| keys.contains(bytes);
        let read = |digits: &[u8]| -> Option<[u8; 16]> {
            let text = std::str::from_utf8(digits).ok()?;
            Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
        };
        bytes.windows(16).any(|it| is_key(it.try_into().unwrap()))
            || bytes.windows(32).any(|it| {
                it.iter().all(u8::is_ascii_hexdigit) && read(it).is_some_and(|it| is_key(&it))
            })
    };
    for (name, bytes) in crate::binary::files(finished()) {
        assert_eq!(holds_key(&bytes), name == "tiny/catalog.sqlite", "{name}");
    }
    let key = keys.first().unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(holds_key(format!("patient {key}").as_bytes()), "the search finds digits too");
}

fn labels_of(row: &SampleRow) -> BTreeMap<String, Label> {
    let names = |text: &str, label| -> Vec<(String, Label)> {
        text.split('|')
            .filter(|name| !name.is_empty())
            .map(|name| (name.to_owned(), label))
            .collect()
    };
    let (present, absent) = (&row.labels_present, &row.labels_absent);
    [names(present, Label::Present), names(absent, Label::Absent)].concat().into_iter().collect()
}

#[test]
fn every_picture_says_that_it_is_synthetic() {
    let pictures = pictures(&run());
    let sheets = pictures.iter().filter(|path| path.to_str().unwrap().contains("sheet-")).count();
    let previews =
        pictures.iter().filter(|path| path.to_str().unwrap().contains("previews")).count();
    assert!(sheets == 2 && previews >= 4 && pictures.len() >= 72 + 6, "{pictures:#?}");
    for path in pictures {
        let file = std::io::BufReader::new(fs::File::open(&path).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        let text: BTreeMap<&str, &str> = reader
            .info()
            .uncompressed_latin1_text
            .iter()
            .map(|chunk| (&chunk.keyword[..], &chunk.text[..]))
            .collect();
        let disclaimer = text.get("Disclaimer").copied();
        assert_eq!(
            disclaimer,
            Some("Contains synthetic images. Not for clinical use."),
            "{}",
            path.display()
        );
        assert!(
            text["Description"].contains("ynthetic") && text.contains_key("umbra:seed"),
            "{text:?}"
        );
        assert_eq!(text["umbra:recipe"], "tiny", "{}", path.display());
    }
}

fn pictures(run: &Path) -> Vec<PathBuf> {
    let names = files(run).into_keys();
    names.filter(|name| name.ends_with(".png")).map(|name| run.join(name)).collect()
}

#[test]
fn the_resolved_recipe_is_the_recipe() {
    let path = Path::new("recipes/tiny.ron");
    let written = Recipe::read(&super::binary::project().join(path), &[]).unwrap();
    let resolved = Recipe::read(&run().join("recipe.ron"), &[]).unwrap();
    assert_eq!(resolved, written);
    for stage in ["encoder", "autoencoder", "denoiser"] {
        let header = umbra::train::checkpoint::header(&newest(&run(), stage)).unwrap();
        assert_eq!(Recipe::parse(&header.recipe, path).unwrap(), written, "{stage}");
        assert!(header.config.is_object(), "{stage}: a checkpoint opens without its recipe");
    }
}

#[test]
fn every_training_leaves_its_numbers() {
    for (stage, images, figure) in [
        ("encoder", 640, "validation/effective_rank"),
        ("autoencoder", 960, "validation/psnr_db"),
        ("denoiser", 1280, "validation/loss"),
    ] {
        let folder = run().join(stage);
        let records = metrics::read(&folder).unwrap();
        assert!(records.is_sorted_by_key(|record| record.images_seen), "{stage}");
        assert_eq!(records.last().unwrap().images_seen, images, "{stage}");
        let validated: Vec<u64> = records
            .iter()
            .filter(|record| record.values.contains_key(figure))
            .map(|record| record.images_seen)
            .collect();
        assert_eq!(validated, [0, images / 2, images], "{stage}");
        let names = files(&folder).into_keys();
        assert_eq!(names.filter(|name| name.contains("tfevents")).count(), 1, "{stage}");
    }
    assert!(fs::read_to_string(run().join("log.txt")).unwrap().contains("done in"));
}
