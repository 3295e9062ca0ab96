//! The operations on NVIDIA's GPUs: convolutions and attention by cuDNN, products by cuBLASLt, the rest by our own
//! kernels, all on cubecl's stream.
//!
//! An image [B, C, H, W] keeps the channels of a pixel together in memory, a head of tokens [B, heads, N, d] the heads
//! of a position. Other layouts are taken, and cost a copy.

mod attention;
mod bridge;
mod descent;
mod prepared;
mod runner;
mod tensor;

use super::backend::{ConvGeometry, Engine, GroupNormGradients, Groups};
use super::nvidia::cublas::Product;
use super::nvidia::cudnn::{Epilogue, Graph};
use super::nvidia::driver::Argument::{Float, Int, Long};
use super::nvidia::kernels::{self, GroupNorm, LayerNorm};
use super::requests;
use bridge::enqueue;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
pub(super) use descent::descend;
use prepared::{Use, prepare};
pub(super) use runner::{calls, memory_in_use, time_calls};
use tensor::{cast, count, dense, dims, empty, empty_image, format, image, int, padded, unfilter};

impl Engine for CubeBackend {
    fn prepare_kernel(weight: &CubeTensor, x: &CubeTensor) -> CubeTensor {
        prepare(weight, Use::Kernel, x.dtype)
    }

    fn prepare_matrix(weight: &CubeTensor, x: &CubeTensor) -> CubeTensor {
        prepare(weight, Use::Flat, x.dtype)
    }

    fn convolve(
        x: &CubeTensor,
        kernel: &CubeTensor,
        shape: [usize; 4],
        bias: Option<&CubeTensor>,
        geometry: ConvGeometry,
    ) -> CubeTensor {
        let x = image(x);
        let plan = requests::convolution(dims(&x), shape, geometry, x.dtype);
        let [height, width] = plan.size_out();
        let out = empty_image(&x, [plan.batch, plan.channels_out, height, width], x.dtype);
        let bias = bias.map(|bias| prepare(bias, Use::Flat, x.dtype));
        let epilogue = if bias.is_some() { Epilogue::Bias } else { Epilogue::Plain };
        let graph = Graph::Convolve(plan, epilogue);
        let mut reads = vec![&x, kernel];
        reads.extend(bias.as_ref());
        enqueue(&x, &reads, &[&out], move |call| call.runner.execute(&graph, call.at));
        out
    }

    fn convolve_x_gradient(
        x: &CubeTensor,
        kernel: &CubeTensor,
        shape: [usize; 4],
        grad: &CubeTensor,
        geometry: ConvGeometry,
    ) -> CubeTensor {
        let grad = image(grad);
        let graph = Graph::ConvolveInput(requests::convolution(dims(x), shape, geometry, x.dtype));
        let out = empty_image(&grad, dims(x), grad.dtype);
        enqueue(&grad, &[&grad, kernel], &[&out], move |call| call.runner.execute(&graph, call.at));
        out
    }

    fn convolve_weight_gradient(
        x: &CubeTensor,
        shape: [usize; 4],
        grad: &CubeTensor,
        geometry: ConvGeometry,
    ) -> CubeTensor {
        let (mut x, grad) = (image(x), image(grad));
        let mut geometry = geometry;
        if requests::pads_first(geometry, x.dtype) {
            x = padded(&x, std::mem::take(&mut geometry.padding));
        }
        let graph =
            Graph::ConvolveWeight(requests::convolution(dims(&x), shape, geometry, x.dtype));
        let [num_out, num_in, h, w] = shape;
        let out = empty(&x, [num_out, h, w, num_in], x.dtype);
        enqueue(&x, &[&x, &grad], &[&out], move |call| call.runner.execute(&graph, call.at));
        unfilter(&out, [num_out, num_in, h, w])
    }

    fn sum_channels(grad: &CubeTensor) -> CubeTensor {
        let grad = image(grad);
        let [b, c, h, w] = dims(&grad);
        sum_columns(&grad, b * h * w, c)
    }

    fn norm_groups(
        x: &CubeTensor,
        shift: Option<&CubeTensor>,
        weight: &CubeTensor,
        bias: &CubeTensor,
        groups: Groups,
    ) -> (CubeTensor, CubeTensor) {
        let x = image(x);
        let [b, c, h, w] = dims(&x);
        let shift = shift.map(|shift| cast(&dense(shift), x.dtype));
        let (weight, bias) = (dense(weight), dense(bias));
        let out = empty_image(&x, [b, c, h, w], x.dtype);
        let held = (b * groups.count).next_multiple_of(4);
        let statistics = empty(&x, [2, held], DType::F32);
        let norm = norm(&x, groups);
        let shift_at = shift.as_ref().map(|_| 3);
        let mut reads = vec![&x, &weight, &bias];
        reads.extend(shift.as_ref());
        enqueue(&x, &reads, &[&out, &statistics], move |call| {
            let at = call.at;
            let [.., out, mean] = *at else { unreachable!("two are written") };
            let deviation = mean + 4 * held as u64;
            let (x, weight, bias) = (Long(at[0]), Long(at[1]), Long(at[2]));
            let shift = Long(shift_at.map_or(0, |slot: usize| at[slot]));
            let partial = Long(call.runner.scratch(norm.statistics_scratch())?);
            let (rows, channels) = (int(h * w), int(c));
            let (mean, deviation, count) = (Long(mean), Long(deviation), int(groups.count));
            let launch = norm.statistics();
            call.runner.launch(&launch, &[x, shift, partial, rows, channels])?;
            let slices = Int(launch.slices().cast_signed());
            let epsilon = Float(groups.epsilon as f32);
            call.runner.launch(
                &norm.merge(),
                &[partial, mean, deviation, int(b), rows, channels, count, slices, epsilon],
            )?;
            let silu = Int(groups.with_silu.into());
            let out = Long(out);
            call.runner.launch(
                &norm.apply(),
                &[x, shift, weight, bias, mean, deviation, out, rows, channels, count, silu],
            )
        });
        (out, statistics)
    }

    fn norm_groups_gradients(
        x: &CubeTensor,
        shift: Option<&CubeTensor>,
        weight: &CubeTensor,
        bias: &CubeTensor,
        grad: &CubeTensor,
        groups: Groups,
        statistics: &CubeTensor,
    ) -> GroupNormGradients<Self> {
        let (x, grad) = (image(x), image(grad));
        let [b, c, h, w] = dims(&x);
        let shift = shift.map(|shift| cast(&dense(shift), x.dtype));
        let (weight, bias) = (dense(weight), dense(bias));
        let dx = empty_image(&x, [b, c, h, w], x.dtype);
        let dweight = empty(&x, [c], DType::F32);
        let dbias = empty(&x, [c], DType::F32);
        let dshift = shift.as_ref().map(|_| empty(&x, [b, c], x.dtype));
        let held = dims::<2>(statistics)[1];
        let norm = norm(&x, groups);
        let mut reads = vec![&x, &weight, &bias, &grad, statistics];
        reads.extend(shift.as_ref());
        let mut writes = vec![&dx, &dweight, &dbias];
        writes.extend(dshift.as_ref());
        let first_write = reads.len();
        let has_shift = shift.is_some();
        enqueue(&x, &reads, &writes, move |call| {
            let at: Vec<_> = call.at.iter().map(|at| Long(*at)).collect();
            let [x, weight, bias, grad, mean] = at[..5] else { unreachable!("five are read") };
            let [dx, dweight, dbias] = at[first_write..][..3] else { unreachable!("and written") };
            let deviation = Long(call.at[4] + 4 * held as u64);
            let optional = |slot: usize| if has_shift { at[slot] } else { Long(0) };
            let (shift, dshift) = (optional(5), optional(first_write + 3));
            let sizes = [norm.backward_scratch(), norm.totals_scratch(), norm.pull_scratch()]
                .map(|size| size.next_multiple_of(256));
            let partial = call.runner.scratch(sizes.iter().sum())?;
            let totals = Long(partial + sizes[0] as u64);
            let pull = Long(partial + (sizes[0] + sizes[1]) as u64);
            let partial = Long(partial);
            let (rows, channels, count) = (int(h * w), int(c), int(groups.count));
            let silu = Int(groups.with_silu.into());
            let launch = norm.backward_sums();
            call.runner.launch(
                &launch,
                &[
                    x, shift, grad, weight, bias, mean, deviation, partial, rows, channels, count,
                    silu,
                ],
            )?;
            let slices = Int(launch.slices().cast_signed());
            call.runner.launch(
                &norm.backward_merge(),
                &[partial, weight, deviation, totals, pull, dshift, rows, channels, count, slices],
            )?;
            call.runner
                .launch(&norm.backward_fold(), &[totals, dbias, dweight, int(b), channels])?;
            call.runner.launch(
                &norm.backward_apply(),
                &[
                    x, shift, grad, weight, bias, mean, deviation, pull, dx, rows, channels, count,
                    silu,
                ],
            )
        });
        GroupNormGradients { x: dx, shift: dshift, weight: dweight, bias: dbias }
    }

    fn affine(x: &CubeTensor, matrix: &CubeTensor, bias: Option<&CubeTensor>) -> CubeTensor {
        let x = dense(x);
        let [rows, inner] = dims(&x);
        let [columns, _] = dims(matrix);
        let bias = bias.map(|bias| prepare(bias, Use::Flat, x.dtype));
        let out = empty(&x, [rows, columns], x.dtype);
        let sizes = [rows, columns, inner];
        let product = requests::product(sizes, [false, true], 1, x.dtype, x.dtype);
        let product = Product { has_bias: bias.is_some(), ..product };
        let mut reads = vec![&x, matrix];
        reads.extend(bias.as_ref());
        enqueue(&x, &reads, &[&out], move |call| match *call.at {
            [x, weight, bias, out] => call.runner.multiply(&product, [x, weight, out], bias),
            [x, weight, out] => call.runner.multiply(&product, [x, weight, out], 0),
            _ => unreachable!("two or three are read and one is written"),
        });
        out
    }

    fn affine_x_gradient(matrix: &CubeTensor, grad: &CubeTensor) -> CubeTensor {
        let grad = dense(grad);
        let [rows, inner] = dims(&grad);
        let [_, columns] = dims(matrix);
        let out = empty(&grad, [rows, columns], grad.dtype);
        multiply(&grad, matrix, &out, [false, false], [rows, columns, inner], 1);
        out
    }

    fn affine_weight_gradient(x: &CubeTensor, grad: &CubeTensor) -> CubeTensor {
        let (x, grad) = (dense(x), dense(grad));
        let [inner, columns] = dims(&x);
        let [_, rows] = dims(&grad);
        let out = empty(&x, [rows, columns], DType::F32);
        multiply(&grad, &x, &out, [true, false], [rows, columns, inner], 1);
        out
    }

    fn sum_rows(grad: &CubeTensor) -> CubeTensor {
        let grad = dense(grad);
        let [rows, columns] = dims(&grad);
        sum_columns(&grad, rows, columns)
    }

    fn norm_layers(
        x: &CubeTensor,
        weight: &CubeTensor,
        bias: &CubeTensor,
        epsilon: f64,
    ) -> (CubeTensor, CubeTensor) {
        let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
        let [rows, width] = dims(&x);
        let out = empty(&x, [rows, width], x.dtype);
        let held = rows.next_multiple_of(4);
        let statistics = empty(&x, [2, held], DType::F32);
        let norm = LayerNorm { format: format(&x), rows: count(rows), width: count(width) };
        enqueue(&x, &[&x, &weight, &bias], &[&out, &statistics], move |call| {
            let [x, weight, bias, out, mean] = *call.at else { unreachable!("five tensors") };
            let deviation = Long(mean + 4 * held as u64);
            let [x, weight, bias, out, mean] = [x, weight, bias, out, mean].map(Long);
            let (sizes, epsilon) = ([int(rows), int(width)], Float(epsilon as f32));
            let none = Long(0);
            call.runner.launch(
                &norm.forward(),
                &[x, none, none, weight, bias, out, mean, deviation, sizes[0], sizes[1], epsilon],
            )
        });
        (out, statistics)
    }

    fn norm_layers_gradients(
        x: &CubeTensor,
        weight: &CubeTensor,
        grad: &CubeTensor,
        statistics: &CubeTensor,
    ) -> [CubeTensor; 3] {
        let (x, weight, grad) = (dense(x), dense(weight), dense(grad));
        let [rows, width] = dims(&x);
        let dx = empty(&x, [rows, width], x.dtype);
        let (dweight, dbias) = (empty(&x, [width], DType::F32), empty(&x, [width], DType::F32));
        let held = dims::<2>(statistics)[1];
        let norm = LayerNorm { format: format(&x), rows: count(rows), width: count(width) };
        let reads = [&x, &weight, &grad, statistics];
        enqueue(&x, &reads, &[&dx, &dweight, &dbias], move |call| {
            let [x, weight, grad, mean, dx, dweight, dbias] = *call.at else {
                unreachable!("seven tensors")
            };
            let deviation = Long(mean + 4 * held as u64);
            let [x, weight, grad, mean] = [x, weight, grad, mean].map(Long);
            let [dx, dweight, dbias] = [dx, dweight, dbias].map(Long);
            let (rows, width) = (int(rows), int(width));
            let partial = Long(call.runner.scratch(norm.backward_scratch())?);
            let launch = norm.backward_sums();
            let slices = Int(launch.slices().cast_signed());
            call.runner.launch(&launch, &[x, grad, mean, deviation, partial, rows, width])?;
            call.runner.launch(&norm.backward_fold(), &[partial, dbias, dweight, slices, width])?;
            call.runner.launch(
                &norm.backward(),
                &[x, grad, Long(0), weight, mean, deviation, dx, rows, width],
            )
        });
        [dx, dweight, dbias]
    }

    fn geglu(x: &CubeTensor) -> CubeTensor {
        let x = dense(x);
        let [rows, both] = dims(&x);
        let half = both / 2;
        let out = empty(&x, [rows, half], x.dtype);
        let launch = kernels::geglu(format(&x), count(rows), count(half));
        enqueue(&x, &[&x], &[&out], move |call| {
            let [x, out] = [Long(call.at[0]), Long(call.at[1])];
            call.runner.launch(&launch, &[x, out, int(rows), int(half)])
        });
        out
    }

    fn geglu_gradient(x: &CubeTensor, grad: &CubeTensor) -> CubeTensor {
        let (x, grad) = (dense(x), dense(grad));
        let [rows, both] = dims(&x);
        let out = empty(&x, [rows, both], x.dtype);
        let launch = kernels::geglu_backward(format(&x), count(rows), count(both / 2));
        enqueue(&x, &[&x, &grad], &[&out], move |call| {
            let [x, grad, out] = [Long(call.at[0]), Long(call.at[1]), Long(call.at[2])];
            call.runner.launch(&launch, &[x, grad, out, int(rows), int(both / 2)])
        });
        out
    }

    fn attend(q: &CubeTensor, k: &CubeTensor, v: &CubeTensor) -> (CubeTensor, CubeTensor) {
        attention::forward(q, k, v)
    }

    fn attend_gradients(
        inputs: [&CubeTensor; 3],
        output: &CubeTensor,
        log_sums: &CubeTensor,
        grad: &CubeTensor,
    ) -> [CubeTensor; 3] {
        attention::backward(inputs, output, log_sums, grad)
    }

    fn join(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
        let (a, b) = (image(a), image(b));
        let [batch, first, h, w] = dims(&a);
        let second = dims::<4>(&b)[1];
        let out = empty_image(&a, [batch, first + second, h, w], a.dtype);
        let rows = batch * h * w;
        let launch = kernels::concat(format(&a), count(rows), count(first), count(second));
        enqueue(&a, &[&a, &b], &[&out], move |call| {
            let [a, b, out] = [Long(call.at[0]), Long(call.at[1]), Long(call.at[2])];
            call.runner.launch(&launch, &[a, b, out, int(rows), int(first), int(second)])
        });
        out
    }

    fn part(x: &CubeTensor, channels: usize) -> [CubeTensor; 2] {
        let x = image(x);
        let [batch, total, h, w] = dims(&x);
        let rest = total - channels;
        let a = empty_image(&x, [batch, channels, h, w], x.dtype);
        let b = empty_image(&x, [batch, rest, h, w], x.dtype);
        let rows = batch * h * w;
        let launch = kernels::split(format(&x), count(rows), count(channels), count(rest));
        enqueue(&x, &[&x], &[&a, &b], move |call| {
            let [x, a, b] = [Long(call.at[0]), Long(call.at[1]), Long(call.at[2])];
            call.runner.launch(&launch, &[x, a, b, int(rows), int(channels), int(rest)])
        });
        [a, b]
    }

    fn repeat_pixels(x: &CubeTensor, [rows, columns]: [usize; 2]) -> CubeTensor {
        let x = image(x);
        let [b, c, h, w] = dims(&x);
        let out = empty_image(&x, [b, c, rows, columns], x.dtype);
        let launch = kernels::repeat(format(&x), count(b), count(rows), count(columns), count(c));
        enqueue(&x, &[&x], &[&out], move |call| {
            let [x, out] = [Long(call.at[0]), Long(call.at[1])];
            call.runner.launch(&launch, &[x, out, int(h), int(w), int(rows), int(columns), int(c)])
        });
        out
    }

    fn sum_pixels(grad: &CubeTensor, [h, w]: [usize; 2]) -> CubeTensor {
        let grad = image(grad);
        let [b, c, rows, columns] = dims(&grad);
        let out = empty_image(&grad, [b, c, h, w], grad.dtype);
        let launch =
            kernels::repeat_backward(format(&grad), count(b), count(h), count(w), count(c));
        enqueue(&grad, &[&grad], &[&out], move |call| {
            let [grad, out] = [Long(call.at[0]), Long(call.at[1])];
            call.runner
                .launch(&launch, &[grad, out, int(h), int(w), int(rows), int(columns), int(c)])
        });
        out
    }
}

fn norm(x: &CubeTensor, groups: Groups) -> GroupNorm {
    let [b, c, h, w] = dims(x);
    GroupNorm {
        format: format(x),
        batch: count(b),
        rows: count(h * w),
        channels: count(c),
        groups: count(groups.count),
    }
}

/// Sums over the rows of memory [rows, columns], in f32.
fn sum_columns(x: &CubeTensor, rows: usize, columns: usize) -> CubeTensor {
    let out = empty(x, [columns], DType::F32);
    let launch = kernels::column_sums(format(x), count(rows), count(columns));
    enqueue(x, &[x], &[&out], move |call| {
        let slices = launch.slices();
        let partial = Long(call.runner.scratch(4 * slices as usize * columns)?);
        let [x, out] = [Long(call.at[0]), Long(call.at[1])];
        call.runner.launch(&launch, &[x, partial, int(rows), int(columns)])?;
        let slices = Int(slices.cast_signed());
        let fold = kernels::fold(count(columns), 1);
        call.runner.launch(&fold, &[partial, out, Long(0), slices, int(columns)])
    });
    out
}

/// `out` [rows, columns] = a · b, `batch` times; the format of `out` is its own.
fn multiply(
    a: &CubeTensor,
    b: &CubeTensor,
    out: &CubeTensor,
    transposes: [bool; 2],
    sizes: [usize; 3],
    batch: usize,
) {
    let product = requests::product(sizes, transposes, batch, a.dtype, out.dtype);
    enqueue(a, &[a, b], &[out], move |call| {
        let [a, b, out] = [call.at[0], call.at[1], call.at[2]];
        call.runner.multiply(&product, [a, b, out], 0)
    });
}
