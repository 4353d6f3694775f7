//! Privacy masks: what lies in them is black before anything looks at a picture.
//!
//! A mask is laid over the model's tensor, after the letterbox. Resizing mixes neighbours, so a pixel of the tensor is
//! made black if anything inside a mask could have had a part in it, also by way of chroma at lower resolution: what
//! happens behind a mask changes no value of the tensor (property test). The price is a rim of one or two pixels around
//! the mask.
//!
//! The rows of each mask are computed when the first picture of a size comes; a frame then costs a few fills, and a camera
//! without masks nothing.

use std::sync::Arc;

use super::formed::{Formed, FormedTensor, Planar, Rows};
use super::{Layout, Placement};
use crate::model::InputRecipe;
use crate::shape::{Point, Polygon};

/// What is known of a picture when its mask is laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    width: u32,
    height: u32,
    /// log2 of the subsampling of chroma, each way.
    sub: [u8; 2],
}

impl Source {
    pub fn new(width: u32, height: u32, layout: &Layout<'_>) -> Self {
        let sub = match *layout {
            Layout::Planar { sub_x, sub_y, .. } => [sub_x, sub_y],
            Layout::Nv12 { .. } => [1, 1],
            Layout::Gray { .. } | Layout::Rgb { .. } => [0, 0],
        };
        Self { width, height, sub }
    }

    /// A picture in device memory: chroma at half size or more.
    pub fn on_device(width: u32, height: u32) -> Self {
        Self { width, height, sub: [1, 1] }
    }
}

/// How far from its middle, in samples of a plane, a bilinear sample has a part in others: one to the next middle, and
/// half for its own extent.
const REACH: f64 = 1.5;
/// How far a pixel of a finished picture has been spread when it was coded with chroma at half size.
const CODED_REACH: f64 = 2.0 * REACH;

/// The masks of one camera. They belong to the camera and not to an opening or an engine.
#[derive(Debug, Default)]
pub struct PrivacyMask {
    polygons: Arc<[Polygon]>,
    /// What the spans were made for.
    made_for: Option<(InputRecipe, Source)>,
    spans: Vec<Span>,
}

/// Pixels of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    row: u32,
    from: u32,
    /// One past the last.
    to: u32,
}

impl PrivacyMask {
    /// Masks of these shapes, any number of them.
    pub fn new(polygons: Arc<[Polygon]>) -> Self {
        Self { polygons, made_for: None, spans: Vec::new() }
    }

    /// Nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }

    /// Bytes held at most by the rows of `polygons` in a tensor of this height: for the memory budget.
    pub fn bytes_for(polygons: &[Polygon], recipe: &InputRecipe) -> usize {
        // Between two stretches of a row lies a corner that is in neither, so a polygon has at most half as many as
        // corners.
        let stretches: usize = polygons.iter().map(|polygon| polygon.points().len().div_ceil(2)).sum();
        stretches * recipe.height * size_of::<Span>()
    }

    /// Makes black what the masks cover of a picture that has been letterboxed into `tensor` (`recipe.len()` values).
    pub(super) fn cover(&mut self, recipe: &InputRecipe, source: Source, tensor: &mut [f32]) {
        if self.polygons.is_empty() {
            return;
        }
        let plane_len = recipe.width * recipe.height;
        self.blacken(recipe, source, &mut Planar::new(tensor, plane_len));
    }

    /// As [`Self::cover`], in a tensor of another form.
    pub(super) fn cover_formed(&mut self, recipe: &InputRecipe, source: Source, tensor: &mut FormedTensor) {
        if self.polygons.is_empty() {
            return;
        }
        // Fills need no rows.
        let scratch = &mut [const { Vec::new() }; 3];
        self.blacken(recipe, source, &mut Formed { tensor, scratch });
    }

    fn blacken(&mut self, recipe: &InputRecipe, source: Source, rows: &mut impl Rows) {
        if self.made_for != Some((*recipe, source)) {
            let grid = Grid::of_tensor(recipe, source);
            self.spans.clear();
            grid.spans(&self.polygons, |span| self.spans.push(span));
            self.spans.shrink_to_fit();
            self.made_for = Some((*recipe, source));
        }
        for span in &self.spans {
            let start = span.row as usize * recipe.width + span.from as usize;
            rows.fill(start, (span.to - span.from) as usize, recipe.offset);
        }
    }
}

/// Makes black what the masks cover of a picture in red, green and blue, three bytes a pixel without gaps: for pictures
/// that are written for people. Computes the rows anew each time.
pub fn black_out(polygons: &[Polygon], rgb: &mut [u8], width: usize, height: usize) {
    let grid = Grid {
        scale: [width as f64, height as f64],
        offset: [0.0; 2],
        reach: [CODED_REACH; 2],
        area: [0, 0, width, height],
    };
    grid.spans(polygons, |span| {
        let start = span.row as usize * width;
        let bytes = 3 * (start + span.from as usize)..3 * (start + span.to as usize);
        if let Some(masked) = rgb.get_mut(bytes) {
            masked.fill(0);
        }
    });
}

/// Pixels that a picture was brought to, and which of them see a point of it.
struct Grid {
    /// Pixels per picture, each way.
    scale: [f64; 2],
    /// Where the picture begins.
    offset: [f64; 2],
    /// How far the middle of a pixel may be from what it sees, in pixels.
    reach: [f64; 2],
    /// `[left, top, right, bottom]` of the pixels that are the picture's.
    area: [usize; 4],
}

impl Grid {
    fn of_tensor(recipe: &InputRecipe, source: Source) -> Self {
        let at = Placement::new(recipe, source.width, source.height);
        let scale = [at.fitted_width as f64, at.fitted_height as f64];
        let per_source = [scale[0] / f64::from(source.width), scale[1] / f64::from(source.height)];
        // Never less than the pixel's own extent. A hair more, for what rounding does to weights.
        let reach = |axis: usize| {
            let samples = REACH * f64::from(1u32 << source.sub[axis]);
            (samples * per_source[axis]).max(0.5) + 0.01
        };
        Self {
            scale,
            offset: [at.left as f64 - at.hidden_left as f64, at.top as f64 - at.hidden_top as f64],
            reach: [reach(0), reach(1)],
            area: [at.left, at.top, at.left + at.width, at.top + at.height],
        }
    }

    fn place(&self, point: Point) -> [f64; 2] {
        std::array::from_fn(|axis| f64::from(point[axis]) * self.scale[axis] + self.offset[axis])
    }

    /// Hands out, row by row, the pixels that see something of a polygon. Each polygon for itself: they may overlap.
    fn spans(&self, polygons: &[Polygon], mut each: impl FnMut(Span)) {
        let mut stretches = Vec::new();
        let [left, top, right, bottom] = self.area;
        for polygon in polygons {
            for row in top..bottom {
                let middle = row as f64 + 0.5;
                self.stretches(polygon, [middle - self.reach[1], middle + self.reach[1]], &mut stretches);
                for &[from, to] in &stretches {
                    // Columns whose middles lie within; the casts saturate.
                    let from = ((from - self.reach[0] - 0.5).ceil() as usize).max(left);
                    let to = ((to + self.reach[0] + 0.5).floor().max(0.0) as usize).min(right);
                    if from < to {
                        each(Span { row: row as u32, from: from as u32, to: to as u32 });
                    }
                }
            }
        }
    }

    /// Which x a polygon has anywhere between two heights, in order and apart from each other by more than pixels reach.
    ///
    /// Whoever goes straight up from a point inside either comes to the upper height, or to a side before. So these are
    /// the stretches inside at the upper height, and the sides between the two.
    fn stretches(&self, polygon: &Polygon, [upper, lower]: [f64; 2], out: &mut Vec<[f64; 2]>) {
        out.clear();
        let mut crossings = [0.0; crate::shape::POINTS_MAX];
        let mut count = 0;
        for (a, b) in polygon.sides() {
            let ([ax, ay], [bx, by]) = (self.place(a), self.place(b));
            let x_at = |y: f64| ax + (y - ay) / (by - ay) * (bx - ax);
            if (ay > upper) != (by > upper) {
                crossings[count] = x_at(upper);
                count += 1;
            }
            if ay.min(by) > lower || ay.max(by) < upper {
                continue;
            }
            let (x1, x2) = if ay == by {
                (ax, bx)
            } else {
                let clipped = |y: f64| x_at(y.clamp(upper, lower));
                (clipped(ay), clipped(by))
            };
            out.push([x1.min(x2), x1.max(x2)]);
        }
        let crossings = &mut crossings[..count];
        crossings.sort_unstable_by(f64::total_cmp);
        out.extend(crossings.as_chunks::<2>().0);
        out.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
        out.dedup_by(|next, kept| {
            let joined = next[0] <= kept[1] + 2.0 * self.reach[0];
            if joined {
                kept[1] = kept[1].max(next[1]);
            }
            joined
        });
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
