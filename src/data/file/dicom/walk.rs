//! What a data set holds, before a parser sees it.
//!
//! A parser makes a kilobyte of each of a file's elements, allocates what an element declares, recurses into nested
//! sequences, and logs what it does not like. So it is handed the few elements that this reader asks for, copied out
//! with every length checked and everything counted; all others are passed over here, and pixel data is found but
//! never copied.

use std::ops::Range;

use dicom_core::{Tag, dictionary::DataDictionary as _};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::super::Refusal;

/// How deep sequences may be nested. Real ones reach about six.
const MAX_DEPTH: usize = 32;
/// Elements and items of a data set, nested ones included: at most this many are gone through.
pub(in super::super) const MAX_ELEMENTS: usize = 100_000;
/// Bytes of one attribute that the parser is handed: at most this many. It makes a string of every two bytes.
const MAX_ATTRIBUTE: usize = 1 << 10;
/// The same of a table.
const MAX_TABLE: usize = 1 << 20;
/// Bytes of all that the parser is handed: at most this many.
const MAX_ELEMENTS_BYTES: usize = 4 << 20;

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);

/// Attributes with plain values that this reader asks for.
const WANTED: [Tag; 31] = [
    tags::SOP_CLASS_UID,
    tags::MODALITY,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::VIEW_POSITION,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_PADDING_VALUE,
    tags::PIXEL_PADDING_RANGE_LIMIT,
    tags::BURNED_IN_ANNOTATION,
    tags::IMAGER_PIXEL_SPACING,
    tags::PIXEL_SPACING,
    tags::PIXEL_ASPECT_RATIO,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::VOILUT_FUNCTION,
    tags::RESCALE_SLOPE,
    tags::RESCALE_INTERCEPT,
    tags::LUT_DESCRIPTOR,
    tags::LUT_DATA,
    tags::EXTENDED_OFFSET_TABLE,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
];

/// Sequences that this reader looks into; of their items it wants these and the attributes above.
const WANTED_SEQUENCES: [Tag; 7] = [
    tags::MODALITY_LUT_SEQUENCE,
    tags::VOILUT_SEQUENCE,
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::FRAME_VOILUT_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
];

/// How a data set is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) is_implicit: bool,
    pub(super) is_big_endian: bool,
}

/// The part of a data set that is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Found {
    /// The wanted elements, written as the data set is.
    pub(super) elements: Vec<u8>,
    pub(super) pixels: Option<Pixels>,
}

/// Where pixel data lies in a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pixels {
    /// One value. `is_words`: of 16 bits each, by its value representation.
    Native { is_words: bool, value: Range<usize> },
    /// Fragments, behind a table of where frames begin.
    Encapsulated { offsets: Range<usize>, fragments: Vec<Range<usize>> },
}

/// Goes through a data set up to its pixel data. Every declared length must lie within what contains it.
pub(super) fn read(data_set: &[u8], encoding: Encoding) -> Result<Found, Refusal> {
    let is_big_endian = encoding.is_big_endian;
    let mut walk =
        Walk { bytes: data_set, at: 0, is_big_endian, count: 0, found: Found::default() };
    walk.elements(
        data_set.len(),
        encoding.is_implicit,
        Level { depth: 0, is_wanted: true, has_end: false },
    )?;
    Ok(walk.found)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
    /// Elements and items so far.
    count: usize,
    found: Found,
}

/// What the elements that are gone through belong to.
#[derive(Clone, Copy)]
struct Level {
    /// Sequences around them.
    depth: usize,
    /// Does the parser get to see the wanted ones?
    is_wanted: bool,
    /// Does a delimiter end them?
    has_end: bool,
}

impl Walk<'_> {
    /// Elements up to `end`, or to the delimiter of the item that holds them; at the top, to the pixel data.
    fn elements(&mut self, end: usize, is_implicit: bool, level: Level) -> Result<(), Refusal> {
        let mut seen = Vec::new();
        while self.at + 8 <= end {
            self.count()?;
            let start = self.at;
            let tag = self.tag();
            if tag.0 == ITEM.0 {
                self.at += 8;
                match level.depth {
                    // Nobody's item: the parser never sees it.
                    0 => continue,
                    _ if level.has_end && tag == ITEM_END => return Ok(()),
                    _ => return Err(Refusal::Damaged("an item is delimited where none ends")),
                }
            }
            let (vr, length) = self.header(end, is_implicit)?;
            if tag == tags::PIXEL_DATA && level.depth == 0 {
                return self.pixels(vr, length, end);
            }
            let is_first = level.is_wanted && !seen.contains(&tag);
            if is_first && WANTED_SEQUENCES.contains(&tag) {
                seen.push(tag);
                if vr == *b"UN" {
                    return Err(Refusal::Unsupported(
                        "a sequence without its value representation",
                    ));
                }
                self.open_sequence(tag, is_implicit);
                self.sequence(
                    length,
                    end,
                    is_implicit,
                    Level { depth: level.depth + 1, ..level },
                    tag,
                )?;
                self.delimit(SEQUENCE_END);
                continue;
            }
            let is_sequence = length == UNDEFINED;
            if is_first && WANTED.contains(&tag) {
                seen.push(tag);
                if is_sequence || !(is_implicit || is_plain(vr)) {
                    return Err(Refusal::Damaged(
                        "an attribute has no value representation of its own",
                    ));
                }
                if !length.is_multiple_of(unit(tag, vr, is_implicit)) {
                    return Err(Refusal::Damaged(
                        "an attribute's length is no multiple of its numbers'",
                    ));
                }
                let stop = self.stop(length, end)?;
                self.keep(tag, start, stop, is_implicit)?;
                self.at = stop;
            } else if is_sequence {
                // PS3.5 6.2.2: what is in an unknown value of undefined length is implicit VR, little endian.
                let is_unknown = vr == *b"UN";
                let is_big_endian = self.is_big_endian;
                self.is_big_endian &= !is_unknown;
                let within = Level { depth: level.depth + 1, is_wanted: false, has_end: false };
                self.sequence(length, end, is_implicit || is_unknown, within, tag)?;
                self.is_big_endian = is_big_endian;
            } else {
                self.at = self.stop(length, end)?;
            }
        }
        match level {
            Level { depth: 0, .. } => Ok(()),
            Level { has_end: false, .. } if self.at == end => Ok(()),
            _ => Err(Refusal::Damaged("the data set ends within a sequence")),
        }
    }

    /// The items of a sequence. The parser gets to see the first.
    fn sequence(
        &mut self,
        length: u32,
        end: usize,
        is_implicit: bool,
        level: Level,
        tag: Tag,
    ) -> Result<(), Refusal> {
        if level.depth > MAX_DEPTH {
            return Err(Refusal::Damaged("sequences are nested too deeply"));
        }
        let is_delimited = length == UNDEFINED;
        let end = if is_delimited { end } else { self.stop(length, end)? };
        let mut is_wanted = level.is_wanted;
        while self.at + 8 <= end {
            self.count()?;
            let (found, length) = (self.tag(), self.u32(self.at + 4));
            self.at += 8;
            match found {
                SEQUENCE_END if is_delimited => return Ok(()),
                ITEM => {
                    let has_end = length == UNDEFINED;
                    let stop = if has_end { end } else { self.stop(length, end)? };
                    if is_wanted {
                        self.delimit_with(ITEM, UNDEFINED);
                    }
                    // Icons have pixel data in items; a fragment of it is no list of elements.
                    if tag == tags::PIXEL_DATA {
                        if has_end {
                            return Err(Refusal::Damaged("a fragment of pixel data has no length"));
                        }
                        self.at = stop;
                    } else {
                        self.elements(stop, is_implicit, Level { is_wanted, has_end, ..level })?;
                    }
                    if is_wanted {
                        self.delimit(ITEM_END);
                    }
                    is_wanted = false;
                }
                _ => return Err(Refusal::Damaged("a sequence holds something that is no item")),
            }
        }
        match is_delimited || self.at != end {
            true => Err(Refusal::Damaged("the data set ends within a sequence")),
            false => Ok(()),
        }
    }

    /// Finds the pixel data, and with it the end of what is read.
    fn pixels(&mut self, vr: [u8; 2], length: u32, end: usize) -> Result<(), Refusal> {
        if vr == *b"SQ" {
            return Err(Refusal::Attribute("PixelData"));
        }
        if length != UNDEFINED {
            let there = end - self.at;
            if length as usize > there {
                return Err(Refusal::Truncated { found: there as u64, needed: u64::from(length) });
            }
            let is_words = !matches!(&vr, b"OB" | b"UN");
            let value = self.at..self.at + length as usize;
            self.found.pixels = Some(Pixels::Native { is_words, value });
            return Ok(());
        }
        // Some files end with the last fragment, without the sequence's delimiter.
        let mut items = Vec::new();
        while self.at + 8 <= end {
            self.count()?;
            let (tag, length) = (self.tag(), self.u32(self.at + 4));
            self.at += 8;
            match tag {
                SEQUENCE_END => break,
                ITEM => {
                    let there = (end - self.at) as u64;
                    if u64::from(length) > there {
                        return Err(Refusal::Truncated { found: there, needed: u64::from(length) });
                    }
                    items.push(self.at..self.at + length as usize);
                    self.at += length as usize;
                }
                _ => {
                    return Err(Refusal::Damaged("pixel data holds something that is no fragment"));
                }
            }
        }
        let mut items = items.into_iter();
        let offsets = items.next().ok_or(Refusal::Damaged("there is no fragment of pixel data"))?;
        self.found.pixels = Some(Pixels::Encapsulated { offsets, fragments: items.collect() });
        Ok(())
    }

    /// Copies the element from `start` to `stop` for the parser; of pixel data as numbers only that it is there.
    fn keep(
        &mut self,
        tag: Tag,
        start: usize,
        stop: usize,
        is_implicit: bool,
    ) -> Result<(), Refusal> {
        if [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA].contains(&tag) {
            let head = if is_implicit { 4 } else { 8 };
            self.found.elements.extend_from_slice(&self.bytes[start..start + head]);
            self.found.elements.extend([0; 4]);
            return Ok(());
        }
        let is_table = [tags::LUT_DATA, tags::EXTENDED_OFFSET_TABLE].contains(&tag);
        let most = if is_table { MAX_TABLE } else { MAX_ATTRIBUTE };
        if stop - start > most || self.found.elements.len() + (stop - start) > MAX_ELEMENTS_BYTES {
            return Err(Refusal::Damaged("an attribute is longer than any of its kind can be"));
        }
        self.found.elements.extend_from_slice(&self.bytes[start..stop]);
        Ok(())
    }

    /// Writes the head of a sequence that a delimiter ends.
    fn open_sequence(&mut self, tag: Tag, is_implicit: bool) {
        self.write_tag(tag);
        if !is_implicit {
            self.found.elements.extend(b"SQ\0\0");
        }
        self.found.elements.extend([0xff; 4]);
    }

    fn delimit(&mut self, tag: Tag) {
        self.delimit_with(tag, 0);
    }

    fn delimit_with(&mut self, tag: Tag, length: u32) {
        self.write_tag(tag);
        // Zero and undefined read alike in both byte orders.
        self.found.elements.extend(length.to_le_bytes());
    }

    fn write_tag(&mut self, Tag(group, element): Tag) {
        let bytes =
            |half: u16| if self.is_big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
        let (group, element) = (bytes(group), bytes(element));
        self.found.elements.extend(group.into_iter().chain(element));
    }

    fn count(&mut self) -> Result<(), Refusal> {
        self.count += 1;
        match self.count > MAX_ELEMENTS {
            true => Err(Refusal::TooManyElements),
            false => Ok(()),
        }
    }

    /// Passes an element's header; its value representation (two spaces if implicit) and length.
    fn header(&mut self, end: usize, is_implicit: bool) -> Result<([u8; 2], u32), Refusal> {
        if is_implicit {
            let length = self.u32(self.at + 4);
            self.at += 8;
            return Ok((*b"  ", length));
        }
        let vr = [self.bytes[self.at + 4], self.bytes[self.at + 5]];
        if SHORT.contains(&&vr) {
            let length = u32::from(self.u16(self.at + 6));
            self.at += 8;
            return Ok((vr, length));
        }
        // What is in no list has a long length, as any later representation will.
        if self.at + 12 > end {
            return Err(Refusal::Damaged("the data set ends within an element"));
        }
        let length = self.u32(self.at + 8);
        self.at += 12;
        Ok((vr, length))
    }

    /// Where a value of this length ends, if that is within `end`.
    fn stop(&self, length: u32, end: usize) -> Result<usize, Refusal> {
        let stop = self.at + length as usize;
        match stop <= end {
            true => Ok(stop),
            false => Err(Refusal::Damaged("an element reaches beyond what contains it")),
        }
    }

    fn tag(&self) -> Tag {
        Tag(self.u16(self.at), self.u16(self.at + 2))
    }

    fn u16(&self, at: usize) -> u16 {
        let bytes = [self.bytes[at], self.bytes[at + 1]];
        if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, at: usize) -> u32 {
        let (first, second) = (u32::from(self.u16(at)), u32::from(self.u16(at + 2)));
        if self.is_big_endian { first << 16 | second } else { second << 16 | first }
    }
}

/// Value representations with a length of 16 bits, PS3.5 7.1.2.
const SHORT: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
];

/// Value representations with a length of 32 bits, but for sequences.
const LONG: [&[u8; 2]; 12] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// Bytes of one number of an attribute; 1 for text. The parser reads whole numbers, and takes what is left of a length
/// for the next element.
fn unit(tag: Tag, vr: [u8; 2], is_implicit: bool) -> u32 {
    let entry = is_implicit.then(|| StandardDataDictionary.by_tag(tag)).flatten();
    let vr = entry.map_or(vr, |entry| entry.vr.relaxed().to_bytes());
    match &vr {
        b"US" | b"SS" | b"OW" => 2,
        b"AT" | b"FL" | b"OF" | b"OL" | b"SL" | b"UL" => 4,
        b"FD" | b"OD" | b"OV" | b"SV" | b"UV" => 8,
        _ => 1,
    }
}

/// A value representation that exists and is no sequence.
fn is_plain(vr: [u8; 2]) -> bool {
    SHORT.contains(&&vr) || LONG.contains(&&vr)
}

#[cfg(test)]
mod tests;
