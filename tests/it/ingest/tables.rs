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
    assert_eq!(first.dataset, "one");
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
    assert!(error.contains("row 2: split is a word that means none; expected train"), "{error}");
    assert!(!error.contains("holdout"), "{error}");
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

/// A CSV reader takes all that follows an open quotation mark for one field: rows would vanish.
#[test]
fn no_row_vanishes_behind_a_quotation_mark() {
    let place = Place::new();
    (0..3).for_each(|shade| place.image(&format!("{shade}.png"), shade));
    for (table, expected) in [
        (
            "file,patient_id\n0.png,\"a\n1.png,b\n2.png,c\n",
            "row 2: a quotation mark that opens a field is never",
        ),
        (
            "file,patient_id\n0.png,a\n1.png,\"b\n2.png,c\n",
            "row 3: a quotation mark that opens a field is never",
        ),
        ("\"file,patient_id\n0.png,a\n", "row 1: a quotation mark that opens a field is never"),
        ("file,patient_id\n0.png,\"a\n1.png\",b\n", "row 2: has 3 columns"),
        (
            "file,patient_id\n0.png,\"a\n1.png,b\"\n2.png,c\n",
            "row 2: patient id holds a line break",
        ),
        ("patient_id,file\na,\"0.png\n1.png\"\n", "row 2: file name holds a line break"),
    ] {
        place.table(table);
        let error = place.ingest(&manifest(bare_columns())).unwrap_err().to_string();
        assert!(error.contains(expected), "{table:?}: {error}");
        assert!(!error.contains(".png"), "{error}");
    }
    place.table("file,patient_id,split\n0.png,a,\"train\r\nval\"\n");
    let columns = Columns { split: Some("split".into()), ..bare_columns() };
    let error = place.ingest(&manifest(columns)).unwrap_err().to_string();
    assert!(error.contains("row 2: split holds a line break"), "{error}");
    place.table("\u{feff}\"file\",\"patient_id\"\r\n\r\n\"0.png\",\"a\"\r\n1.png,\"b \"\"c\"\"\"");
    assert_eq!(place.ingest(&manifest(bare_columns())).unwrap().listed, 2);
}

#[test]
fn tables_that_are_no_plain_csv_are_told_what_to_become() {
    let place = Place::new();
    place.image("0.png", 0);
    let write = |bytes: &[u8]| fs::write(place.root().join("set/manifest.csv"), bytes).unwrap();
    let said = || place.ingest(&manifest(bare_columns())).unwrap_err().to_string();
    for (bytes, expected) in [
        (
            &b"\x1f\x8b\x08\x00 and so on"[..],
            "is compressed with gzip; unpack it with gunzip first",
        ),
        (b"PK\x03\x04 and so on", "is a ZIP archive or a spreadsheet; save it as CSV first"),
        (b"\xff\xfef\0i\0l\0e\0", "is text in UTF-16; save it as UTF-8"),
        (b"file;patient_id\n0.png;a\n", "write it with commas"),
        (b"file\tpatient_id\n0.png\ta\n", "write it with commas"),
        (
            b"file,patient_id,file\n0.png,a,b\n",
            "has 2 columns called `file`; it has `file`, `patient_id`, `file`; set columns.file in the recipe, or \
             remove all but one",
        ),
        (b"", "has no column `file`"),
    ] {
        write(bytes);
        assert!(said().contains(expected), "{}", said());
    }
    write(format!("0.png,{CANARY}\n1.png,b\n").as_bytes());
    assert!(said().contains("it has data in its first row"), "{}", said());
    assert!(!said().contains(CANARY), "{}", said());
    fs::remove_file(place.root().join("set/manifest.csv")).unwrap();
    super::folders::fifo(&place.root().join("set/manifest.csv"));
    assert!(said().contains("is not a regular file; expected a CSV"), "{}", said());
    let faults = manifest(bare_columns()).check(&place.root());
    assert!(faults[0].contains("is not a regular file"), "{faults:?}");
}
