//! Where a picture lies in the input tensor, and the way back from tensor pixels to source pixels.
//!
//! Sources of the conventions:
//! - centre: Ultralytics `data/augment.py`, `LetterBox`: `r = min(H / h, W / w)`, the new size is
//!   `round(w * r)` by `round(h * r)` (Python rounds halves to even), and of the padding
//!   `round(pad / 2 - 0.1)` goes left and above, that is half of it rounded down.
//! - top left: YOLOX `data/data_augment.py`, `preproc`: the same `r`, the new size is cut, not rounded.
//! - stretch: the whole tensor.
//! - centre crop: torchvision `transforms/functional.py`, `resize` and `center_crop`: `r = max(H / h, W / w)`, the new
//!   size is cut, and of what is too much `round(excess / 2)` goes left and above (halves to even).
//!
//! All are followed to the last bit of their double precision. So 432 rows on 416 columns for 768 are 233 rows
//! with YOLOX and not 234, because `432 * (416 / 768)` is a hair below 234: the model sees here what it sees in
//! Python.

use crate::model::{Fit, InputRecipe};

/// The part of the tensor that the picture covers, in tensor pixels. The rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placement {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns, at least 1 in a tensor that has any.
    pub width: usize,
    /// Rows, at least 1 in a tensor that has any.
    pub height: usize,
    /// Columns of the whole fitted picture: `width`, or more where a crop cuts some off.
    pub fitted_width: usize,
    /// Rows of the whole fitted picture.
    pub fitted_height: usize,
    /// Of those columns so many are cut off at the left.
    pub hidden_left: usize,
    /// Of those rows so many are cut off above.
    pub hidden_top: usize,
}

impl Placement {
    /// Where `recipe` puts a picture of this size (pixels, each at least 1).
    pub fn new(recipe: &InputRecipe, source_width: u32, source_height: u32) -> Self {
        if recipe.fit == Fit::CentreCrop {
            return Self::cropped(recipe, source_width, source_height);
        }
        let (width, height) = match recipe.fit {
            Fit::Stretch => (recipe.width, recipe.height),
            fit => fitted(fit, recipe, source_width, source_height),
        };
        let (left, top) = match recipe.fit {
            Fit::LetterboxCentre => ((recipe.width - width) / 2, (recipe.height - height) / 2),
            Fit::LetterboxTopLeft | Fit::Stretch | Fit::CentreCrop => (0, 0),
        };
        let (fitted_width, fitted_height) = (width, height);
        Self { left, top, width, height, fitted_width, fitted_height, hidden_left: 0, hidden_top: 0 }
    }

    fn cropped(recipe: &InputRecipe, source_width: u32, source_height: u32) -> Self {
        let (source_width, source_height) = (f64::from(source_width), f64::from(source_height));
        let (width, height) = (recipe.width, recipe.height);
        let ratio = (width as f64 / source_width).max(height as f64 / source_height);
        // The side that decides the ratio fits exactly, whatever the rounding of the product says.
        let fitted_width = ((source_width * ratio + 1e-6) as usize).max(width);
        let fitted_height = ((source_height * ratio + 1e-6) as usize).max(height);
        let hidden = |excess: usize| (excess as f64 / 2.0).round_ties_even() as usize;
        let (hidden_left, hidden_top) = (hidden(fitted_width - width), hidden(fitted_height - height));
        Self { left: 0, top: 0, width, height, fitted_width, fitted_height, hidden_left, hidden_top }
    }
}

/// The new size with the aspect kept, as the Python originals compute it.
fn fitted(fit: Fit, recipe: &InputRecipe, source_width: u32, source_height: u32) -> (usize, usize) {
    let (width, height) = (f64::from(source_width), f64::from(source_height));
    let ratio = (recipe.height as f64 / height).min(recipe.width as f64 / width);
    let whole = |size: f64| match fit {
        Fit::LetterboxTopLeft => (size * ratio).floor(),
        _ => (size * ratio).round_ties_even(),
    };
    // A thin picture keeps one pixel; the cast saturates.
    let within = |size: f64, most: usize| (size as usize).max(1).min(most);
    (within(whole(width), recipe.width), within(whole(height), recipe.height))
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
            scale_x: (placement.fitted_width as f64 / f64::from(source_width)) as f32,
            scale_y: (placement.fitted_height as f64 / f64::from(source_height)) as f32,
            offset_x: placement.left as f32 - placement.hidden_left as f32,
            offset_y: placement.top as f32 - placement.hidden_top as f32,
            source_width,
            source_height,
        }
    }

    /// A point in tensor pixels to source pixels, clipped to the picture.
    pub fn point_to_source(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [x, y, ..] = self.to_source([x, y, x, y]);
        [x, y]
    }

    /// A point in tensor pixels to source pixels, wherever it lies: corners of an oriented box are beyond the picture where the
    /// box is, and a box that is clipped corner by corner has no right angles any more.
    pub fn point_to_source_unclipped(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [(x - self.offset_x) / self.scale_x, (y - self.offset_y) / self.scale_y]
    }

    /// `[x1, y1, x2, y2]` in tensor pixels to source pixels, clipped to the picture.
    /// A box that lies in the padding comes back with no area.
    pub fn to_source(&self, bbox: [f32; 4]) -> [f32; 4] {
        let x = |value: f32| ((value - self.offset_x) / self.scale_x).clamp(0.0, self.source_width as f32);
        let y = |value: f32| ((value - self.offset_y) / self.scale_y).clamp(0.0, self.source_height as f32);
        [x(bbox[0]), y(bbox[1]), x(bbox[2]), y(bbox[3])]
    }
}
