//! Tensors in the layouts that kernels and libraries expect.

use super::bridge::enqueue;
use crate::engine::nvidia::driver::Argument::{Int, Long};
use crate::engine::nvidia::kernels::{self, Format};
use burn::backend::ops::FloatTensorOps as _;
use burn::tensor::DType;
use burn::tensor::Slice;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;

/// The format in memory. Only f32 and bf16 come here: [`super::takes`] says so.
pub(super) fn format(tensor: &CubeTensor) -> Format {
    match tensor.dtype {
        DType::BF16 => Format::Bf16,
        _ => Format::F32,
    }
}

/// Whether values of both types lie in memory alike: f32 whose products may be rounded are still f32.
pub(super) fn same_in_memory(a: DType, b: DType) -> bool {
    (a == DType::BF16) == (b == DType::BF16)
}

/// As a kernel takes it.
pub(super) fn count(value: usize) -> u32 {
    u32::try_from(value).expect("a tensor's sizes fit 32 bits: larger ones do not fit a GPU")
}

/// The same as an argument.
pub(super) fn int(value: usize) -> crate::engine::nvidia::driver::Argument {
    Int(count(value).cast_signed())
}

/// Memory for a tensor, row after row.
pub(super) fn empty<const D: usize>(
    near: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    empty_device_contiguous_dtype(near.client.clone(), near.device.clone(), shape.into(), dtype)
}

/// Memory for [B, C, H, W] in which the channels of a pixel lie together.
pub(super) fn empty_image(near: &CubeTensor, [b, c, h, w]: [usize; 4], dtype: DType) -> CubeTensor {
    permute(empty(near, [b, h, w, c], dtype), &[0, 3, 1, 2])
}

/// Sizes of a tensor.
pub(super) fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.meta.shape().dims()
}

/// Whether memory holds the values in the order of `axes`, without gaps.
pub(super) fn is_dense(tensor: &CubeTensor, axes: impl DoubleEndedIterator<Item = usize>) -> bool {
    let mut expected = 1;
    axes.rev().all(|axis| {
        let (size, stride) = (tensor.meta.shape()[axis], tensor.meta.strides()[axis]);
        let fits = size == 1 || stride == expected;
        expected *= size;
        fits
    })
}

/// `tensor` with its values row after row in memory.
pub(super) fn dense(tensor: &CubeTensor) -> CubeTensor {
    if is_dense(tensor, 0..tensor.meta.num_dims()) {
        return tensor.clone();
    }
    into_contiguous(tensor.clone())
}

/// [B, C, H, W] with the channels of a pixel together in memory.
pub(super) fn image(tensor: &CubeTensor) -> CubeTensor {
    if is_dense(tensor, [0, 2, 3, 1].into_iter()) {
        return tensor.clone();
    }
    let x = dense(tensor);
    let [b, c, h, w] = dims(&x);
    let out = empty_image(&x, [b, c, h, w], x.dtype);
    swap(&x, &out, [b, c, h * w]);
    out
}

/// [B, C, H, W] with zeros `before` and `after` both axes, in the layout of [`image`].
pub(super) fn padded(x: &CubeTensor, (before, after): (usize, usize)) -> CubeTensor {
    let [b, c, h, w] = dims(x);
    let (rows, columns) = (h + before + after, w + before + after);
    let shape = [b, rows, columns, c].into();
    let zeros = zeros_client(x.client.clone(), x.device.clone(), shape, x.dtype);
    let inside = [0..b, before..before + h, before..before + w, 0..c].map(Slice::from);
    let pixels = permute(x.clone(), &[0, 2, 3, 1]);
    permute(CubeBackend::float_slice_assign(zeros, &inside, pixels), &[0, 3, 1, 2])
}

/// [B, heads, N, d] with the heads of a position together in memory.
pub(super) fn heads(tensor: &CubeTensor) -> CubeTensor {
    if is_dense(tensor, [0, 2, 1, 3].into_iter()) {
        return tensor.clone();
    }
    permute(into_contiguous(permute(tensor.clone(), &[0, 2, 1, 3])), &[0, 2, 1, 3])
}

/// Memory for the same.
pub(super) fn empty_heads(near: &CubeTensor, [b, h, n, d]: [usize; 4], dtype: DType) -> CubeTensor {
    permute(empty(near, [b, n, h, d], dtype), &[0, 2, 1, 3])
}

/// The same values, row after row, with other sizes.
pub(super) fn with_shape<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
    reshape(tensor, shape.into())
}

/// `tensor` in the format `dtype`; its memory must be dense in some order, which stays.
pub(super) fn cast(tensor: &CubeTensor, dtype: DType) -> CubeTensor {
    if same_in_memory(tensor.dtype, dtype) {
        return CubeTensor { dtype, ..tensor.clone() };
    }
    let x = dense(tensor);
    let len = x.meta.num_elements();
    let out = empty_device_contiguous_dtype(
        x.client.clone(),
        x.device.clone(),
        x.meta.shape().clone(),
        dtype,
    );
    let launch = kernels::cast(format(&x), format(&out), len as u64);
    enqueue(&x, &[&x], &[&out], move |call| {
        call.runner.launch(&launch, &[Long(call.at[0]), Long(call.at[1]), Long(len as u64)])
    });
    out
}

/// Fills `to` [batch, columns, rows] from `from` [batch, rows, columns], in the format of `to`.
fn swap(from: &CubeTensor, to: &CubeTensor, [batch, rows, columns]: [usize; 3]) {
    let launch = kernels::swap(format(from), format(to), count(batch), count(rows), count(columns));
    enqueue(from, &[from], &[to], move |call| {
        let at = [Long(call.at[0]), Long(call.at[1])];
        call.runner.launch(&launch, &[at[0], at[1], int(batch), int(rows), int(columns)])
    });
}

/// A kernel [out, in, k, k] in f32 as [out, k, k, in] in the format `dtype`.
pub(super) fn filter(weight: &CubeTensor, dtype: DType) -> CubeTensor {
    let [num_out, num_in, height, width] = dims(weight);
    if num_in == 1 || height * width == 1 {
        return cast(&dense(weight), dtype);
    }
    let weight = dense(weight);
    let dtype = if dtype == DType::BF16 { dtype } else { DType::F32 };
    let out = empty(&weight, [num_out, height, width, num_in], dtype);
    swap(&weight, &out, [num_out, num_in, height * width]);
    out
}

/// The other way: [out, k, k, in] to [out, in, k, k] in f32.
pub(super) fn unfilter(filter: &CubeTensor, [num_out, num_in, h, w]: [usize; 4]) -> CubeTensor {
    if num_in == 1 || h * w == 1 {
        return with_shape(cast(filter, DType::F32), [num_out, num_in, h, w]);
    }
    let out = empty(filter, [num_out, num_in, h, w], DType::F32);
    swap(filter, &out, [num_out, h * w, num_in]);
    out
}
