//! Entropy-coded bytes, T.87 annex A.1: after a byte of all ones, the next one starts with a stuffed zero.

use super::{super::super::super::Refusal, DAMAGED};

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    window: u64,
    /// How many of them there are.
    count: u32,
    is_after_ones: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, count: 0, is_after_ones: false }
    }

    /// Bytes taken so far; a marker is never among them.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bits, at most 32.
    pub(super) fn read(&mut self, count: u32) -> Result<i32, Refusal> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.fill();
        }
        if self.count < count {
            return Err(DAMAGED);
        }
        let value = self.window >> (64 - count);
        self.skip(count);
        Ok(value as i32)
    }

    /// How many zeros come before the next one, which is taken too; at most `limit`.
    pub(super) fn zeros(&mut self, limit: u32) -> Result<u32, Refusal> {
        let mut zeros = 0;
        loop {
            if self.count < 32 {
                self.fill();
            }
            let run = self.window.leading_zeros().min(self.count);
            zeros += run;
            if self.count == 0 || zeros > limit {
                return Err(DAMAGED);
            }
            if run < self.count {
                self.skip(run + 1);
                return Ok(zeros);
            }
            self.skip(run);
        }
    }

    fn skip(&mut self, count: u32) {
        self.window = self.window.checked_shl(count).unwrap_or(0);
        self.count -= count;
    }

    /// Takes bytes up to the next marker or the end.
    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            let width = if self.is_after_ones { 7 } else { 8 };
            if self.is_after_ones && byte >= 0x80 {
                return;
            }
            let ends =
                byte == 0xff && self.bytes.get(self.at + 1).is_some_and(|&next| next >= 0x80);
            if ends {
                return;
            }
            self.window |= u64::from(byte) << (64 - width - self.count);
            self.count += width;
            self.is_after_ones = byte == 0xff;
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffed_bits_are_left_out() {
        let mut bits = Bits::new(&[0xff, 0x7f, 0x01, 0xff, 0xd9]);
        assert_eq!(bits.read(8), Ok(0xff));
        assert_eq!(bits.read(7), Ok(0x7f));
        assert_eq!(bits.zeros(100), Ok(7));
        assert!(bits.read(1).is_err());
        assert_eq!(bits.position(), 3);
    }

    #[test]
    fn too_many_zeros_are_damage() {
        assert!(Bits::new(&[0; 100]).zeros(40).is_err());
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).zeros(100), Ok(79));
        assert!(Bits::new(&[0]).zeros(40).is_err());
    }
}
