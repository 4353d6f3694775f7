//! Where a picture lies in the input tensor, and the way back from tensor pixels to source pixels.
//!
//! Sources of the conventions:
//! - centre: Ultralytics `data/augment.py`, `LetterBox`: `r = min(H / h, W / w)`, the new size is
//!   `round(w * r)` by `round(h * r)` (Python rounds halves to even), and of the padding
//!   `round(pad / 2 - 0.1)` goes left and above, that is half of it rounded down.
//! - top left: YOLOX `data/data_augment.py`, `preproc`: the same `r`, the new size is cut, not rounded.
//! - stretch: the whole tensor.
//!
//! Sizes are computed in whole numbers. Where the Python originals lose a bit to floating point and so a
//! row of pixels (`int(h * r)` just below a whole number), this does not.

use crate::model::{Fit, InputRecipe};

/// The part of the tensor that the picture covers, in tensor pixels. The rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns, at least 1 in a tensor that has any.
    pub width: usize,
    /// Rows, at least 1 in a tensor that has any.
    pub height: usize,
}

impl Placement {
    /// Where `recipe` puts a picture of this size (pixels, each at least 1).
    pub fn new(recipe: &InputRecipe, source_width: u32, source_height: u32) -> Self {
        let (width, height) = match recipe.fit {
            Fit::Stretch => (recipe.width, recipe.height),
            fit => fitted(fit, recipe, source_width, source_height),
        };
        let (left, top) = match recipe.fit {
            Fit::LetterboxCentre => ((recipe.width - width) / 2, (recipe.height - height) / 2),
            Fit::LetterboxTopLeft | Fit::Stretch => (0, 0),
        };
        Self { left, top, width, height }
    }
}

/// The new size with the aspect kept: one side fills the tensor, the other follows.
fn fitted(fit: Fit, recipe: &InputRecipe, source_width: u32, source_height: u32) -> (usize, usize) {
    let (tensor_width, tensor_height) = (recipe.width as u128, recipe.height as u128);
    let (width, height) = (u128::from(source_width.max(1)), u128::from(source_height.max(1)));
    let round = |numerator: u128, denominator: u128| match fit {
        Fit::LetterboxTopLeft => numerator / denominator,
        _ => divide_half_to_even(numerator, denominator),
    };
    // W / w <= H / h without the division.
    let (new_width, new_height) = if tensor_width * height <= tensor_height * width {
        (tensor_width, round(height * tensor_width, width))
    } else {
        (round(width * tensor_height, height), tensor_height)
    };
    (
        new_width.clamp(1, tensor_width.max(1)).min(tensor_width) as usize,
        new_height.clamp(1, tensor_height.max(1)).min(tensor_height) as usize,
    )
}

fn divide_half_to_even(numerator: u128, denominator: u128) -> u128 {
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    match (remainder * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

/// The map between source pixels and tensor pixels: `tensor = source * scale + offset` on each axis.
///
/// Coordinates are continuous: pixel `i` covers `i..i + 1`. The scales are those by which the picture was
/// really resized; they differ a little between the axes because sizes are whole pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Tensor pixels per source pixel, horizontally.
    pub scale_x: f32,
    /// Tensor pixels per source pixel, vertically.
    pub scale_y: f32,
    /// Tensor column at which the source's left edge lies.
    pub offset_x: f32,
    /// Tensor row at which the source's upper edge lies.
    pub offset_y: f32,
    /// Width of the source in pixels: boxes are clipped to it.
    pub source_width: u32,
    /// Height of the source in pixels: boxes are clipped to it.
    pub source_height: u32,
}

impl Geometry {
    /// The map for a picture of this size (pixels, each at least 1).
    pub fn new(recipe: &InputRecipe, source_width: u32, source_height: u32) -> Self {
        let placement = Placement::new(recipe, source_width, source_height);
        Self {
            scale_x: (placement.width as f64 / f64::from(source_width)) as f32,
            scale_y: (placement.height as f64 / f64::from(source_height)) as f32,
            offset_x: placement.left as f32,
            offset_y: placement.top as f32,
            source_width,
            source_height,
        }
    }

    /// `[x1, y1, x2, y2]` in tensor pixels to source pixels, clipped to the picture.
    /// A box that lies in the padding comes back with no area.
    pub fn to_source(&self, bbox: [f32; 4]) -> [f32; 4] {
        let x = |value: f32| ((value - self.offset_x) / self.scale_x).clamp(0.0, self.source_width as f32);
        let y = |value: f32| ((value - self.offset_y) / self.scale_y).clamp(0.0, self.source_height as f32);
        [x(bbox[0]), y(bbox[1]), x(bbox[2]), y(bbox[3])]
    }
}
