//! Where tensors live: `cpu` or `cuda:0`, as `--device` writes it. The only file that chooses a back end.

#[cfg(feature = "cuda")]
use crate::engine::{
    nvidia::libraries::{self, Library, Name},
    nvidia::survey,
    requests::set_card,
};
use burn::tensor::Device;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is not one of the two kinds.
    #[error("device \"{0}\" is not known; expected cpu, or cuda:N with N a GPU's number")]
    Unknown(String),
    /// The build has no GPU code.
    #[error(
        "device \"{0}\" needs a build with CUDA; build with `cargo build --release --features cuda`, or use --device cpu"
    )]
    NotBuilt(String),
    /// The driver or the card is not there.
    #[error("device \"{name}\" cannot be used: {reason}; use --device cpu")]
    Unavailable {
        /// As it was asked for.
        name: String,
        /// What is missing.
        reason: String,
    },
}

/// Reads "cpu" or "cuda:0".
///
/// For CUDA the driver is asked first, because burn panics in a worker thread where it is missing.
pub fn parse(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown(name.to_owned());
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::flex()),
        None if name == "cuda" => cuda(name, 0),
        Some(("cuda", index)) => cuda(name, index.parse().map_err(|_| unknown())?),
        _ => Err(unknown()),
    }
}

/// What this build can compute on, for `--version` and reports.
pub const BUILD: &str = if cfg!(feature = "cuda") { "cpu, cuda" } else { "cpu" };

#[cfg(not(feature = "cuda"))]
fn cuda(name: &str, _index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt(name.to_owned()))
}

#[cfg(feature = "cuda")]
fn cuda(name: &str, index: usize) -> Result<Device, DeviceError> {
    let unavailable = |reason: String| DeviceError::Unavailable { name: name.to_owned(), reason };
    let count = crate::engine::nvidia::driver::num_gpus()
        .map_err(|fault| unavailable(fault.to_string()))?;
    if index >= count {
        return Err(unavailable(format!("this machine has {count} GPU(s), numbered from 0")));
    }
    for library in [Name::Nvrtc, Name::Cudnn, Name::CublasLt] {
        Library::open(library).map_err(|fault| unavailable(fault.to_string()))?;
    }
    if let Some(card) = survey::cards().ok().and_then(|cards| cards.into_iter().nth(index)) {
        set_card(&card.architecture);
    }
    find_headers();
    settle_runtime();
    Ok(Device::cuda(index))
}

/// Memory and streams of the GPU runtime, before it starts; a `cubecl.toml` in the working folder is not read.
///
/// Weights, moments and averages keep slices of their exact size (the runtime's own advice for training), and all
/// threads share one stream: with a stream each, every loader thread would keep memory pools of its own.
#[cfg(feature = "cuda")]
fn settle_runtime() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};
    use cubecl::config::{memory::PersistentMemory, streaming::StreamPolicy};

    let mut config = CubeClRuntimeConfig::default();
    config.memory.persistent_memory = PersistentMemory::SizeMatch;
    config.streaming.policy = StreamPolicy::Single;
    // False where a device was opened before: then it has these settings already.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// cubecl's own kernels include CUDA's headers, which it looks for under `CUDA_PATH`.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)] // The environment is the only way to tell it.
fn find_headers() {
    if let Some(folder) = libraries::headers_to_name() {
        // SAFETY: devices are opened at the start of a command, before it starts threads that read the environment.
        unsafe { std::env::set_var("CUDA_PATH", folder) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_strangers_refused() {
        assert_eq!(parse("cpu").unwrap(), Device::flex());
        for name in ["gpu", "cuda:x", "cpu:0", "cuda:-1", ""] {
            assert_eq!(parse(name).unwrap_err(), DeviceError::Unknown(name.into()));
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_cpu_build_says_how_to_get_cuda() {
        assert_eq!(parse("cuda:0").unwrap_err(), DeviceError::NotBuilt("cuda:0".into()));
    }
}
