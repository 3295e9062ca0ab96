//! What a GPU would be asked for, without one: operations give zeros and note what they would have needed.

use super::backend::{ConvGeometry, GroupNormGradients};
use super::nvidia::cublas::Product;
use super::nvidia::cudnn::{Epilogue, Graph};
use super::requests;
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps as _;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Something that a library must have a kernel for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// Of cuDNN.
    Graph(Graph),
    /// Of cuBLASLt.
    Product(Product),
}

impl Request {
    /// The same for `count` images where this is for one.
    pub fn times(self, count: usize) -> Self {
        match self {
            Self::Graph(mut graph) => {
                *graph.batch_mut() *= count;
                Self::Graph(graph)
            }
            Self::Product(mut product) => {
                // Images are rows of a layer's input and output, and what its weights' gradient sums over.
                match (product.batch > 1, product.transposes_a) {
                    (true, _) => product.batch *= count,
                    (false, true) => product.inner *= count,
                    (false, false) => product.rows *= count,
                }
                Self::Product(product)
            }
        }
    }
}

thread_local! {
    /// What is noted on this thread, while it is.
    static NOTED: RefCell<Option<BTreeSet<Request>>> = const { RefCell::new(None) };
}

/// Whether operations of this thread on the CPU only note what they would need.
pub(super) fn is_on() -> bool {
    NOTED.with_borrow(Option::is_some)
}

/// Runs `call` with every operation of this thread on the CPU giving zeros; what a GPU would have been asked for.
pub fn requests(call: impl FnOnce()) -> BTreeSet<Request> {
    NOTED.set(Some(BTreeSet::new()));
    call();
    NOTED.take().unwrap_or_default()
}

fn note(request: Request) {
    NOTED.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.insert(request);
        }
    });
}

type Floats = FloatTensor<Flex>;

/// One zero that stands for all of them: shapes cost no memory.
fn zeros<const D: usize>(shape: [usize; D], dtype: DType) -> Floats {
    let one = Flex::float_zeros([1; D].into(), &Default::default(), dtype.into());
    Flex::float_expand(one, shape.into())
}

fn dims<const D: usize>(tensor: &Floats) -> [usize; D] {
    tensor.layout().shape().dims()
}

/// [`super::backend::Engine`]'s operations, noted.
pub(super) struct Noted;

impl Noted {
    pub(super) fn convolve(
        x: &Floats,
        shape: [usize; 4],
        has_bias: bool,
        geometry: ConvGeometry,
    ) -> Floats {
        let plan = requests::convolution(dims(x), shape, geometry, x.dtype());
        let [height, width] = plan.size_out();
        let out = zeros([plan.batch, plan.channels_out, height, width], x.dtype());
        let epilogue = if has_bias { Epilogue::Bias } else { Epilogue::Plain };
        note(Request::Graph(Graph::Convolve(plan, epilogue)));
        out
    }

    pub(super) fn convolve_x_gradient(
        x: &Floats,
        shape: [usize; 4],
        geometry: ConvGeometry,
    ) -> Floats {
        let plan = requests::convolution(dims(x), shape, geometry, x.dtype());
        note(Request::Graph(Graph::ConvolveInput(plan)));
        zeros(dims::<4>(x), x.dtype())
    }

    pub(super) fn convolve_weight_gradient(
        x: &Floats,
        shape: [usize; 4],
        mut geometry: ConvGeometry,
    ) -> Floats {
        let mut size = dims(x);
        if requests::pads_first(geometry, x.dtype()) {
            let (before, after) = std::mem::take(&mut geometry.padding);
            size[2] += before + after;
            size[3] += before + after;
        }
        let plan = requests::convolution(size, shape, geometry, x.dtype());
        note(Request::Graph(Graph::ConvolveWeight(plan)));
        zeros(shape, DType::F32)
    }

    pub(super) fn norm_groups(x: &Floats, count: usize) -> (Floats, Floats) {
        let shape: [usize; 4] = dims(x);
        (zeros(shape, x.dtype()), zeros([2, shape[0] * count], DType::F32))
    }

    pub(super) fn norm_groups_gradients(
        x: &Floats,
        shift: Option<&Floats>,
    ) -> GroupNormGradients<Flex> {
        let shape: [usize; 4] = dims(x);
        let vector = || zeros([shape[1]], DType::F32);
        let shift = shift.map(|shift| zeros(dims::<2>(shift), x.dtype()));
        GroupNormGradients { x: zeros(shape, x.dtype()), shift, weight: vector(), bias: vector() }
    }

    pub(super) fn affine(x: &Floats, matrix: &Floats, has_bias: bool) -> Floats {
        let ([rows, inner], [columns, _]) = (dims(x), dims(matrix));
        let sizes = [rows, columns, inner];
        let product = requests::product(sizes, [false, true], 1, x.dtype(), x.dtype());
        note(Request::Product(Product { has_bias, ..product }));
        zeros([rows, columns], x.dtype())
    }

    pub(super) fn affine_x_gradient(matrix: &Floats, grad: &Floats) -> Floats {
        let ([rows, inner], [_, columns]) = (dims(grad), dims(matrix));
        product([rows, columns, inner], [false, false], 1, grad.dtype(), grad.dtype());
        zeros([rows, columns], grad.dtype())
    }

    pub(super) fn affine_weight_gradient(x: &Floats, grad: &Floats) -> Floats {
        let ([inner, columns], [_, rows]) = (dims(x), dims(grad));
        product([rows, columns, inner], [true, false], 1, x.dtype(), DType::F32);
        zeros([rows, columns], DType::F32)
    }

    pub(super) fn sum(grad: &Floats, axis: usize) -> Floats {
        zeros([grad.layout().shape()[axis]], DType::F32)
    }

    pub(super) fn norm_layers(x: &Floats) -> (Floats, Floats) {
        let shape: [usize; 2] = dims(x);
        (zeros(shape, x.dtype()), zeros([2, shape[0]], DType::F32))
    }

    pub(super) fn norm_layers_gradients(x: &Floats) -> [Floats; 3] {
        let shape: [usize; 2] = dims(x);
        let vector = || zeros([shape[1]], DType::F32);
        [zeros(shape, x.dtype()), vector(), vector()]
    }

    pub(super) fn geglu(x: &Floats) -> Floats {
        let [rows, both] = dims(x);
        zeros([rows, both / 2], x.dtype())
    }

    pub(super) fn attend(q: &Floats, k: &Floats) -> (Floats, Floats) {
        let [b, h, n, d] = dims(q);
        let m = dims::<4>(k)[2];
        match requests::attention([b, h, n, d], m, q.dtype()) {
            Some(attention) => note(Request::Graph(Graph::Attend(attention))),
            None => {
                product([n, m, d], [false, true], b * h, q.dtype(), DType::F32);
                product([n, d, m], [false, false], b * h, q.dtype(), q.dtype());
            }
        }
        (zeros([b, h, n, d], q.dtype()), zeros([b, h, n, 1], DType::F32))
    }

    pub(super) fn attend_gradients([q, k, v]: [&Floats; 3]) -> [Floats; 3] {
        let [b, h, n, d] = dims(q);
        let m = dims::<4>(k)[2];
        match requests::attention_gradients([b, h, n, d], m, q.dtype()) {
            Some(attention) => note(Request::Graph(Graph::AttendGradients(attention))),
            None => {
                product([n, m, d], [false, true], b * h, q.dtype(), DType::F32);
                product([n, d, m], [false, false], b * h, q.dtype(), q.dtype());
                product([m, d, n], [true, false], b * h, q.dtype(), q.dtype());
            }
        }
        [q, k, v].map(|x| zeros(dims::<4>(x), x.dtype()))
    }

    pub(super) fn join(a: &Floats, b: &Floats) -> Floats {
        let [batch, first, h, w] = dims(a);
        zeros([batch, first + dims::<4>(b)[1], h, w], a.dtype())
    }

    pub(super) fn part(x: &Floats, channels: usize) -> [Floats; 2] {
        let [batch, total, h, w] = dims(x);
        [channels, total - channels].map(|channels| zeros([batch, channels, h, w], x.dtype()))
    }

    pub(super) fn resize(x: &Floats, [rows, columns]: [usize; 2]) -> Floats {
        let [b, c, _, _] = dims(x);
        zeros([b, c, rows, columns], x.dtype())
    }
}

fn product(sizes: [usize; 3], transposes: [bool; 2], batch: usize, dtype: DType, out: DType) {
    note(Request::Product(requests::product(sizes, transposes, batch, dtype, out)));
}
