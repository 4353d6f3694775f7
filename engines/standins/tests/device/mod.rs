//! The stand-in driver as a program sees it: through cudarc's declarations of the driver API.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUcontext, CUevent, CUresult, CUstream};
use watchpost_standins::{Cuda, names};

/// One test at a time: settings and counters are the process's.
static TURN: Mutex<()> = Mutex::new(());

/// A device for one test, with its primary context current.
pub struct Device {
    pub cuda: Cuda,
    pub context: CUcontext,
    _turn: MutexGuard<'static, ()>,
}

/// `call` returns success.
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// A value that a call of the driver fills in.
pub fn filled<T>(call: impl FnOnce(*mut T) -> CUresult) -> Result<T, CUresult> {
    let mut value = std::mem::MaybeUninit::zeroed();
    match call(value.as_mut_ptr()) {
        // SAFETY: the driver has filled it in; all that is asked for may be zero.
        CUresult::CUDA_SUCCESS => Ok(unsafe { value.assume_init() }),
        error => Err(error),
    }
}

impl Device {
    pub fn new(settings: &str) -> Device {
        watchpost_standins::enter();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cuda = Cuda::here();
        cuda.reset();
        cuda.configure(settings);
        // SAFETY: plain calls of the driver.
        unsafe {
            ok(sys::cuInit(0));
            let context = filled(|place| sys::cuDevicePrimaryCtxRetain(place, 0)).unwrap();
            ok(sys::cuCtxSetCurrent(context));
            Device { cuda, context, _turn: turn }
        }
    }

    pub fn get(&self, name: &str) -> i64 {
        self.cuda.counter(name)
    }

    /// Ends the context: nothing is held, and nothing was done that is never right.
    pub fn finish(self) {
        // SAFETY: plain calls of the driver.
        unsafe {
            ok(sys::cuCtxSetCurrent(null_mut()));
            ok(sys::cuDevicePrimaryCtxRelease_v2(0));
        }
        assert_eq!(self.cuda.held(), Vec::<String>::new());
        assert_eq!(self.get(names::VIOLATIONS), 0, "{}", self.cuda.report());
    }

    /// Ends the context after a test that did what is never right.
    pub fn abandon(self) {
        self.cuda.reset();
        // SAFETY: plain calls of the driver.
        unsafe {
            sys::cuCtxSetCurrent(null_mut());
            sys::cuDevicePrimaryCtxReset_v2(0);
        }
        assert_eq!(self.cuda.held(), Vec::<String>::new());
    }
}

pub fn stream(flags: u32) -> CUstream {
    // SAFETY: a place for the handle.
    filled(|place| unsafe { sys::cuStreamCreate(place, flags) }).unwrap()
}

/// A stream that has no order with the default stream.
pub fn free_stream() -> CUstream {
    stream(1)
}

pub fn event() -> CUevent {
    // SAFETY: a place for the handle.
    filled(|place| unsafe { sys::cuEventCreate(place, 0) }).unwrap()
}

pub fn device_bytes(bytes: usize) -> u64 {
    // SAFETY: a place for the address.
    filled(|place| unsafe { sys::cuMemAlloc_v2(place, bytes) }).unwrap()
}

/// Page-locked memory, all bytes 0.
pub fn pinned(bytes: usize) -> *mut u8 {
    // SAFETY: a place for the address; then as many bytes as were asked for.
    unsafe {
        let memory = filled(|place| sys::cuMemHostAlloc(place, bytes, 0)).unwrap().cast::<u8>();
        memory.write_bytes(0, bytes);
        memory
    }
}

/// The bytes of page-locked memory.
pub fn bytes_of(memory: *mut u8, bytes: usize) -> Vec<u8> {
    // SAFETY: memory of `pinned` of that size.
    unsafe { std::slice::from_raw_parts(memory, bytes) }.to_vec()
}

/// The bytes of device memory, by a copy that waits.
pub fn download(address: u64, bytes: usize) -> Vec<u8> {
    let mut copy = vec![0u8; bytes];
    // SAFETY: a place of that size.
    ok(unsafe { sys::cuMemcpyDtoH_v2(copy.as_mut_ptr().cast(), address, bytes) });
    copy
}

/// What fresh memory holds.
pub fn poison(bytes: usize) -> Vec<u8> {
    [0xfe, 0x7f].into_iter().cycle().take(bytes).collect()
}

/// Holds a stream up until it is opened: a test's way to say "this comes later" without a clock.
pub struct Gate(Box<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn in_the_way_of(stream: CUstream) -> Gate {
        let gate = Gate(Box::new((Mutex::new(false), Condvar::new())));
        let data = std::ptr::from_ref(&*gate.0).cast_mut().cast();
        // SAFETY: `data` lives until the gate is dropped, which tests do after the stream is done.
        ok(unsafe { sys::cuLaunchHostFunc(stream, Some(wait_for_gate), data) });
        gate
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

unsafe extern "C" fn wait_for_gate(data: *mut c_void) {
    // SAFETY: from `in_the_way_of`.
    let gate = unsafe { &*data.cast::<(Mutex<bool>, Condvar)>() };
    drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap());
}
