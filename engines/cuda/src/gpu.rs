//! One GPU and its primary context, which GStreamer and TensorRT share with us.

use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use cudarc::driver::sys::{CUcontext, CUctx_flags, CUdevice, CUresult};

use crate::device::{self, DeviceInfo};
use crate::driver::Driver;
use crate::error::{CudaError, is_sticky};
use crate::kernels::Kernels;
use crate::ledger::{Copied, Counters, Ledger, Owner};

/// A context of the driver, for libraries that want to be told which one to use. Valid while a [`Gpu`] of it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawContext(pub *mut c_void);

// SAFETY: a handle without memory of ours behind it; the driver takes it on every thread.
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

/// A GPU in use. Clones are the same GPU; opening a device again gives the same one.
///
/// Every call makes the context current on the calling thread, so no thread has to know that there is one.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    driver: &'static Driver,
    device: CUdevice,
    context: RawContext,
    info: DeviceInfo,
    counters: Counters,
    lost: OnceLock<CudaError>,
    /// Loaded when the first camera needs them.
    kernels: Mutex<Option<Kernels>>,
}

/// The GPUs that are open: one ledger and one memory of a lost context per device, whoever opens it.
static OPEN: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl Gpu {
    /// The GPU of this number, its primary context retained and set to block the thread that waits, not to spin.
    ///
    /// # Errors
    /// [`CudaError`]: no driver, no such device, no context.
    pub fn open(index: u32) -> Result<Self, CudaError> {
        let driver = Driver::get()?;
        let count = device::count(driver)?;
        if index >= count {
            return Err(CudaError::NoSuchDevice { index, count });
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|gpu| gpu.strong_count() > 0);
        if let Some(inner) = open.iter().filter_map(Weak::upgrade).find(|inner| inner.info.index == index) {
            return Ok(Self(inner));
        }
        let (device, info) = device::describe(driver, index)?;
        let context = retain(driver, device)?;
        let inner = Arc::new(Inner {
            driver,
            device,
            context,
            info,
            counters: Counters::default(),
            lost: OnceLock::new(),
            kernels: Mutex::new(None),
        });
        open.push(Arc::downgrade(&inner));
        Ok(Self(inner))
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// What is held on it by this process through this crate, now.
    pub fn ledger(&self) -> Ledger {
        self.0.counters.read()
    }

    /// What this process has copied between host and device through this crate.
    pub fn copied(&self) -> Copied {
        self.0.counters.copied()
    }

    /// Memory of the device that nobody uses, of any process.
    ///
    /// # Errors
    /// [`CudaError`]; also tells that the context is lost.
    pub fn free_bytes(&self) -> Result<u64, CudaError> {
        let driver = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two numbers.
        self.check("cuMemGetInfo", unsafe { (driver.cuMemGetInfo_v2)(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }

    /// The error that made the context useless, if one did. It stays.
    pub fn lost(&self) -> Option<CudaError> {
        self.0.lost.get().cloned()
    }

    /// The primary context, for GStreamer and TensorRT.
    pub fn context(&self) -> RawContext {
        self.0.context
    }

    /// Makes the context current on this thread, for calls into libraries that use whichever is.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn make_current(&self) -> Result<(), CudaError> {
        self.enter().map(|_| ())
    }

    /// Refuses when the context is lost, else makes it current.
    pub(crate) fn enter(&self) -> Result<&'static Driver, CudaError> {
        match self.0.lost.get() {
            Some(lost) => Err(lost.clone()),
            None => {
                // SAFETY: the context is retained as long as `self` lives.
                let code = unsafe { (self.0.driver.cuCtxSetCurrent)(self.0.context.0.cast()) };
                self.check("cuCtxSetCurrent", code).map(|()| self.0.driver)
            }
        }
    }

    /// To give something back: also in a lost context, where the driver may refuse and nobody minds.
    pub(crate) fn enter_to_free(&self) -> &'static Driver {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { (self.0.driver.cuCtxSetCurrent)(self.0.context.0.cast()) };
        self.0.driver
    }

    /// A code of the driver as a result; remembers the ones that stay.
    pub(crate) fn check(&self, call: &'static str, code: u32) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let name = self.0.driver.error_name(code);
        if !is_sticky(code) {
            return Err(CudaError::Driver { code, name, call });
        }
        let lost = CudaError::Lost { code, name, call };
        Err(self.0.lost.get_or_init(|| lost).clone())
    }

    /// The same for an allocation.
    pub(crate) fn check_allocation(
        &self,
        call: &'static str,
        code: u32,
        owner: Owner,
        bytes: usize,
    ) -> Result<(), CudaError> {
        if code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32 {
            return Err(CudaError::OutOfMemory { owner, bytes });
        }
        self.check(call, code)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Our kernels, loaded into the context the first time.
    pub(crate) fn kernels(&self) -> Result<Kernels, CudaError> {
        let mut kernels = self.0.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = *kernels {
            return Ok(kernels);
        }
        let loaded = Kernels::load(self)?;
        *kernels = Some(loaded);
        Ok(loaded)
    }

    /// True where both are the same device.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gpu").field(&self.0.info).finish()
    }
}

/// Retains the primary context of a device.
fn retain(driver: &'static Driver, device: CUdevice) -> Result<RawContext, CudaError> {
    let said = |call: &'static str, code: u32| match code {
        0 => Ok(()),
        code => Err(CudaError::Driver { code, name: driver.error_name(code), call }),
    };
    // Where another library has made the context already, its flags stay; our waits go through events that
    // block, so this is for the waits of others. Hence no error.
    // SAFETY: two numbers.
    unsafe { (driver.cuDevicePrimaryCtxSetFlags_v2)(device, CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32) };
    let mut context: CUcontext = std::ptr::null_mut();
    // SAFETY: writes one pointer.
    let code = unsafe { (driver.cuDevicePrimaryCtxRetain)(&raw mut context, device) };
    said("cuDevicePrimaryCtxRetain", code)?;
    Ok(RawContext(context.cast()))
}

impl Drop for Inner {
    fn drop(&mut self) {
        let kernels = self.kernels.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kernels) = kernels {
            // SAFETY: as in `enter_to_free`.
            unsafe { (self.driver.cuCtxSetCurrent)(self.context.0.cast()) };
            kernels.unload(self.driver);
        }
        // SAFETY: retained once in `open`; everything in the context held a clone of the `Gpu` and is gone.
        unsafe { (self.driver.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}
