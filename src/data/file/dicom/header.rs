//! The attributes that say how pixel data is laid out, checked against each other.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{
    super::{MAX_BYTES, Refusal, check_size},
    container::Container,
};

/// How the pixel data is laid out. Every field is within its range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// At least 1.
    pub(super) frames: u32,
    /// 1, 3 or 4.
    pub(super) samples: u32,
    /// Uncompressed colour: one plane a sample rather than one pixel after another?
    pub(super) is_planar: bool,
    /// 1, 8, 16 or 32.
    pub(super) bits_allocated: u32,
    /// 1 to `bits_allocated`.
    pub(super) bits_stored: u32,
    /// `bits_stored` - 1 to `bits_allocated` - 1.
    pub(super) high_bit: u32,
    pub(super) signed: bool,
    /// A term of the standard's, or [`UNKNOWN`]: a code string that is none may be a patient's name.
    pub(super) photometric: &'static str,
    /// The same, where there is one.
    pub(super) modality: Option<&'static str>,
}

impl Header {
    pub(super) fn read(container: &Container<'_>) -> Result<Self, Refusal> {
        let object = &container.object;
        for tag in [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA] {
            if object.get(tag).is_some() {
                return Err(Refusal::Unsupported("floating-point pixel data"));
            }
        }
        if container.pixels.is_none() {
            return Err(Refusal::Attribute("PixelData"));
        }
        let rows = required(object, tags::ROWS, "Rows")?;
        let columns = required(object, tags::COLUMNS, "Columns")?;
        let bits_allocated = required(object, tags::BITS_ALLOCATED, "BitsAllocated")?;
        let bits_stored = required(object, tags::BITS_STORED, "BitsStored")?;
        let high_bit =
            optional(object, tags::HIGH_BIT, "HighBit")?.unwrap_or(bits_stored.saturating_sub(1));
        let representation =
            optional(object, tags::PIXEL_REPRESENTATION, "PixelRepresentation")?.unwrap_or(0);
        let samples = optional(object, tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?.unwrap_or(1);
        let planar =
            optional(object, tags::PLANAR_CONFIGURATION, "PlanarConfiguration")?.unwrap_or(0);
        let frames = optional(object, tags::NUMBER_OF_FRAMES, "NumberOfFrames")?.unwrap_or(1);

        expect(
            "BitsAllocated",
            bits_allocated,
            [1, 8, 16, 32].contains(&bits_allocated),
            "1, 8, 16 or 32",
        )?;
        let stored = 1..=bits_allocated;
        expect("BitsStored", bits_stored, stored.contains(&bits_stored), "1 to BitsAllocated")?;
        let high = bits_stored - 1..=bits_allocated - 1;
        expect(
            "HighBit",
            high_bit,
            high.contains(&high_bit),
            "BitsStored - 1 to BitsAllocated - 1",
        )?;
        expect("PixelRepresentation", representation, (0..=1).contains(&representation), "0 or 1")?;
        expect("SamplesPerPixel", samples, [1, 3, 4].contains(&samples), "1, 3 or 4")?;
        expect("PlanarConfiguration", planar, (0..=1).contains(&planar), "0 or 1")?;
        expect(
            "NumberOfFrames",
            frames,
            frames >= 1 && frames <= i64::from(u32::MAX),
            "at least 1",
        )?;

        // Rows and columns are 16-bit in the file; whatever they were read from, they must fit.
        let side = |value: i64| u32::try_from(value).unwrap_or(0);
        let (rows, columns) = (side(rows), side(columns));
        check_size(columns, rows)?;
        let header = Self {
            rows,
            columns,
            frames: frames as u32,
            samples: samples as u32,
            is_planar: planar == 1,
            bits_allocated: bits_allocated as u32,
            bits_stored: bits_stored as u32,
            high_bit: high_bit as u32,
            signed: representation == 1,
            photometric: match code(object, tags::PHOTOMETRIC_INTERPRETATION) {
                None => return Err(Refusal::Attribute("PhotometricInterpretation")),
                Some(code) => term(&code, &PHOTOMETRICS).unwrap_or(UNKNOWN),
            },
            modality: code(object, tags::MODALITY)
                .map(|code| term(&code, &MODALITIES).unwrap_or(UNKNOWN)),
        };
        let total =
            u128::from(header.frame_samples()) * u128::from(header.frames) * header.width() as u128;
        if total > u128::from(MAX_BYTES) {
            return Err(Refusal::TooManyBytes(u64::try_from(total).unwrap_or(u64::MAX)));
        }
        Ok(header)
    }

    /// Rows · columns.
    pub(super) fn pixels(&self) -> usize {
        self.rows as usize * self.columns as usize
    }

    /// Rows · columns · samples.
    pub(super) fn frame_samples(&self) -> u64 {
        self.pixels() as u64 * u64::from(self.samples)
    }

    /// Bytes a sample takes once unpacked: 1, 2 or 4.
    pub(super) fn width(&self) -> usize {
        self.bits_allocated.div_ceil(8) as usize
    }
}

/// In the place of a code that is no term of the standard's.
const UNKNOWN: &str = "unknown";

/// Terms of PhotometricInterpretation, PS3.3 C.7.6.3.1.2, retired ones included.
const PHOTOMETRICS: [&str; 14] = [
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "HSV",
    "ARGB",
    "CMYK",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
];

/// Terms of Modality, PS3.3 C.7.3.1.1.1, retired ones included.
#[rustfmt::skip]
const MODALITIES: [&str; 96] = [
    "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CFM", "CP", "CR", "CS", "CT", "CTPROTOCOL", "DD",
    "DF", "DG", "DM", "DMS", "DOC", "DS", "DX", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID", "FS",
    "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA", "MG", "MR", "MS",
    "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN", "POS",
    "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD",
    "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "ST", "STAIN", "TEXTUREMAP", "TG", "US", "VA",
    "VF", "XA", "XAPROTOCOL", "XC",
];

/// The one of `terms` that `code` is.
fn term(code: &str, terms: &[&'static str]) -> Option<&'static str> {
    terms.iter().find(|term| **term == code).copied()
}

/// A code string: upper-case letters, digits, underscores and spaces, at most 16. What is no code is left out.
pub(super) fn code(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.split('\\').next()?.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let is_code = (1..=16).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b' ');
    is_code.then(|| text.to_owned())
}

/// The first integer of an attribute; absent or empty is `None`.
pub(super) fn optional(
    object: &InMemDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<Option<i64>, Refusal> {
    match object.get(tag) {
        None => Ok(None),
        Some(element) if element.value().multiplicity() == 0 => Ok(None),
        Some(element) => element.to_int().map(Some).map_err(|_| Refusal::Attribute(name)),
    }
}

fn required(object: &InMemDicomObject, tag: Tag, name: &'static str) -> Result<i64, Refusal> {
    optional(object, tag, name)?.ok_or(Refusal::Attribute(name))
}

fn expect(
    name: &'static str,
    found: i64,
    holds: bool,
    expected: &'static str,
) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Value { name, found, expected }) }
}
