//! Convolutions as graphs.

use super::drawing::{Drawing, Id, Layout, Node, Pointwise, Unknown};
use crate::engine::nvidia::format::Format;

/// A convolution of logical [B, C, H, W], in memory [B, H, W, C], with kernels [K, R, S, C].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub channels_in: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Rows and columns of a kernel.
    pub kernel: [usize; 2],
    /// Step of the kernel, in rows and columns alike.
    pub stride: usize,
    /// Zeros above and to the left.
    pub before: usize,
    /// Zeros below and to the right.
    pub after: usize,
    /// Of all tensors.
    pub format: Format,
}

impl Convolution {
    /// Rows and columns of the output.
    pub fn size_out(&self) -> [usize; 2] {
        let [rows, columns] = self.kernel;
        let padding = self.before + self.after;
        [(self.height, rows), (self.width, columns)]
            .map(|(size, kernel)| (size + padding - kernel) / self.stride + 1)
    }

    /// Multiplications and additions; a gradient needs as many.
    pub fn flops(&self) -> u64 {
        let [height, width] = self.size_out();
        let terms = self.channels_in * self.kernel[0] * self.kernel[1];
        2 * (self.batch * height * width * self.channels_out * terms) as u64
    }

    fn x(&self) -> Layout {
        Layout::channels_last([self.batch, self.channels_in, self.height, self.width])
    }

    fn w(&self) -> Layout {
        let [rows, columns] = self.kernel;
        Layout::channels_last([self.channels_out, self.channels_in, rows, columns])
    }

    fn y(&self) -> Layout {
        let [height, width] = self.size_out();
        Layout::channels_last([self.batch, self.channels_out, height, width])
    }

    fn node(&self, unknown: Unknown, [x, w, y]: [Id; 3]) -> Node {
        let [strides, before, after] =
            [self.stride, self.before, self.after].map(|count| [count as i64; 2]);
        Node::Convolve { unknown, x, w, y, strides, before, after }
    }
}

/// What is added to a convolution before its output is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Epilogue {
    /// Nothing.
    Plain,
    /// A number per channel, in the number format.
    Bias,
    /// A tensor like the output, then a number per channel.
    ResidualBias,
}

/// x, w, [residual], [bias] -> y.
///
/// The residual comes before the bias: the other order has no engine (cuDNN 9.26).
pub(super) fn forward(convolution: &Convolution, epilogue: Epilogue) -> Drawing {
    let Convolution { channels_out, format, .. } = *convolution;
    let (output, bias) = (convolution.y(), Layout::channels_last([1, channels_out, 1, 1]));
    let mut drawing = Drawing::default();
    let x = drawing.memory("x", format, convolution.x());
    let w = drawing.memory("w", format, convolution.w());
    let addends = match epilogue {
        Epilogue::Plain => vec![],
        Epilogue::Bias => vec![drawing.memory("bias", format, bias)],
        Epilogue::ResidualBias => {
            let residual = drawing.memory("residual", format, output);
            vec![residual, drawing.memory("bias", format, bias)]
        }
    };
    let y = drawing.memory("y", format, output);
    let names = ["product", "shifted"];
    let mut sums: Vec<Id> = names[..addends.len()]
        .iter()
        .map(|name| drawing.passing(name, Format::F32, output))
        .collect();
    sums.push(y);
    drawing.nodes.push(convolution.node(Unknown::Output, [x, w, sums[0]]));
    for (step, b) in addends.into_iter().enumerate() {
        let (x, y) = (sums[step], sums[step + 1]);
        drawing.nodes.push(Node::Pointwise { what: Pointwise::Add, x, b: Some(b), y });
    }
    drawing
}

/// dy, w -> dx.
pub(super) fn input_gradient(convolution: &Convolution) -> Drawing {
    let mut drawing = Drawing::default();
    let dy = drawing.memory("dy", convolution.format, convolution.y());
    let w = drawing.memory("w", convolution.format, convolution.w());
    let dx = drawing.memory("dx", convolution.format, convolution.x());
    drawing.nodes.push(convolution.node(Unknown::Input, [dx, w, dy]));
    drawing
}

/// x, dy -> dw.
pub(super) fn weight_gradient(convolution: &Convolution) -> Drawing {
    let mut drawing = Drawing::default();
    let x = drawing.memory("x", convolution.format, convolution.x());
    let dy = drawing.memory("dy", convolution.format, convolution.y());
    let dw = drawing.memory("dw", convolution.format, convolution.w());
    drawing.nodes.push(convolution.node(Unknown::Weight, [x, dw, dy]));
    drawing
}
