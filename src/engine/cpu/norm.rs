//! Group norm, with or without the SiLU that nearly always follows it.

use super::super::backend::Groups;
use super::exponential::sigmoid;
use super::matrix::{sum, tensor};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

/// Sizes of a group norm.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupNormGeometry {
    shape: [usize; 4],
    num_groups: usize,
    epsilon: f64,
    with_silu: bool,
}

impl GroupNormGeometry {
    pub(super) fn new(x: &FloatTensor<Flex>, groups: Groups) -> Self {
        let Groups { count, epsilon, with_silu } = groups;
        Self { shape: x.layout().shape().dims(), num_groups: count, epsilon, with_silu }
    }

    fn channels_per_group(&self) -> usize {
        self.shape[1] / self.num_groups
    }

    fn area(&self) -> usize {
        self.shape[2] * self.shape[3]
    }

    /// Values of one group of one image: they lie next to each other.
    fn group_len(&self) -> usize {
        self.channels_per_group() * self.area()
    }

    /// The channels of the group with this number, counted over the images.
    fn channels(&self, group: usize) -> std::ops::Range<usize> {
        let first = group % self.num_groups * self.channels_per_group();
        first..first + self.channels_per_group()
    }
}

/// Gradients of input, weight and bias.
pub(super) type GroupNormGradients = [FloatTensor<Flex>; 3];

/// [B, C, H, W] to the same, and what [`backward`] wants to know again.
pub(super) fn forward(
    x: &FloatTensor<Flex>,
    weight: &FloatTensor<Flex>,
    bias: &FloatTensor<Flex>,
    geometry: GroupNormGeometry,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
    let (x, weight, bias): (&[f32], &[f32], &[f32]) =
        (x.storage(), weight.storage(), bias.storage());
    let (len, area) = (geometry.group_len(), geometry.area());
    let mut out = vec![0.0; x.len()];
    let groups = out.par_chunks_mut(len).zip(x.par_chunks(len)).enumerate();
    let statistics: Vec<[f32; 2]> = groups
        .map(|(group, (out, x))| {
            let mean = sum(x) / len as f32;
            let variance = sum_of(x, |x| (x - mean) * (x - mean)) / len as f32;
            let scale = (1.0 / (f64::from(variance) + geometry.epsilon).sqrt()) as f32;
            let planes = out.chunks_exact_mut(area).zip(x.chunks_exact(area));
            for (channel, (out, x)) in geometry.channels(group).zip(planes) {
                let factor = scale * weight[channel];
                let offset = bias[channel] - mean * factor;
                if geometry.with_silu {
                    for (out, x) in out.iter_mut().zip(x) {
                        let u = x * factor + offset;
                        *out = u * sigmoid(u);
                    }
                } else {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor + offset);
                }
            }
            [mean, scale]
        })
        .collect();
    let statistics =
        tensor(statistics.into_flattened(), vec![geometry.shape[0] * geometry.num_groups, 2]);
    (tensor(out, geometry.shape.to_vec()), statistics)
}

/// The gradients of input, weight and bias, from that of the output.
pub(super) fn backward(
    x: &FloatTensor<Flex>,
    weight: &FloatTensor<Flex>,
    bias: &FloatTensor<Flex>,
    grad: &FloatTensor<Flex>,
    geometry: GroupNormGeometry,
    statistics: &FloatTensor<Flex>,
) -> GroupNormGradients {
    let (statistics, _) = statistics.storage::<f32>().as_chunks::<2>();
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
    let grad = grad.to_contiguous();
    let (x, grad): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let (len, area) = (geometry.group_len(), geometry.area());
    let mut out = vec![0.0; x.len()];
    let groups = out.par_chunks_mut(len).zip(x.par_chunks(len)).zip(grad.par_chunks(len));
    // Per channel of each image: the sums of u' and of u' · x̂, where x̂ is the normalised input, u = w x̂ + b.
    let sums: Vec<Vec<[f32; 2]>> = groups
        .enumerate()
        .map(|(group, ((out, x), grad))| {
            let [mean, scale] = statistics[group];
            let channels = geometry.channels(group);
            let mut sums = Vec::with_capacity(channels.len());
            let planes = x.chunks_exact(area).zip(grad.chunks_exact(area));
            for ((channel, (x, grad)), out) in
                channels.clone().zip(planes).zip(out.chunks_exact_mut(area))
            {
                if geometry.with_silu {
                    let factor = scale * weight[channel];
                    let offset = bias[channel] - mean * factor;
                    for ((out, x), grad) in out.iter_mut().zip(x).zip(grad) {
                        let u = x * factor + offset;
                        let s = sigmoid(u);
                        *out = grad * s * (1.0 + u * (1.0 - s));
                    }
                } else {
                    out.copy_from_slice(grad);
                }
                sums.push([sum(out), scale * sum_of_pairs(out, x, |u, x| u * (x - mean))]);
            }
            let weighted = |which: usize| {
                let terms = channels.clone().zip(&sums).map(|(at, sum)| weight[at] * sum[which]);
                terms.sum::<f32>() / len as f32
            };
            let (mean_u, mean_ux) = (weighted(0), weighted(1));
            for ((channel, x), out) in
                channels.zip(x.chunks_exact(area)).zip(out.chunks_exact_mut(area))
            {
                let w = weight[channel];
                for (out, x) in out.iter_mut().zip(x) {
                    let normal = (x - mean) * scale;
                    *out = scale * (*out * w - mean_u - normal * mean_ux);
                }
            }
            sums
        })
        .collect();
    let num_channels = geometry.shape[1];
    let mut totals = [vec![0.0; num_channels], vec![0.0; num_channels]];
    for (at, [bias, weight]) in sums.into_iter().flatten().enumerate() {
        totals[0][at % num_channels] += bias;
        totals[1][at % num_channels] += weight;
    }
    let [bias, weight] = totals.map(|total| tensor(total, vec![num_channels]));
    [tensor(out, geometry.shape.to_vec()), weight, bias]
}

fn sum_of(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum_of_pairs(values, values, |value, _| term(value))
}

/// The sum of a term per pair, in sixteen interleaved parts.
fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(*a, *b);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum::<f32>();
    lanes.iter().sum::<f32>() + rest
}
