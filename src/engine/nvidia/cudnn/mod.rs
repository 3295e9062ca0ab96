//! Convolutions and attention by cuDNN 9.
//!
//! Its backend API takes a graph of operations, proposes engines for it, and makes one ready: a [`Plan`]. Planning
//! needs no GPU: a card may be described by the text that cuDNN itself gives of one (`devices/*.json`).

mod assembly;
mod attention;
mod convolution;
mod descriptor;
mod drawing;
mod plan;

use super::format::Format;
use super::libraries::LibraryError;
pub use attention::Attention;
pub use convolution::{Convolution, Epilogue};
pub use descriptor::Handle;
use descriptor::{Api, Descriptor, attribute, kind};
use drawing::Drawing;
pub use plan::Plan;
use plan::Search;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// The oldest version that can be used: the first with attention forward as one operation.
const OLDEST: Version = Version(91_301);
/// The first whose attention gradients stay within their memory for every number of keys.
const GRADIENTS_OF_ANY_KEYS: Version = Version(91_501);

/// Why cuDNN cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudnnError {
    /// A library is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It is there and too old.
    #[error(
        "cuDNN {found} {fault}; {needed} or newer is needed: pip install --upgrade nvidia-cudnn-cu13"
    )]
    Version {
        /// Its version.
        found: Version,
        /// What is wrong with it.
        fault: &'static str,
        /// The first without the fault.
        needed: Version,
    },
    /// A call failed.
    #[error("{call} failed: {reason}")]
    Call {
        /// The function.
        call: &'static str,
        /// In the library's words.
        reason: String,
    },
    /// Nothing in it computes this graph on this card.
    #[error("cuDNN has no engine for {graph}: {reason}")]
    NoEngine {
        /// The graph.
        graph: String,
        /// Why the last engine was refused.
        reason: String,
    },
    /// A saved plan is not for this graph and library.
    #[error("the saved plan cannot be used: {what}")]
    Saved {
        /// Why not.
        what: String,
    },
}

/// A version of cuDNN, as it counts: 91301 is 9.13.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub usize);

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

impl Version {
    /// Refuses versions that cannot be used at all.
    fn check(self) -> Result<(), CudnnError> {
        let fault = match self.0 {
            91_000 | 91_001 => "has known bugs in attention",
            _ if self < OLDEST => "has no attention as one operation",
            _ => return Ok(()),
        };
        Err(CudnnError::Version { found: self, fault, needed: OLDEST })
    }

    /// Refuses what this version computes wrongly.
    fn check_graph(self, graph: &Graph) -> Result<(), CudnnError> {
        match graph {
            Graph::AttendGradients(Attention { keys, .. })
                if keys % 128 != 0 && self < GRADIENTS_OF_ANY_KEYS =>
            {
                let fault = "may leave its memory in attention gradients unless keys come in 128s";
                Err(CudnnError::Version { found: self, fault, needed: GRADIENTS_OF_ANY_KEYS })
            }
            _ => Ok(()),
        }
    }
}

/// What cuDNN is asked for. Everything that decides a plan, and nothing else.
///
/// Each variant says which addresses [`Plan::execute`] takes, in this order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Graph {
    /// A convolution: x, w, residual if there is one, bias if there is one, y.
    Convolve(Convolution, Epilogue),
    /// A convolution's gradient by its input: dy, w, dx.
    ConvolveInput(Convolution),
    /// A convolution's gradient by its kernels: x, dy, dw.
    ConvolveWeight(Convolution),
    /// Attention: q, k, v, o, stats. `stats` is f32 [B, h, N]: log Σ exp of every row of scores.
    Attend(Attention),
    /// Attention's gradients: q, k, v, o, do, stats, dq, dk, dv, softmax_sum, dq_sum.
    ///
    /// The last two are temporaries in f32, [B, h, N] and [B, h, N, d]; they need not be cleared.
    AttendGradients(Attention),
}

impl Graph {
    /// Its number format.
    pub fn format(&self) -> Format {
        match self {
            Self::Convolve(convolution, _)
            | Self::ConvolveInput(convolution)
            | Self::ConvolveWeight(convolution) => convolution.format,
            Self::Attend(attention) | Self::AttendGradients(attention) => attention.format,
        }
    }

    /// How many images it is for.
    pub fn batch_mut(&mut self) -> &mut usize {
        match self {
            Self::Convolve(convolution, _)
            | Self::ConvolveInput(convolution)
            | Self::ConvolveWeight(convolution) => &mut convolution.batch,
            Self::Attend(attention) | Self::AttendGradients(attention) => &mut attention.batch,
        }
    }

    /// Floating-point operations.
    pub fn flops(&self) -> u64 {
        match self {
            Self::Convolve(convolution, _)
            | Self::ConvolveInput(convolution)
            | Self::ConvolveWeight(convolution) => convolution.flops(),
            Self::Attend(attention) => attention.flops(),
            // Five products where forward has two.
            Self::AttendGradients(attention) => attention.flops() / 2 * 5,
        }
    }

    /// All that cuDNN is told: tensors with sizes and steps, and operations, a line each.
    pub fn describe(&self) -> String {
        format!("{self}\n{}", self.draw())
    }

    fn draw(&self) -> Drawing {
        match self {
            Self::Convolve(convolution, epilogue) => convolution::forward(convolution, *epilogue),
            Self::ConvolveInput(convolution) => convolution::input_gradient(convolution),
            Self::ConvolveWeight(convolution) => convolution::weight_gradient(convolution),
            Self::Attend(attention) => attention::forward(attention),
            Self::AttendGradients(attention) => attention::backward(attention),
        }
    }
}

impl Display for Graph {
    /// One line for logs: `convolve + bias, bf16, [64, 320, 32, 32] to 320 by 3×3, stride 1, padding 1 1`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Convolve(_, Epilogue::Plain) => "convolve",
            Self::Convolve(_, Epilogue::Bias) => "convolve + bias",
            Self::Convolve(_, Epilogue::ResidualBias) => "convolve + residual + bias",
            Self::ConvolveInput(_) => "convolve, input gradient",
            Self::ConvolveWeight(_) => "convolve, weight gradient",
            Self::Attend(_) => "attend",
            Self::AttendGradients(_) => "attend, gradients",
        };
        let format = format!("{:?}", self.format()).to_lowercase();
        match self {
            Self::Convolve(convolution, _)
            | Self::ConvolveInput(convolution)
            | Self::ConvolveWeight(convolution) => {
                let Convolution { batch, channels_in, height, width, channels_out, .. } =
                    convolution;
                let Convolution { kernel: [rows, columns], stride, before, after, .. } =
                    convolution;
                write!(f, "{name}, {format}, [{batch}, {channels_in}, {height}, {width}] ")?;
                write!(f, "to {channels_out} by {rows}×{columns}, ")?;
                write!(f, "stride {stride}, padding {before} {after}")
            }
            Self::Attend(attention) | Self::AttendGradients(attention) => {
                let Attention { batch, heads, queries, keys, dim, .. } = attention;
                write!(f, "{name}, {format}, [{batch}, {heads}, {queries}, {dim}] to {keys} keys")
            }
        }
    }
}

/// The card that plans are made for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// The card of a handle.
    Here(&'a Handle),
    /// A card by cuDNN's JSON of it; see [`Cudnn::describe_card`].
    Described(&'a str),
}

/// cuDNN, open.
#[derive(Clone)]
pub struct Cudnn {
    api: Arc<Api>,
}

impl Cudnn {
    /// Opens the library; touches no GPU.
    pub fn open() -> Result<Self, CudnnError> {
        let api = Api::open()?;
        api.version().check()?;
        Ok(Self { api: Arc::new(api) })
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.api.version()
    }

    /// A handle on the current context of this thread.
    pub fn handle(&self) -> Result<Handle, CudnnError> {
        Handle::new(&self.api)
    }

    /// The card of a handle as [`Target::Described`] takes it, on any thread and any machine.
    pub fn describe_card(&self, handle: &Handle) -> Result<String, CudnnError> {
        Descriptor::new(&self.api, kind::DEVICEPROP)?
            .handle(attribute::DEVICEPROP_HANDLE, handle)?
            .finalize()?
            .read_text(attribute::DEVICEPROP_JSON_REPRESENTATION)
    }

    /// The plan that cuDNN thinks best, among those whose workspace is within `limit` bytes.
    ///
    /// Under [`Format::F32`] no engine is taken that rounds factors, as tensor cores do.
    pub fn plan(
        &self,
        graph: &Graph,
        target: &Target<'_>,
        limit: usize,
    ) -> Result<Plan, CudnnError> {
        let (plans, reason) = self.search(graph, target, limit, 1)?;
        let none = || CudnnError::NoEngine { graph: graph.to_string(), reason };
        plans.into_iter().next().ok_or_else(none)
    }

    /// Up to `most` plans, the one that cuDNN thinks best first, to be timed against each other.
    pub fn plans(
        &self,
        graph: &Graph,
        target: &Target<'_>,
        limit: usize,
        most: usize,
    ) -> Result<Vec<Plan>, CudnnError> {
        self.search(graph, target, limit, most).map(|(plans, _)| plans)
    }

    /// A plan from what [`Plan::save`] wrote.
    pub fn load(
        &self,
        graph: &Graph,
        saved: &str,
        target: &Target<'_>,
    ) -> Result<Plan, CudnnError> {
        plan::load(&self.api, graph, saved, target)
    }

    fn search(
        &self,
        graph: &Graph,
        target: &Target<'_>,
        limit: usize,
        most: usize,
    ) -> Result<(Vec<Plan>, String), CudnnError> {
        self.version().check_graph(graph)?;
        let is_attention = matches!(graph, Graph::Attend(_) | Graph::AttendGradients(_));
        if is_attention && graph.format() != Format::Bf16 {
            let reason = "it knows attention in bf16 only".to_owned();
            return Err(CudnnError::NoEngine { graph: graph.to_string(), reason });
        }
        Ok(Search::new(&self.api, graph, target)?.plans(limit, most))
    }
}

#[cfg(test)]
mod tests;
