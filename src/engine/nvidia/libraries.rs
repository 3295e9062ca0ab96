//! NVIDIA's libraries, opened at run time: nothing is linked, so a build needs none of them.
//!
//! Looked for, in this order: `UMBRA_CUDA_LIBS` (the `nvidia` folder that pip's wheels make, or any folder of
//! libraries), the active Python environment's wheels (`VIRTUAL_ENV`, `CONDA_PREFIX`), `CUDA_PATH`, the system's loader.

#![allow(unsafe_code)] // dlopen and dlsym.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A library of NVIDIA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The driver.
    Cuda,
    /// The runtime compiler.
    Nvrtc,
    /// Convolutions and attention.
    Cudnn,
    /// Matrix products.
    CublasLt,
    /// Sums over several GPUs.
    Nccl,
}

impl Name {
    /// All of them, the driver first.
    pub const ALL: [Self; 5] = [Self::Cuda, Self::Nvrtc, Self::Cudnn, Self::CublasLt, Self::Nccl];

    /// What its file may be called, the one asked for first in front.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Cuda => &["libcuda.so.1", "libcuda.so"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            Self::Cudnn => &["libcudnn.so.9"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
            Self::Nccl => &["libnccl.so.2"],
        }
    }

    /// Where it comes from when it is missing.
    pub fn how_to_install(self) -> &'static str {
        match self {
            Self::Cuda => "install NVIDIA's driver",
            Self::Nvrtc => "pip install nvidia-cuda-nvrtc nvidia-cuda-crt nvidia-cuda-runtime",
            Self::Cudnn => "pip install nvidia-cudnn-cu13",
            Self::CublasLt => "pip install nvidia-cublas",
            Self::Nccl => "pip install nvidia-nccl-cu13",
        }
    }
}

/// Why a library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// No file of that name loads.
    #[error(
        "{file} is not found; {how}, and set UMBRA_CUDA_LIBS to the folder site-packages/nvidia, or activate its environment"
    )]
    Missing {
        /// Its file.
        file: &'static str,
        /// What to do.
        how: &'static str,
    },
    /// It is there and does not load.
    #[error("{path} cannot be opened: {reason}")]
    Unloadable {
        /// Its file.
        path: String,
        /// The loader's words.
        reason: String,
    },
    /// It lacks a function.
    #[error("{path} has no {symbol}; a newer version is needed")]
    Symbol {
        /// Its file.
        path: String,
        /// The function.
        symbol: String,
    },
}

/// An open library. It stays open until the process ends.
#[derive(Debug, Clone)]
pub struct Library {
    path: PathBuf,
    handle: *mut c_void,
}

// SAFETY: the handle is only given to `dlsym`, which any thread may call.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Opens `name` from the first place that has it.
    pub fn open(name: Name) -> Result<Self, LibraryError> {
        let mut fault = None;
        for folder in folders() {
            for file in name.files() {
                let path = folder.join(file);
                if !path.exists() {
                    continue;
                }
                match Self::load(&path) {
                    Ok(library) => return Ok(library),
                    Err(reason) => {
                        let path = path.display().to_string();
                        fault.get_or_insert(LibraryError::Unloadable { path, reason });
                    }
                }
            }
        }
        for file in name.files() {
            if let Ok(library) = Self::load(Path::new(file)) {
                return Ok(library);
            }
        }
        Err(fault
            .unwrap_or(LibraryError::Missing { file: name.files()[0], how: name.how_to_install() }))
    }

    /// Opens the library in the file `path`.
    pub fn open_at(path: &Path) -> Result<Self, LibraryError> {
        let unloadable =
            |reason| LibraryError::Unloadable { path: path.display().to_string(), reason };
        Self::load(path).map_err(unloadable)
    }

    /// The file it was opened from; a bare name where the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of a function.
    pub fn symbol(&self, name: &CStr) -> Result<*mut c_void, LibraryError> {
        // SAFETY: an open handle and a NUL-terminated name.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        if address.is_null() {
            let path = self.path.display().to_string();
            let symbol = name.to_string_lossy().into_owned();
            return Err(LibraryError::Symbol { path, symbol });
        }
        Ok(address)
    }

    fn load(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "a NUL in its name")?;
        // Global, so that who asks for the same library by its bare name later gets this one.
        let flags: c_int = libc::RTLD_NOW | libc::RTLD_GLOBAL;
        // SAFETY: a NUL-terminated name; loading NVIDIA's libraries runs only their own initialisers.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() {
            // SAFETY: `dlerror` returns NULL or a string that lives until the thread's next call of the family.
            let reason = unsafe {
                let text = libc::dlerror();
                if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy()) }
            };
            return Err(reason.map_or_else(|| "no reason given".to_owned(), |text| text.into()));
        }
        Ok(Self { path: path.to_owned(), handle })
    }
}

/// The folders in which libraries are looked for before the system's loader is asked.
pub fn folders() -> Vec<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    if let Some(folder) = variable("UMBRA_CUDA_LIBS") {
        found.push(folder.clone());
        found.extend(wheels(&folder));
    }
    for environment in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable) {
        for version in entries(&environment.join("lib")) {
            if version.file_name().is_some_and(|name| name.as_bytes().starts_with(b"python3")) {
                found.extend(wheels(&version.join("site-packages/nvidia")));
            }
        }
    }
    if let Some(toolkit) = variable("CUDA_PATH") {
        found.extend(["lib64", "lib"].map(|folder| toolkit.join(folder)));
    }
    found
}

/// A folder whose `include` has all CUDA headers that burn's own kernels ask for: `CUDA_PATH`, the system's, or one
/// among the places where libraries are looked for.
pub fn headers() -> Option<PathBuf> {
    known_headers().or_else(|| folders().into_iter().filter_map(parent).find(|at| has_headers(at)))
}

/// The same where `CUDA_PATH` must be set to it, because burn would not look there.
pub fn headers_to_name() -> Option<PathBuf> {
    if known_headers().is_some() { None } else { headers() }
}

fn known_headers() -> Option<PathBuf> {
    let named = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    let known = named.unwrap_or_else(|| PathBuf::from("/usr/local/cuda"));
    has_headers(&known).then_some(known)
}

fn has_headers(folder: &Path) -> bool {
    let include = folder.join("include");
    // pip's runtime package lacks the second, which is in nvidia-cuda-crt.
    ["cuda_runtime.h", "crt/mma.h"].into_iter().all(|file| include.join(file).exists())
}

fn parent(lib: PathBuf) -> Option<PathBuf> {
    lib.parent().map(Path::to_owned)
}

/// The folders of libraries below pip's `nvidia`.
fn wheels(nvidia: &Path) -> Vec<PathBuf> {
    entries(nvidia)
        .into_iter()
        .map(|package| package.join("lib"))
        .filter(|lib| lib.is_dir())
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort_by(|a, b| OsStr::cmp(a.as_os_str(), b.as_os_str()));
    found
}
