//! A slot of a camera: one input tensor on the device, and who is done with it.

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::ledger::Owner;
use crate::memory::Buffer;
use crate::stream::{Event, Stream};

/// What a tensor is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl Element {
    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// One frame's input tensor on the device. It is written by a [`Letterboxer`](crate::Letterboxer), which leaves the event
/// `filled`, and read by an engine, which leaves the event `read`: each waits for the other's on the GPU, so nobody
/// overwrites what is still read, also where a thread unwound.
#[derive(Debug)]
pub struct SlotTensor {
    buffer: Buffer,
    element: Element,
    len: usize,
    filled: Event,
    read: Event,
}

impl SlotTensor {
    /// A slot of `len` elements. They are whatever the memory holds.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], and others.
    pub fn new(gpu: &Gpu, element: Element, len: usize) -> Result<Self, CudaError> {
        let len_bytes = len.saturating_mul(element.bytes());
        let (filled, read) = (Event::new(gpu)?, Event::new(gpu)?);
        Ok(Self { buffer: Buffer::new(gpu, Owner::Slots, len_bytes)?, element, len, filled, read })
    }

    /// What it is made of.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a tensor without elements, which no model has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.len * self.element.bytes()
    }

    /// The device's address of the first element.
    pub fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// Happens when the tensor is complete.
    pub fn filled(&self) -> &Event {
        &self.filled
    }

    /// Says that what `stream` was given so far may read the tensor: its next writer waits for that. To be called
    /// after that work has been queued; a [`Batch`](crate::Batch) does it for its slots.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn read_by(&self, stream: &Stream) -> Result<(), CudaError> {
        self.read.record(stream)
    }

    /// The tensor on the host, as f32, when it is filled. For tests and diagnosis.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn to_host(&self, stream: &Stream) -> Result<Vec<f32>, CudaError> {
        stream.wait_for(&self.filled)?;
        let mut bytes = vec![0; self.bytes()];
        self.buffer.read(stream, &mut bytes)?;
        Ok(match self.element {
            Element::F32 => bytes.as_chunks().0.iter().map(|&four| f32::from_ne_bytes(four)).collect(),
            Element::F16 => {
                bytes.as_chunks().0.iter().map(|&two| crate::half::to_f32(u16::from_ne_bytes(two))).collect()
            }
        })
    }

    /// Holds `stream` until nobody reads the tensor any more, and nobody writes it: what was written last may have
    /// come from another letterboxer, and never have been read.
    pub(crate) fn before_writing(&self, stream: &Stream) -> Result<(), CudaError> {
        stream.wait_for(&self.read)?;
        stream.wait_for(&self.filled)
    }

    /// Says that the tensor is complete when `stream` has come so far.
    pub(crate) fn written_by(&self, stream: &Stream) -> Result<(), CudaError> {
        self.filled.record(stream)
    }
}

impl Drop for SlotTensor {
    fn drop(&mut self) {
        // Errors are for those who use the slot; memory goes back anyway.
        let _ = self.filled.wait();
        let _ = self.read.wait();
    }
}
