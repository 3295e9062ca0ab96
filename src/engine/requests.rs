//! What NVIDIA's libraries are asked for by each operation: for who computes it on a GPU, and for who plans it without.

use super::backend::ConvGeometry;
use super::nvidia::cublas::Product;
use super::nvidia::cudnn::{Attention, Convolution};
use super::nvidia::format::Format;
use burn::tensor::DType;
use std::sync::atomic::{AtomicBool, Ordering};

/// The widest heads that cuDNN is asked for.
const WIDEST: usize = 256;
/// The widest whose gradients it has on every card from Ampere on; on Hopper, as wide as it goes forward.
const WIDEST_GRADIENTS: usize = 128;

/// Whether the GPU is of a generation other than Hopper.
static IS_NOT_HOPPER: AtomicBool = AtomicBool::new(false);

/// Says which card requests are for, as compilers call it; before any is, that is sm_90.
pub fn set_card(architecture: &str) {
    IS_NOT_HOPPER.store(architecture != "sm_90", Ordering::Relaxed);
}

/// The format in which values of this type are multiplied.
pub(super) fn format(dtype: DType) -> Format {
    match dtype {
        DType::BF16 => Format::Bf16,
        DType::Flex32 => Format::Tf32,
        _ => Format::F32,
    }
}

/// A convolution of [B, in, H, W] by a kernel [out, in, k, k].
pub(super) fn convolution(
    [batch, channels_in, height, width]: [usize; 4],
    [channels_out, _, rows, columns]: [usize; 4],
    geometry: ConvGeometry,
    dtype: DType,
) -> Convolution {
    let ConvGeometry { stride, padding: (before, after) } = geometry;
    let (kernel, format) = ([rows, columns], format(dtype));
    Convolution {
        batch,
        channels_in,
        height,
        width,
        channels_out,
        kernel,
        stride,
        before,
        after,
        format,
    }
}

/// Whether the input of a convolution is padded before its kernel's gradient is asked for.
///
/// The engine that cuDNN 9.19 takes for strict f32 is wrong where the paddings differ: `umbra parity` found it off by
/// more than the gradient itself on an H100.
pub(super) fn pads_first(geometry: ConvGeometry, dtype: DType) -> bool {
    let (before, after) = geometry.padding;
    format(dtype) != Format::Bf16 && before != after
}

/// A product of matrices with nothing around it.
pub(super) fn product(
    [rows, columns, inner]: [usize; 3],
    [transposes_a, transposes_b]: [bool; 2],
    batch: usize,
    dtype: DType,
    out: DType,
) -> Product {
    Product {
        rows,
        columns,
        inner,
        transposes_a,
        transposes_b,
        batch,
        format: format(dtype),
        is_wide: out == DType::F32,
        has_bias: false,
        accumulates: false,
    }
}

/// What the gradients of [`attention`] are asked for by; nothing where cuDNN has no engine.
pub(super) fn attention_gradients(q: [usize; 4], keys: usize, dtype: DType) -> Option<Attention> {
    let fits = |attention: &Attention| {
        attention.dim <= WIDEST_GRADIENTS || !IS_NOT_HOPPER.load(Ordering::Relaxed)
    };
    attention(q, keys, dtype).filter(fits)
}

/// Attention over heads [B, heads, N, d] whose positions keep their heads together; nothing where cuDNN has no engine:
/// in f32, and for odd or wide heads.
pub(super) fn attention(
    [batch, heads, queries, dim]: [usize; 4],
    keys: usize,
    dtype: DType,
) -> Option<Attention> {
    let is_taken = dtype == DType::BF16 && dim.is_multiple_of(8) && dim <= WIDEST;
    let strides = |positions: usize| [positions * heads * dim, dim, heads * dim];
    is_taken.then(|| Attention {
        batch,
        heads,
        queries,
        keys,
        dim,
        format: format(dtype),
        q: strides(queries),
        k: strides(keys),
        v: strides(keys),
        o: strides(queries),
    })
}
