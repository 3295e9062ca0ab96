//! Convolution as matrix products over tiles that stay in the cache.

use super::super::backend::ConvGeometry;
use super::matrix::{Matrix, add_product, sum, tensor};
use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::ConvOptions;
use rayon::prelude::*;

/// Most values of a tile of patches: 1 MiB, about what a core's own cache holds.
const MAX_TILE: usize = 1 << 18;
/// Sums of the weight gradient taken beside each other, whatever the number of threads.
const NUM_PARTIAL_SUMS: usize = 8;

/// [B, in, H, W], [out, in, k, k] and [out] to [B, out, H', W'].
pub(super) fn forward(
    x: &FloatTensor<Flex>,
    weight: &FloatTensor<Flex>,
    bias: Option<&FloatTensor<Flex>>,
    geometry: ConvGeometry,
) -> FloatTensor<Flex> {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let bias = bias.map(|bias| bias.to_contiguous());
    let bias = bias.as_ref().map(|bias| bias.storage());
    let patches = Patches::of(&x, weight.layout().shape()[2], geometry);
    let num_out = weight.layout().shape()[0];
    let out = patches.convolve(x.storage(), weight.storage(), bias, num_out);
    tensor(out, vec![patches.batch, num_out, patches.out_height, patches.out_width])
}

/// The gradient of the input.
pub(super) fn x_gradient(
    x: &FloatTensor<Flex>,
    weight: &FloatTensor<Flex>,
    grad: &FloatTensor<Flex>,
    geometry: ConvGeometry,
) -> FloatTensor<Flex> {
    if geometry.stride != 1 {
        let ConvGeometry { stride, padding } = geometry;
        let options = ConvOptions::new_with_padding([stride; 2], [padding; 2], [1; 2], 1);
        return Flex::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options);
    }
    // The convolution of the output's gradient with the kernel turned by half a turn.
    let (weight, grad) = (weight.to_contiguous(), grad.to_contiguous());
    let patches = Patches::of(x, weight.layout().shape()[2], geometry);
    let Patches { batch, num_in, height, width, kernel, .. } = patches;
    let num_out = weight.layout().shape()[0];
    let taps = kernel * kernel;
    let weight: &[f32] = weight.storage();
    let mut turned = vec![0.0; weight.len()];
    for (at, row) in turned.chunks_exact_mut(taps).enumerate() {
        let (from_in, from_out) = (at / num_out, at % num_out);
        let tap = &weight[(from_out * num_in + from_in) * taps..][..taps];
        row.iter_mut().zip(tap.iter().rev()).for_each(|(to, from)| *to = *from);
    }
    let backwards = Patches {
        num_in: num_out,
        height: patches.out_height,
        width: patches.out_width,
        out_height: height,
        out_width: width,
        before: kernel - 1 - patches.before,
        ..patches
    };
    let out = backwards.convolve(grad.storage(), &turned, None, num_in);
    tensor(out, vec![batch, num_in, height, width])
}

/// The gradient of the kernel.
pub(super) fn weight_gradient(
    x: &FloatTensor<Flex>,
    shape: [usize; 4],
    grad: &FloatTensor<Flex>,
    geometry: ConvGeometry,
) -> FloatTensor<Flex> {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let patches = Patches::of(&x, shape[2], geometry);
    let num_out = shape[0];
    let (x, grad): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let images_per_sum = patches.batch.div_ceil(NUM_PARTIAL_SUMS).max(1);
    let num_sums = patches.batch.div_ceil(images_per_sum);
    let partial: Vec<Vec<f32>> = (0..num_sums)
        .into_par_iter()
        .map(|at| {
            let images = at * images_per_sum..((at + 1) * images_per_sum).min(patches.batch);
            patches.weight_gradient(x, grad, num_out, images)
        })
        .collect();
    let total = partial.into_iter().reduce(|mut total, part| {
        total.iter_mut().zip(&part).for_each(|(total, part)| *total += part);
        total
    });
    let total = total.expect("a batch holds at least one image");
    tensor(total, shape.to_vec())
}

/// The gradient of the bias.
pub(super) fn bias_gradient(grad: &FloatTensor<Flex>) -> FloatTensor<Flex> {
    let grad = grad.to_contiguous();
    let shape = grad.layout().shape();
    let (num_out, area) = (shape[1], shape[2] * shape[3]);
    let values: &[f32] = grad.storage();
    let planes: Vec<f32> = values.par_chunks(area).map(sum).collect();
    let mut total = vec![0.0; num_out];
    for image in planes.chunks_exact(num_out) {
        total.iter_mut().zip(image).for_each(|(total, plane)| *total += plane);
    }
    tensor(total, vec![num_out])
}

/// The patches of an image that a kernel meets.
#[derive(Debug, Clone, Copy)]
struct Patches {
    batch: usize,
    num_in: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    kernel: usize,
    stride: usize,
    before: usize,
}

impl Patches {
    fn of(
        x: &FloatTensor<Flex>,
        kernel: usize,
        ConvGeometry { stride, padding: (before, after) }: ConvGeometry,
    ) -> Self {
        let [batch, num_in, height, width] = x.layout().shape().dims();
        let out = |side: usize| (side + before + after - kernel) / stride + 1;
        let (out_height, out_width) = (out(height), out(width));
        Self { batch, num_in, height, width, out_height, out_width, kernel, stride, before }
    }

    /// Values of one patch.
    fn depth(&self) -> usize {
        self.num_in * self.kernel * self.kernel
    }

    /// A patch is a pixel, so the images already are what [`gather`](Self::gather) would make.
    fn are_pixels(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.before == 0 && self.out_width == self.width
    }

    /// Output rows whose patches fit a tile.
    fn rows_per_tile(&self) -> usize {
        (MAX_TILE / (self.depth() * self.out_width)).clamp(1, self.out_height)
    }

    /// Whole images whose patches fit a tile; at least one.
    fn images_per_tile(&self) -> usize {
        (MAX_TILE / (self.depth() * self.out_width * self.out_height)).clamp(1, self.batch)
    }

    /// [B, in, H, W] and [out, depth] to [B, out, H', W'].
    fn convolve(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        num_out: usize,
    ) -> Vec<f32> {
        let area = self.out_height * self.out_width;
        let image_in = self.num_in * self.height * self.width;
        let image_out = num_out * area;
        let weight = Matrix::dense(weight, num_out, self.depth());
        let mut out = vec![0.0; self.batch * image_out];
        // Both cores want something to do before a tile is filled with more images.
        let images = self.images_per_tile().min(self.batch.div_ceil(8)).max(1);
        let is_alone = self.batch <= images;
        out.par_chunks_mut(images * image_out).zip(x.par_chunks(images * image_in)).for_each(
            |(out, x)| {
                if let Some(bias) = bias {
                    for (plane, bias) in out.chunks_exact_mut(area).zip(bias.iter().cycle()) {
                        plane.fill(*bias);
                    }
                }
                let count = out.len() / image_out;
                if self.are_pixels() {
                    for (out, x) in out.chunks_exact_mut(image_out).zip(x.chunks_exact(image_in)) {
                        let x = Matrix::dense(x, self.num_in, area);
                        add_product(out, area, weight, x, is_alone);
                    }
                } else if count == 1 {
                    let rows_per_tile = self.rows_per_tile();
                    let mut tile = vec![0.0; self.depth() * rows_per_tile * self.out_width];
                    for first in (0..self.out_height).step_by(rows_per_tile) {
                        let rows = rows_per_tile.min(self.out_height - first);
                        let columns = rows * self.out_width;
                        self.gather(x, first..first + rows, &mut tile, columns, 0);
                        let tile = Matrix::dense(&tile, self.depth(), columns);
                        let out = &mut out[first * self.out_width..];
                        add_product(out, area, weight, tile, is_alone);
                    }
                } else {
                    let columns = count * area;
                    let mut tile = vec![0.0; self.depth() * columns];
                    for (at, x) in x.chunks_exact(image_in).enumerate() {
                        self.gather(x, 0..self.out_height, &mut tile, columns, at * area);
                    }
                    let mut product = vec![0.0; num_out * columns];
                    let tile = Matrix::dense(&tile, self.depth(), columns);
                    add_product(&mut product, columns, weight, tile, is_alone);
                    for (at, plane) in out.chunks_exact_mut(area).enumerate() {
                        let (image, channel) = (at / num_out, at % num_out);
                        let from = &product[channel * columns + image * area..][..area];
                        plane.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                    }
                }
            },
        );
        out
    }

    /// The part of the kernel's gradient [out, depth] that comes from some `images`.
    fn weight_gradient(
        &self,
        x: &[f32],
        grad: &[f32],
        num_out: usize,
        images: std::ops::Range<usize>,
    ) -> Vec<f32> {
        let area = self.out_height * self.out_width;
        let image_in = self.num_in * self.height * self.width;
        let depth = self.depth();
        let mut total = vec![0.0; num_out * depth];
        let rows_per_tile = self.rows_per_tile();
        let mut tile = Vec::new();
        if !self.are_pixels() {
            tile.resize(depth * rows_per_tile * self.out_width, 0.0);
        }
        for image in images {
            let x = &x[image * image_in..][..image_in];
            let grad = &grad[image * num_out * area..][..num_out * area];
            if self.are_pixels() {
                let grad = Matrix::dense(grad, num_out, area);
                let x = Matrix::dense(x, self.num_in, area).transposed();
                add_product(&mut total, depth, grad, x, false);
                continue;
            }
            for first in (0..self.out_height).step_by(rows_per_tile) {
                let rows = rows_per_tile.min(self.out_height - first);
                let columns = rows * self.out_width;
                self.gather(x, first..first + rows, &mut tile, columns, 0);
                let grad = Matrix {
                    values: &grad[first * self.out_width..],
                    rows: num_out,
                    columns,
                    row_step: area,
                    column_step: 1,
                };
                let tile = Matrix::dense(&tile, depth, columns).transposed();
                add_product(&mut total, depth, grad, tile, false);
            }
        }
        total
    }

    /// Writes the patches of one image for some output `rows` as columns of `tile`, whose rows are
    /// `row_step` long, from column `start` on.
    fn gather(
        &self,
        image: &[f32],
        rows: std::ops::Range<usize>,
        tile: &mut [f32],
        row_step: usize,
        start: usize,
    ) {
        let taps = self.kernel * self.kernel;
        for (at, line) in tile.chunks_exact_mut(row_step).take(self.depth()).enumerate() {
            let (channel, tap) = (at / taps, at % taps);
            let (down, across) = (tap / self.kernel, tap % self.kernel);
            let plane = &image[channel * self.height * self.width..][..self.height * self.width];
            let line = &mut line[start..];
            for (row, out) in rows.clone().zip(line.chunks_exact_mut(self.out_width)) {
                match (row * self.stride + down).checked_sub(self.before) {
                    Some(y) if y < self.height => {
                        self.gather_row(&plane[y * self.width..][..self.width], across, out);
                    }
                    _ => out.fill(0.0),
                }
            }
        }
    }

    /// `out`[i] = `row`[i · stride + across - before], zero outside.
    fn gather_row(&self, row: &[f32], across: usize, out: &mut [f32]) {
        if self.stride == 1 {
            let zeros = self.before.saturating_sub(across).min(out.len());
            let from = across.saturating_sub(self.before).min(row.len());
            let (before, rest) = out.split_at_mut(zeros);
            let count = rest.len().min(row.len() - from);
            before.fill(0.0);
            rest[..count].copy_from_slice(&row[from..from + count]);
            rest[count..].fill(0.0);
            return;
        }
        for (at, out) in out.iter_mut().enumerate() {
            let x = (at * self.stride + across).checked_sub(self.before);
            *out = x.and_then(|x| row.get(x)).copied().unwrap_or(0.0);
        }
    }
}
