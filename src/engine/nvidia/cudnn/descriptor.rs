//! cuDNN's backend API: its functions, its numbers, and descriptors that are freed when dropped.

#![allow(unsafe_code)] // Calls into a library opened at run time.
#![allow(clippy::missing_transmute_annotations)] // The fields that hold the functions say their types.

use super::{CudnnError, Version};
use crate::engine::nvidia::libraries::{Library, Name};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::Arc;

/// `cudnnBackendDescriptorType_t`, as `CUDNN_BACKEND_<name>_DESCRIPTOR` of cudnn_graph.h 9.26.
pub(super) mod kind {
    use std::ffi::c_int;
    pub(crate) const POINTWISE: c_int = 0;
    pub(crate) const CONVOLUTION: c_int = 1;
    pub(crate) const ENGINE: c_int = 2;
    pub(crate) const ENGINECFG: c_int = 3;
    pub(crate) const ENGINEHEUR: c_int = 4;
    pub(crate) const EXECUTION_PLAN: c_int = 5;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD: c_int = 10;
    pub(crate) const OPERATION_CONVOLUTION_BACKWARD_FILTER: c_int = 11;
    pub(crate) const OPERATION_CONVOLUTION_BACKWARD_DATA: c_int = 12;
    pub(crate) const OPERATION_POINTWISE: c_int = 13;
    pub(crate) const OPERATIONGRAPH: c_int = 15;
    pub(crate) const VARIANT_PACK: c_int = 16;
    pub(crate) const TENSOR: c_int = 17;
    pub(crate) const MATMUL: c_int = 18;
    pub(crate) const OPERATION_MATMUL: c_int = 19;
    pub(crate) const REDUCTION: c_int = 21;
    pub(crate) const OPERATION_REDUCTION: c_int = 22;
    pub(crate) const OPERATION_RESHAPE: c_int = 31;
    pub(crate) const DEVICEPROP: c_int = 38;
    pub(crate) const OPERATION_SDPA_FWD: c_int = 41;
}

/// `cudnnBackendAttributeName_t`, as `CUDNN_ATTR_<name>`.
pub(super) mod attribute {
    use std::ffi::c_int;
    pub(crate) const POINTWISE_MODE: c_int = 0;
    pub(crate) const POINTWISE_MATH_PREC: c_int = 1;
    pub(crate) const CONVOLUTION_COMP_TYPE: c_int = 100;
    pub(crate) const CONVOLUTION_CONV_MODE: c_int = 101;
    pub(crate) const CONVOLUTION_DILATIONS: c_int = 102;
    pub(crate) const CONVOLUTION_FILTER_STRIDES: c_int = 103;
    pub(crate) const CONVOLUTION_POST_PADDINGS: c_int = 104;
    pub(crate) const CONVOLUTION_PRE_PADDINGS: c_int = 105;
    pub(crate) const CONVOLUTION_SPATIAL_DIMS: c_int = 106;
    pub(crate) const ENGINEHEUR_MODE: c_int = 200;
    pub(crate) const ENGINEHEUR_OPERATION_GRAPH: c_int = 201;
    pub(crate) const ENGINEHEUR_RESULTS: c_int = 202;
    pub(crate) const ENGINEHEUR_DEVICEPROP: c_int = 204;
    pub(crate) const ENGINECFG_ENGINE: c_int = 300;
    pub(crate) const EXECUTION_PLAN_HANDLE: c_int = 400;
    pub(crate) const EXECUTION_PLAN_ENGINE_CONFIG: c_int = 401;
    pub(crate) const EXECUTION_PLAN_WORKSPACE_SIZE: c_int = 402;
    pub(crate) const EXECUTION_PLAN_JSON_REPRESENTATION: c_int = 405;
    pub(crate) const EXECUTION_PLAN_DEVICEPROP: c_int = 407;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_ALPHA: c_int = 700;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_BETA: c_int = 701;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_CONV_DESC: c_int = 702;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_W: c_int = 703;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_X: c_int = 704;
    pub(crate) const OPERATION_CONVOLUTION_FORWARD_Y: c_int = 705;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_ALPHA: c_int = 706;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_BETA: c_int = 707;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC: c_int = 708;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_W: c_int = 709;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_DX: c_int = 710;
    pub(crate) const OPERATION_CONVOLUTION_BWD_DATA_DY: c_int = 711;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_ALPHA: c_int = 712;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_BETA: c_int = 713;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC: c_int = 714;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_DW: c_int = 715;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_X: c_int = 716;
    pub(crate) const OPERATION_CONVOLUTION_BWD_FILTER_DY: c_int = 717;
    pub(crate) const OPERATION_POINTWISE_PW_DESCRIPTOR: c_int = 750;
    pub(crate) const OPERATION_POINTWISE_XDESC: c_int = 751;
    pub(crate) const OPERATION_POINTWISE_BDESC: c_int = 752;
    pub(crate) const OPERATION_POINTWISE_YDESC: c_int = 753;
    pub(crate) const OPERATIONGRAPH_HANDLE: c_int = 800;
    pub(crate) const OPERATIONGRAPH_OPS: c_int = 801;
    pub(crate) const TENSOR_BYTE_ALIGNMENT: c_int = 900;
    pub(crate) const TENSOR_DATA_TYPE: c_int = 901;
    pub(crate) const TENSOR_DIMENSIONS: c_int = 902;
    pub(crate) const TENSOR_STRIDES: c_int = 903;
    pub(crate) const TENSOR_UNIQUE_ID: c_int = 906;
    pub(crate) const TENSOR_IS_VIRTUAL: c_int = 907;
    pub(crate) const TENSOR_IS_BY_VALUE: c_int = 908;
    pub(crate) const VARIANT_PACK_UNIQUE_IDS: c_int = 1000;
    pub(crate) const VARIANT_PACK_DATA_POINTERS: c_int = 1001;
    pub(crate) const VARIANT_PACK_WORKSPACE: c_int = 1003;
    pub(crate) const ENGINE_GLOBAL_INDEX: c_int = 1301;
    pub(crate) const ENGINE_NUMERICAL_NOTE: c_int = 1303;
    pub(crate) const MATMUL_COMP_TYPE: c_int = 1500;
    pub(crate) const OPERATION_MATMUL_ADESC: c_int = 1520;
    pub(crate) const OPERATION_MATMUL_BDESC: c_int = 1521;
    pub(crate) const OPERATION_MATMUL_CDESC: c_int = 1522;
    pub(crate) const OPERATION_MATMUL_DESC: c_int = 1523;
    pub(crate) const REDUCTION_OPERATOR: c_int = 1600;
    pub(crate) const REDUCTION_COMP_TYPE: c_int = 1601;
    pub(crate) const OPERATION_REDUCTION_XDESC: c_int = 1610;
    pub(crate) const OPERATION_REDUCTION_YDESC: c_int = 1611;
    pub(crate) const OPERATION_REDUCTION_DESC: c_int = 1612;
    pub(crate) const OPERATION_RESHAPE_XDESC: c_int = 2200;
    pub(crate) const OPERATION_RESHAPE_YDESC: c_int = 2201;
    pub(crate) const DEVICEPROP_HANDLE: c_int = 2701;
    pub(crate) const DEVICEPROP_JSON_REPRESENTATION: c_int = 2702;
    pub(crate) const OPERATION_SDPA_FWD_QDESC: c_int = 2800;
    pub(crate) const OPERATION_SDPA_FWD_KDESC: c_int = 2801;
    pub(crate) const OPERATION_SDPA_FWD_VDESC: c_int = 2802;
    pub(crate) const OPERATION_SDPA_FWD_ODESC: c_int = 2803;
    pub(crate) const OPERATION_SDPA_FWD_STATSDESC: c_int = 2804;
    pub(crate) const OPERATION_SDPA_FWD_SCALEDESC: c_int = 2805;
}

/// `cudnnBackendAttributeType_t`, as `CUDNN_TYPE_<name>`.
mod types {
    use std::ffi::c_int;
    pub(super) const HANDLE: c_int = 0;
    pub(super) const DATA_TYPE: c_int = 1;
    pub(super) const BOOLEAN: c_int = 2;
    pub(super) const INT64: c_int = 3;
    pub(super) const FLOAT: c_int = 4;
    pub(super) const VOID_PTR: c_int = 6;
    pub(super) const CONVOLUTION_MODE: c_int = 7;
    pub(super) const HEUR_MODE: c_int = 8;
    pub(super) const NUMERICAL_NOTE: c_int = 11;
    pub(super) const POINTWISE_MODE: c_int = 14;
    pub(super) const BACKEND_DESCRIPTOR: c_int = 15;
    pub(super) const REDUCTION_OPERATOR_TYPE: c_int = 18;
    pub(super) const CHAR: c_int = 24;
}

/// A value of one of cuDNN's enumerations, with the type under which it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    kind: c_int,
    value: c_int,
}

impl Choice {
    const fn new(kind: c_int, value: c_int) -> Self {
        Self { kind, value }
    }
}

/// `CUDNN_DATA_FLOAT`.
pub(super) const FLOAT: Choice = Choice::new(types::DATA_TYPE, 0);
/// `CUDNN_DATA_BFLOAT16`.
pub(super) const BFLOAT16: Choice = Choice::new(types::DATA_TYPE, 9);
/// `CUDNN_CROSS_CORRELATION`.
pub(super) const CROSS_CORRELATION: Choice = Choice::new(types::CONVOLUTION_MODE, 1);
/// `CUDNN_POINTWISE_ADD`.
pub(super) const ADD: Choice = Choice::new(types::POINTWISE_MODE, 0);
/// `CUDNN_POINTWISE_MUL`.
pub(super) const MULTIPLY: Choice = Choice::new(types::POINTWISE_MODE, 1);
/// `CUDNN_POINTWISE_SUB`.
pub(super) const SUBTRACT: Choice = Choice::new(types::POINTWISE_MODE, 9);
/// `CUDNN_POINTWISE_EXP`.
pub(super) const EXP: Choice = Choice::new(types::POINTWISE_MODE, 13);
/// `CUDNN_POINTWISE_IDENTITY`.
pub(super) const IDENTITY: Choice = Choice::new(types::POINTWISE_MODE, 21);
/// `CUDNN_REDUCE_TENSOR_ADD`.
pub(super) const SUM: Choice = Choice::new(types::REDUCTION_OPERATOR_TYPE, 0);
/// `CUDNN_HEUR_MODE_A`: a decision tree.
pub(super) const MODE_A: Choice = Choice::new(types::HEUR_MODE, 3);
/// `CUDNN_HEUR_MODE_B`: a network, slower to ask.
pub(super) const MODE_B: Choice = Choice::new(types::HEUR_MODE, 1);
/// `CUDNN_HEUR_MODE_FALLBACK`: whatever computes it.
pub(super) const MODE_FALLBACK: Choice = Choice::new(types::HEUR_MODE, 2);

/// `cudnnBackendNumericalNote_t`, as `CUDNN_NUMERICAL_NOTE_<name>`: what an engine does to numbers.
pub(super) mod note {
    use std::ffi::c_int;
    pub(crate) const TENSOR_CORE: c_int = 0;
    pub(crate) const DOWN_CONVERT_INPUTS: c_int = 1;
    pub(crate) const NONDETERMINISTIC: c_int = 4;
    /// `CUDNN_NUMERICAL_NOTE_TYPE_COUNT` of 9.26, with room for more.
    pub(super) const MOST: usize = 32;
}

type Raw = *mut c_void;
type Status = c_int;

/// The functions of the library that are called.
pub(super) struct Api {
    create: unsafe extern "C" fn(c_int, *mut Raw) -> Status,
    destroy: unsafe extern "C" fn(Raw) -> Status,
    set: unsafe extern "C" fn(Raw, c_int, c_int, i64, *const c_void) -> Status,
    finalize: unsafe extern "C" fn(Raw) -> Status,
    get: unsafe extern "C" fn(Raw, c_int, c_int, i64, *mut i64, *mut c_void) -> Status,
    execute: unsafe extern "C" fn(Raw, Raw, Raw) -> Status,
    create_handle: unsafe extern "C" fn(*mut Raw) -> Status,
    set_stream: unsafe extern "C" fn(Raw, Raw) -> Status,
    name_status: unsafe extern "C" fn(Status) -> *const c_char,
    last_error: unsafe extern "C" fn(*mut c_char, usize),
    version: unsafe extern "C" fn() -> usize,
}

impl Api {
    /// Opens the library.
    #[allow(clippy::missing_transmute_annotations)] // The fields say which functions they are.
    pub(super) fn open() -> Result<Self, CudnnError> {
        // Engines compiled at run time ask for NVRTC, others for cuBLASLt, by bare names: open here, they find them.
        Library::open(Name::Nvrtc)?;
        Library::open(Name::CublasLt).ok();
        let library = Library::open(Name::Cudnn)?;
        let address = |name| library.symbol(name);
        // SAFETY: the signatures of cudnn_graph.h, the same in all of cuDNN 9.
        unsafe {
            Ok(Self {
                create: transmute::<Raw, _>(address(c"cudnnBackendCreateDescriptor")?),
                destroy: transmute::<Raw, _>(address(c"cudnnBackendDestroyDescriptor")?),
                set: transmute::<Raw, _>(address(c"cudnnBackendSetAttribute")?),
                finalize: transmute::<Raw, _>(address(c"cudnnBackendFinalize")?),
                get: transmute::<Raw, _>(address(c"cudnnBackendGetAttribute")?),
                execute: transmute::<Raw, _>(address(c"cudnnBackendExecute")?),
                create_handle: transmute::<Raw, _>(address(c"cudnnCreate")?),
                set_stream: transmute::<Raw, _>(address(c"cudnnSetStream")?),
                name_status: transmute::<Raw, _>(address(c"cudnnGetErrorString")?),
                last_error: transmute::<Raw, _>(address(c"cudnnGetLastErrorString")?),
                version: transmute::<Raw, _>(address(c"cudnnGetVersion")?),
            })
        }
    }

    /// The library's version.
    pub(super) fn version(&self) -> Version {
        // SAFETY: no arguments.
        Version(unsafe { (self.version)() })
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), CudnnError> {
        if status == 0 {
            return Ok(());
        }
        let mut text = [0; 2048];
        // SAFETY: the length of the buffer; a status is named by a string of the library.
        let name = unsafe {
            (self.last_error)(text.as_mut_ptr().cast(), text.len());
            CStr::from_ptr((self.name_status)(status))
        };
        let name = name.to_string_lossy();
        let words = CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy();
        // Three lines: more of them speak of other engines.
        let words = words.lines().map(str::trim).filter(|line| !line.is_empty()).take(3);
        let reason = std::iter::once(&*name).chain(words).collect::<Vec<_>>().join("; ");
        Err(CudnnError::Call { call, reason })
    }
}

/// A descriptor. Others that were set in it must outlive it.
pub(super) struct Descriptor {
    api: Arc<Api>,
    raw: Raw,
}

// SAFETY: host memory of the library's, tied to no thread.
unsafe impl Send for Descriptor {}
// SAFETY: through a shared reference descriptors are only read, which the library allows from any thread.
unsafe impl Sync for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created by this library, destroyed once.
        unsafe { (self.api.destroy)(self.raw) };
    }
}

impl Descriptor {
    /// An empty descriptor of a [`kind`].
    pub(super) fn new(api: &Arc<Api>, kind: c_int) -> Result<Self, CudnnError> {
        let mut raw = null_mut();
        // SAFETY: an output pointer.
        let status = unsafe { (api.create)(kind, &mut raw) };
        api.check("cudnnBackendCreateDescriptor", status)?;
        Ok(Self { api: api.clone(), raw })
    }

    /// Sets whole numbers.
    pub(super) fn numbers(self, attribute: c_int, values: &[i64]) -> Result<Self, CudnnError> {
        self.set(attribute, types::INT64, values)
    }

    /// Sets a float.
    pub(super) fn float(self, attribute: c_int, value: f32) -> Result<Self, CudnnError> {
        self.set(attribute, types::FLOAT, &[value])
    }

    /// Sets a truth.
    pub(super) fn yes(self, attribute: c_int) -> Result<Self, CudnnError> {
        self.set(attribute, types::BOOLEAN, &[true])
    }

    /// Sets a value of an enumeration.
    pub(super) fn choice(self, attribute: c_int, choice: Choice) -> Result<Self, CudnnError> {
        self.set(attribute, choice.kind, &[choice.value])
    }

    /// Sets text.
    pub(super) fn text(self, attribute: c_int, text: &str) -> Result<Self, CudnnError> {
        self.set(attribute, types::CHAR, text.as_bytes())
    }

    /// Sets addresses.
    pub(super) fn addresses(self, attribute: c_int, values: &[u64]) -> Result<Self, CudnnError> {
        self.set(attribute, types::VOID_PTR, values)
    }

    /// Sets the card and thread of a handle.
    pub(super) fn handle(self, attribute: c_int, handle: &Handle) -> Result<Self, CudnnError> {
        self.set(attribute, types::HANDLE, &[handle.raw])
    }

    /// Sets other descriptors, which must outlive this one.
    pub(super) fn parts<'a>(
        self,
        attribute: c_int,
        parts: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Self, CudnnError> {
        let raw: Vec<Raw> = parts.into_iter().map(|part| part.raw).collect();
        self.set(attribute, types::BACKEND_DESCRIPTOR, &raw)
    }

    /// Lets the library check it; nothing may be set afterwards.
    pub(super) fn finalize(self) -> Result<Self, CudnnError> {
        // SAFETY: a descriptor of this library.
        let status = unsafe { (self.api.finalize)(self.raw) };
        self.api.check("cudnnBackendFinalize", status)?;
        Ok(self)
    }

    /// Reads a whole number.
    pub(super) fn number(&self, attribute: c_int) -> Result<i64, CudnnError> {
        let mut value = [0i64];
        self.get(attribute, types::INT64, &mut value)?;
        Ok(value[0])
    }

    /// Reads an engine's [`note`]s.
    pub(super) fn notes(&self) -> Result<Vec<c_int>, CudnnError> {
        let mut values = vec![0; note::MOST];
        let count =
            self.get(attribute::ENGINE_NUMERICAL_NOTE, types::NUMERICAL_NOTE, &mut values)?;
        values.truncate(count);
        Ok(values)
    }

    /// Reads text.
    pub(super) fn read_text(&self, attribute: c_int) -> Result<String, CudnnError> {
        let mut bytes = vec![0u8; self.get::<u8>(attribute, types::CHAR, &mut [])?];
        let count = self.get(attribute, types::CHAR, &mut bytes)?;
        bytes.truncate(count);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// Fills empty descriptors; says how many the library had.
    pub(super) fn fill(&self, attribute: c_int, empty: &[Self]) -> Result<usize, CudnnError> {
        let mut raw: Vec<Raw> = empty.iter().map(|descriptor| descriptor.raw).collect();
        self.get(attribute, types::BACKEND_DESCRIPTOR, &mut raw)
    }

    fn set<T>(self, attribute: c_int, kind: c_int, values: &[T]) -> Result<Self, CudnnError> {
        let (count, at) = (values.len() as i64, values.as_ptr().cast());
        // SAFETY: `count` values of the type that `kind` names, which the library copies.
        let status = unsafe { (self.api.set)(self.raw, attribute, kind, count, at) };
        self.api.check("cudnnBackendSetAttribute", status)?;
        Ok(self)
    }

    /// Reads up to `values.len()` values; says how many were written, or how many there are if room is for none.
    fn get<T>(&self, attribute: c_int, kind: c_int, values: &mut [T]) -> Result<usize, CudnnError> {
        let room = values.len() as i64;
        let at = if values.is_empty() { null_mut() } else { values.as_mut_ptr().cast() };
        let mut count = 0;
        // SAFETY: room for as many values of the type that `kind` names.
        let status = unsafe { (self.api.get)(self.raw, attribute, kind, room, &mut count, at) };
        self.api.check("cudnnBackendGetAttribute", status)?;
        let count = usize::try_from(count).unwrap_or_default();
        Ok(if values.is_empty() { count } else { count.min(values.len()) })
    }
}

/// cuDNN on one thread's current context.
///
/// Never destroyed: at the end of a process the driver may be gone before it.
pub struct Handle {
    api: Arc<Api>,
    raw: Raw,
}

// SAFETY: a handle may move between threads, and is used by one at a time.
unsafe impl Send for Handle {}

impl Handle {
    /// A handle on the current context.
    pub(super) fn new(api: &Arc<Api>) -> Result<Self, CudnnError> {
        let mut raw = null_mut();
        // SAFETY: an output pointer.
        let status = unsafe { (api.create_handle)(&mut raw) };
        api.check("cudnnCreate", status)?;
        Ok(Self { api: api.clone(), raw })
    }

    /// Queues what follows on `stream`, a `CUstream` of the handle's context.
    ///
    /// # Safety
    ///
    /// The stream lives as long as something is executed on this handle.
    pub unsafe fn set_stream(&self, stream: u64) -> Result<(), CudnnError> {
        // SAFETY: the caller vouches for the stream.
        let status = unsafe { (self.api.set_stream)(self.raw, stream as Raw) };
        self.api.check("cudnnSetStream", status)
    }

    /// Queues a plan with the addresses of a variant pack.
    ///
    /// # Safety
    ///
    /// The addresses hold what the plan's graph says.
    pub(super) unsafe fn execute(
        &self,
        plan: &Descriptor,
        pack: &Descriptor,
    ) -> Result<(), CudnnError> {
        // SAFETY: descriptors of this library; the caller vouches for the addresses.
        let status = unsafe { (self.api.execute)(self.raw, plan.raw, pack.raw) };
        self.api.check("cudnnBackendExecute", status)
    }
}
