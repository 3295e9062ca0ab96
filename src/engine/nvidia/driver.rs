//! The few functions of the driver that our own kernels need.

#![allow(unsafe_code)] // Calls into a library opened at run time.
#![allow(clippy::missing_transmute_annotations)] // The fields that hold the functions say their types.

use super::kernels::Launch;
use super::libraries::{Library, LibraryError, Name};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

/// Why the driver refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It finds no card.
    #[error("the NVIDIA driver finds no usable GPU (error {0})")]
    NoGpu(c_int),
    /// A call failed.
    #[error("the CUDA driver's {call} failed: {reason}")]
    Call {
        /// The function.
        call: &'static str,
        /// In the driver's words.
        reason: String,
    },
    /// A kernel that the module does not have.
    #[error("the module of kernels has no {0}")]
    Kernel(String),
}

/// A value that a kernel is called with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// Device memory, or a 64-bit count.
    Long(u64),
    /// A 32-bit count.
    Int(i32),
    /// A number.
    Float(f32),
}

impl Argument {
    /// As it lies in memory; a kernel reads as many bytes as its parameter has.
    fn bits(self) -> u64 {
        match self {
            Self::Long(value) => value,
            Self::Int(value) => u64::from(value.cast_unsigned()),
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

type Code = c_int;

/// How many GPUs the driver shows.
pub fn num_gpus() -> Result<usize, DriverError> {
    let library = Library::open(Name::Cuda)?;
    let mut count = 0;
    // SAFETY: both functions have had these signatures since CUDA 2.0; an output pointer.
    let code = unsafe {
        let start: extern "C" fn(c_uint) -> Code =
            transmute::<*mut c_void, _>(library.symbol(c"cuInit")?);
        let count_devices: unsafe extern "C" fn(*mut c_int) -> Code =
            transmute::<*mut c_void, _>(library.symbol(c"cuDeviceGetCount")?);
        match start(0) {
            0 => count_devices(&mut count),
            code => code,
        }
    };
    match code {
        0 => Ok(usize::try_from(count).unwrap_or(0)),
        _ => Err(DriverError::NoGpu(code)),
    }
}

/// The driver, and the kernels of one module on one context.
#[derive(Debug)]
pub struct Driver {
    launch: unsafe extern "C" fn(
        *mut c_void,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        u64,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> Code,
    allocate: unsafe extern "C" fn(*mut u64, usize) -> Code,
    copy: unsafe extern "C" fn(u64, *const c_void, usize, u64) -> Code,
    synchronize: unsafe extern "C" fn(u64) -> Code,
    memory: unsafe extern "C" fn(*mut usize, *mut usize) -> Code,
    get_function: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> Code,
    load: unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> Code,
    describe: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    current_device: unsafe extern "C" fn(*mut c_int) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code,
    module: *mut c_void,
    kernels: BTreeMap<&'static str, *mut c_void>,
}

// SAFETY: module and kernels are handles of the driver, which any thread with the context may use.
unsafe impl Send for Driver {}

impl Driver {
    /// Opens the driver; the current context is whoever's thread this is.
    pub fn open() -> Result<Self, DriverError> {
        let library = Library::open(Name::Cuda)?;
        let address = |name| library.symbol(name);
        // SAFETY: the signatures of cuda.h; the `_v2` names have had them since CUDA 3.2.
        unsafe {
            Ok(Self {
                launch: transmute::<*mut c_void, _>(address(c"cuLaunchKernel")?),
                allocate: transmute::<*mut c_void, _>(address(c"cuMemAlloc_v2")?),
                copy: transmute::<*mut c_void, _>(address(c"cuMemcpyHtoDAsync_v2")?),
                synchronize: transmute::<*mut c_void, _>(address(c"cuStreamSynchronize")?),
                memory: transmute::<*mut c_void, _>(address(c"cuMemGetInfo_v2")?),
                get_function: transmute::<*mut c_void, _>(address(c"cuModuleGetFunction")?),
                load: transmute::<*mut c_void, _>(address(c"cuModuleLoadData")?),
                describe: transmute::<*mut c_void, _>(address(c"cuGetErrorString")?),
                current_device: transmute::<*mut c_void, _>(address(c"cuCtxGetDevice")?),
                attribute: transmute::<*mut c_void, _>(address(c"cuDeviceGetAttribute")?),
                module: null_mut(),
                kernels: BTreeMap::new(),
            })
        }
    }

    /// What NVRTC calls the card of the current context: `sm_90`.
    pub fn architecture(&self) -> Result<String, DriverError> {
        let mut device = 0;
        // SAFETY: an output pointer.
        let code = unsafe { (self.current_device)(&mut device) };
        self.check("cuCtxGetDevice", code)?;
        let number = |attribute| {
            let mut value = 0;
            // SAFETY: an output pointer.
            let code = unsafe { (self.attribute)(&mut value, attribute, device) };
            self.check("cuDeviceGetAttribute", code).map(|()| value)
        };
        // COMPUTE_CAPABILITY_MAJOR and _MINOR.
        Ok(format!("sm_{}{}", number(75)?, number(76)?))
    }

    /// Takes the kernels of `cubin`.
    pub fn load(&mut self, cubin: &[u8]) -> Result<(), DriverError> {
        let mut module = null_mut();
        // SAFETY: a whole cubin, whose length the driver reads from its header.
        let code = unsafe { (self.load)(&mut module, cubin.as_ptr().cast()) };
        self.check("cuModuleLoadData", code)?;
        self.module = module;
        Ok(())
    }

    /// Bytes of the card's memory that are taken, by whomever.
    pub fn memory_in_use(&self) -> Result<u64, DriverError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: output pointers.
        let code = unsafe { (self.memory)(&mut free, &mut total) };
        self.check("cuMemGetInfo", code)?;
        Ok((total - free) as u64)
    }

    /// Device memory that is never given back.
    pub fn allocate(&self, bytes: usize) -> Result<u64, DriverError> {
        let mut address = 0;
        // SAFETY: an output pointer.
        let code = unsafe { (self.allocate)(&mut address, bytes) };
        self.check("cuMemAlloc", code)?;
        Ok(address)
    }

    /// Waits until all that is queued on `stream` is done.
    ///
    /// # Safety
    ///
    /// A stream of the current context.
    pub unsafe fn synchronize(&self, stream: u64) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for the stream.
        let code = unsafe { (self.synchronize)(stream) };
        self.check("cuStreamSynchronize", code)
    }

    /// Queues a copy to the device on `stream`. Pageable memory: the driver has read `bytes` when this returns.
    ///
    /// # Safety
    ///
    /// `to` is device memory with room for `bytes`.
    pub unsafe fn copy(&self, to: u64, bytes: &[u8], stream: u64) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for `to`.
        let code = unsafe { (self.copy)(to, bytes.as_ptr().cast(), bytes.len(), stream) };
        self.check("cuMemcpyHtoDAsync", code)
    }

    /// Queues a kernel on `stream`.
    ///
    /// # Safety
    ///
    /// The arguments are those of the kernel, and the memory they name has the size it expects.
    pub unsafe fn launch(
        &mut self,
        launch: &Launch,
        arguments: &[Argument],
        stream: u64,
    ) -> Result<(), DriverError> {
        let kernel = self.kernel(launch.name)?;
        let mut values: Vec<u64> = arguments.iter().map(|argument| argument.bits()).collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let Launch { name, grid: [gx, gy, gz], block: [bx, by, bz], shared } = *launch;
        // SAFETY: the caller vouches for the arguments; the driver copies them before it returns.
        let code = unsafe {
            (self.launch)(
                kernel,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared,
                stream,
                pointers.as_mut_ptr(),
                null_mut(),
            )
        };
        self.check(name, code)
    }

    fn kernel(&mut self, name: &'static str) -> Result<*mut c_void, DriverError> {
        if let Some(kernel) = self.kernels.get(name) {
            return Ok(*kernel);
        }
        let unknown = || DriverError::Kernel(name.to_owned());
        let text = CString::new(name).map_err(|_| unknown())?;
        let mut kernel = null_mut();
        // SAFETY: a loaded module and a NUL-terminated name.
        let code = unsafe { (self.get_function)(&mut kernel, self.module, text.as_ptr()) };
        if code != 0 {
            return Err(unknown());
        }
        self.kernels.insert(name, kernel);
        Ok(kernel)
    }

    fn check(&self, call: &'static str, code: Code) -> Result<(), DriverError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: an output pointer; the driver's strings live as long as it does.
        let reason = unsafe {
            (self.describe)(code, &mut text);
            if text.is_null() {
                format!("error {code}")
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        Err(DriverError::Call { call, reason })
    }
}
