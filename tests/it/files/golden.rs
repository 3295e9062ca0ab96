//! Windows against pydicom, JPEG 2000 against OpenJPEG.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use serde::Deserialize;
use umbra::data::file::{Refusal, Window, inspect};

use super::builder::{Builder, Desk, EXPLICIT, Table};

#[derive(Deserialize)]
struct WindowCase {
    name: String,
    signed: bool,
    bits: u16,
    stored: Vec<i32>,
    slope: Option<f64>,
    intercept: Option<f64>,
    modality_lut: Option<TableCase>,
    voi_lut: Option<TableCase>,
    center: Option<f64>,
    width: Option<f64>,
    function: Option<String>,
    brightness: Vec<f64>,
}

#[derive(Deserialize)]
struct TableCase {
    first: i32,
    bits: u16,
    entries: Vec<u16>,
}

impl TableCase {
    fn table(&self) -> Table {
        Table { first: self.first, bits: self.bits, entries: self.entries.clone() }
    }
}

/// Reference: tests/golden/dicom_windows.py (versions in its header).
#[test]
fn brightness_matches_pydicom() {
    let desk = Desk::new();
    let cases: Vec<WindowCase> =
        serde_json::from_str(include_str!("../../golden/dicom_windows.json")).unwrap();
    for case in cases {
        let words: Vec<u16> = case.stored.iter().map(|&value| value as u16).collect();
        let size = [1, words.len() as u16];
        let mut file = Builder::grey(EXPLICIT, size, [16, case.bits, case.bits - 1], &words);
        if case.signed {
            file.signed();
        }
        if let (Some(slope), Some(intercept)) = (case.slope, case.intercept) {
            file.rescale(slope, intercept);
        }
        if let Some(table) = &case.modality_lut {
            file.table(tags::MODALITY_LUT_SEQUENCE, &table.table());
        }
        if let Some(table) = &case.voi_lut {
            file.table(tags::VOILUT_SEQUENCE, &table.table());
        }
        if let (Some(center), Some(width), Some(function)) =
            (case.center, case.width, &case.function)
        {
            file.window(center, width, function);
        }
        let gray = desk.read(&file.bytes(), &Window::Voi).unwrap();
        for (found, expected) in gray.pixels.iter().zip(&case.brightness) {
            // f64 on both sides, ours rounded to f32 at the end.
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{}: {found}, {expected}",
                case.name
            );
        }
    }
}

#[derive(Deserialize)]
struct Codestream {
    name: String,
    rows: u16,
    columns: u16,
    samples: u16,
    bits: u16,
    frame: String,
    values: Vec<u16>,
}

/// Reference: tests/golden/jpeg2000.py (versions in its header).
#[test]
fn jpeg_2000_is_exact() {
    let desk = Desk::new();
    let cases: Vec<Codestream> =
        serde_json::from_str(include_str!("../../golden/jpeg2000.json")).unwrap();
    for case in cases {
        let file = compressed(uids::JPEG2000_LOSSLESS, &case, hex(&case.frame));
        let found = inspect(&desk.put(&file.bytes())).unwrap();
        let mean =
            case.values.iter().map(|&v| f64::from(v)).sum::<f64>() / case.values.len() as f64;
        assert_eq!(found.px_min, i64::from(*case.values.iter().min().unwrap()), "{}", case.name);
        assert_eq!(found.px_max, i64::from(*case.values.iter().max().unwrap()), "{}", case.name);
        assert!((found.px_mean - mean).abs() < 1e-9, "{}", case.name);
        assert_eq!(found.px_sha256, hash(&case.values, case.bits), "{}", case.name);
        if case.samples == 1 {
            let gray = desk.read(&file.bytes(), &Window::Raw).unwrap();
            let full = f32::from(u16::MAX >> (16 - case.bits));
            let values = gray.pixels.iter().map(|value| (value * full).round() as u16);
            assert_eq!(values.collect::<Vec<_>>(), case.values);
        } else {
            let refused = desk.read(&file.bytes(), &Window::Raw).unwrap_err();
            assert_eq!(refused, Refusal::Photometric("RGB"));
        }
    }
}

/// T.800 A.4.2: the last tile-part may leave its length at 0 and go on to the end of the codestream.
#[test]
fn a_last_tile_part_may_leave_its_length_open() {
    let desk = Desk::new();
    let cases: Vec<Codestream> =
        serde_json::from_str(include_str!("../../golden/jpeg2000.json")).unwrap();
    for case in cases {
        let mut frame = hex(&case.frame);
        let last = frame.windows(4).rposition(|at| at == [0xff, 0x90, 0, 10]).unwrap();
        frame[last + 6..last + 10].fill(0);
        let file = compressed(uids::JPEG2000_LOSSLESS, &case, frame);
        let found = inspect(&desk.put(&file.bytes())).unwrap();
        assert_eq!(found.px_sha256, hash(&case.values, case.bits), "{}", case.name);
    }
}

/// The example of T.87, annex H.3: if it comes out as printed there, contexts, run mode and codes are right.
#[test]
fn jpeg_ls_decodes_the_standards_example() {
    const FRAME: &str = "ffd8fff7000b0800040004010111 00ffda0008010100000000c000006c80208e01c00000574000006ee6000001bc18000005d800009160ffd9";
    const VALUES: [u16; 16] =
        [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
    let case = Codestream {
        name: "annex H.3".to_owned(),
        rows: 4,
        columns: 4,
        samples: 1,
        bits: 8,
        frame: String::new(),
        values: VALUES.to_vec(),
    };
    let desk = Desk::new();
    let file = compressed(uids::JPEGLS_LOSSLESS, &case, hex(&FRAME.replace(' ', "")));
    assert_eq!(inspect(&desk.put(&file.bytes())).unwrap().px_sha256, hash(&VALUES, 8));
}

/// A frame of another size or depth than the header says is refused, whatever its process.
#[test]
fn a_frame_must_agree_with_the_header() {
    let desk = Desk::new();
    let cases: Vec<Codestream> =
        serde_json::from_str(include_str!("../../golden/jpeg2000.json")).unwrap();
    for wrong in [tags::ROWS, tags::COLUMNS] {
        let mut file = compressed(uids::JPEG2000_LOSSLESS, &cases[0], hex(&cases[0].frame));
        file.word(wrong, 12);
        let refused = desk.read(&file.bytes(), &Window::Raw).unwrap_err();
        assert!(matches!(refused, Refusal::Disagreement(_)), "{refused}");
    }
}

fn compressed(syntax: &'static str, case: &Codestream, frame: Vec<u8>) -> Builder {
    let layout = [case.bits, case.bits, case.bits - 1];
    let mut file = Builder::grey(syntax, [case.rows, case.columns], layout, &[]);
    file.word(tags::SAMPLES_PER_PIXEL, case.samples);
    if case.samples == 3 {
        file.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
        file.word(tags::PLANAR_CONFIGURATION, 0);
    }
    file.fragments(vec![frame]);
    file
}

fn hash(values: &[u16], bits: u16) -> String {
    use sha2::{Digest, Sha256};
    let bytes: Vec<u8> = match bits {
        8 => values.iter().map(|&value| value as u8).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
