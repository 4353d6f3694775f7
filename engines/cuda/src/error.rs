//! What can go wrong on a GPU that is there.

use crate::ledger::Owner;
use watchpost_picture::PictureError;

/// An error of the CUDA driver, or a call that would have been one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// CUDA cannot be used on this machine at all.
    #[error(transparent)]
    Unavailable(#[from] crate::Unavailable),
    /// There is no such device.
    #[error("there is no CUDA device {index}: this machine has {count}; `watchpost devices` lists them")]
    NoSuchDevice {
        /// What was asked for.
        index: u32,
        /// Devices that are there.
        count: u32,
    },
    /// The device, or the host's memory that may be locked for it, is full.
    #[error(
        "the GPU has no {bytes} bytes left for {owner}; configure fewer cameras, a smaller model or a smaller \
         max_batch_size, or end what else uses the GPU"
    )]
    OutOfMemory {
        /// What the memory was for.
        owner: Owner,
        /// How much was asked for.
        bytes: usize,
    },
    /// The context is gone for as long as this process lives: nothing but a new process helps.
    #[error(
        "the GPU's context is lost: {call} said {name} ({code}); the process has to start again, and if it \
         happens often the kernel's log (`dmesg | grep -i xid`) says why"
    )]
    Lost {
        /// The driver's code.
        code: u32,
        /// The driver's name of it.
        name: String,
        /// The function that reported it; an earlier one may be the cause.
        call: &'static str,
    },
    /// Any other refusal of the driver.
    #[error("{call} said {name} ({code}); see the driver's messages (`dmesg | grep -i nvrm`)")]
    Driver {
        /// The driver's code.
        code: u32,
        /// The driver's name of it.
        name: String,
        /// The function.
        call: &'static str,
    },
    /// The driver does not take our kernels.
    #[error("the driver refuses the letterbox kernel: {log}; install a newer NVIDIA driver (525 or later)")]
    Kernel {
        /// What its compiler says.
        log: String,
    },
    /// The picture's planes do not fit its size.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The picture cannot be read by the kernel.
    #[error(
        "the decoder's picture cannot be read on the GPU: {reason}; set `decoder = \"software\"` for this camera"
    )]
    PictureLayout {
        /// Why.
        reason: &'static str,
    },
    /// A tensor size that no model has.
    #[error("a tensor of {width}x{height} is not supported on the GPU: each side must be 1 to {most}")]
    TensorSize {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        most: u32,
    },
    /// Things of two GPUs do not go together.
    #[error("the stream and the batch are of two GPUs; give both the same `gpu`")]
    OtherGpu,
    /// The placement is not within the tensor.
    #[error("the picture would lie outside of the model's input; the placement belongs to another model")]
    PlacementOutside,
    /// Two tensors that do not belong together.
    #[error("{what} has {got} but {expected} is needed: it belongs to another model")]
    Mismatch {
        /// Which of them.
        what: &'static str,
        /// What is needed.
        expected: usize,
        /// What is there.
        got: usize,
    },
}

impl CudaError {
    /// True where the context is lost for the process: it has to leave with 75.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// Codes after which every call of the process fails. From the driver's documentation of `CUresult`:
/// those that say "the process must be terminated and relaunched", and an unknown error.
pub(crate) const fn is_sticky(code: u32) -> bool {
    matches!(
        code,
        // deinitialized; device unavailable; ECC; NVLink; contained
        4 | 46 | 214 | 220 | 226
        // illegal address, launch timeout, context destroyed, assert
        | 700 | 702 | 709 | 710
        // hardware stack, illegal instruction, misaligned, address space, program counter, launch failed
        | 714
            ..=719
        // tensor memory; external device; unknown
        | 721 | 911 | 999
    )
}

#[cfg(test)]
mod tests {
    use super::is_sticky;

    #[test]
    fn what_a_new_process_alone_can_cure_is_sticky_and_nothing_else_is() {
        let sticky: Vec<u32> = (0..1200).filter(|&code| is_sticky(code)).collect();
        let expected =
            [4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911, 999];
        assert_eq!(sticky, expected);
    }
}
