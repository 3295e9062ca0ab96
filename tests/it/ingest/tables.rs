//! Tables as the world writes them, and what they say about labels.

use super::*;

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
        ..bare_columns()
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
    let columns = Columns { report: Some("report".into()), ..bare_columns() };
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
        let error = place.ingest(&manifest(bare_columns())).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{table:?}: {error}");
        }
        assert!(!place.catalog().exists(), "{table:?} left a catalog behind");
    }
    let place = Place::new();
    place.table("file,patient_id,split\na.png,p,holdout\n");
    let columns = Columns { split: Some("split".into()), ..bare_columns() };
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
