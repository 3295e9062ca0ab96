//! An archive as hospitals have it: studies of patients, and much beside the radiographs.

use super::*;
use crate::binary::{done, umbra};
use crate::files::builder::{Builder, EXPLICIT};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use umbra::random::Stream;

/// A small grey image of the SOP class `class`; its pixels follow from `shade`.
fn image(class: &str, modality: &str, shade: u16) -> Builder {
    let mut draws = Stream::new(1, "test/dicom").at(u64::from(shade));
    let words: Vec<u16> = (0..24 * 16).map(|_| draws.below(4096) as u16).collect();
    let mut file = Builder::grey(EXPLICIT, [24, 16], [16, 12, 11], &words);
    file.text(tags::SOP_CLASS_UID, VR::UI, class);
    file.text(tags::SOP_INSTANCE_UID, VR::UI, &format!("2.25.{}", 1000 + shade));
    file.text(tags::MODALITY, VR::CS, modality);
    file
}

/// 10 patients with 2 studies of 2 views each, DX and CR, in folders that know nothing of patients; beside them what an
/// archive holds as well. How many images are to be used.
fn archive(root: &Path) -> usize {
    let mut shade = 0;
    for patient in 0..10 {
        for study in 0..2 {
            // Studies are filed by day: those of a patient lie far apart.
            let folder =
                root.join(format!("set/DAY{:02}/ST{patient}", (patient * 7 + study * 11) % 20));
            fs::create_dir_all(&folder).unwrap();
            let mut put = |name: &str, class: &str, modality: &str, view: &str| {
                shade += 1;
                let mut file = image(class, modality, shade);
                file.text(tags::PATIENT_ID, VR::LO, &format!("{CANARY}{patient}"));
                file.text(tags::PATIENT_NAME, VR::PN, &format!("{CANARY}^{patient}"));
                file.text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOSPITAL");
                if !view.is_empty() {
                    file.text(tags::VIEW_POSITION, VR::CS, view);
                }
                fs::write(folder.join(name), file.bytes()).unwrap();
            };
            let digital = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION;
            put("IM1", digital, "DX", "PA");
            put("IM2.dcm", uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "CR", "LL");
            put("SR1", uids::BASIC_TEXT_SR_STORAGE, "SR", "");
            put("PR1", uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, "PR", "");
            put("CT1.dcm", uids::CT_IMAGE_STORAGE, "CT", "");
            put("SC1", uids::SECONDARY_CAPTURE_IMAGE_STORAGE, "OT", "");
        }
    }
    let mut index = image(uids::MEDIA_STORAGE_DIRECTORY_STORAGE, "OT", 9999);
    index.text(tags::PATIENT_ID, VR::LO, CANARY);
    fs::write(root.join("set/DICOMDIR"), index.bytes()).unwrap();
    fs::write(root.join("set/README"), "Exported for research.").unwrap();
    40
}

#[test]
fn an_archive_is_split_by_patient_and_only_its_radiographs_are_used() {
    let place = Place::new();
    let images = archive(&place.root());
    let run = || {
        let mut command = umbra();
        command.args(["ingest", "recipes/tiny.ron", "--data-root"]).arg(place.root());
        command.arg("--checkpoints").arg(place.folder.path().join("runs"));
        command.args(["--set", "data.source=Folder(path: \"set\")", "--json"]);
        let ended = done(&mut command);
        let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        (said["ingest"].clone(), ended.stderr)
    };
    let (summary, said) = run();
    let quarantined = summary["counts"]["quarantined"].as_object().unwrap();
    assert_eq!(quarantined.keys().collect::<Vec<_>>(), ["other"], "{summary:#}");
    assert_eq!(quarantined["other"], 20 * 4 + 2);
    assert!(!said.contains(CANARY) && !said.contains("DAY"), "{said}");

    let catalog = Catalog::open(&place.folder.path().join("runs/tiny/catalog.sqlite")).unwrap();
    let mut splits: BTreeMap<PatientKey, BTreeSet<Split>> = BTreeMap::new();
    let mut views = BTreeMap::new();
    for entry in Split::ALL.into_iter().flat_map(|split| catalog.entries(split).unwrap()) {
        splits.entry(entry.patient).or_default().insert(entry.split);
        *views.entry(entry.view.unwrap_or_default()).or_insert(0) += 1;
    }
    assert_eq!(splits.len(), 10, "two studies of a patient are one patient's");
    assert!(splits.values().all(|splits| splits.len() == 1), "{splits:?}");
    assert_eq!(
        views,
        BTreeMap::from([("LL".to_owned(), images / 2), ("PA".to_owned(), images / 2)])
    );
    assert_eq!(run().0["opened"], 0, "nothing is opened to learn whose it is");

    // The other choices, for those who know better.
    let patients = |patient| {
        let counts = place.ingest(&folder(patient)).unwrap().counts;
        assert_eq!(counts.total(), images as u64);
        counts.patients.values().sum::<u64>()
    };
    assert_eq!(patients(PatientFrom::File), images as u64);
    let names = fs::read_dir(place.root().join("set")).unwrap().map(|it| it.unwrap().file_name());
    let days = names.filter(|name| name.to_str().unwrap().starts_with("DAY")).count() as u64;
    assert_eq!(patients(PatientFrom::Folder), days);
    assert_eq!(patients(PatientFrom::Dicom), 10);
}

#[test]
fn a_file_that_names_no_patient_is_left_out_unless_files_are_patients() {
    let place = Place::new();
    let class = uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE;
    for (name, id, issuer, shade) in [
        ("a", Some("17"), Some("ONE"), 1),
        ("b", Some("17 "), Some("ONE"), 2),
        ("c", Some("17"), Some("TWO"), 3),
        ("d", None, Some("ONE"), 4),
        ("e", Some(" "), None, 5),
    ] {
        let mut file = image(class, "CR", shade);
        if let Some(id) = id {
            file.text(tags::PATIENT_ID, VR::LO, id);
        }
        if let Some(issuer) = issuer {
            file.text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        }
        fs::write(place.root().join("set").join(name), file.bytes()).unwrap();
    }
    let summary = place.ingest(&folder(PatientFrom::Dicom)).unwrap();
    assert_eq!(summary.counts.quarantined, [("unsupported".to_owned(), 2)].into());
    let expected = "no patient id; say patient: File if every file is a patient of its own";
    assert_eq!(summary.reasons[0].0.reason, expected);
    assert_eq!(summary.counts.patients.values().sum::<u64>(), 2, "ids of two issuers are two");
    let by_file = place.ingest(&folder(PatientFrom::File)).unwrap();
    assert_eq!((by_file.opened, by_file.counts.patients.values().sum::<u64>()), (5, 5));
}

/// What a table says of the view comes first; where it says nothing, the file may.
#[test]
fn the_view_of_a_table_wins_over_the_file_s() {
    let place = Place::new();
    for (name, shade) in [("a", 1), ("b", 2)] {
        let mut file = image(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "CR", shade);
        file.text(tags::VIEW_POSITION, VR::CS, "AP");
        fs::write(place.root().join("set").join(name), file.bytes()).unwrap();
    }
    let views = |columns: Columns| -> Vec<Option<String>> {
        place.ingest(&manifest(columns)).unwrap();
        place.entries().into_values().map(|entry| entry.view).collect()
    };
    let ap = Some("AP".to_owned());
    let with_view = Columns { view: Some("view".into()), ..bare_columns() };
    place.table("file,patient_id,view\na,p,Lateral\nb,p,\n");
    assert_eq!(views(with_view), [Some("Lateral".to_owned()), ap.clone()]);
    assert_eq!(views(bare_columns()), [ap.clone(), ap], "and comes back without being opened");
}
