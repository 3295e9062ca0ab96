//! Launches of our own kernels: which grid, which block, how much scratch memory. What each computes is said beside
//! it in `kernels.cu`; here stand its arguments, in order.
//!
//! A pointer is an address on the device, 16-byte aligned, 0 for null where that is allowed. Sizes are `u32` unless
//! marked `u64`. `T` is what [`Format`] says; weights, biases and statistics are f32.

/// CUDA C++ of all kernels.
pub const SOURCE: &str = include_str!("kernels.cu");

/// How many kernels there are.
pub fn count() -> usize {
    let in_both_formats = SOURCE.matches("_##NAME(").count();
    2 * in_both_formats + SOURCE.matches("extern \"C\" __global__ void").count() - 2
}

/// Format of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// 32 bits.
    F32,
    /// Upper half of an f32.
    Bf16,
}

impl Format {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Its entry point.
    pub name: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Launch {
    fn new(name: &'static str, grid: [u32; 3], block: [u32; 3]) -> Self {
        Self { name, grid, block, shared: 0 }
    }

    /// Slices that a sheet's rows are cut into: what kernels after it are told.
    pub fn slices(&self) -> u32 {
        self.grid[1]
    }
}

/// Group norm over `x`\[batch, rows, channels\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupNorm {
    /// Format of `x`, `add`, `y` and their gradients.
    pub format: Format,
    /// Images.
    pub batch: u32,
    /// Pixels.
    pub rows: u32,
    /// Values of a pixel; a multiple of `groups`.
    pub channels: u32,
    /// Groups of neighbouring channels.
    pub groups: u32,
}

impl GroupNorm {
    /// `(x, add | 0, partial, rows, channels)`, `partial` of [`Self::statistics_scratch`] bytes.
    pub fn statistics(&self) -> Launch {
        let name = by_format!(self.format, "group_norm_statistics");
        sheet(name, self.rows, self.channels, self.batch, 4)
    }

    /// `(partial, mean, rstd, batch, rows, channels, groups, slices, epsilon: f32)`, slices of [`Self::statistics`].
    pub fn merge(&self) -> Launch {
        Launch::new("group_norm_merge", [(self.batch * self.groups).div_ceil(4), 1, 1], [128, 1, 1])
    }

    /// `(x, add | 0, weight, bias, mean, rstd, y, rows, channels, groups, is_silu)`.
    pub fn apply(&self) -> Launch {
        sheet(by_format!(self.format, "group_norm_apply"), self.rows, self.channels, self.batch, 2)
    }

    /// `(x, add | 0, dy, weight, bias, mean, rstd, partial, rows, channels, groups, is_silu)`, `partial` of
    /// [`Self::backward_scratch`] bytes.
    pub fn backward_sums(&self) -> Launch {
        let name = by_format!(self.format, "group_norm_backward_sums");
        sheet(name, self.rows, self.channels, self.batch, 4)
    }

    /// `(partial, weight, rstd, totals, pull, dadd | 0, rows, channels, groups, slices)`, slices of
    /// [`Self::backward_sums`], `totals` of [`Self::totals_scratch`] bytes, `pull` of [`Self::pull_scratch`] bytes.
    pub fn backward_merge(&self) -> Launch {
        let name = by_format!(self.format, "group_norm_backward_merge");
        Launch::new(name, [self.groups, self.batch, 1], [32, 8, 1])
    }

    /// `(totals, dbias, dweight, batch, channels)`: [`fold`] of two planes.
    pub fn backward_fold(&self) -> Launch {
        fold(self.channels, 2)
    }

    /// `(x, add | 0, dy, weight, bias, mean, rstd, pull, dx, rows, channels, groups, is_silu)`.
    pub fn backward_apply(&self) -> Launch {
        let name = by_format!(self.format, "group_norm_backward_apply");
        sheet(name, self.rows, self.channels, self.batch, 2)
    }

    /// Bytes of the partial statistics.
    pub fn statistics_scratch(&self) -> usize {
        self.of_slices(self.statistics().slices(), 2)
    }

    /// Bytes of the partial sums of the backward pass.
    pub fn backward_scratch(&self) -> usize {
        self.of_slices(self.backward_sums().slices(), 3)
    }

    /// Bytes of `totals`.
    pub fn totals_scratch(&self) -> usize {
        self.of_slices(1, 3)
    }

    /// Bytes of `pull`.
    pub fn pull_scratch(&self) -> usize {
        floats([self.batch, self.groups, 2])
    }

    fn of_slices(&self, slices: u32, planes: u32) -> usize {
        floats([self.batch * planes, slices, self.channels])
    }
}

/// Layer norm over each row of `x`\[rows, width\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNorm {
    /// Format of `x`, `residual`, `y` and their gradients.
    pub format: Format,
    /// Rows.
    pub rows: u32,
    /// Values of a row.
    pub width: u32,
}

impl LayerNorm {
    /// `(x, residual | 0, sum | 0, weight, bias, y, mean, rstd, rows, width, epsilon: f32)`.
    pub fn forward(&self) -> Launch {
        let name = match self.num_held() {
            0 => by_format!(self.format, "layer_norm_0"),
            2 => by_format!(self.format, "layer_norm_2"),
            5 => by_format!(self.format, "layer_norm_5"),
            _ => by_format!(self.format, "layer_norm_8"),
        };
        warp_rows(name, self.rows)
    }

    /// `(s, dy, ds | 0, weight, mean, rstd, dx, rows, width)`, `s` being x, or `sum` where there was a residual.
    pub fn backward(&self) -> Launch {
        let name = match self.num_held() {
            0 => by_format!(self.format, "layer_norm_backward_0"),
            2 => by_format!(self.format, "layer_norm_backward_2"),
            5 => by_format!(self.format, "layer_norm_backward_5"),
            _ => by_format!(self.format, "layer_norm_backward_8"),
        };
        warp_rows(name, self.rows)
    }

    /// `(s, dy, mean, rstd, partial, rows, width)`, `partial` of [`Self::backward_scratch`] bytes.
    pub fn backward_sums(&self) -> Launch {
        let name = by_format!(self.format, "layer_norm_backward_sums");
        sheet(name, self.rows, self.width, 1, 8)
    }

    /// `(partial, dbias, dweight, slices, width)`, slices of [`Self::backward_sums`]: [`fold`] of two planes.
    pub fn backward_fold(&self) -> Launch {
        fold(self.width, 2)
    }

    /// Bytes of the partial sums.
    pub fn backward_scratch(&self) -> usize {
        floats([2, self.backward_sums().slices(), self.width])
    }

    /// Packs of a row that a thread keeps in registers; 0 for a row that does not fit.
    fn num_held(&self) -> u32 {
        match self.width {
            width if !width.is_multiple_of(8) => 0,
            0..=512 => 2,
            513..=1280 => 5,
            1281..=2048 => 8,
            _ => 0,
        }
    }
}

/// `(partial, first, second | 0, slices, columns)`: sums over slices of `partial`\[planes, slices, columns\], f32.
pub fn fold(columns: u32, planes: u32) -> Launch {
    Launch::new("fold", [columns.div_ceil(32), planes, 1], [32, 8, 1])
}

/// `(x, partial, rows, columns)`, then [`fold`] `(partial, out, 0, slices, columns)` of one plane; `partial` has
/// slices · columns floats.
pub fn column_sums(format: Format, rows: u32, columns: u32) -> Launch {
    sheet(by_format!(format, "column_sums"), rows, columns, 1, 8)
}

/// `(x, y, n: u64)`.
pub fn gelu(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "gelu"), n)
}

/// `(x, dy, dx, n: u64)`.
pub fn gelu_backward(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "gelu_backward"), n)
}

/// `(x, y, n: u64)`.
pub fn silu(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "silu"), n)
}

/// `(x, dy, dx, n: u64)`.
pub fn silu_backward(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "silu_backward"), n)
}

/// `(a, b, y, n: u64)`: y = a + b.
pub fn add(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "add"), n)
}

/// `(a, alpha: f32, b | 0, beta: f32, y, n: u64)`: y = alpha · a + beta · b.
pub fn combine(format: Format, n: u64) -> Launch {
    flat(by_format!(format, "combine"), n)
}

/// `(x, bias, y, rows, columns)`: y = x + bias, `bias`\[columns\] in f32.
pub fn add_bias(format: Format, rows: u32, columns: u32) -> Launch {
    sheet(by_format!(format, "add_bias"), rows, columns, 1, 2)
}

/// `(x, y, rows, half)`: `x`\[rows, 2 · half\] to `y`\[rows, half\].
pub fn geglu(format: Format, rows: u32, half: u32) -> Launch {
    sheet(by_format!(format, "geglu"), rows, half, 1, 2)
}

/// `(x, dy, dx, rows, half)`.
pub fn geglu_backward(format: Format, rows: u32, half: u32) -> Launch {
    sheet(by_format!(format, "geglu_backward"), rows, half, 1, 2)
}

/// `(x, y, n: u64)`.
pub fn cast(from: Format, to: Format, n: u64) -> Launch {
    let name = match from {
        Format::F32 => by_format!(to, "cast_f32"),
        Format::Bf16 => by_format!(to, "cast_bf16"),
    };
    flat(name, n)
}

/// `(x, y, batch, rows, columns)`: `x`\[batch, rows, columns\] to `y`\[batch, columns, rows\].
///
/// Images NCHW to NHWC: batch N, rows C, columns H · W. Weights \[K, C, R, S\] to \[K, R, S, C\]: batch K, rows C,
/// columns R · S. Back: rows and columns change places. Where one of them is 1, [`cast`] or a copy does it faster.
pub fn swap(from: Format, to: Format, batch: u32, rows: u32, columns: u32) -> Launch {
    const FEW: u32 = 16;
    let name = match from {
        Format::F32 => by_format!(to, "swap_f32"),
        Format::Bf16 => by_format!(to, "swap_bf16"),
    };
    let [x, y] = if columns <= FEW {
        [rows.div_ceil(BLOCK), 1]
    } else if rows <= FEW {
        [columns.div_ceil(BLOCK), 1]
    } else {
        [columns.div_ceil(32), rows.div_ceil(32)]
    };
    Launch::new(name, [x, y, batch.min(MOST_Z)], [BLOCK, 1, 1])
}

/// `(a, b, y, rows, a_columns, b_columns)`: `y`\[rows, a_columns + b_columns\] = \[a, b\].
pub fn concat(format: Format, rows: u32, a_columns: u32, b_columns: u32) -> Launch {
    two_sheets(by_format!(format, "concat"), rows, a_columns, b_columns)
}

/// `(y, a | 0, b | 0, rows, a_columns, b_columns)`.
pub fn split(format: Format, rows: u32, a_columns: u32, b_columns: u32) -> Launch {
    two_sheets(by_format!(format, "split"), rows, a_columns, b_columns)
}

/// `(x, y, height, width, out_height, out_width, channels)`: every pixel four times; an output size is twice the
/// input's, or one less.
pub fn repeat(
    format: Format,
    batch: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
) -> Launch {
    sheet(by_format!(format, "repeat"), out_height * out_width, channels, batch, 2)
}

/// `(dy, dx, height, width, out_height, out_width, channels)`.
pub fn repeat_backward(
    format: Format,
    batch: u32,
    height: u32,
    width: u32,
    channels: u32,
) -> Launch {
    sheet(by_format!(format, "repeat_backward"), height * width, channels, batch, 1)
}

/// `(x, y, lse | 0, rows, width, scale: f32)`; `lse`\[rows\] in f32.
pub fn softmax(format: Format, rows: u32) -> Launch {
    warp_rows(by_format!(format, "softmax"), rows)
}

/// `(y, dy, dx, rows, width, scale: f32)`.
pub fn softmax_backward(format: Format, rows: u32) -> Launch {
    warp_rows(by_format!(format, "softmax_backward"), rows)
}

/// `(x, noise, alpha, sigma, y, length: u64)`, `alpha` and `sigma`\[batch\] in f32.
pub fn add_noise(format: Format, batch: u32, length: u64) -> Launch {
    samples(by_format!(format, "add_noise"), batch, length)
}

/// `(prediction, target, weight, partial, length: u64)`, then [`sum_up`] `(partial, loss, grid x · grid y,
/// 1 / (batch · length))`; `partial` has grid x · grid y floats, `weight`\[batch\] is f32.
pub fn weighted_error(format: Format, batch: u32, length: u64) -> Launch {
    samples(by_format!(format, "weighted_error"), batch, length)
}

/// `(prediction, target, weight, dloss | 0, dprediction, length: u64, scale: f32)`, scale = 1 / (batch · length).
pub fn weighted_error_backward(format: Format, batch: u32, length: u64) -> Launch {
    samples(by_format!(format, "weighted_error_backward"), batch, length)
}

/// `(partial, out, count, scale: f32)`: out\[0\] = scale · sum, f32.
pub fn sum_up() -> Launch {
    Launch::new("sum_up", [1, 1, 1], [BLOCK, 1, 1])
}

/// A piece of one tensor of a table; as `Chunk` in `kernels.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Which tensor.
    pub tensor: u32,
    /// Which piece of it.
    pub index: u32,
}

impl Chunk {
    /// Values of a whole chunk.
    pub const LENGTH: u64 = 65_536;

    /// The chunks of tensors of these lengths.
    pub fn all(lengths: impl IntoIterator<Item = u64>) -> Vec<Self> {
        let count = |length: u64| u32::try_from(length.div_ceil(Self::LENGTH));
        let of = |(tensor, length)| {
            let count = count(length).expect("a tensor of fewer than 2⁴⁸ values");
            (0..count).map(move |index| Self { tensor, index })
        };
        (0..).zip(lengths).flat_map(of).collect()
    }
}

/// A row of the optimizer's table; as `Parameter` in `kernels.cu`. Addresses of f32 on the device, 16-byte aligned.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its values.
    pub value: u64,
    /// Sum of its gradients over all rounds; 0 where it has none: it then stays as it is.
    pub gradient: u64,
    /// Running mean of the gradient.
    pub mean: u64,
    /// Running mean of the squared gradient.
    pub square: u64,
    /// Running average of the values, or 0.
    pub average: u64,
    /// The values in bf16, or 0.
    pub shadow: u64,
    /// Number of values.
    pub length: u64,
    /// Share taken away per step and unit of learning rate; 0 for vectors.
    pub weight_decay: f32,
    /// 1 − β₁ᵏ after this, its k-th, step.
    pub mean_correction: f32,
    /// 1 − β₂ᵏ.
    pub square_correction: f32,
    /// 0.
    pub reserved: u32,
}

/// A row of the accumulation's table; as `Addend` in `kernels.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addend {
    /// Address of the sum, f32.
    pub sum: u64,
    /// Address of what is added, in the kernel's format.
    pub gradient: u64,
    /// Number of values.
    pub length: u64,
}

/// `(parameters, chunks, partial)`; `partial` has a float for each chunk.
pub fn gradient_squares(num_chunks: u32) -> Launch {
    Launch::new("gradient_squares", [num_chunks, 1, 1], [BLOCK, 1, 1])
}

/// `(partial, norm, num_chunks, rounds)`; `norm` is one f32: of the mean gradient over `rounds`.
pub fn gradient_norm() -> Launch {
    Launch::new("gradient_norm", [1, 1, 1], [BLOCK, 1, 1])
}

/// `(addends, chunks, is_first)`; `format` is the gradients'.
pub fn accumulate(format: Format, num_chunks: u32) -> Launch {
    Launch::new(by_format!(format, "accumulate"), [num_chunks, 1, 1], [BLOCK, 1, 1])
}

/// `(parameters, chunks, norm, rounds, clip_norm: f32, learning_rate: f32, beta1: f32, beta2: f32, epsilon: f32,
/// decay: f32)`; `clip_norm` is infinite for none, `decay` the average's.
pub fn adamw(num_chunks: u32) -> Launch {
    Launch::new("adamw", [num_chunks, 1, 1], [BLOCK, 1, 1])
}

/// Threads of a block.
const BLOCK: u32 = 256;

/// Of an H100.
const MULTIPROCESSORS: u32 = 132;

/// Blocks that keep a large GPU busy: 8 of 256 threads fit on a multiprocessor.
const WANTED: u32 = 8 * MULTIPROCESSORS;

/// What the grid's y and z may be.
const MOST_Z: u32 = 65_535;

/// Bytes of that many f32.
fn floats(dims: [u32; 3]) -> usize {
    dims.into_iter().map(|dim| dim as usize).product::<usize>() * size_of::<f32>()
}

/// Columns in packs of 8 where that goes.
fn packs(columns: u32) -> u32 {
    if columns.is_multiple_of(8) { columns / 8 } else { columns }
}

/// A sheet of `rows` and `columns` for each of `batch`, with at least `least` rows for a thread unless the GPU would
/// then be idle in parts.
fn sheet(name: &'static str, rows: u32, columns: u32, batch: u32, least: u32) -> Launch {
    sheet_of_packs(name, rows, packs(columns), batch, least)
}

/// A sheet over two tensors side by side.
fn two_sheets(name: &'static str, rows: u32, a_columns: u32, b_columns: u32) -> Launch {
    let columns = a_columns + b_columns;
    let is_packed = (a_columns | b_columns).is_multiple_of(8);
    sheet_of_packs(name, rows, if is_packed { columns / 8 } else { columns }, 1, 2)
}

fn sheet_of_packs(name: &'static str, rows: u32, packs: u32, batch: u32, least: u32) -> Launch {
    const WIDEST: u32 = 64;
    let tiles = packs.div_ceil(WIDEST);
    let across = packs.div_ceil(tiles);
    let down = (BLOCK / across).min(rows).max(1);
    let each = tiles * batch;
    let worthwhile = rows.div_ceil(down * least);
    let filling = MULTIPROCESSORS.div_ceil(each).min(rows.div_ceil(down));
    let slices = WANTED.div_ceil(each).min(worthwhile).max(filling);
    let rows_each = rows.div_ceil(slices).next_multiple_of(down);
    Launch::new(name, [tiles, rows.div_ceil(rows_each), batch], [across, down, 1])
}

/// A warp for each row.
fn warp_rows(name: &'static str, rows: u32) -> Launch {
    Launch::new(name, [rows.div_ceil(4), 1, 1], [128, 1, 1])
}

/// Packs of 8 over `n` values.
fn flat(name: &'static str, n: u64) -> Launch {
    Launch::new(name, [blocks(n, 1), 1, 1], [BLOCK, 1, 1])
}

/// `batch` rows of `length` values.
fn samples(name: &'static str, batch: u32, length: u64) -> Launch {
    Launch::new(name, [blocks(length, batch), batch, 1], [BLOCK, 1, 1])
}

/// Blocks for each of `batch` runs of `n` values: no more than keep the GPU busy.
fn blocks(n: u64, batch: u32) -> u32 {
    let needed = n.div_ceil(u64::from(8 * BLOCK)).max(1);
    let most = (2 * WANTED).div_ceil(batch);
    u32::try_from(needed).map_or(most, |needed| needed.min(most))
}

/// An entry point's name for a format.
macro_rules! by_format {
    ($format:expr, $name:literal) => {
        match $format {
            Format::F32 => concat!($name, "_f32"),
            Format::Bf16 => concat!($name, "_bf16"),
        }
    };
}
use by_format;

#[cfg(test)]
mod tests;
