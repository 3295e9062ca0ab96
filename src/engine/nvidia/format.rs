//! Number formats of the GPU.

/// The number format of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Format {
    /// 32-bit floats, multiplied as such.
    F32,
    /// 32-bit floats in memory, multiplied with 10 bits of mantissa by tensor cores.
    Tf32,
    /// bfloat16 in memory, summed in f32.
    Bf16,
}
