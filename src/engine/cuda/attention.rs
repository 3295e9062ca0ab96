//! Attention: cuDNN's, which never holds the scores; products and a softmax of our own where it has no engine.

use super::bridge::enqueue;
use super::multiply;
use super::tensor::{cast, count, dense, dims, empty, empty_heads, heads, int};
use crate::engine::nvidia::cudnn::{Attention, Graph};
use crate::engine::nvidia::driver::Argument::{Float, Long};
use crate::engine::nvidia::kernels;
use crate::engine::requests;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

fn plan(q: &CubeTensor, k: &CubeTensor) -> Option<Attention> {
    requests::attention(dims(q), dims::<4>(k)[2], q.dtype)
}

/// Output [B, heads, N, d] and the logarithm of each query's sum of exponentials [B, heads, N, 1].
pub(super) fn forward(q: &CubeTensor, k: &CubeTensor, v: &CubeTensor) -> (CubeTensor, CubeTensor) {
    let Some(attention) = plan(q, k) else { return spelt_out(q, k, v) };
    let [q, k, v] = [q, k, v].map(heads);
    let [b, h, n, d] = dims(&q);
    let out = empty_heads(&q, [b, h, n, d], q.dtype);
    let log_sums = empty(&q, [b, h, n, 1], DType::F32);
    let graph = Graph::Attend(attention);
    enqueue(&q, &[&q, &k, &v], &[&out, &log_sums], move |call| {
        call.runner.execute(&graph, call.at)
    });
    (out, log_sums)
}

/// The gradients of queries, keys and values.
pub(super) fn backward(
    [q, k, v]: [&CubeTensor; 3],
    output: &CubeTensor,
    log_sums: &CubeTensor,
    grad: &CubeTensor,
) -> [CubeTensor; 3] {
    let plan = requests::attention_gradients(dims(q), dims::<4>(k)[2], q.dtype);
    let Some(attention) = plan else { return spelt_out_gradients(q, k, v, grad) };
    let [q, k, v, output, grad] = [q, k, v, output, grad].map(heads);
    let like = |x: &CubeTensor| empty_heads(x, dims(x), x.dtype);
    let (dq, dk, dv) = (like(&q), like(&k), like(&v));
    let [b, h, n, d] = dims(&q);
    let sums = empty(&q, [b, h, n, 1], DType::F32);
    let wide = empty(&q, [b, h, n, d], DType::F32);
    let graph = Graph::AttendGradients(attention);
    let reads = [&q, &k, &v, &output, &grad, log_sums];
    enqueue(&q, &reads, &[&dq, &dk, &dv, &sums, &wide], move |call| {
        call.runner.execute(&graph, call.at)
    });
    [dq, dk, dv]
}

/// [B · heads, N, M] probabilities in f32.
fn probabilities(q: &CubeTensor, k: &CubeTensor) -> (CubeTensor, CubeTensor) {
    let [b, h, n, d] = dims(q);
    let m = dims::<4>(k)[2];
    let scores = empty(q, [b * h, n, m], DType::F32);
    multiply(q, k, &scores, [false, true], [n, m, d], b * h);
    let log_sums = empty(q, [b, h, n, 1], DType::F32);
    let launch = kernels::softmax(kernels::Format::F32, count(b * h * n));
    let scale = Float((1.0 / (d as f64).sqrt()) as f32);
    enqueue(q, &[], &[&scores, &log_sums], move |call| {
        let (scores, log_sums) = (Long(call.at[0]), Long(call.at[1]));
        let (rows, width) = (int(b * h * n), int(m));
        call.runner.launch(&launch, &[scores, scores, log_sums, rows, width, scale])
    });
    (scores, log_sums)
}

fn spelt_out(q: &CubeTensor, k: &CubeTensor, v: &CubeTensor) -> (CubeTensor, CubeTensor) {
    let [q, k, v] = [q, k, v].map(dense);
    let [b, h, n, d] = dims(&q);
    let m = dims::<4>(&k)[2];
    let (shares, log_sums) = probabilities(&q, &k);
    let shares = cast(&shares, v.dtype);
    let out = empty(&q, [b, h, n, d], q.dtype);
    multiply(&shares, &v, &out, [false, false], [n, d, m], b * h);
    (out, log_sums)
}

fn spelt_out_gradients(
    q: &CubeTensor,
    k: &CubeTensor,
    v: &CubeTensor,
    grad: &CubeTensor,
) -> [CubeTensor; 3] {
    let [q, k, v, grad] = [q, k, v, grad].map(dense);
    let [b, h, n, d] = dims(&q);
    let m = dims::<4>(&k)[2];
    let (shares, _) = probabilities(&q, &k);
    let slopes = empty(&q, [b * h, n, m], DType::F32);
    multiply(&grad, &v, &slopes, [false, true], [n, m, d], b * h);
    let launch = kernels::softmax_backward(kernels::Format::F32, count(b * h * n));
    let scale = Float((1.0 / (d as f64).sqrt()) as f32);
    enqueue(&q, &[&shares], &[&slopes], move |call| {
        let (shares, slopes) = (Long(call.at[0]), Long(call.at[1]));
        let (rows, width) = (int(b * h * n), int(m));
        call.runner.launch(&launch, &[shares, slopes, slopes, rows, width, scale])
    });
    let (shares, slopes) = (cast(&shares, q.dtype), cast(&slopes, q.dtype));
    let of = |x: &CubeTensor| empty(x, dims::<4>(x), x.dtype);
    let (dq, dk, dv) = (of(&q), of(&k), of(&v));
    multiply(&slopes, &k, &dq, [false, false], [n, d, m], b * h);
    multiply(&slopes, &q, &dk, [true, false], [m, d, n], b * h);
    multiply(&shares, &grad, &dv, [true, false], [m, d, n], b * h);
    [dq, dk, dv]
}
