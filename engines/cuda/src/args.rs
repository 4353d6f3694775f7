//! What the letterbox kernel is told.

use watchpost_picture::{Matrix, Range};

use crate::error::CudaError;
use crate::letterbox::{Placement, Recipe};
use crate::picture::{DeviceLayout, DevicePicture, SIDE_MAX};
use crate::slot::Element;

/// Largest side of a tensor: so positions are exact in the kernel's 32 bits.
const TENSOR_SIDE_MAX: u32 = 8192;
const _: () = assert!((2 * TENSOR_SIDE_MAX as u64) * (SIDE_MAX as u64) < 1 << 31);

/// The one parameter of the kernel `letterbox`: the structure of this name in kernels/letterbox.cu. Public for those who
/// run the kernel elsewhere than on a GPU.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LetterboxArgs {
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
const _: () = assert!(size_of::<LetterboxArgs>() == 32 + 29 * 4 + 4);

impl LetterboxArgs {
    /// Threads of a block.
    pub const BLOCK: [u32; 3] = [32, 8, 1];

    /// What writes `picture` into the tensor at `tensor`.
    ///
    /// # Errors
    /// [`CudaError`] for a tensor, a picture or a placement that the kernel could not keep to.
    pub fn new(
        recipe: &Recipe,
        picture: &DevicePicture<'_>,
        placement: Placement,
        tensor: u64,
        element: Element,
    ) -> Result<Self, CudaError> {
        check_size(recipe)?;
        picture.check()?;
        check_placement(recipe, &placement)?;
        let (y, cb, cr, step, ten_bits) = match picture.layout {
            DeviceLayout::I420 { y, u, v } => (y, u, v, 1, false),
            DeviceLayout::Nv12 { y, uv } => (y, uv, uv.after(1), 2, false),
            DeviceLayout::P010 { y, uv } => (y, uv, uv.after(2), 4, true),
        };
        Ok(Self {
            y: y.address,
            cb: cb.address,
            cr: cr.address,
            tensor,
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
            width: recipe.width,
            height: recipe.height,
            half: (element == Element::F16).into(),
            bgr: recipe.bgr.into(),
            pad: recipe.pad,
            colour: Colour::new(picture.matrix, picture.range, ten_bits),
            scale: recipe.scale,
            offset: recipe.offset,
        })
    }

    /// Blocks that cover the tensor.
    pub fn grid(&self) -> [u32; 3] {
        [self.width.div_ceil(Self::BLOCK[0]), self.height.div_ceil(Self::BLOCK[1]), 1]
    }
}

pub(crate) fn check_size(recipe: &Recipe) -> Result<(), CudaError> {
    let (width, height) = (recipe.width, recipe.height);
    if (1..=TENSOR_SIDE_MAX).contains(&width) && (1..=TENSOR_SIDE_MAX).contains(&height) {
        Ok(())
    } else {
        Err(CudaError::TensorSize { width, height, most: TENSOR_SIDE_MAX })
    }
}

fn check_placement(recipe: &Recipe, placement: &Placement) -> Result<(), CudaError> {
    let within =
        |start: u32, len: u32, whole: u32| len > 0 && start.checked_add(len).is_some_and(|end| end <= whole);
    if within(placement.left, placement.width, recipe.width)
        && within(placement.top, placement.height, recipe.height)
    {
        Ok(())
    } else {
        Err(CudaError::PlacementOutside)
    }
}

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
