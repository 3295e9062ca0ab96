//! What identifies a patient, wherever it stands in files and tables, gets into nothing but the catalog, and ids not
//! even there.

use crate::binary::{Ended, briefly, done, ended, files, tiny, umbra};
use crate::files::builder::{Builder, EXPLICIT};
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use umbra::data::phantom;

/// A word of its own for every place; short enough for a code string of DICOM.
fn canary(place: &str) -> String {
    format!("CNRY{place}7X")
}

/// Patient ids: not even the catalog has them.
const IDS: [&str; 4] = ["TABLEID", "PID", "ISSUER", "OTHERID"];

/// All the rest.
const WORDS: [&str; 38] = [
    "TABLEDIR",
    "FILE",
    "REPORT",
    "UNUSED",
    "MASK",
    "PNGTEXT",
    "PNGZTEXT",
    "PNGITEXT",
    "EXIF",
    "COMMENT",
    "DICOMDIR",
    "NAME",
    "CHARSET",
    "STUDY",
    "SERIES",
    "PLACE",
    "DOCTOR",
    "STUDYID",
    "ACCESSION",
    "ADDRESS",
    "IMAGETEXT",
    "HISTORY",
    "VIEW",
    "SIDE",
    "MAKER",
    "PRIVATE",
    "PHOTO",
    "MODALITY",
    "BODYPART",
    "PROTOCOL",
    "REPORTTEXT",
    "CUTNAME",
    "LINKNAME",
    "PIPENAME",
    "NOTUTF8",
    "NOTES",
    "UID",
    "CONVERSION",
];

fn picture(index: u64) -> image::GrayImage {
    let image = phantom::render(5, index, 32).image;
    let levels = image.pixels.iter().map(|value| (value * 255.0) as u8).collect();
    image::GrayImage::from_raw(image.width as u32, image.height as u32, levels).unwrap()
}

/// A PNG with text chunks of all three kinds.
fn png(index: u64) -> Vec<u8> {
    let picture = picture(index);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk("Title".to_owned(), canary("PNGTEXT")).unwrap();
    encoder.add_ztxt_chunk("Author".to_owned(), canary("PNGZTEXT")).unwrap();
    encoder.add_itxt_chunk("Comment".to_owned(), canary("PNGITEXT")).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(picture.as_raw()).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A JPEG with EXIF and a comment.
fn jpeg(index: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture(index)
        .write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95))
        .unwrap();
    let segment = |marker: u8, content: &[u8]| {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker][..], &length, content].concat()
    };
    // TIFF, big endian, one directory of one entry: ImageDescription (0x010e), ASCII.
    let text = format!("{}\0", canary("EXIF"));
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x0e\0\x02".to_vec();
    exif.extend((text.len() as u32).to_be_bytes());
    exif.extend(26u32.to_be_bytes());
    exif.extend([0; 4]);
    exif.extend(text.as_bytes());
    let comment = segment(0xfe, canary("COMMENT").as_bytes());
    [&bytes[..2], &segment(0xe1, &exif), &comment, &bytes[2..]].concat()
}

/// A DICOM file with a canary in every text that it may have.
fn dicom(index: u64) -> Builder {
    let picture = picture(index);
    let sides = [picture.height() as u16, picture.width() as u16];
    let words: Vec<u16> = picture.as_raw().iter().map(|&value| u16::from(value) * 16).collect();
    let mut file = Builder::grey(EXPLICIT, sides, [16, 12, 11], &words);
    for (tag, vr, place) in [
        (tags::PATIENT_ID, VR::LO, "PID"),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, "ISSUER"),
        (Tag(0x0010, 0x1000), VR::LO, "OTHERID"),
        (tags::PATIENT_NAME, VR::PN, "NAME"),
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "CHARSET"),
        (tags::STUDY_DESCRIPTION, VR::LO, "STUDY"),
        (tags::SERIES_DESCRIPTION, VR::LO, "SERIES"),
        (tags::INSTITUTION_NAME, VR::LO, "PLACE"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "DOCTOR"),
        (tags::STUDY_ID, VR::SH, "STUDYID"),
        (tags::ACCESSION_NUMBER, VR::SH, "ACCESSION"),
        (tags::PATIENT_ADDRESS, VR::LO, "ADDRESS"),
        (tags::IMAGE_COMMENTS, VR::LT, "IMAGETEXT"),
        (tags::ADDITIONAL_PATIENT_HISTORY, VR::LT, "HISTORY"),
        (tags::VIEW_POSITION, VR::CS, "VIEW"),
        (tags::IMAGE_LATERALITY, VR::CS, "SIDE"),
        (tags::MANUFACTURER, VR::LO, "MAKER"),
        (Tag(0x0009, 0x1001), VR::LO, "PRIVATE"),
        (tags::BODY_PART_EXAMINED, VR::CS, "BODYPART"),
        (tags::PROTOCOL_NAME, VR::LO, "PROTOCOL"),
    ] {
        file.text(tag, vr, &canary(place));
    }
    file.text(Tag(0x0009, 0x0010), VR::LO, "UMBRA TEST");
    file.text(tags::PATIENT_ID, VR::LO, &format!("{}{}", canary("PID"), index % 6));
    file
}

/// The archive below `root`: a table of PNGs and JPEGs, and a folder of DICOM files with strangers among them.
fn write(root: &Path) -> String {
    let images = root.join(canary("TABLEDIR"));
    let folder = root.join("dicom").join(canary("DICOMDIR"));
    [&images, &folder].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let mut table = String::from("file,patient_id,split,labels,report,mask_file,remarks\n");
    let mask = format!("{}/{}.png", canary("TABLEDIR"), canary("MASK"));
    fs::write(root.join(&mask), png(99)).unwrap();
    for index in 0..32 {
        let extension = if index % 4 == 1 { "jpg" } else { "png" };
        let name = format!("{}/{}{index}.{extension}", canary("TABLEDIR"), canary("FILE"));
        let bytes = if extension == "jpg" { jpeg(index) } else { png(index) };
        fs::write(root.join(&name), bytes).unwrap();
        let split = ["train", "train", "train", "val"][index as usize % 4];
        let label = ["Effusion", "No Finding"][index as usize / 4 % 2];
        let (id, report, unused) = (canary("TABLEID"), canary("REPORT"), canary("UNUSED"));
        writeln!(table, "{name},{id}-{index},{split},{label},{report},{mask},{unused}").unwrap();
    }
    fs::write(root.join("table.csv"), &table).unwrap();
    for index in 40..52 {
        fs::write(folder.join(format!("IM{index}")), dicom(index).bytes()).unwrap();
    }
    for (name, tag, vr, place) in [
        ("photo", tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PHOTO"),
        ("modality", tags::MODALITY, VR::CS, "MODALITY"),
        ("conversion", tags::CONVERSION_TYPE, VR::CS, "CONVERSION"),
        ("report", tags::TEXT_VALUE, VR::UT, "REPORTTEXT"),
        ("class", tags::SOP_CLASS_UID, VR::UI, "UID"),
    ] {
        let mut file = dicom(60);
        file.put(tag, vr, PrimitiveValue::from(canary(place).as_str()));
        fs::write(folder.join(name), file.bytes()).unwrap();
    }
    let whole = dicom(61).bytes();
    fs::write(folder.join(canary("CUTNAME")), &whole[..whole.len() - 900]).unwrap();
    fs::write(folder.join("letter"), format!("Dear {},", canary("NOTES"))).unwrap();
    std::os::unix::fs::symlink(canary("LINKNAME"), folder.join(canary("LINKNAME"))).unwrap();
    let pipe = folder.join(canary("PIPENAME"));
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let name = [canary("NOTUTF8").as_bytes(), b"\xff"].concat();
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&name[..]);
    fs::write(folder.join(name), "anything").unwrap();
    table
}

fn holds(bytes: &[u8], place: &str) -> bool {
    let canary = canary(place);
    bytes.windows(canary.len()).any(|window| window.eq_ignore_ascii_case(canary.as_bytes()))
}

fn assert_silent(what: &str, bytes: &[u8]) {
    for place in IDS.iter().chain(&WORDS) {
        assert!(!holds(bytes, place), "{what} holds {}", canary(place));
    }
}

#[test]
fn nothing_of_a_patient_gets_out_of_the_catalog_and_ids_not_even_in() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("data");
    let table = write(&root);
    let checkpoints = home.path().join("checkpoints");
    let columns = "(dataset: None, view: None, report: \"report\")";
    let source = format!(
        "Several([Manifest(path: \"table.csv\", columns: {columns}), Folder(path: \"dicom\")])"
    );
    let mut command = tiny(&checkpoints);
    command.arg("--data-root").arg(&root).arg("--json");
    briefly(&mut command, &source);
    let mut said: Vec<Ended> = Vec::new();
    said.push(done(&mut command));
    let summary: serde_json::Value = serde_json::from_str(&said[0].stdout).unwrap();
    let in_use = &summary["ingest"]["counts"]["images"];
    assert!(in_use["Train"].as_u64().unwrap() > 24, "{summary:#}");
    assert!(summary["ingest"]["reasons"].as_array().unwrap().len() >= 3, "{summary:#}");

    let model = checkpoints.join("tiny/model");
    let mut export = umbra();
    export.arg("export").arg(checkpoints.join("tiny")).args(["--to", "diffusers"]).arg(&model);
    said.push(done(&mut export));

    // Mistakes are told without it as well.
    let mut mistakes: Vec<String> = vec![
        format!("{table}{}", table.lines().nth(1).unwrap()),
        table.replacen(",val,", &format!(",{},", canary("UNUSED")), 1),
        table.replacen("-3,val", "-2,val", 1),
        table.replacen(&canary("REPORT"), &format!("\"{}", canary("REPORT")), 1),
        table.replacen(&format!("{}/", canary("TABLEDIR")), "../../", 1),
        table.lines().skip(1).collect::<Vec<_>>().join("\n"),
    ];
    mistakes.push(table.replace(&format!("{}/", canary("TABLEDIR")), "gone/"));
    for mistake in mistakes {
        fs::write(root.join("table.csv"), mistake).unwrap();
        let ended = ended(&mut command);
        assert!(matches!(ended.code, Some(1..=3)), "{}", ended.stderr);
        said.push(ended);
    }
    for said in said {
        assert_silent("stdout", said.stdout.as_bytes());
        assert_silent("stderr", said.stderr.as_bytes());
    }
    let catalog = PathBuf::from("tiny/catalog.sqlite");
    for (name, bytes) in files(&checkpoints) {
        assert_silent("a name", name.as_bytes());
        if Path::new(&name) == catalog {
            assert!(holds(&bytes, "FILE") && holds(&bytes, "REPORT"), "the search itself works");
            IDS.iter()
                .for_each(|id| assert!(!holds(&bytes, id), "the catalog holds {}", canary(id)));
        } else {
            assert_silent(&name, &bytes);
        }
    }
}
