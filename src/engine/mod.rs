//! The operations that decide how fast networks train, forward and backward, for each kind of device.
//!
//! [`backend::Engine`] is what a device must be able to do, gradients included. `cpu` does it in tiled kernels, `cuda`
//! (with that feature) through NVIDIA's libraries and one file of our own kernels, which `nvidia` opens, plans and
//! compiles without needing a GPU. `dispatch` is the one place where gradients are wired, for every device.
//!
//! What no device here can take (other number formats, say) goes to burn's own operations: ask [`takes`] first.

pub mod backend;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod descent;
mod dispatch;
pub mod nvidia;
pub mod requests;
pub mod trace;

pub use backend::{ConvGeometry, Groups};

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};
use dispatch::Kernels as _;
use std::collections::BTreeMap;

/// Whether the device of `x` computes these operations in the number format of `x`; otherwise burn's own must do.
pub fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().inner();
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => trace::is_on() || x.dtype() == DType::F32,
        #[cfg(feature = "cuda")]
        DispatchDevice::Cube(_) => matches!(x.dtype(), DType::F32 | DType::BF16 | DType::Flex32),
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Kernels of our own and calls of NVIDIA's libraries so far; always 0 on the CPU.
pub fn calls() -> u64 {
    #[cfg(feature = "cuda")]
    return cuda::calls();
    #[cfg(not(feature = "cuda"))]
    0
}

/// Bytes of the GPU's memory that are taken, by whomever; nothing on the CPU.
pub fn memory_in_use() -> Option<u64> {
    #[cfg(feature = "cuda")]
    return cuda::memory_in_use();
    #[cfg(not(feature = "cuda"))]
    None
}

/// What calls of one kind cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// How many.
    pub calls: u64,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Seconds that the host needed to queue them.
    pub host_seconds: f64,
    /// Floating-point operations of all of them; 0 where memory bounds them.
    pub flops: u64,
}

/// Waits for every call to a GPU from now on and times it, or stops doing so; what was timed until now, by name.
pub fn time_calls(is_timed: bool) -> BTreeMap<String, Timing> {
    #[cfg(feature = "cuda")]
    return cuda::time_calls(is_timed);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = is_timed;
        BTreeMap::new()
    }
}

/// Convolution of `x` [B, in, H, W] with `weight` [out, in, k, k] and `bias` `[out]` to [B, out, H', W'].
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    geometry: ConvGeometry,
) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::convolve(x, weight, bias.into_dispatch(), geometry),
        None => Dispatch::convolve_plain(x, weight, geometry),
    })
}

/// Group norm (Wu & He 2018) of `x` [B, C, H, W], to which `shift` [B, C] is added first if there is one.
pub fn group_norm(
    x: Tensor<4>,
    shift: Option<Tensor<2>>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: Groups,
) -> Tensor<4> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match shift {
        Some(shift) => {
            Dispatch::norm_shifted_groups(x, shift.into_dispatch(), weight, bias, groups)
        }
        None => Dispatch::norm_groups(x, weight, bias, groups),
    })
}

/// `x` [.., D] as rows [R, D], and the sizes it had.
fn rows<const D: usize>(x: Tensor<D>) -> (Tensor<2>, [usize; D]) {
    let shape = x.dims();
    let rows = shape[..D - 1].iter().product();
    (x.reshape([rows, shape[D - 1]]), shape)
}

/// `x` [.., in] times the transpose of `weight` [out, in], plus `bias` `[out]`.
pub fn affine<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let (x, mut shape) = rows(x);
    shape[D - 1] = weight.dims()[0];
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let out = match bias {
        Some(bias) => Dispatch::affine(x, weight, bias.into_dispatch()),
        None => Dispatch::affine_plain(x, weight),
    };
    Tensor::<2>::from_dispatch(out).reshape(shape)
}

/// Layer norm (Ba et al. 2016) over the last axis of `x` [.., D].
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let (x, shape) = rows(x);
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::<2>::from_dispatch(Dispatch::norm_layers(x, weight, bias, epsilon)).reshape(shape)
}

/// GEGLU (Shazeer 2020): the first half of `x` [.., 2 D] times the GELU of the second.
pub fn geglu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let (x, mut shape) = rows(x);
    shape[D - 1] /= 2;
    Tensor::<2>::from_dispatch(Dispatch::geglu(x.into_dispatch())).reshape(shape)
}

/// softmax(q kᵀ / √d) v for q [B, heads, N, d], k and v [B, heads, M, d].
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(q, k, v))
}

/// The channels of `a` [B, C, H, W] before those of `b` [B, D, H, W].
pub fn concat(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::join(a.into_dispatch(), b.into_dispatch()))
}

/// Each pixel of `x` [B, C, H, W] as a square of four: [B, C, h, w] for `size` [h, w], each 2 H or 2 H - 1.
pub fn repeat(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::repeat_pixels(x.into_dispatch(), size))
}

#[cfg(test)]
mod tests;
