//! Memory of the device, and memory of the host that the device reads directly. Both are counted by owner.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::CUdeviceptr;

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::ledger::{Owner, Place};
use crate::stream::Stream;

/// Bytes of the device, aligned to 256; given back when dropped.
#[derive(Debug)]
pub struct Buffer {
    gpu: Gpu,
    owner: Owner,
    address: CUdeviceptr,
    len_bytes: usize,
}

impl Buffer {
    /// `len_bytes` of device memory, at least 1, with whatever is in it.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], and others.
    pub fn new(gpu: &Gpu, owner: Owner, len_bytes: usize) -> Result<Self, CudaError> {
        let driver = gpu.enter()?;
        let len_bytes = len_bytes.max(1);
        let mut address: CUdeviceptr = 0;
        // SAFETY: writes one number.
        let code = unsafe { (driver.cuMemAlloc_v2)(&raw mut address, len_bytes) };
        gpu.check_allocation("cuMemAlloc", code, owner, len_bytes)?;
        gpu.counters().took(Place::Device, owner, len_bytes);
        Ok(Self { gpu: gpu.clone(), owner, address, len_bytes })
    }

    /// The device's address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Copies `bytes` to the start and waits. For what happens once, not for frames.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn write(&mut self, stream: &Stream, bytes: &[u8]) -> Result<(), CudaError> {
        if bytes.len() > self.len_bytes {
            return Err(CudaError::Mismatch {
                what: "a device buffer",
                expected: bytes.len(),
                got: self.len_bytes,
            });
        }
        let driver = self.gpu.enter()?;
        let from = bytes.as_ptr().cast::<c_void>();
        // SAFETY: the buffer is as long; both live until the wait below is over.
        let code =
            unsafe { (driver.cuMemcpyHtoDAsync_v2)(self.address, from, bytes.len(), stream.raw().handle()) };
        self.gpu.counters().to_device_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let queued = self.gpu.check("cuMemcpyHtoDAsync", code);
        stream.wait().and(queued)
    }

    /// Copies the first `bytes.len()` bytes to the host and waits. For tests and diagnosis, not for frames.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn read(&self, stream: &Stream, bytes: &mut [u8]) -> Result<(), CudaError> {
        if bytes.len() > self.len_bytes {
            return Err(CudaError::Mismatch {
                what: "a device buffer",
                expected: bytes.len(),
                got: self.len_bytes,
            });
        }
        let driver = self.gpu.enter()?;
        let to = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: the buffer is as long; both live until the wait below is over.
        let code =
            unsafe { (driver.cuMemcpyDtoHAsync_v2)(to, self.address, bytes.len(), stream.raw().handle()) };
        self.gpu.counters().to_host_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let queued = self.gpu.check("cuMemcpyDtoHAsync", code);
        stream.wait().and(queued)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let driver = self.gpu.enter_to_free();
        // SAFETY: ours, freed once.
        unsafe { (driver.cuMemFree_v2)(self.address) };
        self.gpu.counters().gave_back(Place::Device, self.owner, self.len_bytes);
    }
}

/// Page-locked bytes of the host; given back when dropped. They start as zeros.
#[derive(Debug)]
pub struct Pinned {
    gpu: Gpu,
    owner: Owner,
    pointer: *mut c_void,
    len_bytes: usize,
}

// SAFETY: plain memory that belongs to `self` alone.
unsafe impl Send for Pinned {}
// SAFETY: as above; it is written through `&mut self` only.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `len_bytes` of page-locked memory, at least 1.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], and others.
    pub fn new(gpu: &Gpu, owner: Owner, len_bytes: usize) -> Result<Self, CudaError> {
        let driver = gpu.enter()?;
        let len_bytes = len_bytes.max(1);
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        let code = unsafe { (driver.cuMemHostAlloc)(&raw mut pointer, len_bytes, 0) };
        gpu.check_allocation("cuMemHostAlloc", code, owner, len_bytes)?;
        gpu.counters().took(Place::Pinned, owner, len_bytes);
        // SAFETY: just allocated with this length.
        unsafe { pointer.cast::<u8>().write_bytes(0, len_bytes) };
        Ok(Self { gpu: gpu.clone(), owner, pointer, len_bytes })
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as long, initialised, ours.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.len_bytes) }
    }

    /// All of it, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as long, initialised, ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.len_bytes) }
    }

    /// The whole `f32` in it.
    pub fn f32s(&self) -> &[f32] {
        // SAFETY: as long, initialised, ours; pages are aligned, and every bit pattern is an `f32`.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.len_bytes / size_of::<f32>()) }
    }

    /// The whole `f32` in it, to write.
    pub fn f32s_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.len_bytes / size_of::<f32>()) }
    }

    /// The whole 16-bit words in it: `f16` as TensorRT writes them.
    pub fn u16s(&self) -> &[u16] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.len_bytes / size_of::<u16>()) }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let driver = self.gpu.enter_to_free();
        // SAFETY: ours, freed once.
        unsafe { (driver.cuMemFreeHost)(self.pointer) };
        self.gpu.counters().gave_back(Place::Pinned, self.owner, self.len_bytes);
    }
}

/// Memory that a library allocated for us by itself: counted as long as this lives, owned by nobody here.
#[derive(Debug)]
pub struct Claim {
    gpu: Gpu,
    owner: Owner,
    bytes: usize,
}

impl Claim {
    /// `bytes` of device memory.
    pub fn new(gpu: &Gpu, owner: Owner, bytes: usize) -> Self {
        gpu.counters().took(Place::Device, owner, bytes);
        Self { gpu: gpu.clone(), owner, bytes }
    }

    /// How much.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.gpu.counters().gave_back(Place::Device, self.owner, self.bytes);
    }
}
