//! The CUDA kernels compiled for the host from the same source, so that tests run them without a GPU.

use std::ffi::c_void;

type Kernel = unsafe extern "C" fn(grid: *const u32, block: *const u32, parameters: *mut *mut c_void);

unsafe extern "C" {
    fn watchpost_host_letterbox(grid: *const u32, block: *const u32, parameters: *mut *mut c_void);
    fn watchpost_host_to_half(grid: *const u32, block: *const u32, parameters: *mut *mut c_void);
}

/// A kernel of the host.
#[derive(Debug, Clone, Copy)]
pub struct HostKernel(Kernel);

/// The names of all kernels: those of the committed PTX.
pub const NAMES: [&str; 2] = ["letterbox", "to_half"];

impl HostKernel {
    /// The kernel of this name, if there is one.
    pub fn find(name: &str) -> Option<Self> {
        match name {
            "letterbox" => Some(Self(watchpost_host_letterbox)),
            "to_half" => Some(Self(watchpost_host_to_half)),
            _ => None,
        }
    }

    /// Runs the whole grid on this thread. Arguments are those of `cuLaunchKernel`.
    ///
    /// # Safety
    /// `parameters` points to as many pointers as the kernel has parameters, each to a value of the parameter's type; what
    /// these point to is as large as the kernel reads and writes.
    pub unsafe fn launch(self, grid: [u32; 3], block: [u32; 3], parameters: *mut *mut c_void) {
        // SAFETY: the caller's promise; the arrays have three numbers each.
        unsafe { (self.0)(grid.as_ptr(), block.as_ptr(), parameters) }
    }
}
