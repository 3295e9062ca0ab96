//! From the bytes of a file to its data set.

use std::{borrow::Cow, io::Read};

use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, OpenFileOptions, file::ReadPreamble};
use flate2::read::DeflateDecoder;

use super::{
    super::{MAX_BYTES, Refusal},
    codec::Codec,
    sop_class,
    walk::{self, Encoding, Found, Pixels},
};

/// A file, its wanted attributes parsed.
pub(super) struct Container<'a> {
    pub(super) syntax: Syntax,
    /// The attributes that this reader asks for, and no others.
    pub(super) object: InMemDicomObject,
    /// Where in `data_set` the pixel data lies.
    pub(super) pixels: Option<Pixels>,
    /// The data set as it stands in the file, or inflated.
    pub(super) data_set: Cow<'a, [u8]>,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be described, whatever it is.
    Description,
    /// To be trained on: radiographs only.
    Training,
}

/// A transfer syntax that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) uid: &'static str,
    pub(super) encoding: Encoding,
    pub(super) is_deflated: bool,
    pub(super) codec: Codec,
}

/// Is this a DICOM file? With or without the preamble; some writers leave it and the magic word away.
pub(in super::super) fn is_dicom(bytes: &[u8]) -> bool {
    let starts_with_meta = bytes.starts_with(&[2, 0])
        && matches!(bytes.get(3..6), Some([0, b'U', b'I' | b'L'] | [0, b'O', b'B']));
    meta_start(bytes) > 0 || starts_with_meta
}

impl<'a> Container<'a> {
    pub(super) fn open(bytes: &'a [u8], purpose: Purpose) -> Result<Self, Refusal> {
        let Meta { syntax, sop_class: announced, rest } = Meta::read(bytes)?;
        let opened = Self::parsed(syntax, rest);
        if purpose == Purpose::Training {
            let class = |object: &InMemDicomObject| {
                object.get(tags::SOP_CLASS_UID)?.to_str().ok().map(Cow::into_owned)
            };
            // The data set knows best what it is. What is no radiograph is told so before anything else is found
            // wrong with it.
            let own = opened.as_ref().ok().and_then(|container| class(&container.object));
            let class = own.or(announced);
            if opened.is_ok() || class.is_some() {
                sop_class::check(class.as_deref())?;
            }
        }
        opened
    }

    fn parsed(syntax: Option<String>, rest: &'a [u8]) -> Result<Self, Refusal> {
        let syntax = Syntax::of(&syntax.ok_or(Refusal::Attribute("TransferSyntaxUID"))?)?;
        let data_set = if syntax.is_deflated { inflate(rest)? } else { rest.into() };
        let Found { elements, pixels } = walk::read(&data_set, syntax.encoding)?;
        let object = parse(&elements, syntax.encoding)?;
        Ok(Self { syntax, object, pixels, data_set })
    }
}

/// The file meta group, and what follows it.
struct Meta<'a> {
    syntax: Option<String>,
    sop_class: Option<String>,
    rest: &'a [u8],
}

impl<'a> Meta<'a> {
    /// Read here rather than by the parser: the group's length may be wrong or absent, as may the preamble.
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        const DAMAGED: Refusal = Refusal::Damaged("the file meta group is cut off");
        let mut meta = Self { syntax: None, sop_class: None, rest: &bytes[meta_start(bytes)..] };
        while let Some(&[2, 0, low, high, vr_0, vr_1, length_low, length_high]) =
            meta.rest.first_chunk()
        {
            let is_long = matches!(&[vr_0, vr_1], b"OB" | b"OW" | b"UN" | b"UT" | b"SQ");
            let (header, length) = if is_long {
                let length = meta.rest.get(8..12).and_then(|bytes| bytes.first_chunk());
                (12, u32::from_le_bytes(*length.ok_or(DAMAGED)?) as usize)
            } else {
                (8, usize::from(u16::from_le_bytes([length_low, length_high])))
            };
            let value = meta.rest.get(header..).and_then(|rest| rest.get(..length));
            let value = value.ok_or(DAMAGED)?;
            let uid = || {
                let trimmed = value.strip_suffix(b"\0").unwrap_or(value).trim_ascii_end();
                Some(String::from_utf8_lossy(trimmed).into_owned())
            };
            match [low, high] {
                [0x02, 0] => meta.sop_class = uid(),
                [0x10, 0] => meta.syntax = uid(),
                _ => {}
            }
            meta.rest = &meta.rest[header + length..];
        }
        Ok(meta)
    }
}

fn meta_start(bytes: &[u8]) -> usize {
    match bytes {
        _ if bytes.get(128..132) == Some(b"DICM") => 132,
        _ if bytes.starts_with(b"DICM") => 4,
        _ => 0,
    }
}

/// Bytes of an inflated data set: as many as all samples may have, and some for what describes them.
const MAX_INFLATED: u64 = MAX_BYTES + (16 << 20);

/// Inflates no more than a data set that can be read may have.
fn inflate(deflated: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    let mut data_set = Vec::new();
    DeflateDecoder::new(deflated)
        .take(MAX_INFLATED + 1)
        .read_to_end(&mut data_set)
        .map_err(|_| Refusal::Damaged("the deflated data set cannot be inflated"))?;
    match data_set.len() as u64 {
        size if size > MAX_INFLATED => Err(Refusal::TooManyBytes(size)),
        _ => Ok(data_set.into()),
    }
}

/// Parses elements whose lengths were checked. The parser wants a meta group, so it gets a plain one: what the
/// pixel data is compressed with is none of its business.
fn parse(elements: &[u8], encoding: Encoding) -> Result<InMemDicomObject, Refusal> {
    let uid = match encoding {
        Encoding { is_implicit: true, .. } => IMPLICIT_LE,
        Encoding { is_big_endian: true, .. } => EXPLICIT_BE,
        _ => EXPLICIT_LE,
    };
    let mut head = b"DICM".to_vec();
    FileMetaTableBuilder::new()
        .transfer_syntax(uid)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.1")
        .media_storage_sop_instance_uid("2.25.0")
        .build()
        .and_then(|meta| meta.write(&mut head))
        .expect("a meta group with a transfer syntax can be written");
    OpenFileOptions::new()
        .read_preamble(ReadPreamble::Never)
        .from_reader(head.chain(elements))
        .map(dicom_object::FileDicomObject::into_inner)
        .map_err(|_| Refusal::Damaged("the DICOM data set cannot be parsed"))
}

const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";

/// What can be decoded.
const SUPPORTED: [(&str, Codec); 17] = [
    (IMPLICIT_LE, Codec::Native),
    (EXPLICIT_LE, Codec::Native),
    (EXPLICIT_BE, Codec::Native),
    (DEFLATED, Codec::Native),
    ("1.2.840.10008.1.2.1.98", Codec::Uncompressed),
    ("1.2.840.10008.1.2.4.50", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.51", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.53", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.55", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.57", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.70", Codec::Jpeg),
    ("1.2.840.10008.1.2.4.80", Codec::JpegLs),
    ("1.2.840.10008.1.2.4.81", Codec::JpegLs),
    ("1.2.840.10008.1.2.4.90", Codec::Jpeg2000),
    ("1.2.840.10008.1.2.4.91", Codec::Jpeg2000),
    ("1.2.840.10008.1.2.5", Codec::Rle),
    ("1.2.840.10008.1.2.8.1", Codec::Deflate),
];
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// What has a name but no decoder; a prefix of the UID and the name.
const REFUSED: [(&str, &str); 10] = [
    ("1.2.840.10008.1.2.4.9", "JPEG 2000 Part 2 or JPIP"),
    ("1.2.840.10008.1.2.4.10", "MPEG video"),
    ("1.2.840.10008.1.2.4.11", "JPEG XL"),
    ("1.2.840.10008.1.2.4.20", "High-Throughput JPEG 2000"),
    ("1.2.840.10008.1.2.4.5", "a JPEG process that the standard retired"),
    ("1.2.840.10008.1.2.4.6", "a JPEG process that the standard retired"),
    ("1.2.840.10008.1.2.4", "a compression"),
    ("1.2.840.10008.1.2.6", "RFC 2557 MIME or XML"),
    ("1.2.840.10008.1.2.7", "SMPTE ST 2110 video"),
    ("1.2.840.10008.1.20", "Papyrus"),
];

impl Syntax {
    fn of(uid: &str) -> Result<Self, Refusal> {
        let Some(&(uid, codec)) = SUPPORTED.iter().find(|(supported, _)| *supported == uid) else {
            let name = REFUSED.iter().find(|(prefix, _)| uid.starts_with(prefix));
            // A root of the standard's, and parts: a bare number may be a patient's.
            let is_uid = uid.len() <= 64
                && uid.starts_with(['0', '1', '2'])
                && uid.split('.').count() >= 3
                && uid.bytes().all(|b| b == b'.' || b.is_ascii_digit());
            return Err(Refusal::TransferSyntax {
                uid: if is_uid { uid.to_owned() } else { "unreadable".to_owned() },
                name: name.map_or("unknown", |&(_, name)| name),
            });
        };
        let encoding =
            Encoding { is_implicit: uid == IMPLICIT_LE, is_big_endian: uid == EXPLICIT_BE };
        Ok(Self { uid, encoding, is_deflated: uid == DEFLATED, codec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let message = |uid: &str| Syntax::of(uid).unwrap_err().to_string();
        let htj2k =
            "transfer syntax 1.2.840.10008.1.2.4.201 (High-Throughput JPEG 2000) is not supported";
        assert_eq!(message("1.2.840.10008.1.2.4.201"), htj2k);
        assert!(message("1.2.840.10008.1.2.4.100").contains("MPEG"));
        assert!(message("1.2.840.10008.1.2.4.110").contains("JPEG XL"));
        for text in ["DOE^JANE", "4711", "1.4711", "9.1.4711"] {
            assert!(message(text).contains("unreadable"), "{text}");
        }
    }

    #[test]
    fn a_bare_meta_group_is_dicom() {
        assert!(is_dicom(b"\x02\x00\x10\x00UI\x04\x001.2\x00"));
        assert!(is_dicom(b"DICM"));
        assert!(!is_dicom(b"\x02\x00 plain text"));
    }
}
