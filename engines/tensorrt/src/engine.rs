//! An engine and its execution contexts, method by method: C++ objects in, Rust values out.

use std::ffi::{CStr, CString, c_char};

use watchpost_cuda::{Buffer, Gpu, RawStream};

use crate::abi::{Dims, Kind, Object, call, constants};
use crate::error::TensorRtError;
use crate::library::Library;
use crate::logger::Since;
use crate::version::Version;

/// `ICudaEngine`, with the runtime that it came from.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Before the runtime: fields are dropped in this order.
    object: Object,
    _runtime: Object,
}

/// What a dimension list of theirs says, or that it says nothing.
fn sizes(dims: &Dims) -> Result<Vec<i64>, String> {
    dims.sizes().map(<[i64]>::to_vec).ok_or_else(|| "has no shape; build the engine again".to_owned())
}

impl Engine {
    /// From a plan. The context of `gpu` is current.
    pub(crate) fn deserialize(
        library: &Library,
        gpu: &Gpu,
        plan: &[u8],
        dla_core: Option<u32>,
    ) -> Result<Self, TensorRtError> {
        let runtime = library.runtime()?.on(gpu);
        if let Some(core) = dla_core.and_then(|core| i32::try_from(core).ok()) {
            // SAFETY: a number.
            unsafe { call!(runtime, RUNTIME_SET_DLA_CORE, core) };
        }
        let since = Since::now();
        let version = library.version();
        // SAFETY: the plan's bytes live through the call, which copies what it needs. The runtime is dropped after
        // the engine.
        let object = unsafe {
            let raw = call!(runtime, RUNTIME_DESERIALIZE, plan.as_ptr().cast(), plan.len());
            Object::adopt(raw, Kind::Ours, version)
        };
        let refused = || TensorRtError::Refused {
            version,
            what: "the engine",
            words: since.words(),
            advice: "an engine works with the TensorRT version and the kind of GPU it was built with: build it again \
                     here (`watchpost engine build`)",
        };
        Ok(Self { object: object.ok_or_else(refused)?.on(gpu), _runtime: runtime })
    }

    pub(crate) fn version(&self) -> Version {
        self.object.version()
    }

    /// Names of inputs and outputs.
    pub(crate) fn tensor_names(&self) -> Result<Vec<CString>, TensorRtError> {
        // SAFETY: no arguments.
        let count = unsafe { call!(self.object, ENGINE_TENSOR_COUNT) };
        (0..count).map(|index| self.tensor_name(index)).collect()
    }

    fn tensor_name(&self, index: i32) -> Result<CString, TensorRtError> {
        // SAFETY: an index below the count.
        let name = unsafe { call!(self.object, ENGINE_TENSOR_NAME, index) };
        if name.is_null() {
            let reason = "has no name; build the engine again".to_owned();
            return Err(TensorRtError::Tensor { tensor: format!("tensor {index}"), reason });
        }
        // SAFETY: a C string that lives as long as the engine.
        Ok(unsafe { CStr::from_ptr(name) }.to_owned())
    }

    /// -1 where a dimension is open.
    pub(crate) fn tensor_shape(&self, name: &CStr) -> Result<Result<Vec<i64>, String>, TensorRtError> {
        // SAFETY: a C string that lives through the call.
        Ok(sizes(&unsafe { call!(self.object, ENGINE_TENSOR_SHAPE, name.as_ptr()) }))
    }

    /// What the first profile allows at least or at most.
    pub(crate) fn profile_shape(
        &self,
        name: &CStr,
        select: i32,
    ) -> Result<Result<Vec<i64>, String>, TensorRtError> {
        // SAFETY: as above, and numbers.
        Ok(sizes(&unsafe { call!(self.object, ENGINE_PROFILE_SHAPE, name.as_ptr(), 0, select) }))
    }

    pub(crate) fn profile_count(&self) -> Result<i32, TensorRtError> {
        // SAFETY: no arguments.
        Ok(unsafe { call!(self.object, ENGINE_PROFILE_COUNT) })
    }

    /// `DataType`.
    pub(crate) fn tensor_type(&self, name: &CStr) -> Result<i32, TensorRtError> {
        // SAFETY: a C string that lives through the call.
        Ok(unsafe { call!(self.object, ENGINE_TENSOR_TYPE, name.as_ptr()) })
    }

    /// `TensorIOMode`.
    pub(crate) fn io_mode(&self, name: &CStr) -> Result<i32, TensorRtError> {
        // SAFETY: a C string that lives through the call.
        Ok(unsafe { call!(self.object, ENGINE_TENSOR_IO_MODE, name.as_ptr()) })
    }

    /// Whether it is a plain row-major tensor on the device, whose values decide no shapes; if not, what it is.
    pub(crate) fn check_plain(&self, name: &CStr) -> Result<Result<(), &'static str>, TensorRtError> {
        // SAFETY: C strings that live through the calls, and a number.
        let (location, is_shape, format) = unsafe {
            let location = call!(self.object, ENGINE_TENSOR_LOCATION, name.as_ptr());
            let is_shape = call!(self.object, ENGINE_IS_SHAPE_TENSOR, name.as_ptr());
            (location, is_shape, call!(self.object, ENGINE_TENSOR_FORMAT, name.as_ptr(), 0))
        };
        Ok(if location != constants::ON_DEVICE || is_shape {
            Err("decides about shapes and lies on the host; export the model without such inputs and outputs")
        } else if format != constants::ROW_MAJOR {
            Err("is not in row-major order; build the engine without --inputIOFormats and --outputIOFormats")
        } else {
            Ok(())
        })
    }

    /// Bytes that a context works in.
    pub(crate) fn activations_bytes(&self) -> Result<usize, TensorRtError> {
        // SAFETY: a number.
        let bytes = unsafe { call!(self.object, ENGINE_DEVICE_MEMORY_SIZE, 0) };
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// A context that works in `activations`, which it does not own.
    pub(crate) fn context(&self, gpu: &Gpu, activations: &Buffer) -> Result<Context, TensorRtError> {
        let since = Since::now();
        let version = self.version();
        // SAFETY: a number; the context is dropped before the engine: see `Runner`.
        let object = unsafe {
            let raw = call!(self.object, ENGINE_CREATE_CONTEXT, constants::USER_MANAGED);
            Object::adopt(raw, Kind::Ours, version)
        };
        let refused = || TensorRtError::Refused {
            version,
            what: "an execution context",
            words: since.words(),
            advice: "free memory on the GPU, or use a smaller model or max_batch_size",
        };
        let context = Context { object: object.ok_or_else(refused)?.on(gpu) };
        let size = i64::try_from(activations.len_bytes()).unwrap_or(i64::MAX);
        // SAFETY: device memory of that size, which the caller keeps for longer than the context.
        unsafe {
            call!(context.object, CONTEXT_SET_DEVICE_MEMORY, activations.address() as *mut _, size);
        }
        Ok(context)
    }
}

/// `IExecutionContext`.
#[derive(Debug)]
pub(crate) struct Context {
    object: Object,
}

impl Context {
    /// The shape of the next inference's input.
    pub(crate) fn set_input_shape(&mut self, name: &CStr, shape: &[i64]) -> Result<(), TensorRtError> {
        let since = Since::now();
        let dims = Dims::new(shape);
        // SAFETY: a C string and dimensions that live through the call.
        let taken = unsafe { call!(self.object, CONTEXT_SET_INPUT_SHAPE, name.as_ptr(), &raw const dims) };
        self.done(taken, since)
    }

    /// A shape, as it follows from the input's.
    pub(crate) fn tensor_shape(&self, name: &CStr) -> Result<Result<Vec<i64>, String>, TensorRtError> {
        // SAFETY: a C string that lives through the call.
        Ok(sizes(&unsafe { call!(self.object, CONTEXT_TENSOR_SHAPE, name.as_ptr()) }))
    }

    /// Where a tensor lies.
    ///
    /// # Safety
    /// From the next [`Context::enqueue`] on until the stream has come past it, there is device memory for the tensor
    /// in its present shape.
    pub(crate) unsafe fn set_address(
        &mut self,
        name: *const c_char,
        address: u64,
    ) -> Result<(), TensorRtError> {
        let since = Since::now();
        // SAFETY: the caller's promise, and a C string that lives through the call.
        let taken = unsafe { call!(self.object, CONTEXT_SET_ADDRESS, name, address as *mut _) };
        self.done(taken, since)
    }

    /// Puts one inference on the stream.
    ///
    /// # Safety
    /// The shape and all addresses are set; the activations and the tensors stay until the stream has come past it.
    pub(crate) unsafe fn enqueue(&mut self, stream: RawStream) -> Result<(), TensorRtError> {
        let since = Since::now();
        // SAFETY: the caller's promise.
        let queued = unsafe { call!(self.object, CONTEXT_ENQUEUE, stream.0) };
        self.done(queued, since)
    }

    fn done(&self, well: bool, since: Since) -> Result<(), TensorRtError> {
        if well {
            return Ok(());
        }
        Err(TensorRtError::Enqueue { version: self.object.version(), words: since.words() })
    }
}
