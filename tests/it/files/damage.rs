//! Damaged files: an error or an image, never a panic, and no word of the file in the error.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use umbra::data::file::{Kind, Refusal, Window, inspect};

use super::builder::{
    BIG_ENDIAN, Builder, DEFLATED, Desk, EXPLICIT, IMPLICIT, RLE, Table, refusal,
};

const SYNTAXES: [&str; 5] = [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, RLE];

fn file(syntax: &'static str) -> Builder {
    let words: Vec<u16> = (0..48).map(|i| i * 83 % 4096).collect();
    let mut file = Builder::grey(syntax, [6, 8], [16, 12, 11], &words);
    file.text(tags::PATIENT_NAME, VR::PN, "CANARY^PATIENT");
    file.text(tags::PATIENT_ID, VR::LO, "CANARY-4711");
    file.rescale(2.0, -300.0);
    file.window(500.0, 3000.0, "SIGMOID");
    let entries = (0..60).collect();
    file.table(tags::VOILUT_SEQUENCE, &Table { first: 30, bits: 10, entries });
    file
}

#[test]
fn a_cut_file_is_refused() {
    let desk = Desk::new();
    for syntax in SYNTAXES {
        let bytes = file(syntax).bytes();
        desk.read(&bytes, &Window::Auto).unwrap();
        for length in 0..bytes.len() {
            let found = desk.read(&bytes[..length], &Window::Auto);
            // What is cut off may be only the delimiter of the last sequence, or a deflated stream's end.
            let is_tail = length + 16 > bytes.len();
            assert!(found.is_err() || is_tail, "{syntax}: {length} of {}", bytes.len());
            if let Err(reason) = found {
                assert_ne!(reason, Refusal::Panicked, "{syntax}: {length}");
            }
        }
    }
}

#[test]
fn a_changed_byte_is_survived() {
    let desk = Desk::new();
    for syntax in SYNTAXES {
        let bytes = file(syntax).bytes();
        for at in 128..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
            let path = desk.put(&damaged);
            if let Ok(gray) = refusal(&path, &Window::Auto) {
                assert!(gray.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
            }
            if let Err(error) = inspect(&path) {
                let message = error.to_string().replace(&*path.to_string_lossy(), "");
                assert!(!message.contains("CANARY") && !message.contains("4711"), "{message}");
            }
        }
    }
}

/// What the header may not say, each with a sentence of its own.
#[test]
fn contradictions_are_refused_by_name() {
    let desk = Desk::new();
    let refused = |change: &dyn Fn(&mut Builder)| {
        let mut file = file(EXPLICIT);
        change(&mut file);
        desk.read(&file.bytes(), &Window::Auto).unwrap_err().to_string()
    };
    let bits = "BitsStored is 40; expected 1 to BitsAllocated";
    assert_eq!(refused(&|file| file.word(tags::BITS_STORED, 40)), bits);
    let bits = "BitsStored is 0; expected 1 to BitsAllocated";
    assert_eq!(refused(&|file| file.word(tags::BITS_STORED, 0)), bits);
    let high = "HighBit is 3; expected BitsStored - 1 to BitsAllocated - 1";
    assert_eq!(refused(&|file| file.word(tags::HIGH_BIT, 3)), high);
    let rows = "the pixel data has 96 bytes, 960 are needed";
    assert_eq!(refused(&|file| file.word(tags::ROWS, 60)), rows);
    assert!(
        refused(&|file| file.word(tags::ROWS, 60_000)).contains("outside of 1 to 16384 a side")
    );
    assert!(refused(&|file| file.word(tags::COLUMNS, 0)).contains("outside of 1 to 16384 a side"));
    let frames = |file: &mut Builder| file.text(tags::NUMBER_OF_FRAMES, VR::IS, "2000000000");
    assert!(refused(&frames).contains("at most 268435456 are decoded"));
    let cine = |file: &mut Builder| file.text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
    assert_eq!(refused(&cine), "2 frames; a radiograph to train on has one");
    let colour =
        |file: &mut Builder| file.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR");
    assert!(refused(&colour).starts_with("photometric interpretation PALETTE COLOR"));
    let burned = |file: &mut Builder| file.text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    assert_eq!(refused(&burned), Refusal::BurnedIn.to_string());
    let slope = |file: &mut Builder| file.rescale(0.0, 1.0);
    assert!(refused(&slope).contains("RescaleSlope"));
    let photometric =
        |file: &mut Builder| file.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "CANARY, Jane");
    assert!(!refused(&photometric).contains("CANARY"));
}

/// A name in capitals has the form of a code.
#[test]
fn a_description_repeats_terms_of_the_standard_only() {
    let desk = Desk::new();
    for (tag, name) in
        [(tags::MODALITY, "DOE JANE"), (tags::PHOTOMETRIC_INTERPRETATION, "DOE JANE")]
    {
        let mut file = file(EXPLICIT);
        file.text(tag, VR::CS, name);
        let path = desk.put(&file.bytes());
        let found = serde_json::to_string(&inspect(&path).unwrap()).unwrap();
        assert!(!found.contains("DOE") && found.contains("\"unknown\""), "{found}");
        let refused = refusal(&path, &Window::Auto).err().map(|reason| reason.to_string());
        assert!(!refused.unwrap_or_default().contains("DOE"));
    }
}

#[test]
fn pixels_that_are_not_square_are_made_square() {
    let mut file = file(EXPLICIT);
    file.text(tags::IMAGER_PIXEL_SPACING, VR::DS, "0.4\\0.2");
    let gray = Desk::new().read(&file.bytes(), &Window::Auto).unwrap();
    assert_eq!((gray.width, gray.height), (8, 12));
}

/// What is no radiograph is told so, by the standard's name, whatever else is wrong with it.
#[test]
fn only_computed_and_digital_radiographs_are_read() {
    let desk = Desk::new();
    let of = |class: &str| {
        let mut file = file(EXPLICIT);
        file.text(tags::SOP_CLASS_UID, VR::UI, class);
        desk.read(&file.bytes(), &Window::Auto)
    };
    for class in [
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    ] {
        assert!(of(class).is_ok(), "{class}");
    }
    for class in [
        uids::CT_IMAGE_STORAGE,
        uids::MR_IMAGE_STORAGE,
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
        uids::BASIC_TEXT_SR_STORAGE,
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        uids::SEGMENTATION_STORAGE,
        uids::RT_DOSE_STORAGE,
        uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
        "1.2.3.4",
    ] {
        let refused = of(class).unwrap_err();
        assert_eq!(refused.kind(), Kind::Other, "{class}: {refused}");
    }
    // The data set knows best: what the meta group announces is asked where nothing else is there.
    let mut announced = file(EXPLICIT).bytes();
    let class = uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE.as_bytes();
    let at = announced.windows(class.len()).position(|bytes| bytes == class).unwrap();
    announced[at + class.len() - 1] = b'2';
    assert!(desk.read(&announced, &Window::Auto).is_ok(), "a meta group that says CT");
    let cut = &announced[..announced.len() - 20];
    assert!(desk.read(cut, &Window::Auto).unwrap_err().to_string().contains("CT Image Storage"));
    // A report has no pixels, and that is not what is wrong with it.
    let mut report = file(EXPLICIT);
    report.text(tags::SOP_CLASS_UID, VR::UI, uids::BASIC_TEXT_SR_STORAGE);
    report.remove(tags::PIXEL_DATA);
    report.remove(tags::ROWS);
    let refused = desk.read(&report.bytes(), &Window::Auto).unwrap_err();
    assert!(refused.to_string().contains("Basic Text SR"), "{refused}");
}

/// Some writers leave an empty item where a table would be.
#[test]
fn an_empty_table_is_no_table() {
    let desk = Desk::new();
    for sequence in [tags::MODALITY_LUT_SEQUENCE, tags::VOILUT_SEQUENCE] {
        let mut without = file(EXPLICIT);
        without.remove(sequence);
        let without = desk.read(&without.bytes(), &Window::Auto).unwrap();
        for items in 0..2 {
            let mut file = file(EXPLICIT);
            file.empty_items(sequence, items);
            assert_eq!(desk.read(&file.bytes(), &Window::Auto).as_ref(), Ok(&without));
        }
    }
}
