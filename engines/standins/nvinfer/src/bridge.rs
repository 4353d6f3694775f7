//! The functions that the C++ classes call (`shim/bridge.h`): handles are boxes, made and taken back here.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use crate::context::Context;
use crate::counters::{self, Live};
use crate::engine::{Engine, Handle};
use crate::exports::Runtime;
use crate::settings::{self, Amount};

type Raw = *mut c_void;

/// Most dimensions of a tensor.
const DIMS_MAX: usize = 8;

/// `nvinfer1::Dims`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dims {
    count: i32,
    sizes: [i64; DIMS_MAX],
}

impl Dims {
    /// What the real library returns for what it does not know.
    const UNKNOWN: Self = Self { count: -1, sizes: [0; DIMS_MAX] };

    fn new(shape: &[i64]) -> Self {
        let mut dims = Self { count: 0, ..Self::UNKNOWN };
        for (to, from) in dims.sizes.iter_mut().zip(shape) {
            *to = *from;
            dims.count += 1;
        }
        dims
    }

    pub(crate) fn shape(&self) -> &[i64] {
        usize::try_from(self.count).ok().and_then(|count| self.sizes.get(..count)).unwrap_or(&[])
    }
}

/// `wpn_tensor`
#[repr(C)]
pub struct TensorFacts {
    io_mode: i32,
    element: i32,
    element_bytes: i32,
}

/// What an `IHostMemory` owns.
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    _live: Live,
}

impl Bytes {
    pub(crate) fn handle(bytes: Vec<u8>) -> Raw {
        hand_out(Self { bytes, _live: Live::new(&counters::LIVE_HOST_MEMORIES) })
    }
}

/// A value becomes a handle.
pub(crate) fn hand_out<T>(value: T) -> Raw {
    Box::into_raw(Box::new(value)).cast()
}

/// What is behind a handle.
///
/// # Safety
/// It is from `hand_out` of the same type, has not been taken back, and nobody else uses it meanwhile: an object of
/// TensorRT is used by one thread at a time.
pub(crate) unsafe fn borrow<'a, T>(handle: Raw) -> &'a mut T {
    // SAFETY: as the caller promises.
    unsafe { &mut *handle.cast::<T>() }
}

/// Ends a handle.
///
/// # Safety
/// As [`borrow`], and it is not used again.
pub(crate) unsafe fn take_back<T>(handle: Raw) {
    // SAFETY: as the caller promises.
    drop(unsafe { Box::from_raw(handle.cast::<T>()) });
}

/// A name of the caller's.
///
/// # Safety
/// It is null or a C string that lives as long as the call.
pub(crate) unsafe fn text<'a>(name: *const c_char) -> &'a CStr {
    if name.is_null() {
        return c"";
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(name) }
}

/// Bytes of the caller's.
///
/// # Safety
/// They live as long as the call.
pub(crate) unsafe fn slice<'a>(start: *const c_void, size: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(start.cast(), size) }
}

macro_rules! bridge {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// Handles are of the type that the function is named after, pointers as in `shim/bridge.h`.
            #[unsafe(no_mangle)]
            #[allow(unused_unsafe, reason = "some take numbers only")]
            pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
                // SAFETY: the classes of the shim call this with their own handles, and with what their caller gave.
                unsafe { $body }
            }
        )*
    };
}
pub(crate) use bridge;

bridge! {
    /// `deserializeCudaEngine`: a handle, or null after a word in the log.
    fn wpn_runtime_deserialize(runtime: Raw, blob: *const c_void, size: usize) -> Raw {
        let runtime = borrow::<Runtime>(runtime);
        match Handle::deserialize(slice(blob, size), runtime.logger, runtime.cuda, &runtime.engines) {
            Ok(handle) => hand_out(handle),
            Err(why) => {
                runtime.logger.error(&format!("IRuntime::deserializeCudaEngine: {why}"));
                ptr::null_mut()
            }
        }
    }

    /// DLA cores of the pretended device.
    fn wpn_dla_cores() -> i32 {
        i32::try_from(settings::amount(Amount::DlaCores)).unwrap_or(i32::MAX)
    }

    /// `delete` of an `IRuntime`.
    fn wpn_runtime_free(runtime: Raw) {
        take_back::<Runtime>(runtime);
    }

    /// `IHostMemory::data`
    fn wpn_bytes_data(bytes: Raw) -> *const c_void {
        borrow::<Bytes>(bytes).bytes.as_ptr().cast()
    }

    /// `IHostMemory::size`
    fn wpn_bytes_size(bytes: Raw) -> usize {
        borrow::<Bytes>(bytes).bytes.len()
    }

    /// `delete` of an `IHostMemory`.
    fn wpn_bytes_free(bytes: Raw) {
        take_back::<Bytes>(bytes);
    }

    /// `getNbIOTensors`
    fn wpn_engine_tensor_count(engine: Raw) -> i32 {
        i32::try_from(borrow::<Handle>(engine).engine.tensors.len()).unwrap_or(i32::MAX)
    }

    /// `getIOTensorName`
    fn wpn_engine_tensor_name(engine: Raw, index: i32) -> *const c_char {
        let handle = borrow::<Handle>(engine);
        let tensor = usize::try_from(index).ok().and_then(|index| handle.engine.tensors.get(index));
        tensor.map_or_else(
            || {
                handle.logger.error(&format!("ICudaEngine::getIOTensorName: there is no tensor {index}"));
                ptr::null()
            },
            |tensor| tensor.name.as_ptr(),
        )
    }

    /// What an engine says of a tensor.
    fn wpn_engine_tensor(engine: Raw, name: *const c_char, facts: *mut TensorFacts, shape: *mut Dims) -> bool {
        let (handle, name) = (borrow::<Handle>(engine), text(name));
        let Some((_, tensor)) = handle.engine.tensor(name) else {
            handle.logger.error(&no_tensor("ICudaEngine", name));
            *facts = TensorFacts { io_mode: 0, element: 0, element_bytes: -1 };
            *shape = Dims::UNKNOWN;
            return false;
        };
        *facts = TensorFacts {
            io_mode: if tensor.is_input { 1 } else { 2 },
            element: tensor.element as i32,
            element_bytes: i32::try_from(tensor.element.bytes()).unwrap_or(0),
        };
        *shape = Dims::new(&tensor.declared);
        true
    }

    /// `getProfileShape`
    fn wpn_engine_profile_shape(engine: Raw, name: *const c_char, profile: i32, select: i32, shape: *mut Dims) {
        let handle = borrow::<Handle>(engine);
        *shape = profile_shape(&handle.engine, text(name), profile, select).unwrap_or_else(|| {
            handle.logger.error("ICudaEngine::getProfileShape: Error Code 3: API Usage Error (no such input or profile)");
            Dims::UNKNOWN
        });
    }

    /// `getDeviceMemorySizeV2`
    fn wpn_engine_activation_bytes(engine: Raw) -> i64 {
        let engine = &borrow::<Handle>(engine).engine;
        i64::try_from(engine.activation_bytes(engine.max_batch())).unwrap_or(i64::MAX)
    }

    /// `getHardwareCompatibilityLevel`
    fn wpn_engine_hardware_compatibility(engine: Raw) -> i32 {
        borrow::<Handle>(engine).engine.plan.hardware_compatibility.cast_signed()
    }

    /// `ICudaEngine::serialize`
    fn wpn_engine_serialize(engine: Raw) -> Raw {
        Bytes::handle(borrow::<Handle>(engine).engine.plan.encode())
    }

    /// `createExecutionContext`: a handle, or null after a word in the log.
    fn wpn_engine_create_context(engine: Raw, strategy: i32) -> Raw {
        Context::create(borrow::<Handle>(engine), strategy).map_or_else(ptr::null_mut, hand_out)
    }

    /// `delete` of an `ICudaEngine`.
    fn wpn_engine_free(engine: Raw) {
        take_back::<Handle>(engine);
    }

    /// `setInputShape`
    fn wpn_context_set_shape(context: Raw, name: *const c_char, shape: *const Dims) -> bool {
        borrow::<Context>(context).set_input_shape(text(name), (*shape).shape())
    }

    /// `IExecutionContext::getTensorShape`
    fn wpn_context_shape(context: Raw, name: *const c_char, shape: *mut Dims) {
        let context = borrow::<Context>(context);
        *shape = context.index("getTensorShape", text(name)).map_or(Dims::UNKNOWN, |index| {
            let tensor = &context.engine().tensors[index];
            Dims::new(&context.batch().map_or_else(|| tensor.declared.clone(), |batch| tensor.shape(batch)))
        });
    }

    /// `allInputDimensionsSpecified`
    fn wpn_context_is_shaped(context: Raw) -> bool {
        borrow::<Context>(context).batch().is_some()
    }

    /// `setTensorAddress`
    fn wpn_context_set_address(context: Raw, name: *const c_char, address: *const c_void) -> bool {
        borrow::<Context>(context).set_address("setTensorAddress", text(name), address as u64)
    }

    /// `getTensorAddress`
    fn wpn_context_address(context: Raw, name: *const c_char) -> Raw {
        borrow::<Context>(context).address(text(name)) as Raw
    }

    /// `getMaxOutputSize`
    fn wpn_context_max_output_bytes(context: Raw, name: *const c_char) -> i64 {
        let context = borrow::<Context>(context);
        let engine = context.engine();
        let index = context.index("getMaxOutputSize", text(name));
        index.map_or(-1, |index| i64::try_from(engine.tensors[index].bytes(engine.max_batch())).unwrap_or(-1))
    }

    /// `setDeviceMemoryV2`; a negative size is unknown.
    fn wpn_context_set_memory(context: Raw, memory: *mut c_void, size: i64) {
        borrow::<Context>(context).set_device_memory(memory as u64, u64::try_from(size).ok());
    }

    /// `updateDeviceMemorySizeForShapes`
    fn wpn_context_bytes_for_shapes(context: Raw) -> usize {
        usize::try_from(borrow::<Context>(context).bytes_for_shapes()).unwrap_or(usize::MAX)
    }

    /// `enqueueV3`
    fn wpn_context_enqueue(context: Raw, stream: Raw) -> bool {
        borrow::<Context>(context).enqueue(stream)
    }

    /// `delete` of an `IExecutionContext`.
    fn wpn_context_free(context: Raw) {
        take_back::<Context>(context);
    }
}

fn no_tensor(class: &str, name: &CStr) -> String {
    let name = name.to_string_lossy();
    format!("{class}: Error Code 3: API Usage Error ({name} is not the name of an input or output)")
}

fn profile_shape(engine: &Engine, name: &CStr, profile: i32, select: i32) -> Option<Dims> {
    let (index, _) = engine.tensor(name)?;
    let shapes = engine.plan.profile;
    let shape = [shapes.min, shapes.opt, shapes.max].get(usize::try_from(select).ok()?).copied()?;
    (index == 0 && profile == 0).then(|| Dims::new(&shape))
}
