//! Writes small DICOM files.

use std::path::{Path, PathBuf};

use dicom_core::{
    DataElement, Length, PrimitiveValue, Tag, VR,
    value::{DataSetSequence, PixelFragmentSequence, Value},
};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use tempfile::TempDir;
use umbra::data::{
    file::{FileError, Refusal, Window, read},
    image::Gray,
};

pub(crate) const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
pub(crate) const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
#[allow(deprecated)]
pub(crate) const BIG_ENDIAN: &str = uids::EXPLICIT_VR_BIG_ENDIAN;
pub(crate) const DEFLATED: &str = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
pub(crate) const RLE: &str = uids::RLE_LOSSLESS;

/// A look-up table as a LUT sequence holds it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) first: i32,
    pub(crate) bits: u16,
    pub(crate) entries: Vec<u16>,
}

/// A file in the making.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    object: InMemDicomObject,
    syntax: &'static str,
}

impl Builder {
    /// A grey image; the words are what is in the pixel data, not yet shifted or masked. 8 bits are allocated if
    /// `layout` says so.
    pub(crate) fn grey(
        syntax: &'static str,
        [rows, columns]: [u16; 2],
        layout: [u16; 3],
        words: &[u16],
    ) -> Self {
        let [allocated, stored, high] = layout;
        let mut file = Self { object: InMemDicomObject::new_empty(), syntax };
        file.text(tags::SOP_CLASS_UID, VR::UI, uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE);
        file.text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1");
        file.text(tags::MODALITY, VR::CS, "CR");
        file.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        file.word(tags::SAMPLES_PER_PIXEL, 1);
        file.word(tags::ROWS, rows);
        file.word(tags::COLUMNS, columns);
        file.word(tags::BITS_ALLOCATED, allocated);
        file.word(tags::BITS_STORED, stored);
        file.word(tags::HIGH_BIT, high);
        file.word(tags::PIXEL_REPRESENTATION, 0);
        if syntax == RLE {
            file.fragments(vec![run_lengths(words, allocated)]);
        } else if allocated == 8 {
            let bytes: Vec<u8> = words.iter().map(|&word| word as u8).collect();
            file.put(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bytes.into()));
        } else {
            file.put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into()));
        }
        file
    }

    pub(crate) fn put(&mut self, tag: Tag, vr: VR, value: PrimitiveValue) {
        self.object.put(DataElement::new(tag, vr, value));
    }

    pub(crate) fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        self.put(tag, vr, PrimitiveValue::from(text));
    }

    pub(crate) fn word(&mut self, tag: Tag, value: u16) {
        self.put(tag, VR::US, PrimitiveValue::from(value));
    }

    /// A number whose representation follows the samples' sign, as padding values have.
    pub(crate) fn sample(&mut self, tag: Tag, value: i32, signed: bool) {
        match signed {
            true => self.put(tag, VR::SS, PrimitiveValue::from(value as i16)),
            false => self.put(tag, VR::US, PrimitiveValue::from(value as u16)),
        }
    }

    pub(crate) fn signed(&mut self) {
        self.word(tags::PIXEL_REPRESENTATION, 1);
    }

    pub(crate) fn rescale(&mut self, slope: f64, intercept: f64) {
        self.text(tags::RESCALE_SLOPE, VR::DS, &slope.to_string());
        self.text(tags::RESCALE_INTERCEPT, VR::DS, &intercept.to_string());
    }

    pub(crate) fn window(&mut self, center: f64, width: f64, function: &str) {
        self.text(tags::WINDOW_CENTER, VR::DS, &format!("{center}\\1"));
        self.text(tags::WINDOW_WIDTH, VR::DS, &format!("{width}\\7"));
        if !function.is_empty() {
            self.text(tags::VOILUT_FUNCTION, VR::CS, function);
        }
    }

    pub(crate) fn table(&mut self, sequence: Tag, table: &Table) {
        let numbers = [table.entries.len() as i32, table.first, i32::from(table.bits)];
        let descriptor = if table.first < 0 {
            let numbers = numbers.map(|number| number as i16);
            DataElement::new(tags::LUT_DESCRIPTOR, VR::SS, PrimitiveValue::I16(numbers[..].into()))
        } else {
            let numbers = numbers.map(|number| number as u16);
            DataElement::new(tags::LUT_DESCRIPTOR, VR::US, PrimitiveValue::U16(numbers[..].into()))
        };
        let data = PrimitiveValue::U16(table.entries.clone().into());
        let item = InMemDicomObject::from_element_iter([
            descriptor,
            DataElement::new(tags::LUT_DATA, VR::OW, data),
        ]);
        let items = DataSetSequence::new(vec![item], Length::UNDEFINED);
        self.object.put(DataElement::new(sequence, VR::SQ, Value::Sequence(items)));
    }

    /// A sequence of items without attributes.
    pub(crate) fn empty_items(&mut self, sequence: Tag, count: usize) {
        let items = vec![InMemDicomObject::new_empty(); count];
        let items = DataSetSequence::new(items, Length::UNDEFINED);
        self.object.put(DataElement::new(sequence, VR::SQ, Value::Sequence(items)));
    }

    pub(crate) fn remove(&mut self, tag: Tag) {
        self.object.remove_element(tag);
    }

    pub(crate) fn fragments(&mut self, fragments: Vec<Vec<u8>>) {
        let sequence = PixelFragmentSequence::new_fragments(fragments);
        let element = DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(sequence));
        self.object.put(element);
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let meta = FileMetaTableBuilder::new().transfer_syntax(self.syntax);
        let mut bytes = Vec::new();
        self.object.clone().with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
        bytes
    }
}

/// A folder for one file at a time.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, bytes: &[u8], window: &Window) -> Result<Gray, Refusal> {
        refusal(&self.put(bytes), window)
    }
}

/// Reads a file that is there.
pub(crate) fn refusal(path: &Path, window: &Window) -> Result<Gray, Refusal> {
    read(path, window).map_err(|error| match error {
        FileError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    })
}

/// One frame of RLE Lossless: runs of up to 128 where there are any, single bytes otherwise.
fn run_lengths(words: &[u16], allocated: u16) -> Vec<u8> {
    let shifts: &[u32] = if allocated == 8 { &[0] } else { &[8, 0] };
    let mut header = vec![shifts.len() as u32];
    let mut segments = Vec::new();
    for shift in shifts {
        header.push(64 + segments.len() as u32);
        let plane: Vec<u8> = words.iter().map(|word| (word >> shift) as u8).collect();
        for run in plane.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(128)) {
            let count = if run.len() == 1 { 0 } else { 1_i32 - run.len() as i32 };
            segments.extend([count as u8, run[0]]);
        }
        if segments.len() % 2 == 1 {
            segments.push(128);
        }
    }
    header.resize(16, 0);
    header.iter().flat_map(|word| word.to_le_bytes()).chain(segments).collect()
}
