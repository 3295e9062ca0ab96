//! The kernels themselves, compiled for this machine through `host_shim.h`, against formulas in f64. Gradients are
//! held against central differences of those formulas.
//!
//! With `UMBRA_TEST_GPU=1` the same tests run on the first GPU.

mod machine;

use super::*;
use crate::engine::nvidia::libraries::LibraryError;
use crate::engine::nvidia::nvrtc::{Nvrtc, NvrtcError};
use machine::{Argument, Buffer, Machine, NULL, Order, arguments, machine};
use std::time::{Duration, Instant};

/// Entry points without a format.
const PLAIN: [&str; 6] =
    ["fold", "group_norm_merge", "sum_up", "gradient_squares", "gradient_norm", "adamw"];

/// Entry points that come as `_f32` and `_bf16`.
const BY_FORMAT: [&str; 38] = [
    "column_sums",
    "group_norm_statistics",
    "group_norm_apply",
    "group_norm_backward_sums",
    "group_norm_backward_merge",
    "group_norm_backward_apply",
    "layer_norm_0",
    "layer_norm_2",
    "layer_norm_5",
    "layer_norm_8",
    "layer_norm_backward_0",
    "layer_norm_backward_2",
    "layer_norm_backward_5",
    "layer_norm_backward_8",
    "layer_norm_backward_sums",
    "gelu",
    "gelu_backward",
    "silu",
    "silu_backward",
    "add",
    "combine",
    "add_bias",
    "geglu",
    "geglu_backward",
    "cast_f32",
    "cast_bf16",
    "swap_f32",
    "swap_bf16",
    "concat",
    "split",
    "repeat",
    "repeat_backward",
    "softmax",
    "softmax_backward",
    "add_noise",
    "weighted_error",
    "weighted_error_backward",
    "accumulate",
];

const FORMATS: [Format; 2] = [Format::F32, Format::Bf16];

// ---- on a GPU's compiler ----

#[test]
fn nvrtc_compiles_them_without_spilling() {
    let nvrtc = match Nvrtc::open() {
        Ok(nvrtc) => nvrtc,
        Err(LibraryError::Missing { file, .. }) => return say(&format!("{file} is not found")),
        Err(error) => panic!("{error}"),
    };
    for arch in ["sm_80", "sm_90", "sm_100"] {
        let start = Instant::now();
        let compiled = match nvrtc.compile_with(SOURCE, arch, &["--ptxas-options=-v"]) {
            Ok(compiled) => compiled,
            Err(NvrtcError::Refused { log, .. })
                if arch == "sm_100" && log.contains("architecture") =>
            {
                say("this NVRTC does not know sm_100");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let took = start.elapsed();
        // 4 s on two busy cores; a start must not wait for long.
        assert!(took < Duration::from_secs(20), "{arch} took {took:?}");
        let log = compiled.log;
        let spilling: Vec<&str> =
            log.lines().filter(|line| line.contains("spill") && !is_free_of_spills(line)).collect();
        assert!(spilling.is_empty(), "{arch}: {spilling:?}");
        let code = String::from_utf8_lossy(&compiled.cubin);
        for name in names() {
            assert!(code.contains(&format!(".text.{name}\0")), "{arch} lacks {name}");
        }
    }
}

fn is_free_of_spills(line: &str) -> bool {
    line.contains(" 0 bytes spill stores, 0 bytes spill loads")
}

// ---- norms ----

/// One layer for the tests of group norm.
struct GroupNormCase {
    shape: GroupNorm,
    has_add: bool,
    is_silu: bool,
    mean: f64,
}

fn group_norm_cases() -> Vec<GroupNormCase> {
    // Scalar path, packs that span groups, several tiles of columns, several slices, one row, one group.
    let shapes = [
        (2, 37, 40, 4),
        (3, 16, 30, 3),
        (1, 301, 320, 32),
        (2, 9, 640, 32),
        (2, 1, 24, 3),
        (1, 33, 5, 1),
        (1, 65, 72, 1),
    ];
    let mut cases = Vec::new();
    for (index, (batch, rows, channels, groups)) in shapes.into_iter().enumerate() {
        for format in FORMATS {
            let shape = GroupNorm { format, batch, rows, channels, groups };
            let has_add = index % 2 == 0;
            cases.push(GroupNormCase { shape, has_add, is_silu: index % 3 != 1, mean: 0.5 });
        }
    }
    // 20,000 standard deviations from zero: squares of such values have no digits left for the variance.
    let shape = GroupNorm { format: Format::F32, batch: 2, rows: 500, channels: 16, groups: 2 };
    cases.push(GroupNormCase { shape, has_add: false, is_silu: false, mean: 20_000.0 });
    cases
}

/// y of group norm, in f64.
fn group_norm(case: &GroupNormCase, inputs: [&[f64]; 4]) -> Vec<f64> {
    let GroupNorm { batch, rows, channels, groups, .. } = case.shape;
    let [n, r, c, g] = [batch, rows, channels, groups].map(|size| size as usize);
    let [x, add, weight, bias] = inputs;
    let width = c / g;
    let mut y = vec![0.0; x.len()];
    for image in 0..n {
        for group in 0..g {
            let cells = || (0..r).flat_map(|row| (0..width).map(move |k| (row, group * width + k)));
            let at = |(row, channel)| (image * r + row) * c + channel;
            let value = |(row, channel)| {
                x[at((row, channel))] + if case.has_add { add[image * c + channel] } else { 0.0 }
            };
            let (mean, rstd) = statistics(cells().map(value));
            for cell in cells() {
                let u = (value(cell) - mean) * rstd * weight[cell.1] + bias[cell.1];
                y[at(cell)] = if case.is_silu { silu_of(u) } else { u };
            }
        }
    }
    y
}

#[test]
fn group_norm_is_its_formula() {
    let Some(machine) = machine() else { return };
    for (seed, case) in (1..).zip(group_norm_cases()) {
        let GroupNorm { format, batch, rows, channels, groups } = case.shape;
        let num = (batch * rows * channels) as usize;
        let x = Numbers { seed, mean: case.mean, spread: 1.0 }.draw(format, num);
        let add = Numbers { seed: seed + 100, mean: 0.0, spread: 1.0 }
            .draw(format, (batch * channels) as usize);
        let dy = Numbers { seed: seed + 200, mean: 0.1, spread: 1.0 }.draw(format, num);
        let weight = Numbers { seed: seed + 300, mean: 1.0, spread: 0.3 }
            .draw(Format::F32, channels as usize);
        let bias = Numbers { seed: seed + 400, mean: 0.0, spread: 0.3 }
            .draw(Format::F32, channels as usize);

        let shape = case.shape;
        let run = |order: Order| -> Vec<Vec<f64>> {
            let [x, dy] = [&x, &dy].map(|values| Buffer::of(format, values));
            let add_buffer = Buffer::of(format, &add);
            let add = if case.has_add { Argument::from(&add_buffer) } else { NULL };
            let [weight, bias] = [&weight, &bias].map(|values| Buffer::of(Format::F32, values));
            let statistics = |count: u32| Buffer::new(Format::F32, count as usize);
            let [mean, rstd] = [(); 2].map(|()| statistics(batch * groups));
            let y = Buffer::new(format, num);
            let silu = u32::from(case.is_silu);

            let partial = Buffer::scratch(shape.statistics_scratch());
            let slices = shape.statistics().slices();
            machine.run(order, shape.statistics(), &arguments![&x, add, &partial, rows, channels]);
            let merge =
                arguments![&partial, &mean, &rstd, batch, rows, channels, groups, slices, 1e-5_f32];
            machine.run(order, shape.merge(), &merge);
            let apply =
                arguments![&x, add, &weight, &bias, &mean, &rstd, &y, rows, channels, groups, silu];
            machine.run(order, shape.apply(), &apply);

            let partial = Buffer::scratch(shape.backward_scratch());
            let totals = Buffer::scratch(shape.totals_scratch());
            let pull = Buffer::scratch(shape.pull_scratch());
            let dx = Buffer::new(format, num);
            let dadd = Buffer::new(format, (batch * channels) as usize);
            let [dweight, dbias] = [(); 2].map(|()| statistics(channels));
            let slices = shape.backward_sums().slices();
            let sums = arguments![
                &x, add, &dy, &weight, &bias, &mean, &rstd, &partial, rows, channels, groups, silu
            ];
            machine.run(order, shape.backward_sums(), &sums);
            let merge = arguments![
                &partial, &weight, &rstd, &totals, &pull, &dadd, rows, channels, groups, slices
            ];
            machine.run(order, shape.backward_merge(), &merge);
            let fold = arguments![&totals, &dbias, &dweight, batch, channels];
            machine.run(order, shape.backward_fold(), &fold);
            let apply = arguments![
                &x, add, &dy, &weight, &bias, &mean, &rstd, &pull, &dx, rows, channels, groups,
                silu
            ];
            machine.run(order, shape.backward_apply(), &apply);
            [&y, &dx, &dadd, &dweight, &dbias].map(Buffer::read).into()
        };
        let results = in_both_orders(run);
        let what = format!("{shape:?}, mean {}", case.mean);
        // A mean of 20,000 has an ulp of 2e-3.
        let precision = if case.mean > 100.0 { 2e-3 } else { 1e-5 };
        let near = |part: &str, format, got: &[f64], want: &[f64]| {
            assert_near(&format!("{part} of {what}"), Tolerance { format, precision }, got, want);
        };
        let inputs = [&x, &add, &weight, &bias].map(Vec::as_slice);
        near("y", format, &results[0], &group_norm(&case, inputs));
        let parts = ["dx", "dadd", "dweight", "dbias"];
        for (index, part) in parts.into_iter().enumerate() {
            let loss = |values: &[f64]| {
                let mut inputs = inputs;
                inputs[index] = values;
                dot(&group_norm(&case, inputs), &dy)
            };
            let chosen = choose(inputs[index].len());
            let got: Vec<f64> = chosen.iter().map(|&i| results[index + 1][i]).collect();
            let format = if index < 2 { format } else { Format::F32 };
            // Where x has no `add`, its gradient is still the sum over rows of dx, which is not 0 only by rounding.
            if part == "dadd" && !case.has_add {
                continue;
            }
            near(part, format, &got, &slopes(loss, inputs[index], &chosen));
        }
    }
}

#[test]
fn a_large_mean_leaves_the_variance() {
    let Some(machine) = machine() else { return };
    let (rows, channels) = (500_u32, 16_u32);
    let format = Format::F32;
    let shape = GroupNorm { format, batch: 1, rows, channels, groups: 1 };
    let x = Numbers { seed: 1, mean: 20_000.0, spread: 1.0 }.draw(format, 500 * 16);
    let run = |order| -> Vec<Vec<f64>> {
        let x = Buffer::of(format, &x);
        let [mean, rstd] = [(); 2].map(|()| Buffer::new(format, 1));
        let partial = Buffer::new(format, 2 * 16);
        // Few threads, so that each has many values to sum.
        let launch = Launch { grid: [1, 1, 1], block: [2, 4, 1], ..shape.statistics() };
        machine.run(order, launch, &arguments![&x, NULL, &partial, rows, channels]);
        let merge =
            arguments![&partial, &mean, &rstd, 1_u32, rows, channels, 1_u32, 1_u32, 1e-5_f32];
        machine.run(order, shape.merge(), &merge);
        [&mean, &rstd].map(Buffer::read).into()
    };
    let results = in_both_orders(run);
    let (mean, rstd) = statistics(x.iter().copied());
    // f32 holds a mean of this size to 0.001, a thousandth of the standard deviation.
    let tolerance = Tolerance { format, precision: 3e-5 };
    assert_near("mean", tolerance, &results[0], &[mean]);
    assert_near("rstd", tolerance, &results[1], &[rstd]);
}

fn layer_norm(width: usize, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let (mean, rstd) = statistics(row.iter().copied());
        let value = |((v, w), b): ((&f64, &f64), &f64)| (v - mean) * rstd * w + b;
        row.iter().zip(weight).zip(bias).map(value).collect::<Vec<_>>()
    };
    x.chunks_exact(width).flat_map(row).collect()
}

#[test]
fn layer_norm_is_its_formula() {
    let Some(machine) = machine() else { return };
    // Each number of held packs, the streamed path, rows that do not fill a block.
    let shapes = [(5, 320), (9, 7), (3, 640), (6, 1280), (2, 1536), (3, 2056), (70, 8)];
    for (index, (rows, width)) in shapes.into_iter().enumerate() {
        for format in FORMATS {
            let shape = LayerNorm { format, rows, width };
            let has_residual = index % 2 == 0;
            let (r, w) = (rows as usize, width as usize);
            let draw = |seed, mean, format, num| {
                Numbers { seed: seed + index as u64, mean, spread: 1.0 }.draw(format, num)
            };
            let [x, residual, dy, ds] = [1, 20, 40, 60].map(|seed| draw(seed, 0.3, format, r * w));
            let [weight, bias] = [80, 90].map(|seed| draw(seed, 0.7, Format::F32, w));
            let run = |order: Order| -> Vec<Vec<f64>> {
                let [x, r, dy, ds] =
                    [&x, &residual, &dy, &ds].map(|values| Buffer::of(format, values));
                let [weight, bias] = [&weight, &bias].map(|values| Buffer::of(Format::F32, values));
                let [sum, y, dx] = [(); 3].map(|()| Buffer::new(format, x.length));
                let [mean, rstd] = [(); 2].map(|()| Buffer::new(Format::F32, rows as usize));
                let [dweight, dbias] = [(); 2].map(|()| Buffer::new(Format::F32, width as usize));
                let or_null = |buffer| if has_residual { Argument::from(buffer) } else { NULL };
                let forward = arguments![
                    &x,
                    or_null(&r),
                    or_null(&sum),
                    &weight,
                    &bias,
                    &y,
                    &mean,
                    &rstd,
                    rows,
                    width,
                    1e-5_f32
                ];
                machine.run(order, shape.forward(), &forward);
                let s = if has_residual { &sum } else { &x };
                let backward =
                    arguments![s, &dy, or_null(&ds), &weight, &mean, &rstd, &dx, rows, width];
                machine.run(order, shape.backward(), &backward);
                let partial = Buffer::scratch(shape.backward_scratch());
                let sums = arguments![s, &dy, &mean, &rstd, &partial, rows, width];
                machine.run(order, shape.backward_sums(), &sums);
                let slices = shape.backward_sums().slices();
                let fold = arguments![&partial, &dbias, &dweight, slices, width];
                machine.run(order, shape.backward_fold(), &fold);
                [s, &y, &dx, &dweight, &dbias].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let sums: Vec<f64> = x.iter().zip(&residual).map(|(a, b)| a + b).collect();
            let s = if has_residual { round(format, &sums) } else { x.clone() };
            assert!(results[0] == s, "s of {shape:?}");
            let near = |part: &str, format, got: &[f64], want: &[f64]| {
                let tolerance = Tolerance { format, precision: 1e-5 };
                assert_near(&format!("{part} of {shape:?}"), tolerance, got, want);
            };
            near("y", format, &results[1], &layer_norm(w, &s, &weight, &bias));
            let inputs = [&s, &weight, &bias].map(Vec::as_slice);
            for (index, part) in ["dx", "dweight", "dbias"].into_iter().enumerate() {
                let loss = |values: &[f64]| {
                    let mut inputs = inputs;
                    inputs[index] = values;
                    let passed = if has_residual { dot(inputs[0], &ds) } else { 0.0 };
                    dot(&layer_norm(w, inputs[0], inputs[1], inputs[2]), &dy) + passed
                };
                let chosen = choose(inputs[index].len());
                let got: Vec<f64> = chosen.iter().map(|&i| results[index + 2][i]).collect();
                let format = if index == 0 { format } else { Format::F32 };
                near(part, format, &got, &slopes(loss, inputs[index], &chosen));
            }
        }
    }
}

// ---- element by element ----

#[test]
fn activations_are_their_formulas() {
    let Some(machine) = machine() else { return };
    type Launcher = fn(Format, u64) -> Launch;
    type Formula = fn(f64) -> f64;
    let gelu: (Launcher, Launcher, Formula) = (gelu, gelu_backward, gelu_of);
    for (forward, backward, formula) in [gelu, (silu, silu_backward, silu_of)] {
        for format in FORMATS {
            for num in [5_usize, 8, 4099] {
                let x = Numbers { seed: 7, mean: 0.0, spread: 3.0 }.draw(format, num);
                let d = Numbers { seed: 8, mean: 0.0, spread: 1.0 }.draw(format, num);
                let run = |order| -> Vec<Vec<f64>> {
                    let [x, d] = [&x, &d].map(|values| Buffer::of(format, values));
                    let [y, dx] = [(); 2].map(|()| Buffer::new(format, num));
                    machine.run(
                        order,
                        forward(format, num as u64),
                        &arguments![&x, &y, num as u64],
                    );
                    let launch = backward(format, num as u64);
                    machine.run(order, launch, &arguments![&x, &d, &dx, num as u64]);
                    [&y, &dx].map(Buffer::read).into()
                };
                let results = in_both_orders(run);
                let y: Vec<f64> = x.iter().map(|&v| formula(v)).collect();
                let slope = |v: f64| (formula(v + 1e-5) - formula(v - 1e-5)) / 2e-5;
                let dx: Vec<f64> = x.iter().zip(&d).map(|(&v, d)| d * slope(v)).collect();
                let tolerance = Tolerance { format, precision: 2e-6 };
                assert_near("activation", tolerance, &results[0], &y);
                assert_near("gradient of an activation", tolerance, &results[1], &dx);
            }
        }
    }
}

#[test]
fn geglu_is_its_formula() {
    let Some(machine) = machine() else { return };
    for (rows, half) in [(3_u32, 40_u32), (17, 5), (2, 1280)] {
        for format in FORMATS {
            let num = (rows * half) as usize;
            let x = Numbers { seed: 3, mean: 0.0, spread: 2.0 }.draw(format, 2 * num);
            let d = Numbers { seed: 4, mean: 0.0, spread: 1.0 }.draw(format, num);
            let run = |order| -> Vec<Vec<f64>> {
                let [x, d] = [&x, &d].map(|values| Buffer::of(format, values));
                let (y, dx) = (Buffer::new(format, num), Buffer::new(format, 2 * num));
                machine.run(order, geglu(format, rows, half), &arguments![&x, &y, rows, half]);
                let launch = geglu_backward(format, rows, half);
                machine.run(order, launch, &arguments![&x, &d, &dx, rows, half]);
                [&y, &dx].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let h = half as usize;
            let formula = |x: &[f64]| -> Vec<f64> {
                let row = |row: &[f64]| -> Vec<f64> {
                    let (a, g) = row.split_at(h);
                    a.iter().zip(g).map(|(a, &g)| a * gelu_of(g)).collect()
                };
                x.chunks_exact(2 * h).flat_map(row).collect()
            };
            let tolerance = Tolerance { format, precision: 2e-6 };
            assert_near("geglu", tolerance, &results[0], &formula(&x));
            let chosen = choose(2 * num);
            let want = slopes(|x| dot(&formula(x), &d), &x, &chosen);
            let got: Vec<f64> = chosen.iter().map(|&i| results[1][i]).collect();
            assert_near("gradient of geglu", tolerance, &got, &want);
        }
    }
}

#[test]
fn sums_of_tensors_are_exact_to_rounding() {
    let Some(machine) = machine() else { return };
    for format in FORMATS {
        for (rows, columns) in [(3_u32, 40_u32), (31, 13), (2000, 8), (5, 1288)] {
            let num = (rows * columns) as usize;
            let n = num as u64;
            let a = Numbers { seed: 1, mean: 0.0, spread: 1.0 }.draw(format, num);
            let b = Numbers { seed: 2, mean: 0.0, spread: 1.0 }.draw(format, num);
            let bias =
                Numbers { seed: 3, mean: 0.0, spread: 1.0 }.draw(Format::F32, columns as usize);
            let run = |order| -> Vec<Vec<f64>> {
                let [a, b] = [&a, &b].map(|values| Buffer::of(format, values));
                let bias = Buffer::of(Format::F32, &bias);
                let [sum, both, scaled, shifted] = [(); 4].map(|()| Buffer::new(format, num));
                machine.run(order, add(format, n), &arguments![&a, &b, &sum, n]);
                let launch = combine(format, n);
                machine.run(order, launch, &arguments![&a, 0.5_f32, &b, -2.0_f32, &both, n]);
                machine.run(order, launch, &arguments![&a, 3.0_f32, NULL, 1.0_f32, &scaled, n]);
                let launch = add_bias(format, rows, columns);
                machine.run(order, launch, &arguments![&a, &bias, &shifted, rows, columns]);
                let launch = column_sums(format, rows, columns);
                let partial = Buffer::new(Format::F32, (launch.slices() * columns) as usize);
                let total = Buffer::new(Format::F32, columns as usize);
                machine.run(order, launch, &arguments![&a, &partial, rows, columns]);
                let folding = arguments![&partial, &total, NULL, launch.slices(), columns];
                machine.run(order, fold(columns, 1), &folding);
                [&sum, &both, &scaled, &shifted, &total].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let pairs = |f: fn(f64, f64) -> f64| -> Vec<f64> {
                a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect()
            };
            let c = columns as usize;
            let shifted: Vec<f64> = (0..num).map(|i| a[i] + bias[i % c]).collect();
            let total: Vec<f64> =
                (0..c).map(|column| a.iter().skip(column).step_by(c).sum()).collect();
            let tolerance = |format| Tolerance { format, precision: 1e-6 };
            assert_near("add", tolerance(format), &results[0], &pairs(|a, b| a + b));
            assert_near(
                "combine",
                tolerance(format),
                &results[1],
                &pairs(|a, b| 0.5 * a - 2.0 * b),
            );
            assert_near("scale", tolerance(format), &results[2], &pairs(|a, _| 3.0 * a));
            assert_near("add_bias", tolerance(format), &results[3], &shifted);
            assert_near("column_sums", tolerance(Format::F32), &results[4], &total);
        }
    }
}

// ---- layouts ----

#[test]
fn casts_and_layouts_move_every_value_to_its_place() {
    let Some(machine) = machine() else { return };
    for (from, to) in FORMATS.into_iter().flat_map(|from| FORMATS.map(|to| (from, to))) {
        for (batch, rows, columns) in
            [(3, 45, 9), (2, 3, 300), (2, 40, 70), (1, 300, 4), (2, 16, 16)]
        {
            let num = (batch * rows * columns) as usize;
            let x = Numbers { seed: 5, mean: 0.0, spread: 1.0 }.draw(from, num);
            let run = |order| -> Vec<Vec<f64>> {
                let x = Buffer::of(from, &x);
                let [swapped, again, cast_] = [(); 3].map(|()| Buffer::new(to, num));
                let launch = swap(from, to, batch, rows, columns);
                machine.run(order, launch, &arguments![&x, &swapped, batch, rows, columns]);
                // As for a batch beyond what a grid may have: blocks take several.
                let launch = Launch { grid: [launch.grid[0], launch.grid[1], 1], ..launch };
                machine.run(order, launch, &arguments![&x, &again, batch, rows, columns]);
                machine.run(order, cast(from, to, num as u64), &arguments![&x, &cast_, num as u64]);
                [&swapped, &again, &cast_].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let rounded = round(to, &x);
            let [r, c] = [rows, columns].map(|size| size as usize);
            let swapped: Vec<f64> =
                (0..num).map(|i| rounded[i / (r * c) * r * c + i % r * c + i / r % c]).collect();
            let what = format!("{from:?} {to:?} {batch} {rows} {columns}");
            assert!(results[0] == swapped, "swap {what}");
            assert!(results[1] == swapped, "swap in turns {what}");
            assert!(results[2] == rounded, "cast {what}");
        }
    }
}

#[test]
fn joined_tensors_come_apart_again() {
    let Some(machine) = machine() else { return };
    for format in FORMATS {
        for (rows, a_columns, b_columns) in [(5, 16, 40), (7, 3, 8), (100, 320, 640), (1, 1, 1)] {
            let [a, b] = [(1, a_columns), (2, b_columns)].map(|(seed, columns)| {
                Numbers { seed, mean: 0.0, spread: 1.0 }.draw(format, (rows * columns) as usize)
            });
            let run = |order| -> Vec<Vec<f64>> {
                let [a, b] = [&a, &b].map(|values| Buffer::of(format, values));
                let y = Buffer::new(format, a.length + b.length);
                let sizes = [rows, a_columns, b_columns].map(Argument::from);
                let launch = concat(format, rows, a_columns, b_columns);
                machine.run(order, launch, &[&arguments![&a, &b, &y][..], &sizes].concat());
                let parts = [&a, &b, &b].map(|part| Buffer::new(format, part.length));
                let launch = split(format, rows, a_columns, b_columns);
                let both = arguments![&y, &parts[0], &parts[1]];
                machine.run(order, launch, &[&both[..], &sizes].concat());
                let second = arguments![&y, NULL, &parts[2]];
                machine.run(order, launch, &[&second[..], &sizes].concat());
                [&y, &parts[0], &parts[1], &parts[2]].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let [wide_a, wide_b] = [a_columns, b_columns].map(|columns| columns as usize);
            let rows = a.chunks_exact(wide_a).zip(b.chunks_exact(wide_b));
            let y: Vec<f64> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
            assert!(results == [y, a, b.clone(), b], "{format:?} {a_columns} {b_columns}");
        }
    }
}

#[test]
fn repeated_pixels_give_back_the_sum_of_their_gradients() {
    let Some(machine) = machine() else { return };
    for format in FORMATS {
        for (batch, [height, width], [out_height, out_width], channels) in
            [(2, [3, 4], [6, 8], 16), (1, [3, 2], [5, 3], 5), (2, [5, 5], [9, 10], 520)]
        {
            let x = Numbers { seed: 1, mean: 0.0, spread: 1.0 }
                .draw(format, (batch * height * width * channels) as usize);
            let dy = Numbers { seed: 2, mean: 0.0, spread: 1.0 }
                .draw(format, (batch * out_height * out_width * channels) as usize);
            let run = |order| -> Vec<Vec<f64>> {
                let (y, dx) = (Buffer::new(format, dy.len()), Buffer::new(format, x.len()));
                let (x, dy) = (Buffer::of(format, &x), Buffer::of(format, &dy));
                let sizes = [height, width, out_height, out_width, channels].map(Argument::from);
                let launch = repeat(format, batch, out_height, out_width, channels);
                machine.run(order, launch, &[&arguments![&x, &y][..], &sizes].concat());
                let launch = repeat_backward(format, batch, height, width, channels);
                machine.run(order, launch, &[&arguments![&dy, &dx][..], &sizes].concat());
                [&y, &dx].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            let [h, w, out_h, out_w, c] =
                [height, width, out_height, out_width, channels].map(|size| size as usize);
            for (i, value) in y.iter_mut().enumerate() {
                let (channel, pixel) = (i % c, i / c);
                let (image, row, column) =
                    (pixel / out_w / out_h, pixel / out_w % out_h, pixel % out_w);
                let source = ((image * h + row / 2) * w + column / 2) * c + channel;
                *value = x[source];
                dx[source] += dy[i];
            }
            assert!(results[0] == y, "{format:?} {channels}");
            assert_near("repeat", Tolerance { format, precision: 1e-6 }, &results[1], &dx);
        }
    }
}

// ---- softmax and diffusion ----

#[test]
fn softmax_is_its_formula() {
    let Some(machine) = machine() else { return };
    let scale = 0.37_f32;
    for format in FORMATS {
        for (rows, width) in [(5_u32, 77_u32), (6, 64), (3, 1032), (2, 1), (9, 8)] {
            let (num, w) = ((rows * width) as usize, width as usize);
            let x = Numbers { seed: 1, mean: 100.0, spread: 8.0 }.draw(format, num);
            let dy = Numbers { seed: 2, mean: 0.0, spread: 1.0 }.draw(format, num);
            let run = |order| -> Vec<Vec<f64>> {
                let [x, dy] = [&x, &dy].map(|values| Buffer::of(format, values));
                let [y, dx] = [(); 2].map(|()| Buffer::new(format, num));
                let lse = Buffer::new(Format::F32, rows as usize);
                let forward = arguments![&x, &y, &lse, rows, width, scale];
                machine.run(order, softmax(format, rows), &forward);
                let backward = arguments![&y, &dy, &dx, rows, width, scale];
                machine.run(order, softmax_backward(format, rows), &backward);
                [&y, &lse, &dx].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let scale = f64::from(scale);
            let lse = |row: &[f64]| {
                let most = row.iter().fold(f64::MIN, |most, v| most.max(v * scale));
                most + row.iter().map(|v| (v * scale - most).exp()).sum::<f64>().ln()
            };
            let row = |row: &[f64]| -> Vec<f64> {
                let lse = lse(row);
                row.iter().map(|v| (v * scale - lse).exp()).collect()
            };
            let y: Vec<f64> = x.chunks_exact(w).flat_map(row).collect();
            let all_lse: Vec<f64> = x.chunks_exact(w).map(lse).collect();
            // The gradient of the probabilities that the kernel gave: it sees them rounded.
            let gradient = |(p, d): (&[f64], &[f64])| -> Vec<f64> {
                let sum = dot(p, d);
                p.iter().zip(d).map(|(p, d)| p * (d - sum) * scale).collect()
            };
            let dx: Vec<f64> =
                results[0].chunks_exact(w).zip(dy.chunks_exact(w)).flat_map(gradient).collect();
            let tolerance = |format| Tolerance { format, precision: 1e-5 };
            assert_near("softmax", tolerance(format), &results[0], &y);
            assert_near("lse", tolerance(Format::F32), &results[1], &all_lse);
            assert_near("gradient of softmax", tolerance(format), &results[2], &dx);
        }
    }
}

#[test]
fn noise_and_error_are_their_formulas() {
    let Some(machine) = machine() else { return };
    for format in FORMATS {
        for (batch, length) in [(3_u32, 40_u64), (2, 4099), (1, 5)] {
            let num = batch as usize * length as usize;
            let [x, noise] =
                [1, 2].map(|seed| Numbers { seed, mean: 0.0, spread: 1.0 }.draw(format, num));
            let [alpha, sigma] = [3, 4].map(|seed| {
                Numbers { seed, mean: 1.0, spread: 0.5 }.draw(Format::F32, batch as usize)
            });
            let scale = 1.0 / num as f32;
            let run = |order| -> Vec<Vec<f64>> {
                let [x, noise] = [&x, &noise].map(|values| Buffer::of(format, values));
                let [alpha, sigma] = [&alpha, &sigma].map(|values| Buffer::of(Format::F32, values));
                let [noisy, dx] = [(); 2].map(|()| Buffer::new(format, num));
                let mixing = arguments![&x, &noise, &alpha, &sigma, &noisy, length];
                machine.run(order, add_noise(format, batch, length), &mixing);
                let launch = weighted_error(format, batch, length);
                let count = launch.grid[0] * launch.grid[1];
                let partial = Buffer::new(Format::F32, count as usize);
                let loss = Buffer::new(Format::F32, 1);
                machine.run(order, launch, &arguments![&x, &noise, &alpha, &partial, length]);
                machine.run(order, sum_up(), &arguments![&partial, &loss, count, scale]);
                let upstream = Buffer::of(Format::F32, &[0.5]);
                let backward = arguments![&x, &noise, &alpha, &upstream, &dx, length, scale];
                machine.run(order, weighted_error_backward(format, batch, length), &backward);
                [&noisy, &loss, &dx].map(Buffer::read).into()
            };
            let results = in_both_orders(run);
            let of = |i: usize| i / length as usize;
            let noisy: Vec<f64> =
                (0..num).map(|i| alpha[of(i)] * x[i] + sigma[of(i)] * noise[i]).collect();
            let count = num as f64;
            let error = |i: usize| alpha[of(i)] * (x[i] - noise[i]).powi(2) / count;
            let slope = |i: usize| 0.5 * 2.0 * alpha[of(i)] * (x[i] - noise[i]) / count;
            let loss: f64 = (0..num).map(error).sum();
            let dx: Vec<f64> = (0..num).map(slope).collect();
            let tolerance = |format| Tolerance { format, precision: 2e-6 };
            assert_near("add_noise", tolerance(format), &results[0], &noisy);
            assert_near("weighted_error", tolerance(Format::F32), &results[1], &[loss]);
            assert_near("its gradient", tolerance(format), &results[2], &dx);
        }
    }
}

// ---- all parameters at once ----

#[test]
fn chunks_cover_every_tensor() {
    let chunks = Chunk::all([0, 1, 65_536, 65_537]);
    let pairs: Vec<_> = chunks.iter().map(|chunk| (chunk.tensor, chunk.index)).collect();
    assert_eq!(pairs, [(1, 0), (2, 0), (3, 0), (3, 1)]);
    assert_eq!((size_of::<Parameter>(), size_of::<Addend>(), size_of::<Chunk>()), (72, 24, 8));
}

#[test]
fn a_step_of_adamw_is_its_formula() {
    let Some(machine) = machine() else { return };
    let lengths = [70_003_usize, 5, 1024, 7];
    let (rounds, clip_norm, learning_rate) = (2_u32, 3.0_f64, 0.01_f64);
    let (beta1, beta2, epsilon, decay) = (0.9_f64, 0.999_f64, 1e-8_f64, 0.75_f64);
    let draw =
        |seed, length: usize| Numbers { seed, mean: 0.1, spread: 0.5 }.draw(Format::F32, length);
    let square = |seed, length| -> Vec<f64> {
        let values: Vec<f64> = draw(seed, length).into_iter().map(|v| v * v).collect();
        round(Format::F32, &values)
    };
    // The third has no gradient, the last neither average nor bf16 copy; vectors do not decay.
    let has_gradient = |tensor: usize| tensor != 2;
    let has_average = |tensor: usize| tensor != 3;
    let decays = [0.1_f64, 0.0, 0.1, 0.0];
    let corrections = |tensor: usize| {
        let steps = 3 + tensor as i32;
        [1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps)]
    };
    let run = |order: Order, spoiled: bool| -> Vec<Vec<f64>> {
        let buffers = lengths.map(|length| {
            let of = |values: &[f64]| Buffer::of(Format::F32, values);
            let mut second = draw(3, length);
            if spoiled {
                second[length - 1] = f64::INFINITY;
            }
            let first = [draw(1, length), draw(2, length), second, draw(4, length)];
            let [value, first, second, mean] = first.map(|values| of(&values));
            let [square, average] = [square(5, length), draw(6, length)].map(|values| of(&values));
            let shadow = Buffer::of(Format::Bf16, &vec![9.0; length]);
            (
                value,
                [first, second],
                [mean, square, average],
                shadow,
                Buffer::new(Format::F32, length),
            )
        });
        let chunks = Chunk::all(lengths.map(|length| length as u64));
        let chunk_table = Buffer::table(&chunks);
        let num_chunks = u32::try_from(chunks.len()).unwrap();
        for round in 0..2 {
            let addend = |(_, gradients, _, _, sum): &(_, [Buffer; 2], _, _, Buffer)| Addend {
                sum: sum.address(),
                gradient: gradients[round].address(),
                length: sum.length as u64,
            };
            let addends: Vec<Addend> = buffers.iter().map(addend).collect();
            let table = Buffer::table(&addends);
            let is_first = u32::from(round == 0);
            let launch = accumulate(Format::F32, num_chunks);
            machine.run(order, launch, &arguments![&table, &chunk_table, is_first]);
        }
        let parameter = |(tensor, (value, _, [mean, square, average], shadow, sum)): (
            usize,
            &(Buffer, _, [Buffer; 3], Buffer, Buffer),
        )| {
            let [mean_correction, square_correction] = corrections(tensor);
            Parameter {
                value: value.address(),
                gradient: if has_gradient(tensor) { sum.address() } else { 0 },
                mean: mean.address(),
                square: square.address(),
                average: if has_average(tensor) { average.address() } else { 0 },
                shadow: if has_average(tensor) { shadow.address() } else { 0 },
                length: value.length as u64,
                weight_decay: decays[tensor] as f32,
                mean_correction: mean_correction as f32,
                square_correction: square_correction as f32,
                reserved: 0,
            }
        };
        let parameters: Vec<Parameter> = buffers.iter().enumerate().map(parameter).collect();
        let table = Buffer::table(&parameters);
        let partial = Buffer::new(Format::F32, chunks.len());
        let norm = Buffer::new(Format::F32, 1);
        let launch = gradient_squares(num_chunks);
        machine.run(order, launch, &arguments![&table, &chunk_table, &partial]);
        machine.run(order, gradient_norm(), &arguments![&partial, &norm, num_chunks, rounds]);
        let step = arguments![
            &table,
            &chunk_table,
            &norm,
            rounds,
            clip_norm as f32,
            learning_rate as f32,
            beta1 as f32,
            beta2 as f32,
            epsilon as f32,
            decay as f32
        ];
        machine.run(order, adamw(num_chunks), &step);
        let mut results = vec![norm.read()];
        for (value, _, [mean, square, average], shadow, sum) in &buffers {
            results.extend([value, mean, square, average, shadow, sum].map(Buffer::read));
        }
        results
    };
    let results = in_both_orders(|order| run(order, false));

    let sums = lengths.map(|length| -> Vec<f64> {
        draw(2, length).iter().zip(draw(3, length)).map(|(a, b)| a + b).collect()
    });
    let squares = sums.iter().enumerate().filter(|(tensor, _)| has_gradient(*tensor));
    let norm = squares.map(|(_, sum)| dot(sum, sum)).sum::<f64>().sqrt() / f64::from(rounds);
    let exact = |what: &str, format, got: &[f64], want: &[f64]| {
        assert_near(what, Tolerance { format, precision: 2e-6 }, got, want);
    };
    exact("norm", Format::F32, &results[0], &[norm]);
    assert!(norm > clip_norm, "the test clips");
    let scale = (clip_norm / (norm + 1e-6)).min(1.0) / f64::from(rounds);
    for (tensor, &length) in lengths.iter().enumerate() {
        let [value, mean, square_, average, shadow, sum] =
            std::array::from_fn(|i| &results[1 + tensor * 6 + i]);
        let [old_value, old_mean, old_average] = [1, 4, 6].map(|seed| draw(seed, length));
        let old_square = square(5, length);
        exact("sum", Format::F32, sum, &sums[tensor]);
        let [c1, c2] = corrections(tensor);
        let mut want: [Vec<f64>; 4] = Default::default();
        for i in 0..length {
            let g = sums[tensor][i] * scale;
            let (mut w, mut m, mut s) = (old_value[i], old_mean[i], old_square[i]);
            if has_gradient(tensor) {
                m = beta1 * m + (1.0 - beta1) * g;
                s = beta2 * s + (1.0 - beta2) * g * g;
                w = w * (1.0 - learning_rate * decays[tensor])
                    - learning_rate * (m / c1) / ((s / c2).sqrt() + epsilon);
            }
            let kept = old_average[i];
            let a = if has_average(tensor) { kept + (1.0 - decay) * (w - kept) } else { kept };
            want.iter_mut().zip([w, m, s, a]).for_each(|(list, v)| list.push(v));
        }
        exact("value", Format::F32, value, &want[0]);
        exact("mean", Format::F32, mean, &want[1]);
        exact("square", Format::F32, square_, &want[2]);
        exact("average", Format::F32, average, &want[3]);
        let copy = if has_average(tensor) { round(Format::Bf16, value) } else { vec![9.0; length] };
        assert!(shadow == &copy, "bf16 copy of {tensor}");
    }

    let skipped = in_both_orders(|order| run(order, true));
    assert!(!skipped[0][0].is_finite());
    for (tensor, &length) in lengths.iter().enumerate() {
        let untouched = [draw(1, length), draw(4, length), square(5, length), draw(6, length)];
        assert!(skipped[1 + tensor * 6..][..4] == untouched, "tensor {tensor}");
        assert!(skipped[5 + tensor * 6] == vec![9.0; length], "tensor {tensor}");
    }
}

#[test]
fn gradients_in_bf16_are_summed_in_f32() {
    let Some(machine) = machine() else { return };
    let length = 1003_usize;
    let gradient = Numbers { seed: 1, mean: 0.0, spread: 1.0 }.draw(Format::Bf16, length);
    let before = Numbers { seed: 2, mean: 0.0, spread: 1.0 }.draw(Format::F32, length);
    let run = |order| -> Vec<Vec<f64>> {
        let (gradient, sum) =
            (Buffer::of(Format::Bf16, &gradient), Buffer::of(Format::F32, &before));
        let addend =
            Addend { sum: sum.address(), gradient: gradient.address(), length: length as u64 };
        let table = Buffer::table(&[addend]);
        let chunks = Buffer::table(&Chunk::all([length as u64]));
        machine.run(order, accumulate(Format::Bf16, 1), &arguments![&table, &chunks, 0_u32]);
        vec![sum.read()]
    };
    let want: Vec<f64> = before.iter().zip(&gradient).map(|(a, b)| a + b).collect();
    assert!(in_both_orders(run) == [round(Format::F32, &want)]);
}

// ---- speed ----

/// Bytes per second of the kernels that a training step spends its time in, at SD 1.5's widest levels, latent 32.
#[test]
#[ignore = "measures a GPU: UMBRA_TEST_GPU=1 cargo test --release bandwidth -- --ignored --nocapture"]
fn bandwidth() {
    let Some(Machine::Gpu(gpu)) = machine() else {
        return say("UMBRA_TEST_GPU=1 and a GPU are needed");
    };
    let format = Format::Bf16;
    let time = |what: &str, launch: Launch, tensors: f64, arguments: &[Argument]| {
        let seconds = gpu.seconds(launch, arguments);
        let rate = tensors / seconds / 1e9;
        say_line(&format!("{what:<32} {:>8.1} us {rate:>7.0} GB/s", seconds * 1e6));
    };
    for (batch, rows, channels) in [(4, 1024, 320), (64, 1024, 320), (64, 256, 640), (64, 64, 1280)]
    {
        let num = (batch * rows * channels) as usize;
        let bytes = (num * format.bytes()) as f64;
        let [a, b, c, d] = [(); 4].map(|()| Buffer::new(format, num));
        let doubled = Buffer::new(format, 2 * num);
        let vectors =
            [(); 6].map(|()| Buffer::new(Format::F32, (batch * rows * channels / 8) as usize));
        let [weight, bias, mean, rstd, pull, totals] = &vectors;
        let what = |name: &str| format!("{name} {batch}x{rows}x{channels}");
        let norm = GroupNorm { format, batch, rows, channels, groups: 32 };
        let slices = norm.statistics().slices();
        let partial = Buffer::scratch(norm.backward_scratch().max(norm.statistics_scratch()));
        let statistics = arguments![&a, NULL, &partial, rows, channels];
        time(&what("statistics"), norm.statistics(), bytes, &statistics);
        let merge =
            arguments![&partial, mean, rstd, batch, rows, channels, 32_u32, slices, 1e-5_f32];
        time(&what("merge"), norm.merge(), norm.statistics_scratch() as f64, &merge);
        let apply =
            arguments![&a, NULL, weight, bias, mean, rstd, &b, rows, channels, 32_u32, 1_u32];
        time(&what("apply"), norm.apply(), 2.0 * bytes, &apply);
        let sums = arguments![
            &a, NULL, &c, weight, bias, mean, rstd, &partial, rows, channels, 32_u32, 1_u32
        ];
        time(&what("backward_sums"), norm.backward_sums(), 2.0 * bytes, &sums);
        let slices = norm.backward_sums().slices();
        let merge =
            arguments![&partial, weight, rstd, totals, pull, NULL, rows, channels, 32_u32, slices];
        time(
            &what("backward_merge"),
            norm.backward_merge(),
            norm.backward_scratch() as f64,
            &merge,
        );
        let apply = arguments![
            &a, NULL, &c, weight, bias, mean, rstd, pull, &d, rows, channels, 32_u32, 1_u32
        ];
        time(&what("backward_apply"), norm.backward_apply(), 3.0 * bytes, &apply);

        let layer = LayerNorm { format, rows: batch * rows, width: channels };
        let forward =
            arguments![&a, &b, &c, weight, bias, &d, mean, rstd, layer.rows, channels, 1e-5_f32];
        time(&what("layer_norm"), layer.forward(), 4.0 * bytes, &forward);
        let backward = arguments![&a, &b, &c, weight, mean, rstd, &d, layer.rows, channels];
        time(&what("layer_norm_backward"), layer.backward(), 4.0 * bytes, &backward);
        let partial = Buffer::scratch(layer.backward_scratch());
        let sums = arguments![&a, &b, mean, rstd, &partial, layer.rows, channels];
        time(&what("layer_norm_backward_sums"), layer.backward_sums(), 2.0 * bytes, &sums);

        let pair = arguments![&doubled, &a, layer.rows, channels];
        time(&what("geglu"), geglu(format, layer.rows, channels), 3.0 * bytes, &pair);
        let both = arguments![&doubled, &a, &doubled, layer.rows, channels];
        time(
            &what("geglu_backward"),
            geglu_backward(format, layer.rows, channels),
            5.0 * bytes,
            &both,
        );
        time(
            &what("add"),
            add(format, num as u64),
            3.0 * bytes,
            &arguments![&a, &b, &c, num as u64],
        );
        let joined = arguments![&a, &b, &doubled, layer.rows, channels, channels];
        time(&what("concat"), concat(format, layer.rows, channels, channels), 4.0 * bytes, &joined);
        let launch = column_sums(format, layer.rows, channels);
        let partial = Buffer::new(Format::F32, (launch.slices() * channels) as usize);
        time(&what("column_sums"), launch, bytes, &arguments![&a, &partial, layer.rows, channels]);
        let sizes = arguments![&a, &b, batch, rows, channels];
        time(&what("swap"), swap(format, format, batch, rows, channels), 2.0 * bytes, &sizes);
    }
    let (rows, columns) = (1280_u32, 9_u32);
    let num = (1280 * rows * columns) as usize;
    let (weight, copy) = (Buffer::new(Format::F32, num), Buffer::new(format, num));
    let bytes = num as f64;
    for (what, from, to) in [
        ("KCRS to KRSC", [rows, columns], [&weight, &copy]),
        ("back", [columns, rows], [&copy, &weight]),
    ] {
        let launch = match what {
            "back" => swap(format, Format::F32, 1280, from[0], from[1]),
            _ => swap(Format::F32, format, 1280, from[0], from[1]),
        };
        time(what, launch, 6.0 * bytes, &arguments![to[0], to[1], 1280_u32, from[0], from[1]]);
    }
    let arrays = [(); 5].map(|()| Buffer::new(Format::F32, num));
    for array in &arrays {
        array.zero();
    }
    let [value, gradient, mean, square, average] = arrays.each_ref().map(Buffer::address);
    let parameter = Parameter {
        value,
        gradient,
        mean,
        square,
        average,
        shadow: copy.address(),
        length: num as u64,
        weight_decay: 0.1,
        mean_correction: 0.1,
        square_correction: 0.1,
        reserved: 0,
    };
    let (table, chunks) = (Buffer::table(&[parameter]), Chunk::all([num as u64]));
    let num_chunks = u32::try_from(chunks.len()).unwrap();
    let chunks = Buffer::table(&chunks);
    let (partial, norm) =
        (Buffer::new(Format::F32, num_chunks as usize), Buffer::of(Format::F32, &[1.0]));
    let squares = arguments![&table, &chunks, &partial];
    time("gradient_squares", gradient_squares(num_chunks), 4.0 * bytes, &squares);
    let step = arguments![
        &table, &chunks, &norm, 1_u32, 1.0_f32, 1e-4_f32, 0.9_f32, 0.999_f32, 1e-8_f32, 0.999_f32
    ];
    time("adamw", adamw(num_chunks), 38.0 * bytes, &step);
}

#[expect(clippy::print_stdout, reason = "what is measured is shown")]
fn say_line(line: &str) {
    println!("{line}");
}

// ---- launches ----

#[test]
fn launches_fit_every_gpu_and_fill_a_large_one() {
    for rows in [1, 7, 64, 1024, 4096, 300_000] {
        for columns in [1, 3, 8, 40, 77, 320, 1288, 2560, 10_240] {
            for batch in [1, 4, 64] {
                let launch = sheet("", rows, columns, batch, 4);
                let [x, y, _] = launch.grid;
                let [across, down, _] = launch.block;
                assert!(across * down <= BLOCK && y <= MOST_Z, "{launch:?}");
                assert!(x * across >= packs(columns), "{launch:?}");
                assert!(
                    (y - 1) * rows.div_ceil(y) < rows,
                    "an empty slice: {launch:?}, {rows} rows"
                );
            }
        }
    }
    // The widest levels of SD 1.5 at latent 32: most of 132 multiprocessors have a block.
    for batch in [4, 64] {
        for (rows, channels) in [(1024, 320), (256, 640)] {
            let [x, y, z] = sheet("", rows, channels, batch, 4).grid;
            assert!(x * y * z >= 100, "{batch} {rows} {channels}: {x} {y} {z}");
        }
    }
}

// ---- formulas and numbers ----

fn names() -> Vec<String> {
    let with_format = |name: &str| ["f32", "bf16"].map(|format| format!("{name}_{format}"));
    let plain = PLAIN.iter().map(|name| (*name).to_owned());
    plain.chain(BY_FORMAT.iter().flat_map(|name| with_format(name))).collect()
}

#[expect(clippy::print_stdout, reason = "a test that does not run says so")]
fn say(why: &str) {
    println!("not run: {why}");
}

/// Runs both orders of threads; the results are the same to the bit, or a barrier is missing.
fn in_both_orders(run: impl Fn(Order) -> Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let results = run(Order::Forwards);
    let bits = |results: &[Vec<f64>]| -> Vec<u64> {
        results.iter().flatten().map(|value| value.to_bits()).collect()
    };
    assert!(bits(&results) == bits(&run(Order::Backwards)), "the order of threads shows");
    results
}

/// Normal-like numbers, the same in every run.
struct Numbers {
    seed: u64,
    mean: f64,
    spread: f64,
}

impl Numbers {
    /// `num` of them, as `format` holds them.
    fn draw(&self, format: Format, num: usize) -> Vec<f64> {
        let uniform = |index: u64| {
            let mut bits = (self.seed << 40) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        // Four uniform numbers together have a variance of 1/3.
        let normal = |index| (0..4).map(|k| uniform(4 * index + k)).sum::<f64>() - 2.0;
        let value = |index| self.mean + self.spread * normal(index) * 3_f64.sqrt();
        let values: Vec<f64> = (1..=num as u64).map(value).collect();
        round(format, &values)
    }
}

fn round(format: Format, values: &[f64]) -> Vec<f64> {
    let one = |&value: &f64| match format {
        Format::F32 => f64::from(value as f32),
        Format::Bf16 => bf16(value).to_f64(),
    };
    values.iter().map(one).collect()
}

/// The nearest bf16 of an f32. Not `from_f64`: it drops low bits first, and rounds some values the wrong way.
fn bf16(value: f64) -> half::bf16 {
    half::bf16::from_f32(value as f32)
}

/// Mean and 1 / standard deviation, with an epsilon of 1e-5.
fn statistics(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let square = values.map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (square + 1e-5).sqrt())
}

fn silu_of(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu_of(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2_f64.sqrt()))
}

#[expect(unsafe_code, reason = "std has no error function; C has")]
fn erf(x: f64) -> f64 {
    unsafe extern "C" {
        safe fn erf(x: f64) -> f64;
    }
    erf(x)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// At most 60 places of `num`, spread over all of them, the first and last among them.
fn choose(num: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..num).step_by(num.div_ceil(59)).collect();
    if chosen.last() != Some(&(num - 1)) {
        chosen.push(num - 1);
    }
    chosen
}

/// The partial derivatives of `loss` at `place`, by central differences.
fn slopes(loss: impl Fn(&[f64]) -> f64, place: &[f64], chosen: &[usize]) -> Vec<f64> {
    let mut place = place.to_vec();
    let mut slope = |&i: &usize| {
        let (middle, reach) = (place[i], 1e-4);
        place[i] = middle + reach;
        let above = loss(&place);
        place[i] = middle - reach;
        let below = loss(&place);
        place[i] = middle;
        (above - below) / (2.0 * reach)
    };
    chosen.iter().map(&mut slope).collect()
}

/// How near results must be: f32 arithmetic to `precision` of the largest result, then rounding to `format`.
#[derive(Clone, Copy)]
struct Tolerance {
    format: Format,
    precision: f64,
}

fn assert_near(what: &str, tolerance: Tolerance, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0_f64, |most, value| most.max(value.abs()));
    // Half a unit in the last place of bf16 is 1/256 at most.
    let own = match tolerance.format {
        Format::F32 => 1e-6,
        Format::Bf16 => 1.0 / 256.0,
    };
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let allowed = own * want.abs() + tolerance.precision * largest;
        assert!(
            (got - want).abs() <= allowed,
            "{what}, value {i}: {got} instead of {want} ± {allowed}"
        );
    }
}
