//! What there is to compute with on this machine.

#![allow(unsafe_code)] // Calls into libraries opened at run time.
#![allow(clippy::missing_transmute_annotations)] // The fields that hold the functions say their types.

use super::cudnn::Cudnn;
use super::libraries::{self, Library, Name};
use super::{cublas, driver, nvrtc};
use serde::Serialize;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::transmute;

/// A library that was found, or why it was not.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// Its file, as it is asked for.
    pub library: &'static str,
    /// Where it was opened from.
    pub path: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Why it cannot be used, and what to do.
    pub fault: Option<String>,
    /// Whether training on a GPU needs it.
    pub is_needed: bool,
}

/// A card.
#[derive(Debug, Clone, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// What compilers call it: `sm_90`.
    pub architecture: String,
}

impl Card {
    /// Products per second in bf16 without sparsity, in TFLOP/s, as NVIDIA's data sheets have it; nothing for a card that
    /// is not listed here.
    pub fn peak_bf16(&self) -> Option<f64> {
        const PEAKS: [(&str, f64); 6] = [
            ("H100 PCIe", 756.0),
            ("H100 NVL", 835.0),
            ("H100", 989.4),
            ("H200", 989.4),
            ("B200", 2250.0),
            ("A100", 311.9),
        ];
        PEAKS.into_iter().find(|(name, _)| self.name.contains(name)).map(|(_, peak)| peak)
    }
}

/// Every library of NVIDIA's, the driver first.
pub fn libraries() -> Vec<Found> {
    Name::ALL.into_iter().map(look_for).collect()
}

fn look_for(name: Name) -> Found {
    let library = name.files()[0];
    let is_needed = name != Name::Nccl;
    let nothing = Found { library, path: None, version: None, fault: None, is_needed };
    let open = match Library::open(name) {
        Ok(open) => open,
        Err(fault) => return Found { fault: Some(fault.to_string()), ..nothing },
    };
    let path = Some(open.path().display().to_string());
    match version(name, &open) {
        Ok(version) => Found { path, version: Some(version), ..nothing },
        Err(fault) => Found { path, fault: Some(fault), ..nothing },
    }
}

fn version(name: Name, library: &Library) -> Result<String, String> {
    let word = |fault: &dyn std::fmt::Display| fault.to_string();
    match name {
        Name::Cuda => {
            let version = ask_number(library, c"cuDriverGetVersion")?;
            Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
        }
        Name::Nccl => {
            let version = ask_number(library, c"ncclGetVersion")?;
            Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
        }
        Name::Nvrtc => {
            let [major, minor] = nvrtc::version().map_err(|fault| word(&fault))?;
            Ok(format!("{major}.{minor}"))
        }
        Name::Cudnn => {
            Cudnn::open().map(|open| open.version().to_string()).map_err(|fault| word(&fault))
        }
        Name::CublasLt => {
            let version = cublas::version(library).map_err(|fault| word(&fault))?;
            cublas::check_version(version).map_err(|fault| word(&fault))?;
            Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
        }
    }
}

/// What a function `int f(int *)` of `library` answers.
fn ask_number(library: &Library, function: &std::ffi::CStr) -> Result<c_int, String> {
    let address = library.symbol(function).map_err(|fault| fault.to_string())?;
    let mut number = 0;
    // SAFETY: the functions asked for here have this signature; an output pointer.
    let code = unsafe {
        transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int) -> c_int>(address)(&mut number)
    };
    match code {
        0 => Ok(number),
        _ => Err(format!("{} fails with error {code}", function.to_string_lossy())),
    }
}

/// The cards that the driver shows; why there is none.
pub fn cards() -> Result<Vec<Card>, String> {
    let word = |fault: driver::DriverError| fault.to_string();
    let count = driver::num_gpus().map_err(word)?;
    let library = Library::open(Name::Cuda).map_err(|fault| fault.to_string())?;
    let address = |name| library.symbol(name).map_err(|fault| fault.to_string());
    // SAFETY: the signatures of cuda.h.
    let (get_name, get_memory, get_attribute) = unsafe {
        (
            transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(
                address(c"cuDeviceGetName")?,
            ),
            transmute::<*mut c_void, unsafe extern "C" fn(*mut usize, c_int) -> c_uint>(address(
                c"cuDeviceTotalMem_v2",
            )?),
            transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(
                address(c"cuDeviceGetAttribute")?,
            ),
        )
    };
    let mut cards = Vec::with_capacity(count);
    for device in 0..c_int::try_from(count).unwrap_or(0) {
        let (mut name, mut memory, mut major, mut minor) = ([0; 256], 0, 0, 0);
        // SAFETY: a device number below the count, and output pointers with the lengths that are told.
        unsafe {
            get_name(name.as_mut_ptr(), 256, device);
            get_memory(&mut memory, device);
            get_attribute(&mut major, 75, device);
            get_attribute(&mut minor, 76, device);
        }
        let name: Vec<u8> =
            name.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
        cards.push(Card {
            name: String::from_utf8_lossy(&name).into_owned(),
            memory: memory as u64,
            architecture: format!("sm_{major}{minor}"),
        });
    }
    Ok(cards)
}

/// The folder of CUDA's headers, for the few kernels that burn compiles itself.
pub fn headers() -> Option<String> {
    libraries::headers().map(|folder| folder.join("include").display().to_string())
}
