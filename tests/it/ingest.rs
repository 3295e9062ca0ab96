//! From files and tables to a catalog and back to pixels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use umbra::data::catalog::{Catalog, CatalogError, Entry, Label, Location, PatientKey, Split};
use umbra::data::ingest::{IngestError, Summary, ingest};
use umbra::data::radiographs::Radiographs;
use umbra::data::section::Data;
use umbra::data::source::{Columns, Folder, Manifest, PatientFrom, Phantoms, Source};

/// A patient id that must never get into any file of ours.
const CANARY: &str = "canary-7351-smith";

/// A data root, with the catalog beside it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.root().join("set/images")).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn catalog(&self) -> PathBuf {
        self.folder.path().join("run/catalog.sqlite")
    }

    /// Writes a PNG whose pixels depend on `shade`.
    fn image(&self, name: &str, shade: u8) {
        let image = image::GrayImage::from_fn(24, 16, |x, y| {
            image::Luma([shade.wrapping_mul(31).wrapping_add((7 * x + 3 * y) as u8)])
        });
        let path = self.root().join("set").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }

    fn table(&self, text: &str) {
        fs::write(self.root().join("set/manifest.csv"), text).unwrap();
    }

    fn ingest(&self, data: &Data) -> Result<Summary, IngestError> {
        ingest(data, &self.root(), &self.catalog(), &mut |_| ControlFlow::Continue(()))
    }

    fn open(&self) -> Catalog {
        Catalog::open(&self.catalog()).unwrap()
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        let catalog = self.open();
        let all = Split::ALL.into_iter().flat_map(|split| catalog.entries(split).unwrap());
        all.map(|entry| (entry.location.to_string(), entry)).collect()
    }
}

fn manifest(columns: Columns) -> Data {
    let manifest = Manifest { path: "set/manifest.csv".into(), columns };
    Data { source: Source::Manifest(manifest), ..Data::default() }
}

fn phantoms(images: u64) -> Data {
    Data { source: Source::Phantom(Phantoms { images }), ..Data::default() }
}

/// Five images of three patients in two datasets.
fn small_set() -> Place {
    let place = Place::new();
    for shade in 0..5 {
        place.image(&format!("images/{shade}.png"), shade);
    }
    place.table(&format!(
        "file,split,patient_id,view,labels,dataset,mask_file\n\
         images/0.png,train,{CANARY},PA,Effusion,one,images/4.png\n\
         images/1.png,train,{CANARY},AP,No Finding,one,\n\
         images/2.png,val,b,PA,Effusion|Nodule,one,\n\
         images/3.png,val,b,PA,,one,\n\
         images/4.png,train,{CANARY},PA,Covid,two,\n"
    ));
    place
}

fn tables_without(column: &str) -> Columns {
    let mut columns = Columns::default();
    for (name, field) in [
        ("split", &mut columns.split),
        ("dataset", &mut columns.dataset),
        ("view", &mut columns.view),
        ("labels", &mut columns.labels),
        ("mask", &mut columns.mask),
    ] {
        if column == "all" || column == name {
            *field = None;
        }
    }
    columns
}

#[test]
fn labels_have_three_values() {
    use Label::{Absent, Present, Unknown};
    let place = small_set();
    place.ingest(&manifest(Columns::default())).unwrap();
    let entries = place.entries();
    let labels = |image: usize| {
        let labels = &entries[&format!("set/images/{image}.png")].labels;
        ["Covid", "Effusion", "Nodule"].map(|name| labels[name])
    };
    assert_eq!(labels(0), [Unknown, Present, Absent]);
    assert_eq!(labels(1), [Unknown, Absent, Absent]);
    assert_eq!(labels(2), [Unknown, Present, Present]);
    assert_eq!(labels(3), [Unknown, Unknown, Unknown]);
    assert_eq!(labels(4), [Present, Unknown, Unknown]);
    let counts = place.open().counts().unwrap();
    let effusion = counts.labels["Effusion"];
    assert_eq!((effusion.present, effusion.absent, effusion.unknown), (2, 1, 2));
    let first = &entries["set/images/0.png"];
    assert_eq!(first.mask.as_deref(), Some(Path::new("set/images/4.png")));
    assert_eq!((first.width, first.height, first.view.as_deref()), (24, 16, Some("PA")));
    assert_eq!(first.source, "one");
    assert_ne!(first.patient, entries["set/images/4.png"].patient, "two datasets, two patients");
}

#[test]
fn numbered_findings_keep_uncertain_apart_from_absent() {
    let place = Place::new();
    ["a", "b", "c", "d"].iter().zip(0..).for_each(|(name, shade)| {
        place.image(&format!("{name}.png"), shade);
    });
    place.table("Path,id,Edema\na.png,1,1.0\nb.png,2,0.0\nc.png,3,-1.0\nd.png,4,\n");
    let columns = Columns {
        file: "Path".into(),
        patient: "id".into(),
        findings: vec!["Edema".into()],
        ..tables_without("all")
    };
    place.ingest(&manifest(columns)).unwrap();
    let labels: Vec<_> = place.entries().values().map(|entry| entry.labels["Edema"]).collect();
    assert_eq!(labels, [Label::Present, Label::Absent, Label::Unknown, Label::Unknown]);
}

#[test]
fn real_world_tables_are_understood() {
    let place = Place::new();
    (0..3).for_each(|shade| place.image(&format!("images/{shade}.png"), shade));
    place.table(
        "\u{feff}file,patient_id,report,,\r\n\
         images/0.png,p0,\"Clear lungs.\r\nNo \"\"effusion\"\", really.\",,\r\n\
         images/1.png,p1,,\r\n\
         ./images/../images/2.png,p2,short,,,,\r\n",
    );
    let columns = Columns { report: Some("report".into()), ..tables_without("all") };
    place.ingest(&manifest(columns)).unwrap();
    let reports: Vec<_> = place.entries().into_values().map(|entry| entry.report).collect();
    let expected = [Some("Clear lungs.\r\nNo \"effusion\", really."), None, Some("short")];
    assert_eq!(reports, expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn wrong_tables_get_one_sentence() {
    let cases: [(&str, &[&str]); 9] = [
        ("file,patient_id\nimages/0.png,\n", &["row 2", "patient id is empty"]),
        ("file,patient_id\n,p\n", &["row 2", "file name is empty"]),
        (
            "file,patient\nimages/0.png,p\n",
            &["`patient_id`", "`file`, `patient`", "columns.patient"],
        ),
        ("file,patient_id\n../../../etc/passwd,p\n", &["row 2", "outside the data root"]),
        ("file,patient_id\n/etc/passwd,p\n", &["row 2", "outside the data root"]),
        ("file,patient_id\na.png,p\na.png,p\n", &["row 3", "row 2 again"]),
        ("file,patient_id\na.png\n", &["row 2", "has 1 columns where the header has 2"]),
        ("file,patient_id\na.png,p,q\n", &["row 2", "has 3 columns where the header has 2"]),
        ("file,patient_id\n", &["lists no images"]),
    ];
    for (table, parts) in cases {
        let place = Place::new();
        place.table(table);
        let error = place.ingest(&manifest(tables_without("all"))).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{table:?}: {error}");
        }
        assert!(!place.catalog().exists(), "{table:?} left a catalog behind");
    }
    let place = Place::new();
    place.table("file,patient_id,split\na.png,p,holdout\n");
    let columns = Columns { split: Some("split".into()), ..tables_without("all") };
    let error = place.ingest(&manifest(columns)).unwrap_err().to_string();
    assert!(error.contains("row 2: split is `holdout`"), "{error}");
    place.table("file,patient_id\na.png,p\n");
    let faults = manifest(Columns::default()).check(&place.root());
    assert!(faults[0].contains("has no column `split`"), "{faults:?}");
    assert!(faults[0].contains("None if there is none"), "{faults:?}");
    let error = place.ingest(&Data {
        source: Source::Manifest(Manifest { path: "no.csv".into(), ..Manifest::default() }),
        ..Data::default()
    });
    assert_eq!(error.unwrap_err().to_string(), "cannot read no.csv");
}

#[test]
fn phantoms_split_exactly_and_by_patient() {
    let place = Place::new();
    let summary = place.ingest(&phantoms(1280)).unwrap();
    let images: Vec<u64> = summary.counts.images.values().copied().collect();
    assert_eq!(images, [1024, 128, 128]);
    let catalog = place.open();
    let patients = |split| -> BTreeSet<PatientKey> {
        catalog.entries(split).unwrap().iter().map(|entry| entry.patient).collect()
    };
    let [train, valid, test] = Split::ALL.map(patients);
    assert!(train.is_disjoint(&valid) && train.is_disjoint(&test) && valid.is_disjoint(&test));
    assert_eq!(summary.counts.patients[&Split::Train], train.len() as u64);
    let entry = &catalog.entries(Split::Train).unwrap()[0];
    assert_eq!(entry.labels.len(), 5);
    assert!(entry.labels.values().all(|label| *label != Label::Unknown));
    assert!(entry.report.is_some());
}

#[test]
fn official_splits_win_and_no_test_set_is_invented() {
    let place = small_set();
    let summary = place.ingest(&manifest(Columns::default())).unwrap();
    let images: Vec<u64> = summary.counts.images.values().copied().collect();
    assert_eq!(images, [3, 2, 0]);

    let place = Place::new();
    let mut table = "file,patient_id,split\n".to_owned();
    for at in 0..120u8 {
        place.image(&format!("{at}.png"), at);
        let split = ["train", "val", ""][usize::from(at % 3)];
        table += &format!("{at}.png,p{at},{split}\n");
    }
    place.table(&table);
    let columns = Columns { split: Some("split".into()), ..tables_without("all") };
    let counts = place.ingest(&manifest(columns)).unwrap().counts;
    assert_eq!(counts.total(), 120, "the test's images must differ: {:?}", counts.quarantined);
    assert_eq!(counts.images[&Split::Test], 0);
    assert!(counts.images[&Split::Train] > 60);

    let place = small_set();
    place.table("file,patient_id,split\nimages/0.png,p,train\nimages/1.png,p,val\n");
    let columns = Columns { split: Some("split".into()), ..tables_without("all") };
    let error = place.ingest(&manifest(columns)).unwrap_err().to_string();
    let expected = "set/images/0.png is in train and set/images/1.png in valid, \
                    but both show one patient; correct the split column";
    assert_eq!(error, expected);
}

#[test]
fn an_interrupted_ingest_goes_on_and_a_second_one_has_nothing_to_do() {
    let place = Place::new();
    let whole = Place::new();
    let expected = whole.ingest(&phantoms(1000)).unwrap();
    let mut calls = 0;
    let stopped = ingest(&phantoms(1000), &place.root(), &place.catalog(), &mut |_| {
        calls += 1;
        if calls == 600 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(IngestError::Stopped)));
    let catalog = place.open();
    assert!(matches!(catalog.entries(Split::Train), Err(CatalogError::Unfinished { .. })));
    assert!(matches!(catalog.fingerprint(), Err(CatalogError::Unfinished { .. })));
    drop(catalog);

    let mut first_done = None;
    let resumed = ingest(&phantoms(1000), &place.root(), &place.catalog(), &mut |progress| {
        first_done.get_or_insert(progress.done);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((resumed.opened, first_done), (400, Some(601)));
    assert_eq!(resumed.fingerprint, expected.fingerprint);
    assert_eq!(resumed.counts, expected.counts);
    assert_eq!(place.ingest(&phantoms(1000)).unwrap().opened, 0);
}

/// The part of [`a_killed_ingest_goes_on`] that is killed; does nothing by itself.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os("UMBRA_TEST_KILLED_CHILD") else { return };
    let folder = Path::new(&folder);
    let slowly = &mut |_| {
        std::thread::sleep(std::time::Duration::from_micros(200));
        ControlFlow::Continue(())
    };
    ingest(&phantoms(1280), folder, &folder.join("catalog.sqlite"), slowly).unwrap();
}

#[test]
fn a_killed_ingest_goes_on() {
    let undisturbed = Place::new();
    let expected = undisturbed.ingest(&phantoms(1280)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("catalog.sqlite");
    for delay_ms in [20, 80, 110, 140, 170, 200] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["ingest::killed_child", "--exact"])
            .env("UMBRA_TEST_KILLED_CHILD", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if catalog.exists() {
            let connection = rusqlite::Connection::open(&catalog).unwrap();
            let verdict: String =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "after a kill at {delay_ms} ms");
        }
    }
    let keep_on = &mut |_| ControlFlow::Continue(());
    let summary = ingest(&phantoms(1280), folder.path(), &catalog, keep_on).unwrap();
    assert_eq!(summary.fingerprint, expected.fingerprint);
    assert_eq!(summary.counts, expected.counts);
}

#[test]
fn changed_files_are_opened_again_and_changed_words_are_not() {
    let place = small_set();
    let data = manifest(Columns::default());
    let first = place.ingest(&data).unwrap();
    assert_eq!(first.opened, 5);

    let table = fs::read_to_string(place.root().join("set/manifest.csv")).unwrap();
    place.table(&table.replace("No Finding", "Nodule"));
    let relabelled = place.ingest(&data).unwrap();
    assert_eq!(relabelled.opened, 0);
    assert_eq!(place.entries()["set/images/1.png"].labels["Nodule"], Label::Present);

    place.image("images/2.png", 77);
    assert_eq!(place.ingest(&data).unwrap().opened, 1);

    place.table(&table.lines().take(3).map(|line| format!("{line}\n")).collect::<String>());
    let fewer = place.ingest(&data).unwrap();
    assert_eq!((fewer.listed, fewer.opened, fewer.counts.total()), (2, 0, 2));
}

#[test]
fn the_fingerprint_follows_what_decides_training_and_nothing_else() {
    let data = manifest(Columns::default());
    let base = small_set();
    let fingerprint = base.ingest(&data).unwrap().fingerprint;
    let table = fs::read_to_string(base.root().join("set/manifest.csv")).unwrap();
    let with = |change: &dyn Fn(&Place)| {
        let place = small_set();
        change(&place);
        place.ingest(&data).unwrap().fingerprint
    };
    assert_eq!(with(&|_| {}), fingerprint, "another data root changes nothing");
    let mut rows: Vec<&str> = table.lines().collect();
    rows[1..].reverse();
    assert_eq!(with(&|place| place.table(&rows.join("\n"))), fingerprint, "nor does the order");
    for (from, to) in [
        ("No Finding", "Nodule"),
        ("val,b", "train,b"),
        (",b,", ",c,"),
        ("AP,", "PA,"),
        ("images/4.png\n", "images/3.png\n"),
    ] {
        let changed = table.replace(from, to);
        assert_ne!(changed, table);
        assert_ne!(with(&|place| place.table(&changed)), fingerprint, "{from} to {to}");
    }
    assert_ne!(with(&|place| place.image("images/2.png", 99)), fingerprint);
    let percentile = umbra::data::file::Window::Percentile { low: 1.0, high: 99.0 };
    let place = small_set();
    let windowed = place.ingest(&Data { window: percentile, ..data.clone() }).unwrap();
    assert_ne!(windowed.fingerprint, fingerprint);
}

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
fn folders_tell_patients_apart_as_asked() {
    let place = Place::new();
    for (name, shade) in ["p1/s1/a.png", "p1/s2/b.png", "p2/a.png"].iter().zip(1..) {
        place.image(name, shade);
    }
    let patients = |patient| {
        let folder = Folder { path: "set".into(), patient };
        let data = Data { source: Source::Folder(folder), ..Data::default() };
        let counts = place.ingest(&data).unwrap().counts;
        assert_eq!(counts.total(), 3);
        counts.patients.values().sum::<u64>()
    };
    assert_eq!(patients(PatientFrom::File), 3);
    assert_eq!(patients(PatientFrom::Folder), 2);
}

#[test]
fn sources_mix() {
    let place = small_set();
    let data = manifest(Columns::default());
    let both = |times| Data {
        source: Source::Several(vec![data.source.clone(); times]),
        ..Data::default()
    };
    assert_eq!(place.ingest(&both(1)).unwrap().counts.total(), 5);
    let error = place.ingest(&both(2)).unwrap_err().to_string();
    assert!(error.ends_with("is listed twice; every image belongs to one source"), "{error}");
    let mixed = Data {
        source: Source::Several(vec![data.source, Source::Phantom(Phantoms { images: 10 })]),
        ..Data::default()
    };
    let counts = place.ingest(&mixed).unwrap().counts;
    let images: Vec<u64> = counts.images.values().copied().collect();
    assert_eq!(images, [3 + 8, 2 + 1, 1]);
}

#[test]
fn patient_ids_stay_out_of_the_catalog() {
    let place = small_set();
    place.ingest(&manifest(Columns::default())).unwrap();
    for file in fs::read_dir(place.catalog().parent().unwrap()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let finds = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(finds("images/0.png"), "the search itself works");
        assert!(!finds(CANARY));
    }
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

#[test]
fn cached_and_uncached_pixels_are_bit_equal() {
    let place = small_set();
    let data = manifest(Columns::default());
    let mixed = Data {
        source: Source::Several(vec![data.source, Source::Phantom(Phantoms { images: 10 })]),
        ..Data::default()
    };
    place.ingest(&mixed).unwrap();
    let entries = place.open().entries(Split::Train).unwrap();
    let open = |cache_bytes| Radiographs::open(entries.clone(), &place.root(), 32, cache_bytes);
    let (cached, uncached) = (open(1 << 20), open(0));
    assert_eq!(cached.len(), 11);
    for index in (0..cached.len()).chain(0..cached.len()) {
        let sample = cached.get(index).unwrap();
        assert_eq!(sample, uncached.get(index).unwrap());
        assert_eq!((sample.square.size, sample.entry), (32, index));
        assert!(sample.square.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
        let entry = &cached.entries()[index];
        let content = sample.square.content;
        let is_wide = content.width > content.height;
        assert_eq!(is_wide, entry.width > entry.height);
    }
    let at = entries.iter().position(|it| matches!(it.location, Location::File(_))).unwrap();
    let Location::File(path) = &entries[at].location else { unreachable!() };
    fs::remove_file(place.root().join(path)).unwrap();
    assert!(cached.get(at).is_ok());
    let error = uncached.get(at).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

/// The real set: `cxr/manifest.csv` below the folder that UMBRA_REAL_DATA names.
#[test]
fn real_radiographs() {
    let Some(root) = std::env::var_os("UMBRA_REAL_DATA") else {
        eprintln!("skipped: UMBRA_REAL_DATA is not set");
        return;
    };
    let source =
        Source::Manifest(Manifest { path: "cxr/manifest.csv".into(), ..Manifest::default() });
    let data = Data { source, ..Data::default() };
    assert_eq!(data.check(Path::new(&root)), Vec::<String>::new());
    let place = Place::new();
    let run = || {
        let start = std::time::Instant::now();
        let keep_on = &mut |_| ControlFlow::Continue(());
        let summary = ingest(&data, Path::new(&root), &place.catalog(), keep_on).unwrap();
        eprintln!("{} images opened in {:.2?}", summary.opened, start.elapsed());
        summary
    };
    let summary = run();
    eprintln!("{}", serde_json::to_string_pretty(&summary).unwrap());
    let counts = &summary.counts;
    assert_eq!(counts.images.values().copied().collect::<Vec<_>>(), [2311, 323, 0]);
    let patients = [467 + 1107 + 49, 70 + 148 + 6, 0];
    assert_eq!(counts.patients.values().copied().collect::<Vec<_>>(), patients);
    assert_eq!(counts.quarantined, BTreeMap::new());
    let pneumonia = counts.labels["Pneumonia"];
    // Of 2,634 images, the 80 of covid-chestxray say nothing about pneumonia.
    assert_eq!((pneumonia.present, pneumonia.unknown), (1261 + 396, 80));
    assert_eq!(run().opened, 0);
}
