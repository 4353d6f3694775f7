//! Streams and events: what runs in order, and how others wait for it.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream, CUstream_flags};

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::Pinned;

/// A stream of the driver that may be someone else's (GStreamer's). Null is the default stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawStream(pub *mut c_void);

// SAFETY: a handle; the driver takes it on every thread.
unsafe impl Send for RawStream {}
// SAFETY: as above.
unsafe impl Sync for RawStream {}

impl RawStream {
    pub(crate) fn handle(self) -> CUstream {
        self.0.cast()
    }
}

/// A queue of work on the GPU, which runs in order and beside all other streams.
#[derive(Debug)]
pub struct Stream {
    gpu: Gpu,
    raw: RawStream,
    /// For [`Stream::wait`].
    idle: Event,
}

impl Stream {
    /// A stream that does not wait for the default one.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        let idle = Event::new(gpu)?;
        let driver = gpu.enter()?;
        let mut stream: CUstream = std::ptr::null_mut();
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one pointer.
        gpu.check("cuStreamCreate", unsafe { (driver.cuStreamCreate)(&raw mut stream, flags) })?;
        gpu.counters().streams.fetch_add(1, Ordering::Relaxed);
        Ok(Self { gpu: gpu.clone(), raw: RawStream(stream.cast()), idle })
    }

    /// The GPU it is of.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The driver's handle, for TensorRT. Valid while `self` lives.
    pub fn raw(&self) -> RawStream {
        self.raw
    }

    /// What is queued from now on starts after `event`. The host does not wait.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn wait_for(&self, event: &Event) -> Result<(), CudaError> {
        let driver = self.gpu.enter()?;
        // SAFETY: both handles are alive.
        let code = unsafe { (driver.cuStreamWaitEvent)(self.raw.handle(), event.handle(), 0) };
        self.gpu.check("cuStreamWaitEvent", code)
    }

    /// Blocks this thread, without spinning, until all that is queued has run.
    ///
    /// # Errors
    /// [`CudaError`]; also of work that failed on the GPU.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.idle.record(self)?;
        self.idle.wait()
    }

    /// Queues a copy from one place of the device to another.
    ///
    /// # Errors
    /// [`CudaError`].
    ///
    /// # Safety
    /// Both ranges are device memory of this GPU and stay so until the stream has come so far.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError> {
        let driver = self.gpu.enter()?;
        // SAFETY: the caller's promise.
        let code = unsafe { (driver.cuMemcpyDtoDAsync_v2)(to, from, bytes, self.raw.handle()) };
        self.gpu.check("cuMemcpyDtoDAsync", code)
    }

    /// Queues a copy of the first `bytes` of `from` to the device.
    ///
    /// # Errors
    /// [`CudaError`].
    ///
    /// # Panics
    /// Where `from` is shorter than `bytes`.
    ///
    /// # Safety
    /// `to` is `bytes` of device memory of this GPU; it and `from` live, and `from` is not written, until the stream has
    /// come so far.
    pub unsafe fn copy_to_device(&self, to: u64, from: &Pinned, bytes: usize) -> Result<(), CudaError> {
        assert!(bytes <= from.len_bytes(), "the pinned memory is shorter than the copy");
        let driver = self.gpu.enter()?;
        // SAFETY: the caller's promise, and `from` is as long.
        let code = unsafe { (driver.cuMemcpyHtoDAsync_v2)(to, from.pointer(), bytes, self.raw.handle()) };
        self.gpu.counters().to_device_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.gpu.check("cuMemcpyHtoDAsync", code)
    }

    /// Queues a copy of `bytes` of the device to the start of `to`.
    ///
    /// # Errors
    /// [`CudaError`].
    ///
    /// # Panics
    /// Where `to` is shorter than `bytes`.
    ///
    /// # Safety
    /// `from` is `bytes` of device memory of this GPU; it and `to` live, and `to` is not read, until the stream has come
    /// so far.
    pub unsafe fn copy_to_host(&self, to: &mut Pinned, from: u64, bytes: usize) -> Result<(), CudaError> {
        assert!(bytes <= to.len_bytes(), "the pinned memory is shorter than the copy");
        let driver = self.gpu.enter()?;
        // SAFETY: the caller's promise, and `to` is as long.
        let code = unsafe { (driver.cuMemcpyDtoHAsync_v2)(to.pointer(), from, bytes, self.raw.handle()) };
        self.gpu.counters().to_host_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.gpu.check("cuMemcpyDtoHAsync", code)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let driver = self.gpu.enter_to_free();
        // SAFETY: ours, destroyed once. Work that is still queued runs to its end.
        unsafe { (driver.cuStreamDestroy_v2)(self.raw.handle()) };
        self.gpu.counters().streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in a stream that others can wait for. One that was never recorded has happened.
#[derive(Debug)]
pub struct Event {
    gpu: Gpu,
    raw: RawEvent,
}

#[derive(Debug, Clone, Copy)]
struct RawEvent(*mut c_void);

// SAFETY: a handle; the driver takes it on every thread.
unsafe impl Send for RawEvent {}
// SAFETY: as above.
unsafe impl Sync for RawEvent {}

impl Event {
    /// An event that takes no time and that a waiting thread blocks on.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        let driver = gpu.enter()?;
        let mut event: CUevent = std::ptr::null_mut();
        let flags =
            CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32 | CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: writes one pointer.
        gpu.check("cuEventCreate", unsafe { (driver.cuEventCreate)(&raw mut event, flags) })?;
        gpu.counters().events.fetch_add(1, Ordering::Relaxed);
        Ok(Self { gpu: gpu.clone(), raw: RawEvent(event.cast()) })
    }

    /// From now on the event is: all that `stream` has been given so far.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: our stream is alive.
        unsafe { self.record_raw(stream.raw()) }
    }

    /// The same with someone else's stream.
    ///
    /// # Safety
    /// The stream is alive and of this GPU's primary context.
    pub(crate) unsafe fn record_raw(&self, stream: RawStream) -> Result<(), CudaError> {
        let driver = self.gpu.enter()?;
        // SAFETY: the caller's promise; the event is alive.
        self.gpu.check("cuEventRecord", unsafe { (driver.cuEventRecord)(self.handle(), stream.handle()) })
    }

    /// Blocks this thread, without spinning, until it has happened.
    ///
    /// # Errors
    /// [`CudaError`]; also of work that failed on the GPU.
    pub fn wait(&self) -> Result<(), CudaError> {
        let driver = self.gpu.enter()?;
        // SAFETY: the event is alive.
        self.gpu.check("cuEventSynchronize", unsafe { (driver.cuEventSynchronize)(self.handle()) })
    }

    /// True when it has happened; does not wait.
    ///
    /// # Errors
    /// [`CudaError`]; also of work that failed on the GPU.
    pub fn has_happened(&self) -> Result<bool, CudaError> {
        const NOT_READY: u32 = cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_READY as u32;
        let driver = self.gpu.enter()?;
        // SAFETY: the event is alive.
        match unsafe { (driver.cuEventQuery)(self.handle()) } {
            NOT_READY => Ok(false),
            code => self.gpu.check("cuEventQuery", code).map(|()| true),
        }
    }

    pub(crate) fn handle(&self) -> CUevent {
        self.raw.0.cast()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let driver = self.gpu.enter_to_free();
        // SAFETY: ours, destroyed once; who waits for it goes on waiting.
        unsafe { (driver.cuEventDestroy_v2)(self.handle()) };
        self.gpu.counters().events.fetch_sub(1, Ordering::Relaxed);
    }
}
