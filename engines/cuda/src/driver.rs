//! The functions of libcuda that we call, found once.
//!
//! Types come from cudarc; its own functions are not called, for three reasons. They panic when the library or one of its
//! symbols is missing. They return a Rust enum, and a driver that is newer than the bindings returns codes
//! that the enum does not have, which is undefined behaviour. And they look for `libcuda.so` before `libcuda.so.1`:
//! where the toolkit's stub is on the path, that is another library than the one GStreamer and TensorRT load. But each
//! signature below is checked against cudarc's, which are made from NVIDIA's header, when this crate is compiled.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec,
    CUjit_option, CUmodule, CUstream, CUstreamCaptureMode, CUuuid,
};
use libloading::Library;

use crate::device::Unavailable;

/// The soname: what every program on the box that uses the GPU loads.
pub(crate) const LIBRARY: &str = "libcuda.so.1";

macro_rules! driver {
    ($($name:ident($($argument:ty),*);)*) => {
        /// A `CUresult` is a plain number here: see above.
        #[allow(non_snake_case, reason = "the library's own names")]
        pub(crate) struct Driver {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> u32,)*
            /// Not in the list, because it takes a `CUresult`.
            cuGetErrorName: unsafe extern "C" fn(u32, *mut *const c_char) -> u32,
        }

        $(const _: unsafe fn($($argument),*) -> sys::CUresult = sys::$name;)*

        impl Driver {
            fn find(library: &Library) -> Result<Self, Unavailable> {
                Ok(Self {
                    // SAFETY: the library's functions of these names have these signatures, as checked above.
                    $($name: unsafe { symbol(library, stringify!($name)) }?,)*
                    // SAFETY: as above; a `CUresult` is an `int` of C.
                    cuGetErrorName: unsafe { symbol(library, "cuGetErrorName") }?,
                })
            }
        }
    };
}

driver! {
    cuInit(c_uint);
    cuDriverGetVersion(*mut c_int);
    cuDeviceGetCount(*mut c_int);
    cuDeviceGet(*mut CUdevice, c_int);
    cuDeviceGetName(*mut c_char, c_int, CUdevice);
    cuDeviceGetUuid_v2(*mut CUuuid, CUdevice);
    cuDeviceTotalMem_v2(*mut usize, CUdevice);
    cuDeviceGetAttribute(*mut c_int, CUdevice_attribute, CUdevice);
    cuDevicePrimaryCtxSetFlags_v2(CUdevice, c_uint);
    cuDevicePrimaryCtxRetain(*mut CUcontext, CUdevice);
    cuDevicePrimaryCtxRelease_v2(CUdevice);
    cuCtxSetCurrent(CUcontext);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut CUdeviceptr, usize);
    cuMemFree_v2(CUdeviceptr);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemcpyHtoDAsync_v2(CUdeviceptr, *const c_void, usize, CUstream);
    cuMemcpyDtoHAsync_v2(*mut c_void, CUdeviceptr, usize, CUstream);
    cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, usize, CUstream);
    cuStreamCreate(*mut CUstream, c_uint);
    cuStreamDestroy_v2(CUstream);
    cuStreamWaitEvent(CUstream, CUevent, c_uint);
    cuEventCreate(*mut CUevent, c_uint);
    cuEventDestroy_v2(CUevent);
    cuEventRecord(CUevent, CUstream);
    cuEventSynchronize(CUevent);
    cuEventQuery(CUevent);
    cuModuleLoadDataEx(*mut CUmodule, *const c_void, c_uint, *mut CUjit_option, *mut *mut c_void);
    cuModuleUnload(CUmodule);
    cuModuleGetFunction(*mut CUfunction, CUmodule, *const c_char);
    cuLaunchKernel(CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void);
    cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode);
    cuStreamEndCapture(CUstream, *mut CUgraph);
    cuGraphInstantiateWithFlags(*mut CUgraphExec, CUgraph, c_ulonglong);
    cuGraphLaunch(CUgraphExec, CUstream);
    cuGraphExecDestroy(CUgraphExec);
    cuGraphDestroy(CUgraph);
}

/// # Safety
/// `T` is the type of the pointer to the function.
unsafe fn symbol<T: Copy>(library: &Library, name: &'static str) -> Result<T, Unavailable> {
    // SAFETY: the caller's promise.
    let symbol = unsafe { library.get::<T>(name.as_bytes()) };
    symbol.map(|symbol| *symbol).map_err(|_| Unavailable::Symbol { name })
}

/// The library with all its functions, initialised. It stays loaded.
static DRIVER: OnceLock<Driver> = OnceLock::new();
/// One thread loads at a time. Only success is remembered: a box may get its driver while the process runs.
static LOADING: Mutex<()> = Mutex::new(());

impl Driver {
    /// The driver, ready for use: library present, all symbols there, `cuInit` happy.
    pub(crate) fn get() -> Result<&'static Self, Unavailable> {
        if let Some(driver) = DRIVER.get() {
            return Ok(driver);
        }
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = DRIVER.get() {
            return Ok(driver);
        }
        // SAFETY: libcuda's initialisers are those of an ordinary library; no symbol of ours can collide.
        let library = unsafe { Library::new(LIBRARY) }
            .map_err(|error| Unavailable::Library { reason: one_line(&error) })?;
        let driver = Self::find(&library)?;
        // SAFETY: 0 is the only value that it takes.
        let code = unsafe { (driver.cuInit)(0) };
        if code != 0 {
            return Err(Unavailable::Init { code, name: driver.error_name(code) });
        }
        // Its threads and its functions are in use until the process ends.
        Box::leak(Box::new(library));
        Ok(DRIVER.get_or_init(|| driver))
    }

    /// The driver's name of a code, for example `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub(crate) fn error_name(&self, code: u32) -> String {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: writes a pointer to a constant text, or null for a code that it does not know.
        let known = unsafe { (self.cuGetErrorName)(code, &raw mut name) } == 0 && !name.is_null();
        if !known {
            return "an unknown error".to_owned();
        }
        // SAFETY: a text of the library that ends with a zero and lives as long as the library.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// What the dynamic linker says.
fn one_line(error: &libloading::Error) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    said.lines().next().unwrap_or_default().to_owned()
}
