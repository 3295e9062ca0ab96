//! NVIDIA's libraries: found, opened, asked for plans, and our own kernels compiled. Needs no GPU but to run them.

pub mod cublas;
pub mod cudnn;
pub mod driver;
pub mod format;
pub mod kernels;
pub mod libraries;
pub mod nvrtc;
pub mod plans;
pub mod stand_in;
pub mod survey;

/// Bytes of device memory in which operations keep what they need only while they run. All run on one stream, one
/// after the other, so they share it.
pub const WORKSPACE: usize = 256 << 20;

/// Why an operation cannot be computed on a GPU.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The driver refuses.
    #[error(transparent)]
    Driver(#[from] driver::DriverError),
    /// A product fails.
    #[error(transparent)]
    Cublas(#[from] cublas::CublasError),
    /// A convolution or attention fails.
    #[error(transparent)]
    Cudnn(#[from] cudnn::CudnnError),
    /// Our own kernels do not compile.
    #[error(transparent)]
    Nvrtc(#[from] nvrtc::NvrtcError),
    /// An operation is larger than was thought of.
    #[error("an operation needs {needed} bytes of scratch memory, {WORKSPACE} are set aside")]
    Workspace {
        /// What it needs.
        needed: usize,
    },
}
