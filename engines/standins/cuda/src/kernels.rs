//! Kernels: the same source as the GPU's, compiled for the host, with a check of every pointer before it runs.

use std::ffi::c_void;

use watchpost_cuda_host_kernels::HostKernel;

use crate::codes::{ILLEGAL_ADDRESS, Outcome};
use crate::driver::Driver;
use crate::memory::{Kind, Wrong};

/// Parameters of a launch, as bytes.
type Parameters = [Box<[u8]>];
/// Address and bytes of a piece of memory.
type Piece = (u64, u64);

/// A kernel that we can run.
#[derive(Debug)]
pub struct Kernel {
    pub name: &'static str,
    /// Size of each parameter.
    pub parameter_bytes: &'static [usize],
    /// The memory that a launch with these parameters touches.
    touched: fn(&Parameters) -> Vec<Piece>,
}

/// Those that there are.
pub const KERNELS: &[Kernel] = &[
    Kernel { name: "letterbox", parameter_bytes: &[152], touched: letterbox_touches },
    Kernel { name: "to_half", parameter_bytes: &[8, 8, 4], touched: to_half_touches },
];

/// The one with this name.
pub fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

/// A kernel with its parameters as they were when it was launched.
#[derive(Debug)]
pub struct Launch {
    kernel: &'static Kernel,
    context: u64,
    grid: [u32; 3],
    block: [u32; 3],
    parameters: Vec<Box<[u8]>>,
}

impl Launch {
    /// Copies the parameters.
    pub fn new(
        kernel: &'static Kernel,
        context: u64,
        grid: [u32; 3],
        block: [u32; 3],
        parameters: *mut *mut c_void,
    ) -> Launch {
        let copied = kernel.parameter_bytes.iter().enumerate().map(|(index, bytes)| {
            // SAFETY: cuLaunchKernel's caller passes as many pointers as the kernel has parameters, each to a value.
            let value = unsafe { std::slice::from_raw_parts((*parameters.add(index)).cast::<u8>(), *bytes) };
            value.into()
        });
        Launch { kernel, context, grid, block, parameters: copied.collect() }
    }

    /// Runs it: an address that the kernel's context does not own is what it is on a GPU.
    pub fn perform(&self, driver: &Driver) -> Outcome {
        let Some(host) = HostKernel::find(self.kernel.name) else { return Err(ILLEGAL_ADDRESS) };
        let memory = driver.memory();
        for (address, bytes) in (self.kernel.touched)(&self.parameters) {
            let wrong = match memory.find(address, bytes) {
                Ok(found) if found.context == self.context && matches!(found.kind, Kind::Device(_)) => {
                    continue;
                }
                // Page-locked memory has the same address on the device.
                Ok(found) if !matches!(found.kind, Kind::Device(_)) => continue,
                Ok(_) => Wrong::Foreign,
                Err(wrong) => wrong,
            };
            drop(memory);
            let what = format!("the kernel {} makes use", self.kernel.name);
            driver.wrong_access(wrong, &what, address, bytes);
            return Err(ILLEGAL_ADDRESS);
        }
        let mut pointers: Vec<*mut c_void> =
            self.parameters.iter().map(|one| one.as_ptr().cast_mut().cast()).collect();
        // SAFETY: as many parameters of the right size as the kernel has; what they point to was checked, and stays
        // live while `memory` is held.
        unsafe { host.launch(self.grid, self.block, pointers.as_mut_ptr()) };
        drop(memory);
        driver.counters.kernels.change(1);
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    word(bytes, at) | word(bytes, at + 4) << 32
}

/// `LetterboxArgs` of letterbox.cu: four pointers, then words in the order of the struct.
fn letterbox_touches(parameters: &Parameters) -> Vec<Piece> {
    let args = &parameters[0];
    let at = |index: usize| word(args, 32 + 4 * index);
    let [y_stride, cb_stride, cr_stride, chroma_step, ten_bits] = [at(0), at(1), at(2), at(3), at(4)];
    let (source_width, source_height) = (at(5), at(6));
    let (width, height, half) = (at(11), at(12), at(13));
    let sample = if ten_bits != 0 { 2 } else { 1 };
    let (chroma_width, chroma_height) = (source_width.div_ceil(2), source_height.div_ceil(2));
    let plane = |stride: u64, step: u64, columns: u64, rows: u64| {
        (rows.max(1) - 1) * stride + (columns.max(1) - 1) * step + sample
    };
    vec![
        (long(args, 0), plane(y_stride, sample, source_width, source_height)),
        (long(args, 8), plane(cb_stride, chroma_step, chroma_width, chroma_height)),
        (long(args, 16), plane(cr_stride, chroma_step, chroma_width, chroma_height)),
        (long(args, 24), 3 * width * height * if half != 0 { 2 } else { 4 }),
    ]
}

/// `to_half(const float *from, unsigned short *to, unsigned count)`.
fn to_half_touches(parameters: &Parameters) -> Vec<Piece> {
    let count = word(&parameters[2], 0);
    vec![(long(&parameters[0], 0), 4 * count), (long(&parameters[1], 0), 2 * count)]
}
