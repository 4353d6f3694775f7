//! Work that is the same every time, recorded once and replayed with one call.
//!
//! It pays where one call stands for many: an engine's enqueue with fixed shapes queues dozens to hundreds of
//! kernels, at some microseconds each. The letterbox is one kernel with new addresses every frame: it does not pay there.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUstreamCaptureMode};

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::stream::Stream;

/// A recorded piece of work. What it reads and writes are the addresses of the time of recording.
#[derive(Debug)]
pub struct Graph {
    gpu: Gpu,
    executable: *mut c_void,
}

// SAFETY: a handle; launches take `&mut self`, because the driver wants them one at a time.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    /// Records what `queue` puts on `stream` without running it. Other threads may go on using the GPU meanwhile.
    /// `queue` must not wait for the stream.
    ///
    /// # Errors
    /// [`CudaError`] of the recording, or what `queue` returned; the stream is usable afterwards.
    pub fn record<E: From<CudaError>>(
        stream: &Stream,
        queue: impl FnOnce(&Stream) -> Result<(), E>,
    ) -> Result<Self, E> {
        let recording = Recording::start(stream)?;
        queue(stream)?;
        let graph = recording.end()?;
        Ok(Self::instantiate(stream.gpu(), graph)?)
    }

    /// Runs it once, in its place among what `stream` is given.
    ///
    /// # Errors
    /// [`CudaError`].
    ///
    /// # Safety
    /// The memory that it reads and writes is still there, until the stream has come so far.
    pub unsafe fn launch(&mut self, stream: &Stream) -> Result<(), CudaError> {
        let driver = self.gpu.enter()?;
        // SAFETY: the caller's promise; both handles are alive.
        let code = unsafe { (driver.cuGraphLaunch)(self.executable.cast(), stream.raw().handle()) };
        self.gpu.check("cuGraphLaunch", code)
    }

    fn instantiate(gpu: &Gpu, graph: CUgraph) -> Result<Self, CudaError> {
        let driver = gpu.enter_to_free();
        let mut executable: CUgraphExec = std::ptr::null_mut();
        // SAFETY: writes one pointer; the graph is alive.
        let code = unsafe { (driver.cuGraphInstantiateWithFlags)(&raw mut executable, graph, 0) };
        // SAFETY: ours, destroyed once; the executable is a copy.
        unsafe { (driver.cuGraphDestroy)(graph) };
        gpu.check("cuGraphInstantiate", code)?;
        gpu.counters().graphs.fetch_add(1, Ordering::Relaxed);
        Ok(Self { gpu: gpu.clone(), executable: executable.cast() })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let driver = self.gpu.enter_to_free();
        // SAFETY: ours, destroyed once; a launch that runs comes to its end.
        unsafe { (driver.cuGraphExecDestroy)(self.executable.cast()) };
        self.gpu.counters().graphs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that records; it stops when this is dropped.
struct Recording<'a> {
    stream: &'a Stream,
    ended: bool,
}

impl<'a> Recording<'a> {
    fn start(stream: &'a Stream) -> Result<Self, CudaError> {
        let driver = stream.gpu().enter()?;
        // Of this thread only: another thread's allocation must not spoil it.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        let code = unsafe { (driver.cuStreamBeginCapture_v2)(stream.raw().handle(), mode) };
        stream.gpu().check("cuStreamBeginCapture", code)?;
        Ok(Self { stream, ended: false })
    }

    fn end(mut self) -> Result<CUgraph, CudaError> {
        self.ended = true;
        let driver = self.stream.gpu().enter()?;
        let mut graph: CUgraph = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        let code = unsafe { (driver.cuStreamEndCapture)(self.stream.raw().handle(), &raw mut graph) };
        self.stream.gpu().check("cuStreamEndCapture", code)?;
        Ok(graph)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let driver = self.stream.gpu().enter_to_free();
        let mut graph: CUgraph = std::ptr::null_mut();
        // SAFETY: writes one pointer, null where nothing good was recorded.
        unsafe { (driver.cuStreamEndCapture)(self.stream.raw().handle(), &raw mut graph) };
        if !graph.is_null() {
            // SAFETY: ours, destroyed once.
            unsafe { (driver.cuGraphDestroy)(graph) };
        }
    }
}
