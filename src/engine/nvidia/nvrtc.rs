//! NVIDIA's runtime compiler: CUDA C++ to machine code, kept on disk.

#![allow(unsafe_code)] // Calls into a library opened at run time.

use super::libraries::{Library, LibraryError, Name};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Machine code of `source` for `arch`, for example `sm_90`; compiled once and kept in [`cache_folder`].
///
/// A cache that cannot be written costs a compilation each time, and is no error.
pub fn compile(source: &str, arch: &str) -> Result<Vec<u8>, NvrtcError> {
    compile_into(cache_folder().as_deref(), source, arch)
}

/// The same, kept in `folder` if there is one.
pub fn compile_into(
    folder: Option<&Path>,
    source: &str,
    arch: &str,
) -> Result<Vec<u8>, NvrtcError> {
    let nvrtc = Nvrtc::open()?;
    compile_in(folder, source, arch, nvrtc.version()?, || {
        let Compiled { cubin, log } = nvrtc.compile(source, arch)?;
        if !log.is_empty() {
            tracing::debug!(log, "NVRTC");
        }
        Ok(cubin)
    })
}

/// Version of the compiler that is found: major, minor.
pub fn version() -> Result<[c_int; 2], NvrtcError> {
    Nvrtc::open()?.version()
}

/// Why there is no machine code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NvrtcError {
    /// The compiler is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It refuses the program.
    #[error("NVRTC cannot compile for {arch}: {log}")]
    Refused {
        /// Architecture asked for.
        arch: String,
        /// The compiler's words.
        log: String,
    },
    /// One of its functions fails.
    #[error("NVRTC's {function} fails: {reason}")]
    Call {
        /// The function.
        function: &'static str,
        /// The compiler's name for the fault.
        reason: String,
    },
    /// The source or an option has a NUL in it.
    #[error("a CUDA program or option has a NUL in it")]
    Nul(#[from] std::ffi::NulError),
}

/// Where machine code is kept: `UMBRA_CACHE`, or `umbra` in the user's cache folder; `None` without a home.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("UMBRA_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("umbra")))
        .or_else(|| Some(folder("HOME")?.join(".cache/umbra")))
        .map(|cache| cache.join("cuda"))
}

/// The kept machine code, or that of `compile`, which is then kept.
fn compile_in(
    folder: Option<&Path>,
    source: &str,
    arch: &str,
    version: [c_int; 2],
    compile: impl FnOnce() -> Result<Vec<u8>, NvrtcError>,
) -> Result<Vec<u8>, NvrtcError> {
    let Some(folder) = folder else { return compile() };
    let path = folder.join(file_name(source, arch, version));
    if let Some(cubin) = read(&path) {
        return Ok(cubin);
    }
    let cubin = compile()?;
    if let Err(error) = write(&path, &cubin) {
        tracing::warn!(path = %path.display(), %error, "cannot keep compiled kernels");
    }
    Ok(cubin)
}

fn file_name(source: &str, arch: &str, [major, minor]: [c_int; 2]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [source, arch, &format!("{major}.{minor}"), &OPTIONS.join(" ")] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    format!("{}.cubin", hasher.finalize().to_hex())
}

/// A file's machine code, if it is whole: its BLAKE3 stands in front.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let hash = *bytes.first_chunk::<{ blake3::OUT_LEN }>()?;
    let cubin = bytes.split_off(blake3::OUT_LEN);
    let is_whole = !cubin.is_empty() && blake3::hash(&cubin) == hash;
    is_whole.then_some(cubin)
}

/// Writes beside and renames, so that nobody reads half a file.
pub(super) fn write(path: &Path, cubin: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(blake3::hash(cubin).as_bytes())?;
        file.write_all(cubin)?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

// What says nothing of where it runs, as lambdas do, is for the device: older versions take it for the host's.
const OPTIONS: [&str; 2] = ["--std=c++17", "--device-as-default-execution-space"];

/// The open compiler.
pub(super) struct Nvrtc {
    library: Library,
}

/// What a compilation gives.
pub(super) struct Compiled {
    /// Machine code.
    pub(super) cubin: Vec<u8>,
    /// The compiler's remarks.
    pub(super) log: String,
}

type Program = *mut c_void;
type Status = c_int;

impl Nvrtc {
    pub(super) fn open() -> Result<Self, LibraryError> {
        Library::open(Name::Nvrtc).map(|library| Self { library })
    }

    /// Its version, major and minor.
    pub(super) fn version(&self) -> Result<[c_int; 2], NvrtcError> {
        type Function = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
        let mut version = [0; 2];
        let [major, minor] = &mut version;
        // SAFETY: the signature in nvrtc.h; both places live through the call.
        let status = unsafe { self.function::<Function>(c"nvrtcVersion")?(major, minor) };
        self.check("nvrtcVersion", status)?;
        Ok(version)
    }

    /// Compiles `source` for `arch` with [`OPTIONS`].
    pub(super) fn compile(&self, source: &str, arch: &str) -> Result<Compiled, NvrtcError> {
        self.compile_with(source, arch, &[])
    }

    /// Compiles `source` for `arch` with [`OPTIONS`] and `more`.
    pub(super) fn compile_with(
        &self,
        source: &str,
        arch: &str,
        more: &[&str],
    ) -> Result<Compiled, NvrtcError> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> Status;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
        // SAFETY: both types are the ones in nvrtc.h.
        let (create, compile) = unsafe {
            let create = self.function::<Create>(c"nvrtcCreateProgram")?;
            (create, self.function::<Compile>(c"nvrtcCompileProgram")?)
        };
        let text = CString::new(source)?;
        let arch_option = format!("--gpu-architecture={arch}");
        let options: Vec<CString> = [arch_option.as_str()]
            .into_iter()
            .chain(OPTIONS)
            .chain(more.iter().copied())
            .map(CString::new)
            .collect::<Result<_, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let num_options = c_int::try_from(options.len()).expect("a handful of options");

        let mut program: Program = std::ptr::null_mut();
        let name = c"kernels.cu".as_ptr();
        let (headers, includes) = (std::ptr::null(), std::ptr::null());
        // SAFETY: the signature in nvrtc.h; NUL-terminated texts, no headers.
        let status = unsafe { create(&mut program, text.as_ptr(), name, 0, headers, includes) };
        self.check("nvrtcCreateProgram", status)?;
        let program = Owned { nvrtc: self, program };
        // SAFETY: a program just made, and as many options as said.
        let status = unsafe { compile(program.program, num_options, options.as_ptr()) };
        let log = self.bytes(&program, [c"nvrtcGetProgramLogSize", c"nvrtcGetProgramLog"])?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
        if status != 0 {
            let log = if log.is_empty() { self.reason(status) } else { log };
            return Err(NvrtcError::Refused { arch: arch.to_owned(), log });
        }
        let cubin = self.bytes(&program, [c"nvrtcGetCUBINSize", c"nvrtcGetCUBIN"])?;
        if cubin.is_empty() {
            let log = "no machine code; it wants a real architecture such as sm_90".to_owned();
            return Err(NvrtcError::Refused { arch: arch.to_owned(), log });
        }
        Ok(Compiled { cubin, log })
    }

    /// What the second of two functions writes into as many bytes as the first says.
    fn bytes(
        &self,
        program: &Owned<'_>,
        [size, get]: [&'static CStr; 2],
    ) -> Result<Vec<u8>, NvrtcError> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> Status;
        let mut count = 0;
        // SAFETY: the signature in nvrtc.h and a live program.
        let status = unsafe { self.function::<Size>(size)?(program.program, &mut count) };
        self.check(name_of(size), status)?;
        let mut bytes = vec![0_u8; count];
        // SAFETY: as above, and room for what it said.
        let status =
            unsafe { self.function::<Get>(get)?(program.program, bytes.as_mut_ptr().cast()) };
        self.check(name_of(get), status)?;
        Ok(bytes)
    }

    fn check(&self, function: &'static str, status: Status) -> Result<(), NvrtcError> {
        if status == 0 {
            return Ok(());
        }
        Err(NvrtcError::Call { function, reason: self.reason(status) })
    }

    fn reason(&self, status: Status) -> String {
        type Words = unsafe extern "C" fn(Status) -> *const c_char;
        let words = |words: Words| {
            // SAFETY: the signature in nvrtc.h; it returns a constant text.
            unsafe { CStr::from_ptr(words(status)) }.to_string_lossy().into_owned()
        };
        // SAFETY: the type is the one in nvrtc.h.
        let function = unsafe { self.function::<Words>(c"nvrtcGetErrorString") };
        function.map_or_else(|_| format!("status {status}"), words)
    }

    /// # Safety
    ///
    /// `F` is the function's pointer type, as nvrtc.h has it.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, LibraryError> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.library.symbol(name)?;
        // SAFETY: of the caller; a function pointer is as large as an address.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

/// A program, destroyed when dropped.
struct Owned<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        type Destroy = unsafe extern "C" fn(*mut Program) -> Status;
        // SAFETY: the type is the one in nvrtc.h.
        if let Ok(destroy) = unsafe { self.nvrtc.function::<Destroy>(c"nvrtcDestroyProgram") } {
            // SAFETY: a live program, destroyed once.
            unsafe { destroy(&mut self.program) };
        }
    }
}

fn name_of(name: &'static CStr) -> &'static str {
    name.to_str().unwrap_or("function")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: [c_int; 2] = [13, 2];

    fn count_compilations(folder: Option<&Path>, source: &str, arch: &str) -> usize {
        let mut count = 0;
        let cubin = compile_in(folder, source, arch, VERSION, || {
            count += 1;
            Ok(b"cubin".to_vec())
        });
        assert_eq!(cubin.unwrap(), b"cubin");
        count
    }

    #[test]
    fn kept_code_is_not_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Some(folder.path());
        assert_eq!(count_compilations(folder, "a", "sm_90"), 1);
        assert_eq!(count_compilations(folder, "a", "sm_90"), 0);
        assert_eq!(count_compilations(folder, "a", "sm_80"), 1);
        assert_eq!(count_compilations(folder, "b", "sm_90"), 1);
        assert_eq!(count_compilations(None, "b", "sm_90"), 1);
    }

    #[test]
    fn damaged_code_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name("a", "sm_90", VERSION));
        for damage in [&b""[..], b"short", &[7; 40]] {
            std::fs::write(&path, damage).unwrap();
            assert_eq!(count_compilations(Some(folder.path()), "a", "sm_90"), 1);
            assert_eq!(count_compilations(Some(folder.path()), "a", "sm_90"), 0);
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_only_costs_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(count_compilations(Some(file.path()), "a", "sm_90"), 1);
        assert_eq!(count_compilations(Some(file.path()), "a", "sm_90"), 1);
    }

    #[test]
    fn a_faulty_program_shows_the_log() {
        let Some(nvrtc) = open_or_say() else { return };
        let Err(error) = nvrtc.compile("__global__ void k() { nonsense; }", "sm_90") else {
            panic!("it compiles");
        };
        assert!(error.to_string().contains("nonsense"), "{error}");
        assert!(nvrtc.compile("", "sm_1").is_err());
        assert!(nvrtc.version().unwrap()[0] >= 12);
    }

    #[expect(clippy::print_stdout, reason = "a test that does not run says so")]
    fn open_or_say() -> Option<Nvrtc> {
        match Nvrtc::open() {
            Ok(nvrtc) => Some(nvrtc),
            Err(LibraryError::Missing { file, .. }) => {
                println!("not run: {file} is not found");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}
