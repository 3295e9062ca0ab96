//! What must not get into a training: copies, damaged files, strangers.

use super::*;

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
    let reason = format!("duplicate: same bytes as image {original}");
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
    fs::write(set.join("07.png"), b"not an image").unwrap();
    fs::write(set.join("notes.txt"), b"not even looked at").unwrap();
    let folder = Folder { path: "set".into(), patient: PatientFrom::File };
    let data = Data { source: Source::Folder(folder), max_damaged: 0.1, ..Data::default() };
    let summary = place.ingest(&data).unwrap();
    assert_eq!(summary.counts.quarantined, [("damaged".to_owned(), 2)].into());
    assert_eq!(summary.counts.total(), 18);
    for entry in place.open().quarantined().unwrap() {
        let reason = entry.quarantine.unwrap();
        assert!(reason.starts_with("damaged: "), "{reason}");
        assert!(!reason.contains(place.root().to_str().unwrap()), "{reason} shows the data root");
    }

    let strict = Data { max_damaged: 0.05, ..data.clone() };
    let error = place.ingest(&strict).unwrap_err().to_string();
    assert!(error.starts_with("2 of 20 images are damaged"), "{error}");
    assert!(error.contains("set/03.png") && error.contains("set/07.png"), "{error}");
    assert!(matches!(place.open().counts(), Err(CatalogError::Unfinished { .. })));

    place.image("03.png", 3);
    place.image("07.png", 7);
    let mended = place.ingest(&strict).unwrap();
    assert_eq!((mended.opened, mended.counts.total()), (2, 20));
}

#[test]
fn a_missing_file_is_damage_too() {
    let place = small_set();
    fs::remove_file(place.root().join("set/images/2.png")).unwrap();
    let data = Data { max_damaged: 0.5, ..manifest(Columns::default()) };
    place.ingest(&data).unwrap();
    let quarantined = place.open().quarantined().unwrap();
    assert_eq!(quarantined[0].quarantine.as_deref(), Some("damaged: the file is missing"));
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
    assert!(error.to_string().ends_with("this umbra knows 1; use a newer umbra"), "{error}");
    set_version(0);
    assert!(matches!(Catalog::create(&path), Err(CatalogError::Older { found: 0, .. })));
    set_version(1);
    Catalog::open(&path).unwrap();

    fs::write(&path, "a letter home, long enough to be looked at").unwrap();
    assert!(matches!(Catalog::open(&path), Err(CatalogError::Stranger { .. })));
    fs::remove_file(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    assert!(matches!(Catalog::create(&path), Err(CatalogError::Stranger { .. })));
}
