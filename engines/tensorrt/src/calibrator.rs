//! Scales for INT8 on TensorRT 10: the builder asks for pictures through a C++ object of ours, an entropy calibrator.
//!
//! Its table has not changed from 10.2 to 10.16: a versioned interface (language, info, two destructors), then the five
//! methods of a calibrator. TensorRT 11 has none: there the scales must be in the model.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchpost_cuda::{Buffer, CudaError, Gpu, Owner, Stream};

use crate::abi::Raw;
use crate::logger::{InterfaceInfo, api_language, nothing};

/// `CalibrationAlgoType::kENTROPY_CALIBRATION_2`.
const ENTROPY_2: i32 = 2;

/// Pictures to find the scales of INT8 with: a few hundred that look like what the cameras see.
pub trait CalibrationFrames: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Writes one, letterboxed and scaled as the model wants it, planar, `3 * height * width` values.
    ///
    /// # Errors
    /// What is wrong with it; the build then ends with these words.
    fn frame(&self, index: usize, to: &mut [f32]) -> Result<(), String>;
}

#[repr(C)]
struct Table {
    api_language: unsafe extern "C" fn(*const c_void) -> i32,
    interface_info: unsafe extern "C" fn(*const c_void) -> InterfaceInfo,
    destroy: unsafe extern "C" fn(*const c_void),
    delete: unsafe extern "C" fn(*const c_void),
    batch_size: unsafe extern "C" fn(*const Calibrator<'_>) -> i32,
    batch: unsafe extern "C" fn(*const Calibrator<'_>, *mut Raw, *const *const c_char, i32) -> bool,
    read_cache: unsafe extern "C" fn(*const Calibrator<'_>, *mut usize) -> *const c_void,
    write_cache: unsafe extern "C" fn(*const Calibrator<'_>, *const c_void, usize),
    algorithm: unsafe extern "C" fn(*const Calibrator<'_>) -> i32,
}

static TABLE: Table = Table {
    api_language,
    interface_info,
    destroy: nothing,
    delete: nothing,
    batch_size,
    batch,
    read_cache,
    write_cache,
    algorithm,
};

/// Our object, as the builder sees it: its first word is its table.
#[repr(C)]
pub(crate) struct Calibrator<'a> {
    table: &'static Table,
    batch: usize,
    frames: Option<&'a dyn CalibrationFrames>,
    /// Scales of an earlier build.
    cache: Vec<u8>,
    state: Mutex<State>,
}

struct State {
    stream: Stream,
    device: Buffer,
    host: Vec<f32>,
    next: usize,
    /// New scales.
    written: Option<Vec<u8>>,
    error: Option<String>,
}

impl<'a> Calibrator<'a> {
    /// For a model with `frame_len` values in, shown `batch` pictures at a time.
    pub(crate) fn new(
        gpu: &Gpu,
        frames: Option<&'a dyn CalibrationFrames>,
        cache: Vec<u8>,
        frame_len: usize,
        batch: usize,
    ) -> Result<Self, CudaError> {
        let host = vec![0.0; frame_len * batch];
        let device = Buffer::new(gpu, Owner::Staging, host.len() * size_of::<f32>())?;
        let state = State { stream: Stream::new(gpu)?, device, host, next: 0, written: None, error: None };
        Ok(Self { table: &TABLE, batch, frames, cache, state: Mutex::new(state) })
    }

    /// To hand to the builder, which must be done with it before it goes.
    pub(crate) fn raw(&self) -> Raw {
        debug_assert!(std::ptr::eq(self.table, &raw const TABLE));
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// New scales, or what went wrong with the pictures.
    pub(crate) fn finish(&self) -> Result<Option<Vec<u8>>, String> {
        let mut state = self.state();
        match state.error.take() {
            Some(error) => Err(error),
            None => Ok(state.written.take()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch on the device, or `None` at the end.
    fn show(&self) -> Result<Option<u64>, String> {
        let Some(frames) = self.frames else { return Ok(None) };
        let mut state = self.state();
        let State { stream, device, host, next, .. } = &mut *state;
        // A batch that would not be full is left out, unless it is the only one.
        let wanted = if *next == 0 { self.batch.min(frames.count()) } else { self.batch };
        if wanted == 0 || *next + wanted > frames.count() {
            return Ok(None);
        }
        let frame_len = host.len() / self.batch;
        for (index, place) in host.chunks_exact_mut(frame_len).enumerate() {
            frames.frame(*next + index % wanted, place)?;
        }
        *next += wanted;
        // SAFETY: f32 may be read as bytes.
        let (_, bytes, _) = unsafe { host.align_to::<u8>() };
        device.write(stream, bytes).map_err(|error| error.to_string())?;
        Ok(Some(device.address()))
    }
}

unsafe extern "C" fn interface_info(_this: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"IInt8EntropyCalibrator2".as_ptr(), major: 1, minor: 0 }
}

unsafe extern "C" fn algorithm(_this: *const Calibrator<'_>) -> i32 {
    ENTROPY_2
}

unsafe extern "C" fn batch_size(this: *const Calibrator<'_>) -> i32 {
    // SAFETY: the builder calls with the object it was given, which lives until it is done.
    i32::try_from(unsafe { &*this }.batch).unwrap_or(1)
}

unsafe extern "C" fn batch(
    this: *const Calibrator<'_>,
    bindings: *mut Raw,
    _names: *const *const c_char,
    count: i32,
) -> bool {
    // SAFETY: as above.
    let this = unsafe { &*this };
    // The model has one input: see `plan`.
    if bindings.is_null() || count != 1 {
        return false;
    }
    // A panic must not run into C++.
    let shown = catch_unwind(AssertUnwindSafe(|| this.show()));
    match shown.unwrap_or_else(|_| Err("reading a calibration picture failed".to_owned())) {
        Ok(Some(address)) => {
            // SAFETY: an array of `count` pointers that the builder wants to be filled.
            unsafe { *bindings = address as Raw };
            true
        }
        Ok(None) => false,
        Err(error) => {
            this.state().error = Some(error);
            false
        }
    }
}

unsafe extern "C" fn read_cache(this: *const Calibrator<'_>, length: *mut usize) -> *const c_void {
    // SAFETY: as above.
    let this = unsafe { &*this };
    if !length.is_null() {
        // SAFETY: a number that the builder wants to be set.
        unsafe { *length = this.cache.len() };
    }
    if this.cache.is_empty() { std::ptr::null() } else { this.cache.as_ptr().cast() }
}

unsafe extern "C" fn write_cache(this: *const Calibrator<'_>, bytes: *const c_void, length: usize) {
    // SAFETY: as above.
    let this = unsafe { &*this };
    if bytes.is_null() {
        return;
    }
    // SAFETY: so many bytes, until we return.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    this.state().written = Some(bytes.to_vec());
}
