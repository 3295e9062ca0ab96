//! Attention that holds the scores of a few queries at a time, and computes them again on the way back
//! (Dao et al. 2022, without their tiling over keys: a row of scores fits the cache of a core).

use super::exponential::exp;
use super::matrix::{Matrix, add_product, tensor};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

/// Queries whose scores are held at once, by one thread.
const ROWS: usize = 64;

type Floats = FloatTensor<Flex>;

/// Sizes of an attention.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Sizes {
    fn of(q: &Floats, k: &Floats) -> Self {
        let [batch, heads, queries, width] = q.layout().shape().dims();
        Self { batch, heads, queries, keys: k.layout().shape()[2], width }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.width as f64).sqrt()) as f32
    }

    /// Values of all queries of one head.
    fn query_len(&self) -> usize {
        self.queries * self.width
    }

    /// Values of all keys of one head.
    fn key_len(&self) -> usize {
        self.keys * self.width
    }
}

/// Output [B, heads, N, d] and log-sum-exp [B, heads, N, 1].
pub(super) fn forward(q: &Floats, k: &Floats, v: &Floats) -> (Floats, Floats) {
    let sizes = Sizes::of(q, k);
    let [q, k, v] = [q, k, v].map(|x| x.to_contiguous());
    let (q, k, v): (&[f32], &[f32], &[f32]) = (q.storage(), k.storage(), v.storage());
    let Sizes { batch, heads, queries, keys, width } = sizes;
    let mut out = vec![0.0; q.len()];
    let mut log_sums = vec![0.0; batch * heads * queries];
    let rows = ROWS.min(queries);
    out.par_chunks_mut(sizes.query_len())
        .zip(log_sums.par_chunks_mut(queries))
        .enumerate()
        .for_each(|(head, (out, log_sums))| {
            let q = &q[head * sizes.query_len()..][..sizes.query_len()];
            let k = Matrix::dense(&k[head * sizes.key_len()..][..sizes.key_len()], keys, width);
            let v = Matrix::dense(&v[head * sizes.key_len()..][..sizes.key_len()], keys, width);
            let mut scores = vec![0.0; rows * keys];
            let blocks = out.chunks_mut(rows * width).zip(q.chunks(rows * width));
            for ((out, q), log_sums) in blocks.zip(log_sums.chunks_mut(rows)) {
                let count = log_sums.len();
                let scores = &mut scores[..count * keys];
                scores.fill(0.0);
                let q = Matrix::dense(q, count, width);
                add_product(scores, keys, q, k.transposed(), false);
                for (row, log_sum) in scores.chunks_exact_mut(keys).zip(log_sums.iter_mut()) {
                    *log_sum = soften(row, sizes.scale());
                }
                add_product(out, width, Matrix::dense(scores, count, keys), v, false);
            }
        });
    let shape = vec![batch, heads, queries, width];
    (tensor(out, shape), tensor(log_sums, vec![batch, heads, queries, 1]))
}

/// Scores to probabilities, in place; the logarithm of their sum of exponentials.
fn soften(row: &mut [f32], scale: f32) -> f32 {
    let most = row.iter().fold(f32::MIN, |most, score| most.max(*score)) * scale;
    let (chunks, rest) = row.as_chunks_mut::<16>();
    let mut lanes = [0.0f32; 16];
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = exp(*score * scale - most);
            *lane += *score;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for score in rest {
        *score = exp(*score * scale - most);
        sum += *score;
    }
    let share = 1.0 / sum;
    row.iter_mut().for_each(|score| *score *= share);
    most + sum.ln()
}

/// The gradients of queries, keys and values.
pub(super) fn backward(
    [q, k, v]: [&Floats; 3],
    output: &Floats,
    log_sums: &Floats,
    grad: &Floats,
) -> [Floats; 3] {
    let sizes = Sizes::of(q, k);
    let [q, k, v, output, grad] = [q, k, v, output, grad].map(|x| x.to_contiguous());
    let (q, k, v): (&[f32], &[f32], &[f32]) = (q.storage(), k.storage(), v.storage());
    let (output, grad): (&[f32], &[f32]) = (output.storage(), grad.storage());
    let log_sums: &[f32] = log_sums.storage();
    let Sizes { batch, heads, queries, keys, width } = sizes;
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let rows = ROWS.min(queries);
    dq.par_chunks_mut(sizes.query_len())
        .zip(dk.par_chunks_mut(sizes.key_len()).zip(dv.par_chunks_mut(sizes.key_len())))
        .enumerate()
        .for_each(|(head, (dq, (dk, dv)))| {
            let of_queries = |x: &'_ [f32]| -> std::ops::Range<usize> {
                debug_assert_eq!(x.len(), batch * heads * sizes.query_len());
                head * sizes.query_len()..(head + 1) * sizes.query_len()
            };
            let (q, output, grad) =
                (&q[of_queries(q)], &output[of_queries(output)], &grad[of_queries(grad)]);
            let keys_here = head * sizes.key_len()..(head + 1) * sizes.key_len();
            let k = Matrix::dense(&k[keys_here.clone()], keys, width);
            let v = Matrix::dense(&v[keys_here], keys, width);
            let log_sums = &log_sums[head * queries..][..queries];
            let mut scores = vec![0.0; rows * keys];
            let mut slopes = vec![0.0; rows * keys];
            for first in (0..queries).step_by(rows) {
                let count = rows.min(queries - first);
                let here = first * width..(first + count) * width;
                let (scores, slopes) = (&mut scores[..count * keys], &mut slopes[..count * keys]);
                let queries = Matrix::dense(&q[here.clone()], count, width);
                let grads = Matrix::dense(&grad[here.clone()], count, width);
                scores.fill(0.0);
                add_product(scores, keys, queries, k.transposed(), false);
                slopes.fill(0.0);
                add_product(slopes, keys, grads, v.transposed(), false);
                let lines = scores.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys));
                for (row, (scores, slopes)) in lines.enumerate() {
                    let at = (first + row) * width..(first + row + 1) * width;
                    let shared: f32 =
                        output[at.clone()].iter().zip(&grad[at]).map(|(o, g)| o * g).sum();
                    let log_sum = log_sums[first + row];
                    for (score, slope) in scores.iter_mut().zip(slopes) {
                        *score = exp(*score * sizes.scale() - log_sum);
                        *slope = *score * (*slope - shared) * sizes.scale();
                    }
                }
                let probabilities = Matrix::dense(scores, count, keys);
                let slopes = Matrix::dense(slopes, count, keys);
                add_product(dv, width, probabilities.transposed(), grads, false);
                add_product(&mut dq[here], width, slopes, k, false);
                add_product(dk, width, slopes.transposed(), queries, false);
            }
        });
    let of_keys = vec![batch, heads, keys, width];
    [
        tensor(dq, vec![batch, heads, queries, width]),
        tensor(dk, of_keys.clone()),
        tensor(dv, of_keys),
    ]
}
