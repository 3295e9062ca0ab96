//! Columns: named values of one type and shape per row.

use super::StoreError;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::{Deserialize, Serialize};

/// How a column's values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// Half precision: 11 bits of mantissa, up to 65504.
    F16,
    /// Single precision.
    F32,
    /// Bytes.
    U8,
    /// Whole numbers with sign.
    I64,
}

impl Dtype {
    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    pub(super) fn to_safetensors(self) -> safetensors::Dtype {
        match self {
            Self::F16 => safetensors::Dtype::F16,
            Self::F32 => safetensors::Dtype::F32,
            Self::U8 => safetensors::Dtype::U8,
            Self::I64 => safetensors::Dtype::I64,
        }
    }
}

/// A column, as declared when a store is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// E.g. `mean`. The name `key` is the store's own.
    pub name: String,
    /// How values are kept.
    pub dtype: Dtype,
    /// Of one row, e.g. `[4, 16, 16]`; empty for one value.
    pub shape: Vec<usize>,
}

impl ColumnSpec {
    /// A column of `shape` per row.
    pub fn new(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    /// Values per row.
    pub fn num_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes per row.
    pub fn row_bytes(&self) -> usize {
        self.num_values() * self.dtype.size()
    }
}

/// A row of one column, on its way in.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// For F16 (rounded to nearest) and F32 columns. Must be finite there.
    Floats(&'a [f32]),
    /// For U8 columns.
    Bytes(&'a [u8]),
    /// For I64 columns.
    Integers(&'a [i64]),
}

impl Values<'_> {
    fn len(self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Integers(values) => values.len(),
        }
    }

    /// Appends the values as `column` keeps them, little-endian. Leaves `to` as it was when they do not fit.
    pub(super) fn append(self, column: &ColumnSpec, to: &mut Vec<u8>) -> Result<(), StoreError> {
        let mismatch = |what: String| StoreError::Row { column: column.name.clone(), what };
        let (len, expected) = (self.len(), column.num_values());
        if len != expected {
            return Err(mismatch(format!("{len} values, the column takes {expected}")));
        }
        match (column.dtype, self) {
            (Dtype::F16, Self::Floats(values)) => {
                if values.iter().any(|&value| !f16::from_f32(value).is_finite()) {
                    return Err(mismatch("a value that is not finite in half precision".into()));
                }
                to.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
            }
            (Dtype::F32, Self::Floats(values)) => {
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(mismatch("a value that is not finite".into()));
                }
                to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            (Dtype::U8, Self::Bytes(values)) => to.extend(values),
            (Dtype::I64, Self::Integers(values)) => {
                to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            (dtype, _) => {
                return Err(mismatch(format!("values of another type than {dtype:?}")));
            }
        }
        Ok(())
    }
}

/// Turns a row as it is kept into f32. Exact, but for integers above 2²⁴.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8], to: &mut [f32]) {
    match dtype {
        Dtype::F16 => {
            // In blocks, which half converts with the processor's own instruction.
            let mut halves = [f16::ZERO; 256];
            for (to, bytes) in to.chunks_mut(256).zip(bytes.chunks(512)) {
                let halves = &mut halves[..to.len()];
                for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                    *half = f16::from_le_bytes([bytes[0], bytes[1]]);
                }
                halves.convert_to_f32_slice(to);
            }
        }
        Dtype::F32 => {
            for (to, bytes) in to.iter_mut().zip(bytes.chunks_exact(4)) {
                *to = f32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
            }
        }
        Dtype::U8 => {
            for (to, &byte) in to.iter_mut().zip(bytes) {
                *to = f32::from(byte);
            }
        }
        Dtype::I64 => {
            for (to, value) in to.iter_mut().zip(to_i64(bytes)) {
                *to = value as f32;
            }
        }
    }
}

/// Reads whole numbers.
pub(super) fn to_i64(bytes: &[u8]) -> impl Iterator<Item = i64> {
    bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("chunks of 8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_as_it_went_in() {
        let halves: Vec<f32> = (0..=u16::MAX)
            .map(|bits| f16::from_bits(bits).to_f32())
            .filter(|value| value.is_finite())
            .collect();
        let column = ColumnSpec::new("all", Dtype::F16, &[halves.len()]);
        let mut bytes = Vec::new();
        Values::Floats(&halves).append(&column, &mut bytes).unwrap();
        let mut back = vec![f32::NAN; halves.len()];
        to_f32(Dtype::F16, &bytes, &mut back);
        assert_eq!(halves, back);
    }

    #[test]
    fn values_that_do_not_fit_are_refused_and_leave_nothing() {
        let half = ColumnSpec::new("mean", Dtype::F16, &[2]);
        let single = ColumnSpec::new("mean", Dtype::F32, &[2]);
        let mut bytes = Vec::new();
        for (column, values) in [
            (&half, Values::Floats(&[0.0, 65_520.0])),
            (&half, Values::Floats(&[f32::NAN, 0.0])),
            (&half, Values::Floats(&[0.0])),
            (&half, Values::Bytes(&[0, 1])),
            (&single, Values::Floats(&[0.0, f32::INFINITY])),
        ] {
            assert!(values.append(column, &mut bytes).is_err(), "{values:?}");
            assert!(bytes.is_empty());
        }
    }
}
