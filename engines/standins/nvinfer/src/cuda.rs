//! The few functions of libcuda that we need, found at run time: with the stand-in libcuda device memory is host
//! memory, so an engine's work is a host function in the stream.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::settings::{self, Amount};

/// `CUhostFn`
pub type HostFunction = extern "C" fn(*mut c_void);
/// `CUstream`
pub type Stream = *mut c_void;

const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NOT_FOUND: c_int = 500;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),*);)*) => {
        struct Functions {
            $($field: Symbol<unsafe extern "C" fn($($argument),*) -> c_int>,)*
            _library: Library,
        }

        impl Functions {
            fn find(library: Library) -> Option<Self> {
                // SAFETY: the driver API's functions have had these types since CUDA 11.
                unsafe { Some(Self { $($field: library.get($name).ok()?,)* _library: library }) }
            }
        }
    };
}

functions! {
    init = b"cuInit\0": fn(c_uint);
    device_count = b"cuDeviceGetCount\0": fn(*mut c_int);
    device_attribute = b"cuDeviceGetAttribute\0": fn(*mut c_int, c_int, c_int);
    context_current = b"cuCtxGetCurrent\0": fn(*mut *mut c_void);
    context_device = b"cuCtxGetDevice\0": fn(*mut c_int);
    context_push = b"cuCtxPushCurrent_v2\0": fn(*mut c_void);
    context_pop = b"cuCtxPopCurrent_v2\0": fn(*mut *mut c_void);
    memory_allocate = b"cuMemAlloc_v2\0": fn(*mut u64, usize);
    memory_free = b"cuMemFree_v2\0": fn(u64);
    memory_range = b"cuMemGetAddressRange_v2\0": fn(*mut u64, *mut usize, u64);
    launch_host_function = b"cuLaunchHostFunc\0": fn(Stream, HostFunction, *mut c_void);
    is_capturing = b"cuStreamIsCapturing\0": fn(Stream, *mut c_int);
}

/// The driver. With `nvinfer.cuda=0` there is none and device memory is our own.
#[derive(Clone, Copy)]
pub struct Cuda(Option<&'static Functions>);

impl Cuda {
    /// The driver, initialised, with a device.
    ///
    /// # Errors
    /// The CUDA error that a library meets here: 35 where there is no driver, 100 without a device.
    pub fn find() -> Result<Self, i32> {
        static FOUND: OnceLock<Functions> = OnceLock::new();
        if settings::amount(Amount::Cuda) == 0 {
            return Ok(Self(None));
        }
        let functions = match FOUND.get() {
            Some(functions) => functions,
            None => {
                // SAFETY: the driver's own initialisers, or the stand-in's.
                let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL) };
                let found = library.ok().and_then(Functions::find).ok_or(35)?;
                FOUND.get_or_init(|| found)
            }
        };
        let mut count = 0;
        // SAFETY: as declared; `count` is written.
        let outcome = unsafe {
            match (functions.init)(0) {
                0 => (functions.device_count)(&raw mut count),
                error => error,
            }
        };
        match (outcome, count) {
            (0, 1..) => Ok(Self(Some(functions))),
            (0, _) => Err(100),
            (error, _) => Err(error),
        }
    }

    /// The compute capability of the current context's device, or of the first device.
    pub fn compute_capability(self) -> (u32, u32) {
        if let Some(capability) = settings::compute_capability() {
            return capability;
        }
        let Some(functions) = self.0 else { return (8, 6) };
        let (mut device, mut major, mut minor) = (0, 0, 0);
        // SAFETY: as declared; without a current context `device` stays 0.
        unsafe {
            (functions.context_device)(&raw mut device);
            (functions.device_attribute)(&raw mut major, COMPUTE_CAPABILITY_MAJOR, device);
            (functions.device_attribute)(&raw mut minor, COMPUTE_CAPABILITY_MINOR, device);
        }
        (major.unsigned_abs(), minor.unsigned_abs())
    }

    /// Whether all of the range is one device allocation, as far as one can know.
    ///
    /// # Errors
    /// The device is lost.
    pub fn holds(self, address: u64, bytes: u64) -> Result<bool, i32> {
        let Some(functions) = self.0 else { return Ok(address != 0) };
        let (mut base, mut size) = (0, 0);
        // SAFETY: as declared.
        match unsafe { (functions.memory_range)(&raw mut base, &raw mut size, address) } {
            0 => Ok(address >= base && address - base + bytes <= size as u64),
            INVALID_VALUE | NOT_FOUND => Ok(false),
            error => Err(error),
        }
    }

    /// Whether the device is lost: what was enqueued will never be done.
    pub fn is_lost(self) -> bool {
        self.holds(0, 1).is_err()
    }

    /// How many bytes of its allocation begin at `address`.
    pub fn bytes_from(self, address: u64) -> Option<u64> {
        let functions = self.0?;
        let (mut base, mut size) = (0, 0);
        // SAFETY: as declared.
        let outcome = unsafe { (functions.memory_range)(&raw mut base, &raw mut size, address) };
        (outcome == 0 && address >= base).then(|| (size as u64).saturating_sub(address - base))
    }

    /// Whether the stream is being captured into a graph: then its work may be done more than once.
    pub fn is_capturing(self, stream: Stream) -> bool {
        let mut status = 0;
        // SAFETY: as declared.
        self.0.is_some_and(|functions| unsafe {
            (functions.is_capturing)(stream, &raw mut status) == 0 && status != 0
        })
    }

    /// Puts `function` into the stream; without a driver it is called at once.
    ///
    /// # Errors
    /// The driver's error.
    pub fn launch(self, stream: Stream, function: HostFunction, argument: *mut c_void) -> Result<(), i32> {
        let Some(functions) = self.0 else {
            function(argument);
            return Ok(());
        };
        // SAFETY: as declared; the caller keeps `argument` alive until `function` was called.
        match unsafe { (functions.launch_host_function)(stream, function, argument) } {
            0 => Ok(()),
            error => Err(error),
        }
    }
}

/// Device memory of the library's own.
pub struct DeviceMemory {
    cuda: Cuda,
    address: u64,
    context: *mut c_void,
    /// Without a driver: what the address points to.
    _own: Vec<u64>,
}

// SAFETY: an address and a context's handle; both may be used from any thread.
unsafe impl Send for DeviceMemory {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Allocates in the current context.
    ///
    /// # Errors
    /// The driver's error; 2 is out of memory.
    pub fn allocate(cuda: Cuda, bytes: usize) -> Result<Self, i32> {
        let Some(functions) = cuda.0 else {
            let own = vec![0_u64; bytes.div_ceil(8).max(1)];
            let address = own.as_ptr() as u64;
            return Ok(Self { cuda, address, context: ptr::null_mut(), _own: own });
        };
        let (mut address, mut context) = (0, ptr::null_mut());
        // SAFETY: as declared.
        let outcome = unsafe {
            match (functions.context_current)(&raw mut context) {
                0 => (functions.memory_allocate)(&raw mut address, bytes.max(1)),
                error => error,
            }
        };
        match outcome {
            0 if address == 0 => Err(OUT_OF_MEMORY),
            0 => Ok(Self { cuda, address, context, _own: Vec::new() }),
            error => Err(error),
        }
    }

    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let Some(functions) = self.cuda.0 else { return };
        let mut popped = ptr::null_mut();
        // SAFETY: the context is the one it was allocated in. A lost device refuses; there is nothing to do about it.
        unsafe {
            (functions.context_push)(self.context);
            (functions.memory_free)(self.address);
            (functions.context_pop)(&raw mut popped);
        }
    }
}
