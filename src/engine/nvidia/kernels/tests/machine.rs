//! What runs the kernels in tests: this machine in the place of a GPU, or a GPU.

#![allow(unsafe_code)] // Memory with guard pages, and calls into libraries.

use super::{Format, Launch, SOURCE, bf16, names, say};
use crate::engine::nvidia::libraries::{Library, Name};
use crate::engine::nvidia::nvrtc::Nvrtc;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

/// Runs kernels.
pub(super) enum Machine {
    /// Compiled for this machine.
    Host(Host),
    /// Compiled for the first GPU.
    Gpu(Gpu),
}

/// The machine, made once for all tests; `None`, with a word, without a compiler.
pub(super) fn machine() -> Option<&'static Machine> {
    static MACHINE: OnceLock<Option<Machine>> = OnceLock::new();
    let make = || match wants_gpu() {
        true => Some(Machine::Gpu(Gpu::open())),
        false => compile().map(Machine::Host),
    };
    let machine = MACHINE.get_or_init(make).as_ref();
    if let Some(Machine::Gpu(gpu)) = machine {
        gpu.enter();
    }
    machine
}

fn wants_gpu() -> bool {
    std::env::var_os("UMBRA_TEST_GPU").is_some_and(|value| value == "1")
}

impl Machine {
    /// Runs a kernel to its end.
    pub(super) fn run(&self, order: Order, launch: Launch, arguments: &[Argument]) {
        match self {
            Self::Host(host) => host.run(order, launch, arguments),
            Self::Gpu(gpu) => gpu.run(launch, arguments),
        }
    }
}

/// In which order the threads of a block go on after a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Forwards,
    Backwards,
}

/// The kernels as a library of this machine.
pub(super) struct Host {
    handle: usize,
    launch: LaunchFunction,
}

type LaunchFunction = unsafe extern "C" fn(*mut c_void, *const u32, *const *const u64, i32);

impl Host {
    fn run(&self, order: Order, launch: Launch, arguments: &[Argument]) {
        assert_eq!(launch.shared, 0, "the host has no dynamic shared memory");
        let dims = [launch.grid, launch.block].concat();
        let addresses: Vec<*const u64> =
            arguments.iter().map(|argument| &raw const argument.0).collect();
        let body = symbol(self.handle, &format!("call_{}", launch.name));
        let is_backwards = i32::from(order == Order::Backwards);
        // SAFETY: `call_*` and `launch` of host_shim.h; the tests give each kernel the arguments it has, and buffers
        // of the sizes it is told.
        unsafe { (self.launch)(body, dims.as_ptr(), addresses.as_ptr(), is_backwards) };
    }
}

fn compile() -> Option<Host> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let entries: String = names().iter().map(|name| format!("KERNEL({name})\n")).collect();
    std::fs::write(folder.path().join("host_shim.h"), include_str!("../../host_shim.h")).unwrap();
    std::fs::write(folder.path().join("kernels.cu"), SOURCE).unwrap();
    let program = format!("#include \"host_shim.h\"\n#include \"kernels.cu\"\n{entries}");
    std::fs::write(folder.path().join("host.cpp"), program).unwrap();
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-fno-strict-aliasing"])
        .args(["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"])
        .args(["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"])
        .args(["host.cpp", "-o", "libkernels.so"])
        .current_dir(folder.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            say(&format!("{compiler}: {error}"));
            return None;
        }
    };
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} cannot compile the kernels: {log}");
    let path = folder.path().join("libkernels.so");
    let path = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: a NUL-terminated path of a library that was just made and runs nothing when loaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "the compiled kernels do not load");
    let handle = handle as usize;
    // SAFETY: the signature in host_shim.h.
    let launch =
        unsafe { std::mem::transmute::<*mut c_void, LaunchFunction>(symbol(handle, "launch")) };
    Some(Host { handle, launch })
}

fn symbol(handle: usize, name: &str) -> *mut c_void {
    let text = CString::new(name).unwrap();
    // SAFETY: a handle of `dlopen` that is never closed.
    let address = unsafe { libc::dlsym(handle as *mut c_void, text.as_ptr()) };
    assert!(!address.is_null(), "the compiled kernels have no {name}");
    address
}

/// The driver with the kernels loaded.
pub(super) struct Gpu {
    driver: Library,
    context: usize,
    module: usize,
}

type Code = c_int;

impl Gpu {
    fn open() -> Self {
        type Init = unsafe extern "C" fn(c_uint) -> Code;
        type Retain = unsafe extern "C" fn(*mut usize, c_int) -> Code;
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code;
        type Load = unsafe extern "C" fn(*mut usize, *const c_void) -> Code;
        let driver = Library::open(Name::Cuda).unwrap();
        let (mut context, mut module, mut arch) = (0, 0, [0; 2]);
        let mut gpu = Self { driver, context, module };
        // SAFETY: the signatures of cuda.h; places to write that live through the calls.
        unsafe {
            check("cuInit", gpu.function::<Init>(c"cuInit")(0));
            let retain = gpu.function::<Retain>(c"cuDevicePrimaryCtxRetain");
            check("cuDevicePrimaryCtxRetain", retain(&mut context, 0));
            gpu.context = context;
            gpu.enter();
            // COMPUTE_CAPABILITY_MAJOR and _MINOR.
            for (number, attribute) in arch.iter_mut().zip([75, 76]) {
                let get = gpu.function::<Attribute>(c"cuDeviceGetAttribute");
                check("cuDeviceGetAttribute", get(number, attribute, 0));
            }
            let arch = format!("sm_{}{}", arch[0], arch[1]);
            let cubin = Nvrtc::open().unwrap().compile(SOURCE, &arch).unwrap().cubin;
            let load = gpu.function::<Load>(c"cuModuleLoadData");
            check("cuModuleLoadData", load(&mut module, cubin.as_ptr().cast()));
        }
        gpu.module = module;
        gpu
    }

    /// Makes its context this thread's.
    fn enter(&self) {
        type Enter = unsafe extern "C" fn(usize) -> Code;
        // SAFETY: the signature of cuda.h and a context that stays.
        unsafe {
            check("cuCtxSetCurrent", self.function::<Enter>(c"cuCtxSetCurrent")(self.context))
        };
    }

    fn run(&self, launch: Launch, arguments: &[Argument]) {
        self.queue(launch, arguments);
        self.wait();
    }

    /// Seconds of one launch, over 20.
    pub(super) fn seconds(&self, launch: Launch, arguments: &[Argument]) -> f64 {
        const ROUNDS: u32 = 20;
        for _ in 0..3 {
            self.run(launch, arguments);
        }
        let start = Instant::now();
        for _ in 0..ROUNDS {
            self.queue(launch, arguments);
        }
        self.wait();
        start.elapsed().as_secs_f64() / f64::from(ROUNDS)
    }

    fn queue(&self, launch: Launch, arguments: &[Argument]) {
        type Get = unsafe extern "C" fn(*mut usize, usize, *const c_char) -> Code;
        type Run = unsafe extern "C" fn(
            usize,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            usize,
            *const *const u64,
            *const c_void,
        ) -> Code;
        let name = CString::new(launch.name).unwrap();
        let addresses: Vec<*const u64> =
            arguments.iter().map(|argument| &raw const argument.0).collect();
        let Launch { grid: [x, y, z], block: [a, b, c], shared, .. } = launch;
        let mut kernel = 0;
        // SAFETY: the signatures of cuda.h; the tests give each kernel the arguments it has.
        unsafe {
            let get = self.function::<Get>(c"cuModuleGetFunction");
            check(launch.name, get(&mut kernel, self.module, name.as_ptr()));
            let run = self.function::<Run>(c"cuLaunchKernel");
            let (stream, extra) = (0, std::ptr::null());
            check(
                launch.name,
                run(kernel, x, y, z, a, b, c, shared, stream, addresses.as_ptr(), extra),
            );
        }
    }

    fn wait(&self) {
        type Wait = unsafe extern "C" fn() -> Code;
        // SAFETY: the signature of cuda.h.
        unsafe { check("cuCtxSynchronize", self.function::<Wait>(c"cuCtxSynchronize")()) };
    }

    /// Memory that host and GPU share; never given back.
    fn allocate(&self, bytes: usize) -> *mut c_void {
        type Allocate = unsafe extern "C" fn(*mut *mut c_void, usize, c_uint) -> Code;
        const GLOBAL: c_uint = 1;
        let mut address = std::ptr::null_mut();
        // SAFETY: the signature of cuda.h; a place to write.
        unsafe {
            let allocate = self.function::<Allocate>(c"cuMemAllocManaged");
            check("cuMemAllocManaged", allocate(&mut address, bytes, GLOBAL));
        }
        address
    }

    /// # Safety
    ///
    /// `F` is the function's pointer type, as cuda.h has it.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.driver.symbol(name).unwrap();
        // SAFETY: of the caller.
        unsafe { std::mem::transmute_copy(&address) }
    }
}

fn check(call: &str, code: Code) {
    assert_eq!(code, 0, "{call}: CUDA error {code}");
}

/// One argument of a kernel: its bits, from the lowest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Argument(u64);

pub(super) const NULL: Argument = Argument(0);

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self(value.into())
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self(value.to_bits().into())
    }
}

impl From<&Buffer> for Argument {
    fn from(buffer: &Buffer) -> Self {
        Self(buffer.address())
    }
}

macro_rules! arguments {
    ($($value:expr),* $(,)?) => { [$(Argument::from($value)),*] };
}
pub(super) use arguments;

/// Memory that ends, but for what alignment needs, at a page that may not be touched, with a seal around it.
pub(super) struct Buffer {
    format: Format,
    pub(super) length: usize,
    start: *mut u8,
    map: *mut c_void,
    map_bytes: usize,
}

/// Also what memory holds before anybody writes: a NaN in both formats.
const SEAL: u8 = 0xff;
const PAGE: usize = 4096;

impl Buffer {
    /// Values that nobody has written yet.
    pub(super) fn new(format: Format, length: usize) -> Self {
        let bytes = length * format.bytes();
        let map_bytes = (bytes + 16).next_multiple_of(PAGE) + PAGE;
        let open = map_bytes - PAGE;
        let map = match machine() {
            Some(Machine::Gpu(gpu)) => gpu.allocate(map_bytes),
            _ => guarded(map_bytes),
        };
        // SAFETY: fresh memory of our own, all of it but the last page written.
        let start = unsafe {
            map.cast::<u8>().write_bytes(SEAL, open);
            map.cast::<u8>().add(open - bytes.next_multiple_of(16))
        };
        Self { format, length, start, map, map_bytes }
    }

    /// Writes zeros.
    pub(super) fn zero(&self) {
        // SAFETY: as many bytes as it has.
        unsafe { self.start.write_bytes(0, self.length * self.format.bytes()) };
    }

    /// Scratch memory of so many bytes.
    pub(super) fn scratch(bytes: usize) -> Self {
        Self::new(Format::F32, bytes / size_of::<f32>())
    }

    /// These values, rounded.
    pub(super) fn of(format: Format, values: &[f64]) -> Self {
        let buffer = Self::new(format, values.len());
        for (i, &value) in values.iter().enumerate() {
            // SAFETY: `i` is below the length.
            unsafe {
                match format {
                    Format::F32 => buffer.start.cast::<f32>().add(i).write(value as f32),
                    Format::Bf16 => {
                        buffer.start.cast::<u16>().add(i).write(bf16(value).to_bits());
                    }
                }
            }
        }
        buffer
    }

    /// The rows of a table.
    pub(super) fn table<T: Copy>(rows: &[T]) -> Self {
        let buffer = Self::scratch(size_of_val(rows));
        // SAFETY: as many bytes as the rows have, 16-byte aligned.
        unsafe { buffer.start.cast::<T>().copy_from_nonoverlapping(rows.as_ptr(), rows.len()) };
        buffer
    }

    pub(super) fn address(&self) -> u64 {
        self.start.addr() as u64
    }

    /// The values; panics where somebody wrote around them.
    pub(super) fn read(&self) -> Vec<f64> {
        let bytes = self.length * self.format.bytes();
        // SAFETY: all but the last page is ours to read.
        let memory = unsafe {
            std::slice::from_raw_parts(self.map.cast::<u8>().cast_const(), self.map_bytes - PAGE)
        };
        let first = memory.len() - bytes.next_multiple_of(16);
        let (values, after) = memory[first..].split_at(bytes);
        let is_sealed = |memory: &[u8]| memory.iter().all(|&byte| byte == SEAL);
        assert!(is_sealed(&memory[..first]) && is_sealed(after), "somebody wrote out of bounds");
        let bf16 = |pair: &[u8]| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f64();
        let f32 = |four: &[u8]| f64::from(f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        match self.format {
            Format::F32 => values.chunks_exact(4).map(f32).collect(),
            Format::Bf16 => values.chunks_exact(2).map(bf16).collect(),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !wants_gpu() {
            // SAFETY: mapped in `guarded`, unmapped once.
            unsafe { libc::munmap(self.map, self.map_bytes) };
        }
    }
}

/// Fresh memory whose last page may not be touched.
fn guarded(bytes: usize) -> *mut c_void {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: memory of our own, whose last page is closed.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
        assert_ne!(map, libc::MAP_FAILED);
        let last = map.cast::<u8>().add(bytes - PAGE).cast();
        assert_eq!(libc::mprotect(last, PAGE, libc::PROT_NONE), 0);
        map
    }
}
