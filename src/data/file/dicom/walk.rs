//! Checks the lengths in a data set before a parser believes them.
//!
//! The parser allocates what an element declares, up to 4 GiB, and recurses into nested sequences. A few damaged
//! bytes must cost neither memory nor the stack.

use super::super::Refusal;

/// How deep sequences may be nested. Real ones reach about six.
const MAX_DEPTH: usize = 32;
const UNDEFINED: u32 = u32::MAX;
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const SEQUENCE_END: (u16, u16) = (0xfffe, 0xe0dd);
const PIXEL_DATA: (u16, u16) = (0x7fe0, 0x0010);

/// How a data set is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) is_implicit: bool,
    pub(super) is_big_endian: bool,
}

/// Every declared length must lie within what contains it.
pub(super) fn check(data_set: &[u8], encoding: Encoding) -> Result<(), Refusal> {
    let mut walk = Walk { bytes: data_set, at: 0, is_big_endian: encoding.is_big_endian };
    walk.elements(data_set.len(), encoding.is_implicit, 0)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

impl Walk<'_> {
    /// Elements up to `end` or to the delimiter of the item that holds them.
    fn elements(&mut self, end: usize, is_implicit: bool, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::Damaged("sequences are nested too deeply"));
        }
        while self.at + 8 <= end {
            let tag = self.tag();
            if tag.0 == ITEM.0 {
                self.at += 8;
                return Ok(());
            }
            let (vr, length) = self.header(end, is_implicit)?;
            if length == UNDEFINED {
                match tag {
                    PIXEL_DATA => self.items(end, is_implicit, None)?,
                    // PS3.5 6.2.2: what is in an unknown value of undefined length is implicit VR.
                    _ => self.items(end, is_implicit || vr == *b"UN", Some(depth + 1))?,
                }
                continue;
            }
            let stop = self.stop(length, end, tag)?;
            let holds_item = stop >= self.at + 8 && self.tag() == ITEM;
            if vr == *b"SQ" || (is_implicit && holds_item) {
                self.items(stop, is_implicit, Some(depth + 1))?;
            }
            self.at = stop;
        }
        Ok(())
    }

    /// The items of a sequence, or the fragments of pixel data where there is no depth to go to.
    fn items(
        &mut self,
        end: usize,
        is_implicit: bool,
        depth: Option<usize>,
    ) -> Result<(), Refusal> {
        while self.at + 8 <= end {
            let (tag, length) = (self.tag(), self.u32(self.at + 4));
            self.at += 8;
            match (tag, depth) {
                (SEQUENCE_END, _) => return Ok(()),
                (ITEM, Some(depth)) if length == UNDEFINED => {
                    self.elements(end, is_implicit, depth)?
                }
                (ITEM, _) => {
                    let stop = self.stop(length, end, tag)?;
                    if let Some(depth) = depth {
                        self.elements(stop, is_implicit, depth)?;
                    }
                    self.at = stop;
                }
                _ => return Err(Refusal::Damaged("a sequence holds something that is no item")),
            }
        }
        Ok(())
    }

    /// Passes an element's header; its value representation (two spaces if implicit) and length.
    fn header(&mut self, end: usize, is_implicit: bool) -> Result<([u8; 2], u32), Refusal> {
        if is_implicit {
            let length = self.u32(self.at + 4);
            self.at += 8;
            return Ok((*b"  ", length));
        }
        let vr = [self.bytes[self.at + 4], self.bytes[self.at + 5]];
        // PS3.5 7.1.2. What is in no list has a long length, as any later representation will.
        let is_short = matches!(
            &vr,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FD"
                | b"FL"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        );
        if is_short {
            let length = u32::from(self.u16(self.at + 6));
            self.at += 8;
            return Ok((vr, length));
        }
        if self.at + 12 > end {
            return Err(Refusal::Damaged("the data set ends within an element"));
        }
        let length = self.u32(self.at + 8);
        self.at += 12;
        Ok((vr, length))
    }

    /// Where a value of this length ends, if that is within `end`.
    fn stop(&self, length: u32, end: usize, tag: (u16, u16)) -> Result<usize, Refusal> {
        let found = end.saturating_sub(self.at);
        match length as usize {
            length if length <= found => Ok(self.at + length),
            needed if tag == PIXEL_DATA => {
                Err(Refusal::Truncated { found: found as u64, needed: needed as u64 })
            }
            _ => Err(Refusal::Damaged("an element reaches beyond what contains it")),
        }
    }

    fn tag(&self) -> (u16, u16) {
        (self.u16(self.at), self.u16(self.at + 2))
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: Encoding = Encoding { is_implicit: false, is_big_endian: false };

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let element = b"\x28\x00\x10\x00US\x02\x00\x01\x00";
        assert_eq!(check(element, EXPLICIT), Ok(()));
        let long = b"\x28\x00\x10\x00OB\x00\x00\xf0\xff\xff\xff\x01\x00";
        assert!(check(long, EXPLICIT).is_err());
        // A representation that nobody knows has a long length, for the parser too.
        assert!(check(b"\x28\x00\x10\x00Us\x02\x00\xf0\xff\xff\xff\x01\x00", EXPLICIT).is_err());
        let pixels = b"\xe0\x7f\x10\x00OW\x00\x00\x04\x00\x00\x00\x01\x00";
        assert_eq!(check(pixels, EXPLICIT), Err(Refusal::Truncated { found: 2, needed: 4 }));
        let implicit = Encoding { is_implicit: true, is_big_endian: true };
        assert!(check(b"\x00\x28\x00\x10\x00\x00\x00\x03\x01\x00", implicit).is_err());
        assert_eq!(check(b"\x00\x28\x00\x10\x00\x00\x00\x02\x01\x00", implicit), Ok(()));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let opening = b"\x08\x00\x11\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
        assert_eq!(check(&opening.repeat(MAX_DEPTH), EXPLICIT), Ok(()));
        assert!(check(&opening.repeat(100_000), EXPLICIT).is_err());
    }
}
