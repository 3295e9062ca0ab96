//! Where tensors live: `cpu` or `cuda:0`, as `--device` writes it. The only file that knows back ends.

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
    let count = probe::num_gpus().map_err(|reason| unavailable(reason.to_owned()))?;
    if index >= count {
        return Err(unavailable(format!("this machine has {count} GPU(s), numbered from 0")));
    }
    if probe::open(&["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]).is_none() {
        return Err(unavailable(
            "libnvrtc, which compiles the kernels, is not found (install the CUDA toolkit's runtime compiler and set CUDA_PATH)".into(),
        ));
    }
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

#[cfg(feature = "cuda")]
mod probe {
    #![allow(unsafe_code)] // dlopen and two calls into the driver: the only way to ask it anything.

    use std::ffi::{CString, c_int, c_uint, c_void};

    /// Opens the first library that loads; it stays loaded, burn opens it again.
    pub(super) fn open(names: &[&str]) -> Option<*mut c_void> {
        names.iter().find_map(|name| {
            let name = CString::new(*name).ok()?;
            // SAFETY: a NUL-terminated name; loading NVIDIA's libraries runs only their own initialisers.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            (!handle.is_null()).then_some(handle)
        })
    }

    /// How many GPUs the driver shows.
    pub(super) fn num_gpus() -> Result<usize, &'static str> {
        let missing = "the NVIDIA driver (libcuda) is not installed";
        let library = open(&["libcuda.so.1", "libcuda.so"]).ok_or(missing)?;
        // SAFETY: both symbols have had these signatures since CUDA 2.0; null is checked before use.
        unsafe {
            let init = libc::dlsym(library, c"cuInit".as_ptr());
            let get_count = libc::dlsym(library, c"cuDeviceGetCount".as_ptr());
            if init.is_null() || get_count.is_null() {
                return Err(missing);
            }
            let init: extern "C" fn(c_uint) -> c_int = std::mem::transmute(init);
            let get_count: extern "C" fn(*mut c_int) -> c_int = std::mem::transmute(get_count);
            let mut count = 0;
            if init(0) != 0 || get_count(&mut count) != 0 {
                return Err("the NVIDIA driver finds no usable GPU");
            }
            Ok(usize::try_from(count).unwrap_or(0))
        }
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
