//! The one attention function of every network, so that it can be made fast in one place.

use super::{cast, cast_like};
use crate::engine;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention as fused;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, FloatDType, Tensor};

/// Largest score matrix held at once, in elements over batch and heads: 256 MiB in f32.
const MAX_SCORES: usize = 1 << 26;

/// softmax(q kᵀ / √d) v, with scores and softmax in f32.
///
/// Shapes: q [B, heads, N, d], k and v [B, heads, M, d] to [B, heads, N, d], in q's number format.
/// Without gradients this is the backend's fused kernel, which never holds the scores. With them
/// the products are spelt out, over slices of the queries where the scores would be large.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    attend(q, k, v, None)
}

/// [`attention`] in which queries do not see the keys that `hidden` [1 or B, 1 or heads, 1 or N, M] marks.
///
/// A query that sees no key at all gives 0.
pub fn masked_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Tensor<4, Bool>,
) -> Tensor<4> {
    attend(q, k, v, Some(hidden))
}

fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, hidden: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let [batch, heads, num_queries, _] = q.dims();
    if hidden.is_none() && engine::takes(&q) {
        return engine::attention(q, k, v);
    }
    let num_keys = k.dims()[2];
    let hidden = hidden.map(|hidden| hidden.expand([batch, heads, num_queries, num_keys]));
    if !q.is_autodiff() && !k.is_autodiff() && !v.is_autodiff() {
        return fused(q, k, v, hidden, None, AttentionModuleOptions::default());
    }
    let rows = (MAX_SCORES / (batch * heads * num_keys).max(1)).clamp(1, num_queries);
    if rows == num_queries {
        return spelt_out(q, k, v, hidden);
    }
    let slices = (0..num_queries).step_by(rows).map(|start| {
        let rows = rows.min(num_queries - start);
        let hidden = hidden.clone().map(|hidden| hidden.narrow(2, start, rows));
        spelt_out(q.clone().narrow(2, start, rows), k.clone(), v.clone(), hidden)
    });
    Tensor::cat(slices.collect(), 2)
}

/// The probabilities [B, heads, N, M] with which each query attends to each key, in f32.
pub fn weights(q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    softmax(scores(q, k), 3)
}

fn scores(q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    let scale = 1.0 / (q.dims()[3] as f64).sqrt();
    let q = cast(q, FloatDType::F32).mul_scalar(scale);
    q.matmul(cast(k, FloatDType::F32).swap_dims(2, 3))
}

fn spelt_out(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let weights = match hidden {
        None => weights(q, k),
        // Not minus infinity, which makes NaN of a query that sees nothing.
        Some(hidden) => {
            softmax(scores(q, k).mask_fill(hidden.clone(), f32::MIN), 3).mask_fill(hidden, 0.0)
        }
    };
    cast_like(weights, &v).matmul(v)
}

/// [B, N, heads · d] to [B, heads, N, d].
pub(crate) fn split_heads(x: Tensor<3>, num_heads: usize) -> Tensor<4> {
    let [b, n, d] = x.dims();
    x.reshape([b, n, num_heads, d / num_heads]).swap_dims(1, 2)
}

/// [B, heads, N, d] to [B, N, heads · d].
pub(crate) fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [b, heads, n, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, n, heads * d])
}

/// Forward cost of one attention call per batch element, in floating-point operations.
pub(crate) fn flops(num_queries: usize, num_keys: usize, width: usize) -> u64 {
    4 * (num_queries * num_keys * width) as u64
}
