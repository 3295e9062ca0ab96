//! The stored samples of a file, before any look-up table.

use sha2::{Digest, Sha256};

/// Integers in the smallest of u8, i8, u16, i16, u32, i32 that holds the allocated bits.
///
/// Order: frames, rows, columns, samples. Little-endian, so that the bytes are what is hashed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples {
    /// `count · width` bytes.
    pub(super) bytes: Vec<u8>,
    /// Bytes a sample: 1, 2 or 4.
    pub(super) width: usize,
    /// Two's complement?
    pub(super) signed: bool,
}

/// What [`Samples::statistics`] finds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statistics {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) mean: f64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
}

impl Samples {
    /// Every sample through `f`, in order.
    pub(super) fn map<T>(&self, f: impl FnMut(i64) -> T) -> Vec<T> {
        self.values(|values| values.map(f).collect())
    }

    /// Smallest and largest value.
    pub(super) fn range(&self) -> (i64, i64) {
        self.values(|values| {
            values.fold((i64::MAX, i64::MIN), |(min, max), value| (min.min(value), max.max(value)))
        })
    }

    /// Smallest, largest and mean value, and the hash of the array.
    pub(super) fn statistics(&self) -> Statistics {
        let (min, max) = self.range();
        let sum: i64 = self.values(|values| values.sum());
        let count = (self.bytes.len() / self.width).max(1);
        let sha256 = Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Statistics { min, max, mean: sum as f64 / count as f64, sha256 }
    }

    /// Distinct values in rising order, each with how often it occurs; those that `keep` refuses are left out.
    ///
    /// Samples have one or two bytes.
    pub(super) fn histogram(&self, keep: impl Fn(i64) -> bool) -> Vec<(i64, u64)> {
        const LOWEST: i64 = i16::MIN as i64;
        let mut counts = vec![0_u64; 3 << 15]; // from i16::MIN to u16::MAX
        self.values(|values| values.for_each(|value| counts[(value - LOWEST) as usize] += 1));
        let occurring = (LOWEST..).zip(counts).filter(|&(value, count)| count > 0 && keep(value));
        occurring.collect()
    }

    fn values<R>(&self, f: impl FnOnce(&mut dyn Iterator<Item = i64>) -> R) -> R {
        let (pairs, quads) = (self.bytes.as_chunks::<2>().0, self.bytes.as_chunks::<4>().0);
        match (self.width, self.signed) {
            (1, false) => f(&mut self.bytes.iter().map(|&byte| i64::from(byte))),
            (1, true) => f(&mut self.bytes.iter().map(|&byte| i64::from(byte.cast_signed()))),
            (2, false) => f(&mut pairs.iter().map(|&pair| i64::from(u16::from_le_bytes(pair)))),
            (2, true) => f(&mut pairs.iter().map(|&pair| i64::from(i16::from_le_bytes(pair)))),
            (4, false) => f(&mut quads.iter().map(|&quad| i64::from(u32::from_le_bytes(quad)))),
            (4, true) => f(&mut quads.iter().map(|&quad| i64::from(i32::from_le_bytes(quad)))),
            (width, _) => unreachable!("samples of {width} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_width_and_sign() {
        let of = |width, signed| {
            Samples { bytes: vec![0xfe, 0xff, 0xff, 0xff], width, signed }.map(|value| value)
        };
        assert_eq!(of(1, true), [-2, -1, -1, -1]);
        assert_eq!(of(2, false), [65534, 65535]);
        assert_eq!(of(2, true), [-2, -1]);
        assert_eq!(of(4, false), [4_294_967_294]);
        assert_eq!(of(4, true), [-2]);
    }

    #[test]
    fn histogram_is_sorted_and_complete() {
        for (width, signed) in [(1, true), (2, true), (1, false), (2, false)] {
            let bytes = vec![7, 0, 0, 0, 255, 255, 255, 255, 7, 0, 0, 0];
            let samples = Samples { bytes, width, signed };
            let mut values = samples.map(|value| value);
            values.sort_unstable();
            let histogram = samples.histogram(|_| true);
            let repeated = |&(value, count): &(i64, u64)| vec![value; count as usize];
            assert_eq!(histogram.iter().flat_map(repeated).collect::<Vec<_>>(), values);
            assert!(samples.histogram(|value| value != 7).iter().all(|&(value, _)| value != 7));
        }
    }

    /// Reference: `hashlib.sha256(numpy.array([1, 2, 770], "<u2").tobytes())`, numpy 2.4.
    #[test]
    fn statistics_match_numpy() {
        let found = Samples { bytes: vec![1, 0, 2, 0, 2, 3], width: 2, signed: false }.statistics();
        assert_eq!((found.min, found.max), (1, 770));
        assert!((found.mean - 257.666_666_666_666_7).abs() < 1e-12);
        assert_eq!(
            found.sha256,
            "2e04da91a52ff89370a0c0153ff0d779a44555fb397e385079a37bb1dbde5d46"
        );
    }
}
