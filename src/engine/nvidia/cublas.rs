//! Matrix products by cuBLASLt.

#![allow(unsafe_code)] // Calls into a library opened at run time.
#![allow(clippy::missing_transmute_annotations)] // The fields that hold the functions say their types.

use super::format::Format;
use super::libraries::{Library, LibraryError, Name};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::{from_mut, from_ref, null_mut};

/// Bytes of device memory that products may use while they run.
pub const WORKSPACE: usize = 32 << 20;

/// Why a product cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CublasError {
    /// The library is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It is there and too old.
    #[error("cuBLASLt {found} is too old; 12.0 or newer is needed")]
    Version {
        /// Its version.
        found: usize,
    },
    /// A call failed.
    #[error("cuBLASLt: {call} failed with status {status}")]
    Status {
        /// The function.
        call: &'static str,
        /// `cublasStatus_t`.
        status: c_int,
    },
    /// No kernel computes it.
    #[error("cuBLASLt has no kernel for {0:?}")]
    NoKernel(Product),
}

/// D = op(A) · op(B), everything row after row: D [rows, columns], op(A) [rows, inner], op(B) [inner, columns].
///
/// Everything that decides the kernel, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Product {
    /// Rows of D.
    pub rows: usize,
    /// Columns of D.
    pub columns: usize,
    /// Terms of each sum.
    pub inner: usize,
    /// A lies as [inner, rows].
    pub transposes_a: bool,
    /// B lies as [columns, inner].
    pub transposes_b: bool,
    /// The same for this many matrices, one after the other.
    pub batch: usize,
    /// Number format of A and B.
    pub format: Format,
    /// D is f32, whatever A and B are.
    pub is_wide: bool,
    /// A vector `[columns]`, in D's format, is added to each row.
    pub has_bias: bool,
    /// D is added to, not overwritten.
    pub accumulates: bool,
}

impl Product {
    /// Floating-point operations.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.rows * self.columns * self.inner) as u64
    }
}

type Handle = *mut c_void;
type Status = c_int;

/// The functions that are called.
struct Functions {
    create: extern "C" fn(*mut Handle) -> Status,
    matmul: unsafe extern "C" fn(
        Handle,
        Handle,
        *const c_void,
        u64,
        Handle,
        u64,
        Handle,
        *const c_void,
        u64,
        Handle,
        u64,
        Handle,
        *const [u64; 8],
        u64,
        usize,
        u64,
    ) -> Status,
    heuristic: unsafe extern "C" fn(
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        c_int,
        *mut Choice,
        *mut c_int,
    ) -> Status,
    create_layout: unsafe extern "C" fn(*mut Handle, c_int, u64, u64, i64) -> Status,
    set_layout: unsafe extern "C" fn(Handle, c_int, *const c_void, usize) -> Status,
    create_product: unsafe extern "C" fn(*mut Handle, c_int, c_int) -> Status,
    set_product: unsafe extern "C" fn(Handle, c_int, *const c_void, usize) -> Status,
    create_preference: unsafe extern "C" fn(*mut Handle) -> Status,
    set_preference: unsafe extern "C" fn(Handle, c_int, *const c_void, usize) -> Status,
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Choice {
    algorithm: [u64; 8],
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// A product that has its kernel.
struct Plan {
    description: Handle,
    /// Of what the library calls A, B and D; it counts columns first, so its A is our B.
    layouts: [Handle; 3],
    algorithm: [u64; 8],
}

/// cuBLASLt on the current context of one thread.
pub struct Cublas {
    functions: Functions,
    handle: Handle,
    preference: Handle,
    plans: BTreeMap<Product, Plan>,
}

// SAFETY: handles and descriptions are plain memory of the library, used by one thread at a time through `&mut self`.
unsafe impl Send for Cublas {}

impl Cublas {
    /// Opens the library and starts it on the current context.
    pub fn start() -> Result<Self, CublasError> {
        let library = Library::open(Name::CublasLt)?;
        let version = version(&library)?;
        check_version(version)?;
        let address = |name| library.symbol(name);
        // SAFETY: the signatures are those of cublasLt.h, the same since CUDA 11.
        let functions = unsafe {
            Functions {
                create: transmute::<*mut c_void, _>(address(c"cublasLtCreate")?),
                matmul: transmute::<*mut c_void, _>(address(c"cublasLtMatmul")?),
                heuristic: transmute::<*mut c_void, _>(address(c"cublasLtMatmulAlgoGetHeuristic")?),
                create_layout: transmute::<*mut c_void, _>(address(c"cublasLtMatrixLayoutCreate")?),
                set_layout: transmute::<*mut c_void, _>(address(
                    c"cublasLtMatrixLayoutSetAttribute",
                )?),
                create_product: transmute::<*mut c_void, _>(address(c"cublasLtMatmulDescCreate")?),
                set_product: transmute::<*mut c_void, _>(address(
                    c"cublasLtMatmulDescSetAttribute",
                )?),
                create_preference: transmute::<*mut c_void, _>(address(
                    c"cublasLtMatmulPreferenceCreate",
                )?),
                set_preference: transmute::<*mut c_void, _>(address(
                    c"cublasLtMatmulPreferenceSetAttribute",
                )?),
            }
        };
        let mut handle = null_mut();
        ok("cublasLtCreate", (functions.create)(&mut handle))?;
        let mut preference = null_mut();
        // SAFETY: an output pointer.
        ok("cublasLtMatmulPreferenceCreate", unsafe {
            (functions.create_preference)(&mut preference)
        })?;
        let most = WORKSPACE as u64;
        // SAFETY: CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES is a u64.
        ok("cublasLtMatmulPreferenceSetAttribute", unsafe {
            (functions.set_preference)(preference, 1, from_ref(&most).cast(), 8)
        })?;
        Ok(Self { functions, handle, preference, plans: BTreeMap::new() })
    }

    /// Queues `product` on `stream`. `bias` is 0 where there is none; `workspace` is [`WORKSPACE`] bytes.
    ///
    /// # Safety
    ///
    /// The addresses are device memory of the current context that holds what `product` says.
    pub unsafe fn run(
        &mut self,
        product: &Product,
        [a, b, d]: [u64; 3],
        bias: u64,
        workspace: u64,
        stream: u64,
    ) -> Result<(), CublasError> {
        if !self.plans.contains_key(product) {
            let plan = self.plan(product)?;
            self.plans.insert(*product, plan);
        }
        let plan = &self.plans[product];
        let alpha = 1.0f32;
        let beta = if product.accumulates { 1.0f32 } else { 0.0 };
        if product.has_bias {
            // SAFETY: CUBLASLT_MATMUL_DESC_BIAS_POINTER is a pointer.
            ok("cublasLtMatmulDescSetAttribute", unsafe {
                (self.functions.set_product)(plan.description, 8, from_ref(&bias).cast(), 8)
            })?;
        }
        let [left, right, out] = plan.layouts;
        // SAFETY: the caller vouches for the addresses; descriptions and algorithm are of this library.
        ok("cublasLtMatmul", unsafe {
            (self.functions.matmul)(
                self.handle,
                plan.description,
                from_ref(&alpha).cast(),
                b,
                left,
                a,
                right,
                from_ref(&beta).cast(),
                d,
                out,
                d,
                out,
                &plan.algorithm,
                workspace,
                WORKSPACE,
                stream,
            )
        })
    }

    /// The library's own first choice for a product, as it counts: columns first, so A and B change places.
    fn plan(&self, product: &Product) -> Result<Plan, CublasError> {
        const F32: c_int = 0;
        const BF16: c_int = 14;
        let kind = match product.format {
            Format::F32 | Format::Tf32 => F32,
            Format::Bf16 => BF16,
        };
        let out_kind = if product.is_wide { F32 } else { kind };
        let compute: c_int = if product.format == Format::Tf32 { 77 } else { 68 };
        let f = &self.functions;
        let mut description = null_mut();
        // SAFETY: an output pointer and enumerations of cublasLt.h.
        ok("cublasLtMatmulDescCreate", unsafe {
            (f.create_product)(&mut description, compute, F32)
        })?;
        let set = |attribute: c_int, value: c_int| {
            // SAFETY: the attributes set here are of 4 bytes.
            ok("cublasLtMatmulDescSetAttribute", unsafe {
                (f.set_product)(description, attribute, from_ref(&value).cast(), 4)
            })
        };
        set(3, c_int::from(product.transposes_b))?;
        set(4, c_int::from(product.transposes_a))?;
        if product.has_bias {
            set(7, 4)?; // EPILOGUE_BIAS
            set(26, out_kind)?;
        }
        let Product { rows, columns, inner, .. } = *product;
        let a = if product.transposes_a { (rows, inner) } else { (inner, rows) };
        let b = if product.transposes_b { (inner, columns) } else { (columns, inner) };
        let layout = |kind: c_int, (rows, columns): (usize, usize)| {
            let mut layout = null_mut();
            // SAFETY: an output pointer.
            ok("cublasLtMatrixLayoutCreate", unsafe {
                (f.create_layout)(&mut layout, kind, rows as u64, columns as u64, rows as i64)
            })?;
            if product.batch > 1 {
                let (count, step) = (product.batch as c_int, (rows * columns) as i64);
                // SAFETY: BATCH_COUNT is 4 bytes, STRIDED_BATCH_OFFSET 8.
                ok("cublasLtMatrixLayoutSetAttribute", unsafe {
                    (f.set_layout)(layout, 5, from_ref(&count).cast(), 4)
                })?;
                // SAFETY: as above.
                ok("cublasLtMatrixLayoutSetAttribute", unsafe {
                    (f.set_layout)(layout, 6, from_ref(&step).cast(), 8)
                })?;
            }
            Ok::<Handle, CublasError>(layout)
        };
        let layouts = [layout(kind, b)?, layout(kind, a)?, layout(out_kind, (columns, rows))?];
        let mut choice =
            Choice { algorithm: [0; 8], workspace: 0, state: 0, waves: 0.0, reserved: [0; 4] };
        let mut found: c_int = 0;
        let [left, right, out] = layouts;
        // SAFETY: descriptions of this library; room for the one result that is asked for.
        let status = unsafe {
            (f.heuristic)(
                self.handle,
                description,
                left,
                right,
                out,
                out,
                self.preference,
                1,
                from_mut(&mut choice),
                &mut found,
            )
        };
        if status != 0 || found == 0 || choice.state != 0 {
            return Err(CublasError::NoKernel(*product));
        }
        Ok(Plan { description, layouts, algorithm: choice.algorithm })
    }
}

/// Whether a library that counts itself as `version` will do.
pub fn check_version(version: usize) -> Result<(), CublasError> {
    if version < 120_000 { Err(CublasError::Version { found: version }) } else { Ok(()) }
}

/// As the library counts: 130401 is 13.4.1.
pub fn version(library: &Library) -> Result<usize, LibraryError> {
    let address = library.symbol(c"cublasLtGetVersion")?;
    // SAFETY: `size_t cublasLtGetVersion(void)`.
    let version: extern "C" fn() -> usize = unsafe { transmute(address) };
    Ok(version())
}

fn ok(call: &'static str, status: Status) -> Result<(), CublasError> {
    if status == 0 { Ok(()) } else { Err(CublasError::Status { call, status }) }
}
