//! The driver that this process has: the stand-in, or nobody.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::abi::{Code, NOT_SUPPORTED, SUCCESS};

/// A function that a stream calls in its turn, also on a lost device.
pub type Callback = unsafe extern "C" fn(stream: u64, status: Code, data: *mut c_void);

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The driver's functions.
        #[derive(Clone, Copy, Debug)]
        pub struct Cuda {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Cuda {
            fn find(library: *mut c_void) -> Option<Cuda> {
                Some(Cuda { $($name: {
                    let name = CString::new(stringify!($name)).ok()?;
                    // SAFETY: an open library and a text.
                    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
                    if found.is_null() {
                        return None;
                    }
                    // SAFETY: the stand-in's function of this name has this type: its tests compare it with NVIDIA's.
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found) }
                },)* })
            }
        }
    };
}

functions! {
    cuCtxGetCurrent(*mut u64) -> Code;
    cuCtxPushCurrent_v2(u64) -> Code;
    cuCtxPopCurrent_v2(*mut u64) -> Code;
    cuMemAllocPitch_v2(*mut u64, *mut usize, usize, usize, c_uint) -> Code;
    cuMemFree_v2(u64) -> Code;
    cuStreamCreate(*mut u64, c_uint) -> Code;
    cuStreamDestroy_v2(u64) -> Code;
    cuStreamWaitEvent(u64, u64, c_uint) -> Code;
    cuStreamAddCallback(u64, Callback, *mut c_void, c_uint) -> Code;
    cuEventCreate(*mut u64, c_uint) -> Code;
    cuEventDestroy_v2(u64) -> Code;
    cuEventRecord(u64, u64) -> Code;
    standin_cuda_count(*const c_char, i64);
    standin_cuda_take(*const c_char) -> c_int;
    standin_cuda_setting(*const c_char, i64) -> i64;
    standin_cuda_is_live(u64, usize) -> c_int;
    standin_cuda_violation(*const c_char);
}

/// The stand-in driver; a real one is not for us.
pub fn cuda() -> Result<&'static Cuda, Code> {
    static CUDA: OnceLock<Option<Cuda>> = OnceLock::new();
    let found = CUDA.get_or_init(|| {
        // SAFETY: loading a driver by its name, as everyone does.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() { None } else { Cuda::find(library) }
    });
    found.as_ref().ok_or(NOT_SUPPORTED)
}

/// The driver's word as a result.
pub fn done(code: Code) -> Result<(), Code> {
    if code == SUCCESS { Ok(()) } else { Err(code) }
}

/// Adds to a counter.
pub fn count(name: &str, delta: i64) {
    if let (Ok(cuda), Ok(name)) = (cuda(), CString::new(name)) {
        // SAFETY: a text.
        unsafe { (cuda.standin_cuda_count)(name.as_ptr(), delta) };
    }
}

/// Carries an order out that was given for a number of times.
pub fn take(name: &str) -> bool {
    let (Ok(cuda), Ok(name)) = (cuda(), CString::new(name)) else { return false };
    // SAFETY: a text.
    unsafe { (cuda.standin_cuda_take)(name.as_ptr()) != 0 }
}

/// A setting of ours.
pub fn setting(key: &CStr, default: i64) -> i64 {
    // SAFETY: a text.
    cuda().map_or(default, |cuda| unsafe { (cuda.standin_cuda_setting)(key.as_ptr(), default) })
}

/// Notes what no correct program does.
pub fn violation(what: &str) {
    if let (Ok(cuda), Ok(what)) = (cuda(), CString::new(what)) {
        // SAFETY: a text.
        unsafe { (cuda.standin_cuda_violation)(what.as_ptr()) };
    }
}
