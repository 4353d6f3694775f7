//! The letterbox of single pictures in red, green and blue: sample for sample what the models' own tools compute.
//!
//! Those tools read pictures with libjpeg and resize with OpenCV (`cv2.resize`, `INTER_LINEAR`, 8 bits). This is the same
//! arithmetic, so that a model sees here what it sees there, to the last bit, before the normalisation (OpenCV
//! `modules/imgproc/src/resize.cpp`: `HResizeLinear`, `VResizeLinear` with 11 fraction bits):
//!
//! 1. `f = (i + 0.5) * source / fitted - 0.5` in single precision, its floor the left (upper) neighbour, the rest the weight
//!    of the other; weights are rounded to 2048ths, halves to even. Beyond the border the border's sample counts.
//! 2. A row is `h = a w0 + b w1`, a sample `((w0 (h0 >> 4) >> 16) + (w1 (h1 >> 4) >> 16) + 2) >> 2`.
//!
//! Video does not come this way: it is luma and chroma, and the rounding to whole samples between the steps would only
//! cost time and precision. Tables and rows grow to the widest picture seen.

use super::formed::Rows;
use super::{Placement, Plane};
use crate::model::{ChannelOrder, InputRecipe};

/// One in the weights.
const ONE: f32 = 2048.0;

/// Two neighbours and their weights.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: u32,
    second: u32,
    weights: [i32; 2],
}

/// Tables for pictures of one size, and two rows.
#[derive(Debug, Default)]
pub(super) struct RgbResize {
    source: (u32, u32),
    placement: Placement,
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// Rows of the source resized horizontally, and which they are.
    resized: [Vec<i32>; 2],
    held: [u32; 2],
}

impl RgbResize {
    pub fn bytes(&self) -> usize {
        let taps = (self.columns.capacity() + self.rows.capacity()) * size_of::<Tap>();
        taps + self.resized.iter().map(|row| row.capacity() * size_of::<i32>()).sum::<usize>()
    }

    /// Writes the rows that the picture covers; `source` is its size in pixels.
    pub fn run(
        &mut self,
        rgb: Plane<'_>,
        source: (u32, u32),
        placement: &Placement,
        recipe: &InputRecipe,
        rows: &mut impl Rows,
    ) {
        if self.source != source || self.placement != *placement {
            self.prepare(source, placement);
        }
        // No row is held yet: the picture is another one.
        self.held = [u32::MAX; 2];
        for row in 0..placement.height {
            let tap = self.rows[row];
            let (upper, lower) = (self.row(rgb, tap.first, tap.second), self.row(rgb, tap.second, tap.first));
            let start = (placement.top + row) * recipe.width + placement.left;
            for (channel, out) in rows.row(start, placement.width).into_iter().enumerate() {
                let sample = match recipe.channels {
                    ChannelOrder::Rgb => channel,
                    ChannelOrder::Bgr => 2 - channel,
                };
                let (scale, offset) = (recipe.scale[channel], recipe.offset[channel]);
                let (above, below) = (&self.resized[upper], &self.resized[lower]);
                for (column, out) in out.iter_mut().enumerate() {
                    let (above, below) = (above[3 * column + sample], below[3 * column + sample]);
                    let mixed =
                        ((tap.weights[0] * (above >> 4)) >> 16) + ((tap.weights[1] * (below >> 4)) >> 16);
                    *out = ((mixed + 2) >> 2) as f32 * scale + offset;
                }
            }
            rows.done(start, placement.width);
        }
    }

    fn prepare(&mut self, source: (u32, u32), placement: &Placement) {
        let Placement { fitted_width, fitted_height, hidden_left, hidden_top, width, height, .. } =
            *placement;
        self.columns.clear();
        self.columns.extend((0..width).map(|index| column_tap(index + hidden_left, fitted_width, source.0)));
        self.rows.clear();
        self.rows.extend((0..height).map(|index| row_tap(index + hidden_top, fitted_height, source.1)));
        for row in &mut self.resized {
            row.clear();
            row.resize(3 * width, 0);
        }
        (self.source, self.placement) = (source, *placement);
    }

    /// Resizes one row of the source, unless it is held; not into the place of the row `kept`. Returns its place.
    fn row(&mut self, rgb: Plane<'_>, row: u32, kept: u32) -> usize {
        if let Some(place) = self.held.iter().position(|&held| held == row) {
            return place;
        }
        let place = usize::from(self.held[0] == kept);
        let samples = rgb.row(row as usize, 3 * self.source.0 as usize);
        for (tap, out) in self.columns.iter().zip(self.resized[place].as_chunks_mut::<3>().0) {
            let (first, second) = (3 * tap.first as usize, 3 * tap.second as usize);
            for (channel, out) in out.iter_mut().enumerate() {
                let (a, b) = (i32::from(samples[first + channel]), i32::from(samples[second + channel]));
                *out = a * tap.weights[0] + b * tap.weights[1];
            }
        }
        self.held[place] = row;
        place
    }
}

/// The neighbour before a position, and how far behind it the position lies.
fn position(index: usize, fitted_size: usize, source_size: u32) -> (f32, f32) {
    // As OpenCV takes the quotient: of the quotient the other way round.
    let scale = 1.0 / (fitted_size as f64 / f64::from(source_size));
    let position = ((index as f64 + 0.5) * scale - 0.5) as f32;
    (position.floor(), position - position.floor())
}

fn weights(fraction: f32) -> [i32; 2] {
    [1.0 - fraction, fraction].map(|weight| (weight * ONE).round_ties_even() as i32)
}

/// Beyond the border OpenCV gives all weight to the border's column.
fn column_tap(index: usize, fitted_size: usize, source_size: u32) -> Tap {
    let (before, fraction) = position(index, fitted_size, source_size);
    let last = source_size - 1;
    match before {
        before if before < 0.0 => Tap { first: 0, second: 0, weights: weights(0.0) },
        before if before as u32 >= last => Tap { first: last, second: last, weights: weights(0.0) },
        before => Tap { first: before as u32, second: before as u32 + 1, weights: weights(fraction) },
    }
}

/// Beyond the border OpenCV takes the border's row twice.
fn row_tap(index: usize, fitted_size: usize, source_size: u32) -> Tap {
    let (before, fraction) = position(index, fitted_size, source_size);
    let within = |row: f32| (row.max(0.0) as u32).min(source_size - 1);
    Tap { first: within(before), second: within(before + 1.0), weights: weights(fraction) }
}
