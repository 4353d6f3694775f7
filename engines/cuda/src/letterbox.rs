//! From a camera's pictures to its slots, on a stream of its own.

use std::ffi::c_void;

use crate::args::{LetterboxArgs, check_size};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernels::Kernels;
use crate::ledger::Owner;
use crate::memory::{Buffer, Pinned};
use crate::picture::DevicePicture;
use crate::slot::{Element, SlotTensor};
use crate::stream::{Event, Stream};

/// From picture to input tensor: `[3, height, width]`, `value = sample * scale[c] + offset[c]` with samples 0..=255 and
/// `c` counted in the tensor's channel order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Tensor width in elements.
    pub width: u32,
    /// Tensor height in elements.
    pub height: u32,
    /// Sample value of the padding, before scale and offset.
    pub pad: f32,
    /// Factor per channel.
    pub scale: [f32; 3],
    /// Summand per channel.
    pub offset: [f32; 3],
    /// True where blue is the first channel.
    pub bgr: bool,
}

impl Recipe {
    /// Elements of one frame's tensor.
    pub fn len(&self) -> usize {
        3 * self.width as usize * self.height as usize
    }

    /// True for a tensor without elements, which no model has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The part of the tensor that the picture covers, in tensor pixels. The rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// Writes a camera's pictures into its slots. One per camera; it has a stream of its own.
///
/// Nothing is allocated per frame. What brings frames of the CPU to the GPU is allocated when the first one comes.
#[derive(Debug)]
pub struct Letterboxer {
    gpu: Gpu,
    recipe: Recipe,
    kernels: Kernels,
    stream: Stream,
    /// The decoder's stream has come to where the picture is complete.
    arrived: Event,
    /// The last picture, or the staging memory, has been read.
    source_read: Event,
    staging: Option<Pinned>,
    /// On the device: where an upload becomes f16, or what the host will read.
    scratch: Option<Buffer>,
}

impl Letterboxer {
    /// For one camera and one model.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn new(gpu: &Gpu, recipe: Recipe) -> Result<Self, CudaError> {
        check_size(&recipe)?;
        Ok(Self {
            gpu: gpu.clone(),
            recipe,
            kernels: gpu.kernels()?,
            stream: Stream::new(gpu)?,
            arrived: Event::new(gpu)?,
            source_read: Event::new(gpu)?,
            staging: None,
            scratch: None,
        })
    }

    /// The stream that everything runs on.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Bytes of device memory and of page-locked memory that frames of the CPU cost a camera: for the memory budget.
    pub fn staging_bytes_for(recipe: &Recipe, element: Element) -> (usize, usize) {
        let staged = recipe.len() * Element::F32.bytes();
        (if element == Element::F16 { staged } else { 0 }, staged)
    }

    /// Where the CPU's letterbox writes, `recipe.len()` values; then [`upload`](Self::upload). Blocks until the last upload
    /// has been read.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn staging(&mut self) -> Result<&mut [f32], CudaError> {
        self.source_read.wait()?;
        let len = self.recipe.len();
        let staging = match self.staging.take() {
            Some(staging) => staging,
            None => Pinned::new(&self.gpu, Owner::Staging, len * Element::F32.bytes())?,
        };
        Ok(&mut self.staging.insert(staging).f32s_mut()[..len])
    }

    /// Queues the way of the staged values into `slot`, and returns.
    ///
    /// # Errors
    /// [`CudaError`]; [`CudaError::Mismatch`] for a slot of another model, or where nothing was staged.
    pub fn upload(&mut self, slot: &mut SlotTensor) -> Result<(), CudaError> {
        self.check(slot)?;
        let len = self.recipe.len();
        let len_bytes = len * Element::F32.bytes();
        let to = match slot.element() {
            Element::F32 => slot.address(),
            Element::F16 => self.scratch()?,
        };
        let Some(staging) = &self.staging else {
            return Err(CudaError::Mismatch { what: "the staging memory", expected: len, got: 0 });
        };
        slot.before_writing(&self.stream)?;
        // SAFETY: `to` has `len` f32. Staging is written again only after `source_read`; all live until `Drop` or
        // the slot's have waited.
        unsafe { self.stream.copy_to_device(to, staging, len_bytes) }?;
        let marked = self.source_read.record(&self.stream).and_then(|()| {
            if slot.element() == Element::F16 {
                self.convert(to, slot, len)?;
            }
            slot.written_by(&self.stream)
        });
        self.or_wait(marked)
    }

    /// Queues the kernel that writes `picture` into `slot`, every element of it, and returns. The picture has to stay
    /// until [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`CudaError`]; nothing is queued for a picture, a placement or a slot that does not fit.
    pub fn letterbox(
        &mut self,
        picture: &DevicePicture<'_>,
        placement: Placement,
        slot: &mut SlotTensor,
    ) -> Result<(), CudaError> {
        self.check(slot)?;
        let args = LetterboxArgs::new(&self.recipe, picture, placement, slot.address(), slot.element())?;
        slot.before_writing(&self.stream)?;
        self.queue(picture, args)?;
        let marked = self.source_read.record(&self.stream).and_then(|()| slot.written_by(&self.stream));
        self.or_wait(marked)
    }

    /// Writes `picture` into a tensor of the host, `recipe.len()` values, and waits: for an engine that runs on the CPU
    /// where frames are decoded on the GPU.
    ///
    /// # Errors
    /// [`CudaError`]; [`CudaError::Mismatch`] for a tensor of another model.
    pub fn letterbox_to_host(
        &mut self,
        picture: &DevicePicture<'_>,
        placement: Placement,
        tensor: &mut [f32],
    ) -> Result<(), CudaError> {
        let (expected, got) = (self.recipe.len(), tensor.len());
        if expected != got {
            return Err(CudaError::Mismatch { what: "the tensor", expected, got });
        }
        self.read_back(picture, placement)?;
        let Some(staging) = &self.staging else {
            return Err(CudaError::Mismatch { what: "the staging memory", expected, got: 0 });
        };
        tensor.copy_from_slice(&staging.f32s()[..expected]);
        Ok(())
    }

    /// As [`letterbox`](Self::letterbox), but `change` sees the tensor on its way, `recipe.len()` values, and may write into
    /// it: the picture visits the host in the model's size.
    ///
    /// # Errors
    /// [`CudaError`]; nothing reaches the slot for a picture, a placement or a slot that does not fit.
    pub fn letterbox_over_host(
        &mut self,
        picture: &DevicePicture<'_>,
        placement: Placement,
        slot: &mut SlotTensor,
        change: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(), CudaError> {
        self.check(slot)?;
        self.read_back(picture, placement)?;
        change(self.staging()?);
        self.upload(slot)
    }

    /// Runs the kernel and brings its tensor into the staging memory, and waits.
    fn read_back(&mut self, picture: &DevicePicture<'_>, placement: Placement) -> Result<(), CudaError> {
        let expected = self.recipe.len();
        let len_bytes = expected * Element::F32.bytes();
        self.staging()?;
        let from = self.scratch()?;
        let args = LetterboxArgs::new(&self.recipe, picture, placement, from, Element::F32)?;
        self.queue(picture, args)?;
        let Some(staging) = &mut self.staging else {
            return Err(CudaError::Mismatch { what: "the staging memory", expected, got: 0 });
        };
        // SAFETY: both have `recipe.len()` f32; they live, and staging is not read, until the wait is over.
        let copied = unsafe { self.stream.copy_to_host(staging, from, len_bytes) };
        self.stream.wait().and(copied)
    }

    /// Blocks, without spinning, until the last picture has been read: the decoder may have it back.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn finish(&mut self) -> Result<(), CudaError> {
        self.source_read.wait()
    }

    /// Waits for the decoder's stream, then runs the kernel.
    fn queue(&self, picture: &DevicePicture<'_>, mut args: LetterboxArgs) -> Result<(), CudaError> {
        if let Some(ready) = picture.ready {
            // SAFETY: whoever made the picture promises that the stream is alive and of this context.
            unsafe { self.arrived.record_raw(ready) }?;
            self.stream.wait_for(&self.arrived)?;
        }
        let (grid, mut parameters) = (args.grid(), [(&raw mut args).cast::<c_void>()]);
        // SAFETY: the kernel's parameter. Whoever calls waits for the kernel, or leaves an event to wait for, before the
        // picture or the tensor goes.
        unsafe { self.kernels.letterbox.launch(&self.stream, grid, LetterboxArgs::BLOCK, &mut parameters) }
    }

    /// Where there is no event to wait for what was queued, waits for it here.
    fn or_wait(&self, marked: Result<(), CudaError>) -> Result<(), CudaError> {
        if marked.is_err() {
            let _ = self.stream.wait();
        }
        marked
    }

    /// Address of a device tensor of f32, allocated the first time.
    fn scratch(&mut self) -> Result<u64, CudaError> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => Buffer::new(&self.gpu, Owner::Staging, self.recipe.len() * Element::F32.bytes())?,
        };
        Ok(self.scratch.insert(scratch).address())
    }

    fn convert(&self, from: u64, slot: &SlotTensor, len: usize) -> Result<(), CudaError> {
        const BLOCK: u32 = 256;
        // 3 * 8192 * 8192 at most.
        let (mut from, mut to, mut count) = (from, slot.address(), len as u32);
        let mut parameters = [
            (&raw mut from).cast::<c_void>(),
            (&raw mut to).cast::<c_void>(),
            (&raw mut count).cast::<c_void>(),
        ];
        let grid = [count.div_ceil(BLOCK), 1, 1];
        // SAFETY: the kernel's parameters; both have `count` elements and wait for their events before they go.
        unsafe { self.kernels.to_half.launch(&self.stream, grid, [BLOCK, 1, 1], &mut parameters) }
    }

    fn check(&self, slot: &SlotTensor) -> Result<(), CudaError> {
        let (expected, got) = (self.recipe.len(), slot.len());
        if expected != got {
            return Err(CudaError::Mismatch { what: "a slot", expected, got });
        }
        Ok(())
    }
}

impl Drop for Letterboxer {
    fn drop(&mut self) {
        // What the kernels read and write must outlive them. Errors are for those who use the slots.
        let _ = self.stream.wait();
    }
}
