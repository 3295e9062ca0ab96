//! Look-up tables, PS3.3 C.11.1.1 and C.11.2.1.1.

use dicom_core::{PrimitiveValue, value::Value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::super::Refusal;

const DAMAGED: Refusal = Refusal::Damaged("a look-up table");

/// A table over whole numbers; what lies outside takes the first or last entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lut {
    /// The value that the first entry stands for.
    first: i64,
    /// At least one.
    entries: Vec<u16>,
    /// The largest value an entry may have.
    highest: u16,
}

impl Lut {
    /// Reads the item of a LUT sequence. `is_signed`: are the values it maps two's complement? The descriptor's own
    /// representation does not always say so.
    pub(super) fn read(item: &InMemDicomObject, is_signed: bool) -> Result<Self, Refusal> {
        let descriptor: Vec<i64> = item
            .get(tags::LUT_DESCRIPTOR)
            .and_then(|element| element.to_multi_int().ok())
            .ok_or(Refusal::Attribute("LUTDescriptor"))?;
        let &[count, first, bits] = &descriptor[..] else { return Err(DAMAGED) };
        // 16 bits cannot say 65536; a signed field says large counts as negative ones.
        let count = if count == 0 { 1 << 16 } else { (count & 0xffff) as usize };
        let first =
            if is_signed && first > i64::from(i16::MAX) { first - (1 << 16) } else { first };
        if !(1..=16).contains(&bits) {
            return Err(Refusal::Value {
                name: "LUTDescriptor's bits",
                found: bits,
                expected: "1 to 16",
            });
        }
        let entries = entries(item, count, bits)?;
        let largest = *entries.iter().max().ok_or(DAMAGED)?;
        Ok(Self { first, highest: highest(largest, bits as u32), entries })
    }

    /// The entry for a value, rounded to a whole number.
    pub(super) fn entry(&self, value: f64) -> f64 {
        let index = (value.round() - self.first as f64).clamp(0.0, (self.entries.len() - 1) as f64);
        f64::from(self.entries[index as usize])
    }

    /// The entry for a value, as a part of the largest that an entry may have.
    pub(super) fn brightness(&self, value: f64) -> f64 {
        (self.entry(value) / f64::from(self.highest)).min(1.0)
    }
}

/// The largest value that `bits` hold, or that as many bits hold as the largest entry needs.
///
/// Some writers (Agfa CR) give the width of the storage, not of the values: 16 for a table that ends at 4095.
fn highest(largest: u16, bits: u32) -> u16 {
    let needed = u16::BITS - largest.leading_zeros();
    u16::MAX >> (u16::BITS - bits.min(needed).max(1))
}

/// Entries of 16 bits, or of 8 bits of which two share a word, the first in its lower half.
fn entries(item: &InMemDicomObject, count: usize, bits: i64) -> Result<Vec<u16>, Refusal> {
    let value = item.get(tags::LUT_DATA).map(|element| element.value());
    let Some(Value::Primitive(value)) = value else { return Err(Refusal::Attribute("LUTData")) };
    let bytes_as_words = |bytes: &[u8]| -> Vec<u16> {
        bytes.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word)).collect()
    };
    let mut entries: Vec<u16> = match value {
        PrimitiveValue::U8(bytes) if bytes.len() >= 2 * count => bytes_as_words(bytes),
        PrimitiveValue::U8(bytes) => bytes.iter().map(|&byte| u16::from(byte)).collect(),
        PrimitiveValue::U16(words) if words.len() < count && bits <= 8 => {
            words.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect()
        }
        PrimitiveValue::U16(words) => words.to_vec(),
        PrimitiveValue::I16(words) => words.iter().map(|word| word.cast_unsigned()).collect(),
        _ => return Err(Refusal::Attribute("LUTData")),
    };
    if entries.len() < count {
        return Err(Refusal::Damaged("a look-up table is shorter than its descriptor says"));
    }
    entries.truncate(count);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};

    use super::*;

    fn lut(descriptor: [u16; 3], data: PrimitiveValue, is_signed: bool) -> Result<Lut, Refusal> {
        let item = InMemDicomObject::from_element_iter([
            DataElement::new(
                tags::LUT_DESCRIPTOR,
                VR::US,
                PrimitiveValue::U16(descriptor[..].into()),
            ),
            DataElement::new(tags::LUT_DATA, VR::OW, data),
        ]);
        Lut::read(&item, is_signed)
    }

    fn words(words: &[u16]) -> PrimitiveValue {
        PrimitiveValue::U16(words.into())
    }

    #[test]
    fn values_outside_take_the_ends() {
        let found = lut([3, 10, 8], words(&[5, 9, 255]), false).unwrap();
        let entries = [-99.0, 10.0, 11.4, 11.6, 99.0].map(|value| found.entry(value));
        assert_eq!(entries, [5.0, 5.0, 9.0, 255.0, 255.0]);
        assert_eq!(found.brightness(12.0), 1.0);
        assert_eq!(found.brightness(11.0), 9.0 / 255.0);
    }

    #[test]
    fn the_descriptor_has_its_oddities() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let found = lut([0, 0, 16], words(&all), false).unwrap();
        assert_eq!(found.entry(65535.0), 65535.0);
        let found = lut([2, 0xfff0, 8], words(&[1, 2]), true).unwrap();
        assert_eq!((found.entry(-16.0), found.entry(-15.0)), (1.0, 2.0));
        let found = lut([4, 0, 8], words(&[0x0201, 0x0403]), false).unwrap();
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(|value| found.entry(value)), [1.0, 2.0, 3.0, 4.0]);
        let found = lut([2, 0, 16], words(&[0, 4095]), false).unwrap();
        assert_eq!(found.brightness(1.0), 1.0);
    }

    #[test]
    fn a_short_table_is_refused() {
        assert!(lut([5, 0, 16], words(&[1, 2]), false).is_err());
        assert!(lut([2, 0, 17], words(&[1, 2]), false).is_err());
        assert!(lut([2, 0, 0], words(&[1, 2]), false).is_err());
    }
}
