//! From files and tables to a catalog and back to pixels.

mod damage;
mod dicom;
mod faults;
mod folders;
mod kill;
mod resume;
mod secret;
mod stopped;
mod suspects;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use umbra::data::catalog::{Catalog, CatalogError, Entry, Label, Location, PatientKey, Split};
use umbra::data::ingest::{IngestError, Progress, Site, Summary, ingest};
use umbra::data::radiographs::Radiographs;
use umbra::data::secret::PatientSecret;
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
        let image = shaded(shade);
        let path = self.root().join("set").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }

    fn table(&self, text: &str) {
        fs::write(self.root().join("set/manifest.csv"), text).unwrap();
    }

    fn site(&self) -> Site {
        Site {
            data_root: self.root(),
            catalog: self.catalog(),
            own_output: None,
            threads: 2,
            secret: Some(PatientSecret::new([7; 32])),
            probe: None,
        }
    }

    fn ingest(&self, data: &Data) -> Result<Summary, IngestError> {
        ingest(data, &self.site(), &mut keep_on)
    }

    fn open(&self) -> Catalog {
        Catalog::open(&self.catalog()).unwrap()
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        let catalog = self.open();
        let all = Split::ALL.into_iter().flat_map(|split| catalog.entries(split).unwrap());
        all.map(|entry| (name(&entry.location), entry)).collect()
    }
}

/// An image that differs from those of other shades.
pub(crate) fn shaded(shade: u8) -> image::GrayImage {
    image::GrayImage::from_fn(24, 16, |x, y| {
        image::Luma([shade.wrapping_mul(31).wrapping_add((7 * x + 3 * y) as u8)])
    })
}

fn keep_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The path, or the phantom's number.
fn name(location: &Location) -> String {
    match location {
        Location::File(path) => path.to_str().unwrap().to_owned(),
        Location::Phantom { index, .. } => format!("phantom {index}"),
    }
}

fn folder(patient: PatientFrom) -> Data {
    let folder = Folder { path: "set".into(), patient };
    Data { source: Source::Folder(folder), ..Data::default() }
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

/// A table with a file and a patient, and nothing else.
fn bare_columns() -> Columns {
    Columns {
        split: None,
        dataset: None,
        view: None,
        labels: None,
        mask: None,
        ..Columns::default()
    }
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
    let columns = Columns { split: Some("split".into()), ..bare_columns() };
    let counts = place.ingest(&manifest(columns)).unwrap().counts;
    assert_eq!(counts.total(), 120, "the test's images must differ: {:?}", counts.quarantined);
    assert_eq!(counts.images[&Split::Test], 0);
    assert!(counts.images[&Split::Train] > 60);

    let place = small_set();
    place.table("file,patient_id,split\nimages/0.png,p,train\nimages/1.png,p,val\n");
    let columns = Columns { split: Some("split".into()), ..bare_columns() };
    let error = place.ingest(&manifest(columns)).unwrap_err().to_string();
    let expected = "row 2 of set/manifest.csv is in train and row 3 of set/manifest.csv in valid, but both show one \
                    patient; correct the split column, or leave such patients out with data.split_conflict: Drop";
    assert_eq!(error, expected);
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
    let percentile = umbra::data::file::Window::Percentile { low: 20.0, high: 60.0 };
    let place = small_set();
    let windowed = place.ingest(&Data { window: percentile, ..data.clone() }).unwrap();
    assert_ne!(windowed.fingerprint, fingerprint);
}

#[test]
fn folders_tell_patients_apart_as_asked() {
    let place = Place::new();
    for (name, shade) in ["p1/s1/a.png", "p1/s2/b.png", "p2/a.png"].iter().zip(1..) {
        place.image(name, shade);
    }
    let patients = |patient| {
        let counts = place.ingest(&folder(patient)).unwrap().counts;
        assert_eq!(counts.total(), 3);
        counts.patients.values().sum::<u64>()
    };
    assert_eq!(patients(PatientFrom::Dicom), 3, "these are no DICOM files");
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
    let expected = "an image is listed twice, in row 2 of set/manifest.csv and in row 2 of set/manifest.csv; \
                    every image belongs to one source";
    assert_eq!(error, expected);
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
    let error = format!("{:#}", anyhow::Error::from(uncached.get(at).unwrap_err()));
    assert!(
        error.starts_with(&format!("cannot open image {} of the catalog: ", entries[at].id)),
        "{error}"
    );
    assert!(!error.contains(path.to_str().unwrap()), "{error}");
}

/// The real set: `cxr/manifest.csv` below the folder that UMBRA_REAL_DATA names.
#[test]
fn real_radiographs() {
    let Some(root) = std::env::var_os("UMBRA_REAL_DATA") else {
        crate::unrun::unrun("UMBRA_REAL_DATA is not set");
        return;
    };
    let source =
        Source::Manifest(Manifest { path: "cxr/manifest.csv".into(), ..Manifest::default() });
    let data = Data { source, ..Data::default() };
    assert_eq!(data.check(Path::new(&root)), Vec::<String>::new());
    let place = Place::new();
    let run = || {
        let start = std::time::Instant::now();
        let site = Site { data_root: Path::new(&root).to_owned(), ..place.site() };
        let summary = ingest(&data, &site, &mut keep_on).unwrap();
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
