//! A drawing as descriptors.

use super::descriptor::{self, Api, Choice, Descriptor, attribute, kind};
use super::drawing::{Drawing, Id, Layout, Node, Place, Pointwise, Tensor, Unknown};
use super::{CudnnError, Target};
use std::ffi::c_int;
use std::sync::Arc;

/// Bytes to which every tensor in memory is aligned.
const ALIGNMENT: i64 = 16;

/// A graph of descriptors. Fields are dropped in this order: users before what they use.
pub(super) struct Assembly {
    /// The graph.
    pub(super) graph: Descriptor,
    _nodes: Vec<Descriptor>,
    _parameters: Vec<Descriptor>,
    _tensors: Vec<Descriptor>,
}

impl Assembly {
    /// Has the library check tensors, operations and graph.
    pub(super) fn new(
        api: &Arc<Api>,
        drawing: &Drawing,
        target: &Target<'_>,
    ) -> Result<Self, CudnnError> {
        let tensors = (0..)
            .map(Id)
            .zip(&drawing.tensors)
            .map(|(id, shape)| tensor(api, id, shape))
            .collect::<Result<Vec<_>, _>>()?;
        let mut parameters = Vec::new();
        let mut nodes = Vec::new();
        for drawn in &drawing.nodes {
            let parameter = parameter(api, drawn)?;
            nodes.push(node(api, drawn, &tensors, parameter.as_ref())?);
            parameters.extend(parameter);
        }
        let mut graph = Descriptor::new(api, kind::OPERATIONGRAPH)?
            .parts(attribute::OPERATIONGRAPH_OPS, &nodes)?;
        if let Target::Here(handle) = target {
            graph = graph.handle(attribute::OPERATIONGRAPH_HANDLE, handle)?;
        }
        let graph = graph.finalize()?;
        Ok(Self { graph, _nodes: nodes, _parameters: parameters, _tensors: tensors })
    }
}

fn tensor(api: &Arc<Api>, id: Id, tensor: &Tensor) -> Result<Descriptor, CudnnError> {
    let Tensor { is_bf16, layout: Layout { dims, strides }, place, .. } = tensor;
    let number = if *is_bf16 { descriptor::BFLOAT16 } else { descriptor::FLOAT };
    let tensor = Descriptor::new(api, kind::TENSOR)?
        .choice(attribute::TENSOR_DATA_TYPE, number)?
        .numbers(attribute::TENSOR_DIMENSIONS, dims)?
        .numbers(attribute::TENSOR_STRIDES, strides)?
        .numbers(attribute::TENSOR_UNIQUE_ID, &[id.uid()])?
        .numbers(attribute::TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT])?;
    match place {
        Place::Memory => tensor,
        Place::Virtual => tensor.yes(attribute::TENSOR_IS_VIRTUAL)?,
        Place::Scalar(_) => tensor.yes(attribute::TENSOR_IS_BY_VALUE)?,
    }
    .finalize()
}

/// The descriptor that an operation shares with others of its kind, if it has one.
fn parameter(api: &Arc<Api>, node: &Node) -> Result<Option<Descriptor>, CudnnError> {
    let parameter = match node {
        Node::Convolve { strides, before, after, .. } => Descriptor::new(api, kind::CONVOLUTION)?
            .choice(attribute::CONVOLUTION_COMP_TYPE, descriptor::FLOAT)?
            .choice(attribute::CONVOLUTION_CONV_MODE, descriptor::CROSS_CORRELATION)?
            .numbers(attribute::CONVOLUTION_SPATIAL_DIMS, &[2])?
            .numbers(attribute::CONVOLUTION_PRE_PADDINGS, before)?
            .numbers(attribute::CONVOLUTION_POST_PADDINGS, after)?
            .numbers(attribute::CONVOLUTION_DILATIONS, &[1, 1])?
            .numbers(attribute::CONVOLUTION_FILTER_STRIDES, strides)?,
        Node::Pointwise { what, .. } => Descriptor::new(api, kind::POINTWISE)?
            .choice(attribute::POINTWISE_MODE, mode(*what))?
            .choice(attribute::POINTWISE_MATH_PREC, descriptor::FLOAT)?,
        Node::Product { .. } => Descriptor::new(api, kind::MATMUL)?
            .choice(attribute::MATMUL_COMP_TYPE, descriptor::FLOAT)?,
        Node::Sum { .. } => Descriptor::new(api, kind::REDUCTION)?
            .choice(attribute::REDUCTION_OPERATOR, descriptor::SUM)?
            .choice(attribute::REDUCTION_COMP_TYPE, descriptor::FLOAT)?,
        Node::Reshape { .. } | Node::Attend { .. } => return Ok(None),
    };
    parameter.finalize().map(Some)
}

fn mode(what: Pointwise) -> Choice {
    match what {
        Pointwise::Add => descriptor::ADD,
        Pointwise::Subtract => descriptor::SUBTRACT,
        Pointwise::Multiply => descriptor::MULTIPLY,
        Pointwise::Exp => descriptor::EXP,
        Pointwise::Copy => descriptor::IDENTITY,
    }
}

/// An operation: its tensors and, where there is one, its parameter, each under its attribute.
fn node(
    api: &Arc<Api>,
    node: &Node,
    tensors: &[Descriptor],
    parameter: Option<&Descriptor>,
) -> Result<Descriptor, CudnnError> {
    use attribute::*;
    type Ports = Vec<(c_int, Id)>;
    let (kind, parameter_attribute, ports): (c_int, c_int, Ports) = match *node {
        Node::Convolve { unknown: Unknown::Output, x, w, y, .. } => (
            kind::OPERATION_CONVOLUTION_FORWARD,
            OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            vec![
                (OPERATION_CONVOLUTION_FORWARD_X, x),
                (OPERATION_CONVOLUTION_FORWARD_W, w),
                (OPERATION_CONVOLUTION_FORWARD_Y, y),
            ],
        ),
        Node::Convolve { unknown: Unknown::Input, x, w, y, .. } => (
            kind::OPERATION_CONVOLUTION_BACKWARD_DATA,
            OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
            vec![
                (OPERATION_CONVOLUTION_BWD_DATA_DX, x),
                (OPERATION_CONVOLUTION_BWD_DATA_W, w),
                (OPERATION_CONVOLUTION_BWD_DATA_DY, y),
            ],
        ),
        Node::Convolve { unknown: Unknown::Weight, x, w, y, .. } => (
            kind::OPERATION_CONVOLUTION_BACKWARD_FILTER,
            OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            vec![
                (OPERATION_CONVOLUTION_BWD_FILTER_X, x),
                (OPERATION_CONVOLUTION_BWD_FILTER_DW, w),
                (OPERATION_CONVOLUTION_BWD_FILTER_DY, y),
            ],
        ),
        Node::Pointwise { x, b, y, .. } => {
            let mut ports = vec![(OPERATION_POINTWISE_XDESC, x), (OPERATION_POINTWISE_YDESC, y)];
            ports.extend(b.map(|b| (OPERATION_POINTWISE_BDESC, b)));
            (kind::OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, ports)
        }
        Node::Product { a, b, c } => (
            kind::OPERATION_MATMUL,
            OPERATION_MATMUL_DESC,
            vec![
                (OPERATION_MATMUL_ADESC, a),
                (OPERATION_MATMUL_BDESC, b),
                (OPERATION_MATMUL_CDESC, c),
            ],
        ),
        Node::Sum { x, y } => (
            kind::OPERATION_REDUCTION,
            OPERATION_REDUCTION_DESC,
            vec![(OPERATION_REDUCTION_XDESC, x), (OPERATION_REDUCTION_YDESC, y)],
        ),
        Node::Reshape { x, y } => (
            kind::OPERATION_RESHAPE,
            0,
            vec![(OPERATION_RESHAPE_XDESC, x), (OPERATION_RESHAPE_YDESC, y)],
        ),
        Node::Attend { q, k, v, scale, o, stats } => (
            kind::OPERATION_SDPA_FWD,
            0,
            vec![
                (OPERATION_SDPA_FWD_QDESC, q),
                (OPERATION_SDPA_FWD_KDESC, k),
                (OPERATION_SDPA_FWD_VDESC, v),
                (OPERATION_SDPA_FWD_SCALEDESC, scale),
                (OPERATION_SDPA_FWD_ODESC, o),
                (OPERATION_SDPA_FWD_STATSDESC, stats),
            ],
        ),
    };
    let mut operation = Descriptor::new(api, kind)?;
    for (port, id) in ports {
        operation = operation.parts(port, [&tensors[id.0]])?;
    }
    if let Some(parameter) = parameter {
        operation = operation.parts(parameter_attribute, [parameter])?;
    }
    if let Node::Convolve { unknown, .. } = node {
        let (alpha, beta) = match unknown {
            Unknown::Output => {
                (OPERATION_CONVOLUTION_FORWARD_ALPHA, OPERATION_CONVOLUTION_FORWARD_BETA)
            }
            Unknown::Input => {
                (OPERATION_CONVOLUTION_BWD_DATA_ALPHA, OPERATION_CONVOLUTION_BWD_DATA_BETA)
            }
            Unknown::Weight => {
                (OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, OPERATION_CONVOLUTION_BWD_FILTER_BETA)
            }
        };
        operation = operation.float(alpha, 1.0)?.float(beta, 0.0)?;
    }
    operation.finalize()
}
