//! Our kernels, as PTX that every driver of CUDA 12 compiles for its GPU.

use std::ffi::{CString, c_void};

use cudarc::driver::sys::{CUfunction, CUjit_option, CUmodule};

use crate::driver::Driver;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::stream::Stream;

const PTX_72: &str = include_str!("../kernels/letterbox.compute_72.ptx");
const PTX_75: &str = include_str!("../kernels/letterbox.compute_75.ptx");

/// Bytes of what the driver's compiler may say.
const LOG_BYTES: usize = 4096;

/// The loaded kernels of one context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    module: *mut c_void,
    pub(crate) letterbox: Kernel,
    pub(crate) to_half: Kernel,
}

/// One function of the module; valid while the context's `Gpu` lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel(*mut c_void);

// SAFETY: handles; the driver takes them on every thread.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernels {
    pub(crate) fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let driver = gpu.enter()?;
        let module = compile(gpu, driver, ptx_for(gpu.info().compute_capability))?;
        let function = |name: &'static std::ffi::CStr| {
            let mut function: CUfunction = std::ptr::null_mut();
            // SAFETY: writes one pointer; the name ends with a zero.
            let code = unsafe { (driver.cuModuleGetFunction)(&raw mut function, module, name.as_ptr()) };
            gpu.check("cuModuleGetFunction", code).map(|()| Kernel(function.cast()))
        };
        let kernels = function(c"letterbox").and_then(|letterbox| {
            Ok(Self { module: module.cast(), letterbox, to_half: function(c"to_half")? })
        });
        if kernels.is_err() {
            // SAFETY: ours, unloaded once; nothing of it runs.
            unsafe { (driver.cuModuleUnload)(module) };
        }
        kernels
    }

    /// The context is current and no kernel is running.
    pub(crate) fn unload(self, driver: &Driver) {
        // SAFETY: ours, unloaded once: `Gpu` takes it out of its place.
        unsafe { (driver.cuModuleUnload)(self.module.cast()) };
    }
}

/// Volta's Jetson (7.2) gets its own, all later GPUs that of Turing.
fn ptx_for(compute_capability: (u32, u32)) -> &'static str {
    if compute_capability < (7, 5) { PTX_72 } else { PTX_75 }
}

fn compile(gpu: &Gpu, driver: &Driver, ptx: &str) -> Result<CUmodule, CudaError> {
    let refused = |log: &str| CudaError::Kernel { log: log.split_whitespace().collect::<Vec<_>>().join(" ") };
    let ptx = CString::new(ptx).map_err(|_| refused("the PTX holds a zero"))?;
    let mut log = [0_u8; LOG_BYTES];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The driver takes numbers in the place of pointers.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_BYTES)];
    let mut module: CUmodule = std::ptr::null_mut();
    // SAFETY: the text ends with a zero; two options with their values; the log has the length that is said.
    let code = unsafe {
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        (driver.cuModuleLoadDataEx)(&raw mut module, ptx.as_ptr().cast(), 2, options, values)
    };
    let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
    match gpu.check("cuModuleLoadData", code) {
        Err(CudaError::Driver { name, .. }) if log.is_empty() => Err(refused(&name)),
        Err(CudaError::Driver { .. }) => Err(refused(&String::from_utf8_lossy(log))),
        other => other.map(|()| module),
    }
}

impl Kernel {
    /// Queues a launch with these parameters.
    ///
    /// # Safety
    /// The pointers in `parameters` point to values of the types that the kernel takes, and what they mean for the GPU
    /// stays until the stream has come so far.
    pub(crate) unsafe fn launch(
        self,
        stream: &Stream,
        grid: [u32; 3],
        block: [u32; 3],
        parameters: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        let driver = stream.gpu().enter()?;
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        let none = std::ptr::null_mut();
        // SAFETY: the caller's promise; the driver copies the parameters before it returns.
        let code = unsafe {
            let (kernel, queue) = (self.0.cast(), stream.raw().handle());
            (driver.cuLaunchKernel)(kernel, gx, gy, gz, bx, by, bz, 0, queue, parameters.as_mut_ptr(), none)
        };
        stream.gpu().check("cuLaunchKernel", code)
    }
}

#[cfg(test)]
mod tests {
    use super::ptx_for;

    #[test]
    fn a_gpu_gets_the_newest_ptx_that_it_can_run() {
        let target = |capability| {
            let ptx = ptx_for(capability);
            ptx.lines().find_map(|line| line.strip_prefix(".target ")).expect("a target")
        };
        assert_eq!(target((7, 2)), "sm_72");
        for capability in [(7, 5), (8, 6), (8, 7), (9, 0), (12, 0)] {
            assert_eq!(target(capability), "sm_75");
        }
    }
}
