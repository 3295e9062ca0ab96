//! What must not get into a training: copies, damaged files, strangers.

use super::*;
use umbra::data::catalog::{Kind, Quarantine};
use umbra::data::section::SplitConflict;

#[test]
fn copies_are_quarantined_and_the_order_of_rows_does_not_choose_them() {
    let place = small_set();
    let set = place.root().join("set");
    fs::copy(set.join("images/1.png"), set.join("images/9.png")).unwrap();
    let table = fs::read_to_string(set.join("manifest.csv")).unwrap();
    let header_and_copy =
        table.replacen('\n', &format!("\nimages/9.png,train,{CANARY},AP,No Finding,one,\n"), 1);
    place.table(&header_and_copy);
    let summary = place.ingest(&manifest(Columns::default())).unwrap();
    assert_eq!(summary.counts.quarantined, [("duplicate".to_owned(), 1)].into());
    assert_eq!(summary.counts.total(), 5);
    let quarantined = place.open().quarantined().unwrap();
    assert_eq!(quarantined[0].location, Location::File("set/images/9.png".into()));
    let original = place.entries()["set/images/1.png"].id;
    let reason = format!("duplicate: same pixels as image {original}");
    assert_eq!(quarantined[0].quarantine, Some(reason));

    fs::remove_file(set.join("images/1.png")).unwrap();
    place.table(
        &header_and_copy
            .lines()
            .filter(|row| !row.contains("1.png"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let summary = place.ingest(&manifest(Columns::default())).unwrap();
    assert_eq!(summary.counts.quarantined, BTreeMap::new(), "no copy without its original");
}

#[test]
fn damaged_images_are_quarantined_up_to_the_limit() {
    let place = Place::new();
    for at in 0..20u8 {
        place.image(&format!("{at:02}.png"), at);
    }
    let set = place.root().join("set");
    let bytes = fs::read(set.join("03.png")).unwrap();
    fs::write(set.join("03.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(set.join("07.png"), &bytes[..40]).unwrap();
    fs::write(set.join("notes.txt"), b"not even looked at").unwrap();
    fs::write(set.join("08.png"), b"no image at all").unwrap();
    let data = Data { max_damaged: 0.1, ..folder(PatientFrom::File) };
    let summary = place.ingest(&data).unwrap();
    let expected = [("damaged".to_owned(), 2), ("other".to_owned(), 1)];
    assert_eq!(summary.counts.quarantined, expected.into());
    assert_eq!(summary.counts.total(), 17);
    for entry in place.open().quarantined().unwrap() {
        let reason = entry.quarantine.unwrap();
        let read = Quarantine::read(&reason).unwrap();
        assert!(!read.reason.starts_with("damaged"), "{reason}");
        assert!(!reason.contains(place.root().to_str().unwrap()), "{reason} shows the data root");
    }

    let strict = Data { max_damaged: 0.05, ..data.clone() };
    let error = place.ingest(&strict).unwrap_err().to_string();
    assert!(error.starts_with("2 of 20 images are damaged"), "{error}");
    let ids = [4, 8].map(|id| format!("image {id} ("));
    assert!(ids.iter().all(|id| error.contains(id)) && !error.contains("png"), "{error}");
    assert!(matches!(place.open().counts(), Err(CatalogError::Unfinished { .. })));

    place.image("03.png", 3);
    place.image("07.png", 7);
    let mended = place.ingest(&strict).unwrap();
    assert_eq!((mended.opened, mended.counts.total()), (2, 19));
}

#[test]
fn a_missing_file_is_not_damage_and_comes_in_when_it_is_back() {
    let place = small_set();
    fs::remove_file(place.root().join("set/images/2.png")).unwrap();
    let data = Data { max_damaged: 0.5, ..manifest(Columns::default()) };
    let summary = place.ingest(&data).unwrap();
    assert_eq!(summary.counts.quarantined, [("unreadable".to_owned(), 1)].into());
    let quarantined = place.open().quarantined().unwrap();
    assert_eq!(quarantined[0].quarantine.as_deref(), Some("unreadable: the file is missing"));
    assert_eq!(place.ingest(&data).unwrap().opened, 1, "it is looked for every time");
    place.image("images/2.png", 2);
    let back = place.ingest(&data).unwrap();
    assert_eq!((back.opened, back.counts.total()), (1, 5));
    assert_eq!(back.fingerprint, small_set().ingest(&data).unwrap().fingerprint);
    assert_eq!(place.ingest(&data).unwrap().opened, 0);
}

#[test]
fn other_versions_and_other_files_are_refused() {
    let place = small_set();
    let path = place.catalog();
    assert!(matches!(Catalog::open(&path), Err(CatalogError::Missing { .. })));
    place.ingest(&manifest(Columns::default())).unwrap();
    let set_version = |version: i32| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    set_version(99);
    let error = Catalog::open(&path).unwrap_err();
    assert!(matches!(error, CatalogError::Newer { found: 99, .. }));
    assert!(error.to_string().ends_with("this umbra knows 2; use a newer umbra"), "{error}");
    set_version(1);
    assert!(matches!(Catalog::create(&path), Err(CatalogError::Older { found: 1, .. })));
    set_version(2);
    Catalog::open(&path).unwrap();

    fs::write(&path, "a letter home, long enough to be looked at").unwrap();
    assert!(matches!(Catalog::open(&path), Err(CatalogError::Stranger { .. })));
    fs::remove_file(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    assert!(matches!(Catalog::create(&path), Err(CatalogError::Stranger { .. })));
}

/// The same stamp twice, and the file could be read only the second time: a permission, a network, a disk.
#[test]
fn what_cannot_be_read_is_tried_again_though_nothing_changed() {
    let place = small_set();
    let path = place.root().join("set/images/2.png");
    let aside = place.root().join("set/aside");
    let data = Data { max_damaged: 0.0, ..manifest(Columns::default()) };
    let loop_of_links = || {
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink("2.png", &path).unwrap();
    };
    loop_of_links();
    let error = place.ingest(&data).unwrap_err().to_string();
    assert!(error.starts_with("1 of 5 files cannot be read, data.max_damaged allows 0"), "{error}");
    assert!(!error.contains("png"), "{error}");
    let borne = Data { max_damaged: 0.2, ..data.clone() };
    let without = place.ingest(&borne).unwrap();
    assert_eq!((without.counts.total(), without.opened), (4, 1));
    assert_eq!(without.reasons[0].0.kind, Kind::Unreadable);
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(place.ingest(&data).unwrap().counts.total(), 5);
}

#[test]
fn a_folder_in_the_place_of_an_image_is_unreadable() {
    let place = small_set();
    let path = place.root().join("set/images/2.png");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let summary = place.ingest(&manifest(Columns::default())).unwrap();
    assert_eq!(summary.counts.quarantined, [("unreadable".to_owned(), 1)].into());
}

#[test]
fn a_disk_that_is_not_mounted_costs_no_catalog() {
    let place = small_set();
    let data = Data { max_damaged: 1.0, ..manifest(Columns::default()) };
    let before = place.ingest(&data).unwrap();
    let (images, away) = (place.root().join("set/images"), place.root().join("away"));
    fs::rename(&images, &away).unwrap();
    let error = place.ingest(&data).unwrap_err();
    assert!(matches!(error, IngestError::Vanished { vanished: 5, usable: 5 }), "{error}");
    assert_eq!(place.open().fingerprint().unwrap(), before.fingerprint, "it can still be used");
    fs::rename(&away, &images).unwrap();
    assert_eq!(place.ingest(&data).unwrap().opened, 0);
}

#[test]
fn reasons_are_told_by_kind_the_most_frequent_first() {
    let place = small_set();
    let set = place.root().join("set");
    for at in 0..3 {
        fs::write(set.join(format!("note-{at}")), format!("a letter home, number {at}")).unwrap();
    }
    fs::write(set.join("cut.png"), &fs::read(set.join("images/0.png")).unwrap()[..40]).unwrap();
    fs::copy(set.join("images/0.png"), set.join("copy.png")).unwrap();
    let summary = place.ingest(&folder(PatientFrom::Dicom)).unwrap();
    let kinds: Vec<(Kind, u64)> =
        summary.reasons.iter().map(|(reason, images)| (reason.kind, *images)).collect();
    assert_eq!(kinds, [(Kind::Other, 3), (Kind::Damaged, 1), (Kind::Duplicate, 1)]);
    assert_eq!(summary.reasons[2].0.reason, "same pixels as another image");
    assert_eq!(summary.counts.total(), 5);
}

#[test]
fn patients_whom_the_official_splits_divide_are_dropped_if_the_recipe_says_so() {
    let place = small_set();
    let table = "file,patient_id,split\nimages/0.png,p,train\nimages/1.png,p,val\nimages/2.png,q,train\n\
                 images/3.png,r,\nimages/4.png,p,\n";
    place.table(table);
    let columns = Columns { split: Some("split".into()), ..bare_columns() };
    let refused = place.ingest(&manifest(columns.clone()));
    assert!(matches!(refused, Err(IngestError::Split(_))));
    let drop = Data { split_conflict: SplitConflict::Drop, ..manifest(columns.clone()) };
    let summary = place.ingest(&drop).unwrap();
    assert_eq!(summary.counts.quarantined, [("conflict".to_owned(), 3)].into());
    assert_eq!(
        place.entries().into_keys().collect::<Vec<_>>(),
        ["set/images/2.png", "set/images/3.png"]
    );
    place.table(&table.replace("p,val", "p,train"));
    let mended = place.ingest(&manifest(columns)).unwrap();
    assert_eq!((mended.opened, mended.counts.total()), (0, 5));
}

/// Another file with the same pixels: nothing that depends on pixels is stale.
#[test]
fn the_fingerprint_follows_pixels_and_not_the_bytes_of_files() {
    let place = small_set();
    let data = manifest(Columns::default());
    let before = place.ingest(&data).unwrap();
    let path = place.root().join("set/images/2.png");
    let pixels = image::open(&path).unwrap().into_luma8();
    let old = fs::read(&path).unwrap();
    let encoder = image::codecs::png::PngEncoder::new_with_quality(
        fs::File::create(&path).unwrap(),
        image::codecs::png::CompressionType::Fast,
        image::codecs::png::FilterType::NoFilter,
    );
    pixels.write_with_encoder(encoder).unwrap();
    assert_ne!(fs::read(&path).unwrap(), old, "the test writes another file");
    let order = |place: &Place| -> Vec<String> {
        let entries = place.open().entries(Split::Train).unwrap();
        entries.iter().map(|entry| name(&entry.location)).collect()
    };
    let first = order(&place);
    let after = place.ingest(&data).unwrap();
    assert_eq!((after.opened, &after.fingerprint), (1, &before.fingerprint));
    assert_eq!(order(&place), first);
}
