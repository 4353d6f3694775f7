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
use crate::stream::{Event, Stream};

/// Room for one batch. One per execution context.
#[derive(Debug)]
pub struct Batch {
    /// None where the batches have one frame, which is read in place.
    buffer: Option<Buffer>,
    gpu: Gpu,
    element: Element,
    frame_len: usize,
    max_batch: usize,
    /// The last batch has been read.
    read: Event,
}

impl Batch {
    /// Room for `max_batch` tensors of `frame_len` elements.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], and others.
    pub fn new(gpu: &Gpu, element: Element, frame_len: usize, max_batch: usize) -> Result<Self, CudaError> {
        let len_bytes = frame_len.saturating_mul(element.bytes()).saturating_mul(max_batch);
        let buffer = if max_batch > 1 { Some(Buffer::new(gpu, Owner::Batches, len_bytes)?) } else { None };
        Ok(Self { buffer, gpu: gpu.clone(), element, frame_len, max_batch, read: Event::new(gpu)? })
    }

    /// Queues on `stream` what brings `slots` side by side, in this order, each as soon as it is filled. Says where they
    /// will be for what is queued after it: in this batch, or, where there is one slot only, in the slot
    /// itself. When the work that reads them has been queued, [`read_by`](Self::read_by) has to be called.
    ///
    /// # Errors
    /// [`CudaError`]; [`CudaError::Mismatch`] for slots of another model, none, or too many.
    pub fn gather(&mut self, slots: &[&SlotTensor], stream: &Stream) -> Result<u64, CudaError> {
        self.check(slots, stream)?;
        let (Some(buffer), [_, _, ..]) = (&self.buffer, slots) else {
            stream.wait_for(slots[0].filled())?;
            return Ok(slots[0].address());
        };
        stream.wait_for(&self.read)?;
        let frame_bytes = self.frame_len * self.element.bytes();
        for (index, slot) in slots.iter().enumerate() {
            stream.wait_for(slot.filled())?;
            let to = buffer.address() + (index * frame_bytes) as u64;
            // SAFETY: the slot has `frame_bytes`, the buffer `max_batch` times as many; both wait for their events
            // before they are freed or written again.
            unsafe { stream.copy(to, slot.address(), frame_bytes) }?;
            slot.read_by(stream)?;
        }
        self.read.record(stream)?;
        Ok(buffer.address())
    }

    /// Says that what `stream` was given so far reads the batch that was gathered of `slots`: what writes there next waits
    /// for it, also where this thread unwinds and the slots go home early.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn read_by(&self, slots: &[&SlotTensor], stream: &Stream) -> Result<(), CudaError> {
        if let [slot] = slots {
            slot.read_by(stream)?;
        }
        self.read.record(stream)
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

impl Drop for Batch {
    fn drop(&mut self) {
        // Errors are for those who use the batch; memory goes back anyway.
        let _ = self.read.wait();
    }
}
