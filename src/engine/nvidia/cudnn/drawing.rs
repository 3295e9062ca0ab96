//! A graph as cuDNN wants it told, in plain data: tensors, and the operations between them.

use crate::engine::nvidia::format::Format;
use std::fmt::{self, Display, Formatter};

/// A tensor, by its place in [`Drawing::tensors`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(pub(super) usize);

impl Id {
    /// What cuDNN knows it by: from 1, in the order of drawing.
    pub(super) fn uid(self) -> i64 {
        self.0 as i64 + 1
    }
}

/// Sizes and steps of four dimensions, in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// Sizes.
    pub(super) dims: [i64; 4],
    /// Steps.
    pub(super) strides: [i64; 4],
}

impl Layout {
    /// One row after the other.
    pub(super) fn rows(dims: [usize; 4]) -> Self {
        let [_, b, c, d] = dims;
        Self::new(dims, [b * c * d, c * d, d, 1])
    }

    /// Logical [N, C, H, W], in memory [N, H, W, C].
    pub(super) fn channels_last(dims: [usize; 4]) -> Self {
        let [_, c, h, w] = dims;
        Self::new(dims, [h * w * c, 1, w * c, c])
    }

    /// Steps of one's own.
    pub(super) fn new(dims: [usize; 4], strides: [usize; 4]) -> Self {
        Self { dims: dims.map(|n| n as i64), strides: strides.map(|n| n as i64) }
    }

    /// The same memory with the last two dimensions swapped.
    pub(super) fn transposed(mut self) -> Self {
        self.dims.swap(2, 3);
        self.strides.swap(2, 3);
        self
    }
}

/// Where a tensor lives.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Place {
    /// In device memory, at an address given with each execution.
    Memory,
    /// Between two operations of one kernel.
    Virtual,
    /// One number, given from the host.
    Scalar(f32),
}

/// A tensor of a graph.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Tensor {
    /// For the reader.
    pub(super) name: &'static str,
    /// bf16 or not.
    pub(super) is_bf16: bool,
    /// Sizes and steps.
    pub(super) layout: Layout,
    /// Where it lives.
    pub(super) place: Place,
}

/// Which of its three tensors a convolution computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unknown {
    /// y.
    Output,
    /// dx.
    Input,
    /// dw.
    Weight,
}

/// An operation on every element; all compute in f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pointwise {
    /// x + b.
    Add,
    /// x − b.
    Subtract,
    /// x · b.
    Multiply,
    /// eˣ.
    Exp,
    /// x.
    Copy,
}

/// An operation.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    /// Cross-correlation, or one of its gradients.
    Convolve {
        unknown: Unknown,
        x: Id,
        w: Id,
        y: Id,
        strides: [i64; 2],
        before: [i64; 2],
        after: [i64; 2],
    },
    /// Element by element, `b` broadcast.
    Pointwise { what: Pointwise, x: Id, b: Option<Id>, y: Id },
    /// C = A · B over the last two dimensions.
    Product { a: Id, b: Id, c: Id },
    /// Sum over the dimensions in which `y` has size 1.
    Sum { x: Id, y: Id },
    /// The same numbers under another layout.
    Reshape { x: Id, y: Id },
    /// softmax(scale · Q · Kᵀ) · V, and the logarithms of the sums of exponentials.
    Attend { q: Id, k: Id, v: Id, scale: Id, o: Id, stats: Id },
}

/// A graph: tensors in memory come first, in the order in which their addresses are given.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Drawing {
    /// Tensors, by [`Id`].
    pub(super) tensors: Vec<Tensor>,
    /// Operations, inputs before outputs.
    pub(super) nodes: Vec<Node>,
}

impl Drawing {
    /// A tensor in device memory.
    pub(super) fn memory(&mut self, name: &'static str, format: Format, layout: Layout) -> Id {
        self.add(name, format, layout, Place::Memory)
    }

    /// A tensor that no one sees.
    pub(super) fn passing(&mut self, name: &'static str, format: Format, layout: Layout) -> Id {
        self.add(name, format, layout, Place::Virtual)
    }

    /// A number that the host gives.
    pub(super) fn scalar(&mut self, name: &'static str, value: f32) -> Id {
        self.add(name, Format::F32, Layout::rows([1; 4]), Place::Scalar(value))
    }

    /// A new tensor in `format`, of `x`'s layout: `what` of `x` and `b`.
    pub(super) fn map(&mut self, name: &'static str, what: Pointwise, x: Id, b: Option<Id>) -> Id {
        let y = self.passing(name, Format::F32, self.tensors[x.0].layout);
        self.nodes.push(Node::Pointwise { what, x, b, y });
        y
    }

    /// The tensors in device memory, in the order in which their addresses are given.
    pub(super) fn arguments(&self) -> impl Iterator<Item = Id> {
        self.ids().filter(|id| self.tensors[id.0].place == Place::Memory)
    }

    /// The numbers that the host gives.
    pub(super) fn scalars(&self) -> impl Iterator<Item = (Id, f32)> {
        self.ids().filter_map(|id| match self.tensors[id.0].place {
            Place::Scalar(value) => Some((id, value)),
            Place::Memory | Place::Virtual => None,
        })
    }

    fn ids(&self) -> impl Iterator<Item = Id> {
        (0..self.tensors.len()).map(Id)
    }

    fn add(&mut self, name: &'static str, format: Format, layout: Layout, place: Place) -> Id {
        self.tensors.push(Tensor { name, is_bf16: format == Format::Bf16, layout, place });
        Id(self.tensors.len() - 1)
    }
}

impl Display for Drawing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (id, tensor) in self.ids().zip(&self.tensors) {
            let Tensor { name, is_bf16, layout: Layout { dims, strides }, place } = tensor;
            let number = if *is_bf16 { "bf16" } else { "f32" };
            write!(f, "{} {name}: {number} {dims:?} by {strides:?}", id.uid())?;
            match place {
                Place::Memory => writeln!(f)?,
                Place::Virtual => writeln!(f, ", virtual")?,
                Place::Scalar(value) => writeln!(f, ", = {value}")?,
            }
        }
        let name = |id: &Id| self.tensors[id.0].name;
        for node in &self.nodes {
            match node {
                Node::Convolve { unknown, x, w, y, strides, before, after } => {
                    let [x, w, y] = [x, w, y].map(name);
                    match unknown {
                        Unknown::Output => write!(f, "{y} = convolve({x}, {w})")?,
                        Unknown::Input => write!(f, "{x} = convolve_input({y}, {w})")?,
                        Unknown::Weight => write!(f, "{w} = convolve_weight({x}, {y})")?,
                    }
                    writeln!(f, ", strides {strides:?}, padding {before:?} {after:?}")?;
                }
                Node::Pointwise { what, x, b, y } => {
                    let what = format!("{what:?}").to_lowercase();
                    let b = b.as_ref().map(|b| format!(", {}", name(b))).unwrap_or_default();
                    writeln!(f, "{} = {what}({}{b})", name(y), name(x))?;
                }
                Node::Product { a, b, c } => {
                    writeln!(f, "{} = {} · {}", name(c), name(a), name(b))?;
                }
                Node::Sum { x, y } => writeln!(f, "{} = sum({})", name(y), name(x))?,
                Node::Reshape { x, y } => writeln!(f, "{} = reshape({})", name(y), name(x))?,
                Node::Attend { q, k, v, scale, o, stats } => {
                    let [q, k, v, scale, o, stats] = [q, k, v, scale, o, stats].map(name);
                    writeln!(f, "{o}, {stats} = attend({q}, {k}, {v}, {scale})")?;
                }
            }
        }
        Ok(())
    }
}
