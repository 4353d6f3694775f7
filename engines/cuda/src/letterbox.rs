//! From a camera's pictures to its slots, on a stream of its own.

use std::ffi::c_void;

use watchpost_picture::{Matrix, Range};

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernels::Kernels;
use crate::ledger::Owner;
use crate::memory::{Buffer, Pinned};
use crate::picture::{DeviceLayout, DevicePicture};
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

/// Largest side of a tensor: with [`crate::picture::SIDE_MAX`], `2 * 8192 * 65535` is below `2^31`.
const TENSOR_SIDE_MAX: u32 = 8192;

/// The parameter of the kernel `letterbox`: `LetterboxArgs` in kernels/letterbox.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Args {
    y: u64,
    cb: u64,
    cr: u64,
    tensor: u64,
    y_stride_bytes: u32,
    cb_stride_bytes: u32,
    cr_stride_bytes: u32,
    chroma_step_bytes: u32,
    ten_bits: u32,
    source_width: u32,
    source_height: u32,
    left: u32,
    top: u32,
    placed_width: u32,
    placed_height: u32,
    width: u32,
    height: u32,
    half: u32,
    bgr: u32,
    pad: f32,
    colour: Colour,
    scale: [f32; 3],
    offset: [f32; 3],
}
const _: () = assert!(size_of::<Args>() == 32 + 29 * 4 + 4);

/// From code values to red, green and blue of 0..=255.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Colour {
    luma_black: f32,
    chroma_zero: f32,
    luma_gain: f32,
    red_cr: f32,
    green_cb: f32,
    green_cr: f32,
    blue_cb: f32,
}

impl Colour {
    /// ITU-R BT.601-7 and BT.709-6; limited and full range of 8 or 10 bits (BT.709-6 table 4: the limited codes of 10
    /// bits are four times those of 8; the full ones end at 1023).
    fn new(matrix: Matrix, range: Range, ten_bits: bool) -> Self {
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let codes = if ten_bits { 4.0 } else { 1.0 };
        let (black, luma_span, chroma_span) = match range {
            Range::Limited => (16.0 * codes, 219.0 * codes, 224.0 * codes),
            Range::Full => (0.0, 256.0 * codes - 1.0, 256.0 * codes - 1.0),
        };
        let chroma_gain = 255.0 / chroma_span;
        Self {
            luma_black: black as f32,
            chroma_zero: (128.0 * codes) as f32,
            luma_gain: (255.0 / luma_span) as f32,
            red_cr: (2.0 * (1.0 - kr) * chroma_gain) as f32,
            green_cb: (-2.0 * kb * (1.0 - kb) / kg * chroma_gain) as f32,
            green_cr: (-2.0 * kr * (1.0 - kr) / kg * chroma_gain) as f32,
            blue_cb: (2.0 * (1.0 - kb) * chroma_gain) as f32,
        }
    }
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
    /// Where an upload becomes f16.
    scratch: Option<Buffer>,
}

impl Letterboxer {
    /// For one camera and one model.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn new(gpu: &Gpu, recipe: Recipe) -> Result<Self, CudaError> {
        let (width, height) = (recipe.width, recipe.height);
        if !(1..=TENSOR_SIDE_MAX).contains(&width) || !(1..=TENSOR_SIDE_MAX).contains(&height) {
            return Err(CudaError::TensorSize { width, height, most: TENSOR_SIDE_MAX });
        }
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
        let Some(staging) = &self.staging else {
            return Err(CudaError::Mismatch { what: "the staging memory", expected: len, got: 0 });
        };
        let to = match slot.element() {
            Element::F32 => slot.address(),
            Element::F16 => match &self.scratch {
                Some(scratch) => scratch.address(),
                None => self.scratch.insert(Buffer::new(&self.gpu, Owner::Staging, len_bytes)?).address(),
            },
        };
        slot.before_writing(&self.stream)?;
        // SAFETY: `to` has `len` f32. Staging is written again only after `source_read`; all live until `Drop` or
        // the slot's have waited.
        unsafe { self.stream.copy_to_device(to, staging, len_bytes) }?;
        self.source_read.record(&self.stream)?;
        if slot.element() == Element::F16 {
            self.convert(to, slot, len)?;
        }
        slot.written_by(&self.stream)
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
        picture.check()?;
        self.check_placement(&placement)?;
        if let Some(ready) = picture.ready {
            // SAFETY: whoever made the picture promises that the stream is alive and of this context.
            unsafe { self.arrived.record_raw(ready) }?;
            self.stream.wait_for(&self.arrived)?;
        }
        slot.before_writing(&self.stream)?;
        let mut args = self.args(picture, &placement, slot);
        let mut parameters = [(&raw mut args).cast::<c_void>()];
        let grid = [self.recipe.width.div_ceil(32), self.recipe.height.div_ceil(8), 1];
        // SAFETY: the kernel's parameter; the picture stays until `finish`, the slot until its event.
        unsafe { self.kernels.letterbox.launch(&self.stream, grid, [32, 8, 1], &mut parameters) }?;
        self.source_read.record(&self.stream)?;
        slot.written_by(&self.stream)
    }

    /// Blocks, without spinning, until the last picture has been read: the decoder may have it back.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn finish(&mut self) -> Result<(), CudaError> {
        self.source_read.wait()
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

    fn check_placement(&self, placement: &Placement) -> Result<(), CudaError> {
        let within = |start: u32, len: u32, whole: u32| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= whole)
        };
        if within(placement.left, placement.width, self.recipe.width)
            && within(placement.top, placement.height, self.recipe.height)
        {
            Ok(())
        } else {
            Err(CudaError::PlacementOutside)
        }
    }

    fn args(&self, picture: &DevicePicture<'_>, placement: &Placement, slot: &SlotTensor) -> Args {
        let (y, cb, cr, step, ten_bits) = match picture.layout {
            DeviceLayout::I420 { y, u, v } => (y, u, v, 1, false),
            DeviceLayout::Nv12 { y, uv } => (y, uv, uv.after(1), 2, false),
            DeviceLayout::P010 { y, uv } => (y, uv, uv.after(2), 4, true),
        };
        Args {
            y: y.address,
            cb: cb.address,
            cr: cr.address,
            tensor: slot.address(),
            // Checked by `DevicePicture::check`.
            y_stride_bytes: y.stride_bytes as u32,
            cb_stride_bytes: cb.stride_bytes as u32,
            cr_stride_bytes: cr.stride_bytes as u32,
            chroma_step_bytes: step,
            ten_bits: ten_bits.into(),
            source_width: picture.width,
            source_height: picture.height,
            left: placement.left,
            top: placement.top,
            placed_width: placement.width,
            placed_height: placement.height,
            width: self.recipe.width,
            height: self.recipe.height,
            half: (slot.element() == Element::F16).into(),
            bgr: self.recipe.bgr.into(),
            pad: self.recipe.pad,
            colour: Colour::new(picture.matrix, picture.range, ten_bits),
            scale: self.recipe.scale,
            offset: self.recipe.offset,
        }
    }
}

impl Drop for Letterboxer {
    fn drop(&mut self) {
        // What the kernels read and write must outlive them. Errors are for those who use the slots.
        let _ = self.stream.wait();
    }
}
