//! Slots side by side, as an engine wants them.
//!
//! Gathered by copies of the driver, not by a kernel: each copy waits for its own slot only, so early slots move while
//! late ones are being filled, and it runs at the speed of the memory. A kernel would save some microseconds of
//! queueing in a batch that takes milliseconds.

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::ledger::Owner;
use crate::memory::Buffer;
use crate::slot::{Element, SlotTensor};
use crate::stream::Stream;

/// Room for one batch. One per execution context.
#[derive(Debug)]
pub struct Batch {
    /// None where the batches have one frame, which is read in place.
    buffer: Option<Buffer>,
    gpu: Gpu,
    element: Element,
    frame_len: usize,
    max_batch: usize,
}

impl Batch {
    /// Room for `max_batch` tensors of `frame_len` elements.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], and others.
    pub fn new(gpu: &Gpu, element: Element, frame_len: usize, max_batch: usize) -> Result<Self, CudaError> {
        let len_bytes = frame_len.saturating_mul(element.bytes()).saturating_mul(max_batch);
        let buffer = if max_batch > 1 { Some(Buffer::new(gpu, Owner::Batches, len_bytes)?) } else { None };
        Ok(Self { buffer, gpu: gpu.clone(), element, frame_len, max_batch })
    }

    /// Queues on `stream` what brings `slots` side by side, in this order, each as soon as it is filled. Says where they
    /// will be for what is queued after it: in this batch, or, where there is one slot only, in the slot
    /// itself. The caller then calls [`SlotTensor::read_by`] after the work that reads it in place.
    ///
    /// # Errors
    /// [`CudaError`]; [`CudaError::Mismatch`] for slots of another model, none, or too many.
    pub fn gather(&mut self, slots: &[&SlotTensor], stream: &Stream) -> Result<u64, CudaError> {
        self.check(slots, stream)?;
        if let [slot] = slots {
            stream.wait_for(slot.filled())?;
            return Ok(slot.address());
        }
        let Some(buffer) = &self.buffer else {
            return Err(CudaError::Mismatch { what: "a batch", expected: 1, got: slots.len() });
        };
        let frame_bytes = self.frame_len * self.element.bytes();
        for (index, slot) in slots.iter().enumerate() {
            stream.wait_for(slot.filled())?;
            let to = buffer.address() + (index * frame_bytes) as u64;
            // SAFETY: the slot has `frame_bytes`, the buffer `max_batch` times as many; both wait for their events
            // before they are freed or written again: the slot for `read_by`, the buffer in `Drop`.
            unsafe { stream.copy(to, slot.address(), frame_bytes) }?;
            slot.read_by(stream)?;
        }
        Ok(buffer.address())
    }

    fn check(&self, slots: &[&SlotTensor], stream: &Stream) -> Result<(), CudaError> {
        if slots.is_empty() || slots.len() > self.max_batch {
            let got = slots.len();
            return Err(CudaError::Mismatch { what: "a batch", expected: self.max_batch, got });
        }
        if !stream.gpu().is(&self.gpu) {
            return Err(CudaError::OtherGpu);
        }
        for slot in slots {
            let (expected, got) = (self.frame_len, slot.len());
            if got != expected {
                return Err(CudaError::Mismatch { what: "a slot", expected, got });
            }
            let (expected, got) = (self.element.bytes(), slot.element().bytes());
            if got != expected {
                return Err(CudaError::Mismatch { what: "an element of a slot", expected, got });
            }
        }
        Ok(())
    }
}
