//! What every engine binding has in common: where libraries are looked for, in which form a picture goes in, how an output
//! is lent, and what models want to know besides the picture.
#![forbid(unsafe_code)]

mod find;
mod picture;

pub use find::{NotFound, Search};
pub use picture::{
    AxisOrder, FIXED_BATCH_MAX, Frame, FrameError, NotShared, Number, PictureInput, PictureInputError, Stack,
    TensorForm, lend_shares, share_shape,
};

/// An output tensor of one frame, borrowed from the engine for the duration of a call.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// The tensor's name in the model.
    pub name: &'a str,
    /// Row-major shape of ONE frame's share, with its batch dimension as 1.
    pub shape: &'a [usize],
    /// `shape.product()` values; other types of numbers have been converted.
    pub data: &'a [f32],
}

/// What an input of this name is fed with for an input tensor of this `(width, height)`; `None` for a picture's.
///
/// Detectors that were exported with their post-processing want to know what size boxes are to be scaled to. They are
/// told the size of the input tensor, so that boxes come out in its pixels: `orig_target_sizes` is `[[width, height]]`
/// (RT-DETR and its like), `im_shape` `[[height, width]]` and `scale_factor` `[[1, 1]]` (PaddleDetection).
pub fn size_numbers(name: &str, (width, height): (usize, usize)) -> Option<[usize; 2]> {
    match name {
        "orig_target_sizes" => Some([width, height]),
        "im_shape" => Some([height, width]),
        "scale_factor" => Some([1, 1]),
        _ => None,
    }
}
