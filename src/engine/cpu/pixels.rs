//! Channels beside each other, and pixels as squares of four.

use super::matrix::tensor;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

type Floats = FloatTensor<Flex>;

/// [B, C, H, W] and [B, D, H, W] to [B, C + D, H, W].
pub(super) fn join(a: &Floats, b: &Floats) -> Floats {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let [batch, first, height, width] = a.layout().shape().dims();
    let second = b.layout().shape()[1];
    let (len_a, len_b) = (first * height * width, second * height * width);
    let (a, b): (&[f32], &[f32]) = (a.storage(), b.storage());
    let mut out = Vec::with_capacity(a.len() + b.len());
    for (a, b) in a.chunks_exact(len_a).zip(b.chunks_exact(len_b)) {
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }
    tensor(out, vec![batch, first + second, height, width])
}

/// The first `channels` of [B, C, H, W] and the rest.
pub(super) fn part(x: &Floats, channels: usize) -> [Floats; 2] {
    let x = x.to_contiguous();
    let [batch, total, height, width] = x.layout().shape().dims();
    let area = height * width;
    let values: &[f32] = x.storage();
    let mut parts =
        [channels, total - channels].map(|channels| Vec::with_capacity(batch * channels * area));
    for image in values.chunks_exact(total * area) {
        let (first, second) = image.split_at(channels * area);
        parts[0].extend_from_slice(first);
        parts[1].extend_from_slice(second);
    }
    let [first, second] = parts;
    [
        tensor(first, vec![batch, channels, height, width]),
        tensor(second, vec![batch, total - channels, height, width]),
    ]
}

/// [B, C, H, W] to [B, C, h, w], each 2 H or 2 H - 1.
pub(super) fn repeat(x: &Floats, [rows, columns]: [usize; 2]) -> Floats {
    let x = x.to_contiguous();
    let [batch, channels, height, width] = x.layout().shape().dims();
    let values: &[f32] = x.storage();
    let mut out = vec![0.0; batch * channels * rows * columns];
    out.par_chunks_mut(rows * columns).zip(values.par_chunks(height * width)).for_each(
        |(out, plane)| {
            for (row, line) in out.chunks_exact_mut(columns).enumerate() {
                let from = &plane[row / 2 * width..][..width];
                for (pair, value) in line.chunks_mut(2).zip(from) {
                    pair.fill(*value);
                }
            }
        },
    );
    tensor(out, vec![batch, channels, rows, columns])
}

/// The gradient of [`repeat`]: [B, C, h, w] to [B, C, H, W].
pub(super) fn sum(grad: &Floats, [height, width]: [usize; 2]) -> Floats {
    let grad = grad.to_contiguous();
    let [batch, channels, rows, columns] = grad.layout().shape().dims();
    let values: &[f32] = grad.storage();
    let mut out = vec![0.0; batch * channels * height * width];
    out.par_chunks_mut(height * width).zip(values.par_chunks(rows * columns)).for_each(
        |(out, plane)| {
            for (row, line) in plane.chunks_exact(columns).enumerate() {
                let to = &mut out[row / 2 * width..][..width];
                for (to, pair) in to.iter_mut().zip(line.chunks(2)) {
                    *to += pair.iter().sum::<f32>();
                }
            }
        },
    );
    tensor(out, vec![batch, channels, height, width])
}
